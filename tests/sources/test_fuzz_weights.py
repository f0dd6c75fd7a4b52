"""Fuzzing of weights and source models: read exactly or one line, no code run, bounded memory."""

import io
import struct
import zipfile

import torch
from fuzzing import HOSTILE, Hostile, counts, damaged, one_line, run
from hypothesis import strategies as st

from lmsa_bench.models import weights
from lmsa_bench.sources import model as source_model


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


STATE = net().state_dict()
CONTAINS_ITSELF: dict = {}
CONTAINS_ITSELF["state_dict"] = CONTAINS_ITSELF
CHANGES = {
    "missing": lambda t: None,
    "nan": lambda t: torch.full(t.shape, float("nan")),
    "infinite": lambda t: torch.full(t.shape, 1e300, dtype=torch.float64),
    "other shape": lambda t: torch.zeros(*t.shape, 2),
    "no shape": lambda t: torch.zeros(()),
    "empty": lambda t: torch.zeros(0),
    "integers": lambda t: torch.ones(t.shape, dtype=torch.int8),
    "complex": lambda t: torch.ones(t.shape, dtype=torch.complex64),
    "meta": lambda t: torch.zeros(t.shape, device="meta"),
    "sparse": lambda t: torch.ones(t.shape).to_sparse() if t.ndim else torch.ones(2).to_sparse(),
    "huge": lambda t: torch.zeros(1).expand(10**12),
    "text": lambda t: "text",
    "nested": lambda t: {"a": t},
}


def saved(content, legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def compressed(content):
    """A checkpoint of torch with its parts compressed, and one of them very large."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(1 << 29) if name.endswith("data/0") else old.read(name))
    return buffer.getvalue()


@counts(80, 1200)
def test_weights_are_loaded_exactly_or_are_one_line(tmp_path, count):
    from safetensors.torch import save

    def check(case):
        name, content, exact = case
        (tmp_path / name).write_bytes(content)
        other = net()
        torch.nn.init.zeros_(other[0].weight)
        before = {key: value.clone() for key, value in other.state_dict().items()}
        fits = one_line(lambda: weights.load(other, tmp_path / name, new_head=False) or True)
        state = other.state_dict()
        assert all(value.isfinite().all() for value in state.values())
        if not fits:
            assert all(torch.equal(value, before[key]) for key, value in state.items())
        elif exact:  # the old format has no checksums to detect a changed number
            assert all(torch.equal(value, STATE[key]) for key, value in state.items())
        one_line(lambda: source_model.read(tmp_path / name, torch.device("cpu")))

    files = [("a.pt", saved(STATE), True), ("a.pth", saved(STATE, True), False), ("a.safetensors", save(STATE), False)]
    for case in files:
        check(case)
    changed = [STATE | {key: change(STATE[key])} for key in STATE for change in CHANGES.values()]
    changed += [
        CONTAINS_ITSELF,
        {1: STATE["0.bias"]},
        STATE | {"extra": torch.zeros(1)},
        STATE | {1: torch.zeros(1)},
        [STATE],
    ]
    known = [("a.pt", saved(content), False) for content in changed]
    known += [(name, content, False) for name in ("a.pt", "a.safetensors") for content in [*HOSTILE, b"", b"PK\3\4"]]
    known += [("a.pt", compressed(saved(STATE)), False), ("a.pt", saved({"a": Hostile(0)}), False)]
    known += [("a.safetensors", struct.pack("<Q", length) + b"{}", False) for length in (2, 2**40, 2**64 - 1)]
    damage = st.sampled_from(files).flatmap(lambda f: st.tuples(st.just(f[0]), damaged(f[1]), st.just(f[2])))
    run(check, damage, count, known)


def test_an_invalid_source_model_is_one_line(tmp_path):
    wrong = [{}, [1], {"state": 1, "accuracy": 0.5}, {"state": STATE, "accuracy": "high"}, {"state": STATE}]
    for content in wrong:
        (tmp_path / "a.pt").write_bytes(saved(content))
        assert one_line(lambda: source_model.read(tmp_path / "a.pt", torch.device("cpu"))) is None
    (tmp_path / "a.pt").write_bytes(saved({"state": STATE, "accuracy": None}))
    assert source_model.read(tmp_path / "a.pt", torch.device("cpu"))["accuracy"] is None
