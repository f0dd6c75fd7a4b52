"""A network as a discrete dynamical system: the composition x_{n+1} = g_n(x_n, θ_n) of its layers (paper, eq. 6)."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn


class LayeredModel(nn.Module):
    """A network cut into layers g_0..g_{N-1} whose composition equals it (paper, eq. 6).

    ``layers`` maps a layer's name to its module g_n, whose parameters are θ_n, unless ``theta`` gives a submodule in
    place of the whole (a layer may contain frozen parts, such as the norm before a classifier). The layers share the
    modules of ``source``, and only ``source`` is registered: the ``state_dict`` keeps the network's key names.
    ``reads`` says of a layer with one output a sample which of its states x_n the output is read from, (K, …) to
    (K, d), where that is not their mean over positions.
    """

    def __init__(
        self,
        source: nn.Module,
        layers: Mapping[str, nn.Module],
        theta: Mapping[str, nn.Module] | None = None,
        reads: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.names = tuple(layers)
        self.layers = tuple(layers.values())  # a tuple, so that torch does not register the modules twice
        self._theta = tuple((theta or {}).get(name, layer) for name, layer in layers.items())
        self.reads = tuple((reads or {}).get(name) for name in layers)

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)

    def run(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """g_{stop-1} ∘ … ∘ g_start: maps states x_start (K, …) to states x_stop (K, …)."""
        for layer in self.layers[start:stop]:
            x = layer(x)
        return x

    def parameters_of(self, n: int) -> list[nn.Parameter]:
        """θ_n: the parameters that tuning layer n may change."""
        return list(self._theta[n].parameters())

    def rest(self) -> list[nn.Parameter]:
        """The parameters that are in no θ_n, such as those of a norm before a classifier."""
        theta = {id(parameter) for n in range(len(self)) for parameter in self.parameters_of(n)}
        return [parameter for parameter in self.parameters() if id(parameter) not in theta]

    def tune_only(self, layers: Iterable[int], rest: bool = False) -> None:
        """Requires gradients of the parameters of these layers, and with ``rest`` of ``rest()``; freezes all others."""
        self.requires_grad_(False)
        opened = [parameter for n in layers for parameter in self.parameters_of(n)]
        for parameter in [*opened, *self.rest()] if rest else opened:
            parameter.requires_grad_(True)
