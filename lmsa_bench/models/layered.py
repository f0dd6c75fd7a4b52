"""A network as a discrete dynamical system: the composition x_{n+1} = g_n(x_n, θ_n) of its layers (paper, eq. 6)."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

Keep = Callable[[str, nn.Module], bool]
"""Whether a parameter, by its name in the network and the module that has it, may be tuned."""


def head_of(net: nn.Module) -> str:
    """The name of the classifier: the last nn.Linear."""
    names: list[str] = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


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
        self._keep: Keep | None = None

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)

    def run(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """g_{stop-1} ∘ … ∘ g_start: maps states x_start (K, …) to states x_stop (K, …)."""
        for layer in self.layers[start:stop]:
            x = layer(x)
        return x

    def restrict(self, keep: Keep) -> None:
        """Leaves in every θ_n, and in ``rest``, only the parameters that ``keep`` is true of."""
        self._keep = keep

    def parameters_of(self, n: int) -> list[nn.Parameter]:
        """θ_n: the parameters that tuning layer n may change."""
        return self._kept(self._theta[n])

    def tunable(self) -> list[nn.Parameter]:
        """θ_0 to θ_{N-1}, then ``rest``: the order of rates by parameter."""
        return [p for n in range(len(self)) for p in self.parameters_of(n)] + self.rest()

    def rest(self) -> list[nn.Parameter]:
        """The parameters that are in no θ_n, such as those of a norm before a classifier."""
        theta = {id(parameter) for n in range(len(self)) for parameter in self.parameters_of(n)}
        return [parameter for parameter in self._kept(self) if id(parameter) not in theta]

    def tune_only(self, layers: Iterable[int], rest: bool = False) -> None:
        """Requires gradients of the parameters of these layers; freezes all others.

        With ``rest`` also of ``rest()``, where every layer that has parameters is among them.
        """
        self.requires_grad_(False)
        chosen = set(layers)
        opened = [parameter for n in chosen for parameter in self.parameters_of(n)]
        whole = all(n in chosen or not self.parameters_of(n) for n in range(len(self)))
        for parameter in [*opened, *self.rest()] if rest and whole else opened:
            parameter.requires_grad_(True)

    def _kept(self, module: nn.Module) -> list[nn.Parameter]:
        if self._keep is None:
            return list(module.parameters())
        kept = {
            id(parameter)
            for prefix, part in self.source.named_modules()
            for name, parameter in part.named_parameters(prefix, recurse=False)
            if self._keep(name, part)
        }
        return [parameter for parameter in module.parameters() if id(parameter) in kept]
