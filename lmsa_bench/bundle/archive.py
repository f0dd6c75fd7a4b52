"""A suite's results as one archive, with a checksum of every file in it."""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

from lmsa_bench.analysis.build import report
from lmsa_bench.analysis.grids import reached
from lmsa_bench.atomic import replacing
from lmsa_bench.errors import UserError, one_line
from lmsa_bench.report import figures
from lmsa_bench.report.tables import render
from lmsa_bench.results.journal import MARKER, Journal
from lmsa_bench.suites.load import load
from lmsa_bench.suites.spec import Suite
from lmsa_bench.trial import provenance
from lmsa_bench.trial.spec import canonical

FORMAT = 1
ABOUT, SUMS, SUITE = "bundle.json", "SHA256SUMS", "suite.yaml"
FORMS = {"table": "txt", "json": "json", "csv": "csv", "latex": "tex"}  # of the table, and their suffixes
KEPT = re.compile(r"trial\.json|records\.jsonl|result\.json|outcomes\.bin|margins\.bin")  # of a trial's folder
# What may be unpacked: nothing outside the folder, nothing hidden.
SAFE = re.compile(r"[A-Za-z0-9_-][\w.+-]*(/[A-Za-z0-9_-][\w.+-]*)*", re.ASCII)
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file in it, so that equal contents are an equal archive


@dataclass(frozen=True)
class Unpacked:
    """A bundle whose checksums hold, in a temporary folder."""

    folder: Path
    about: Mapping[str, object]

    @property
    def journal(self) -> Journal:
        """Its records."""
        return Journal(self.folder / "results")

    def suite(self) -> Suite:
        """Its suite, as its file is read here."""
        seeds = self.about.get("seeds")
        return load(str(self.folder / SUITE), seeds if isinstance(seeds, int) else None)


def pack(suite: Suite, seeds: int | None, journal: Journal, path: Path) -> int:
    """Writes the bundle of a suite that was read with so many seeds; returns the number of its trials.

    Raises UserError where a trial has not ended.
    """
    table = journal.table()
    suite = reached(suite, table)
    if lacking := [trial.label for trial in suite.needed if journal.result(trial.id) is None]:
        raise UserError(f"suite {suite.name}: {len(lacking)} trials have not ended, such as {lacking[0]}: run it first")
    made = report(suite, table)
    files = {f"summary/table.{suffix}": render(made, form) for form, suffix in FORMS.items()}
    with TemporaryDirectory() as drawn:
        files |= {f"summary/{file.name}": file.read_bytes() for file in figures.draw(made, Path(drawn))}
    files |= {SUITE: _beside(suite), f"results/{MARKER}": (journal.root / MARKER).read_bytes()}
    files |= {Path(plugin).name: Path(plugin).read_bytes() for plugin in suite.plugins if plugin.endswith(".py")}
    codes = set[str]()
    for trial in suite.needed:
        for file in sorted((journal.trials / trial.id).iterdir()):
            if KEPT.fullmatch(file.name):
                files[f"results/trials/{trial.id}/{file.name}"] = file.read_bytes()
        result = journal.result(trial.id)
        codes.add(str(result.provenance.get("trial_code", "")) if result is not None else "")
    for code in sorted(codes):
        if listing := journal.code(code):
            files[f"results/code/{code}.json"] = canonical(listing).encode()
    packages = sorted({f"{one.name}=={one.version}" for one in distributions()})
    about = {"format": FORMAT, "suite": suite.name, "seeds": seeds, "trials": sorted(t.id for t in suite.needed)}
    files[ABOUT] = json.dumps(about | {"made": provenance.of_process(), "packages": packages}, indent=1).encode()
    files[SUMS] = "".join(f"{_digest(content)}  {name}\n" for name, content in sorted(files.items())).encode()
    with replacing(path, durable=True) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, WHEN), content, zipfile.ZIP_DEFLATED)
    return len(suite.needed)


@contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """The bundle in a folder that is removed at the end; raises UserError where anything in it is not as it was."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            with zipfile.ZipFile(path) as archive:
                contents = {name: archive.read(name) for name in archive.namelist()}
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as error:
            raise UserError(f"bundle {path}: cannot be read ({one_line(error)})") from None
        except Exception as error:  # noqa: BLE001 - of zlib and struct, at damaged data
            raise UserError(f"bundle {path}: is damaged ({one_line(error)})") from None
        _check(path, contents)
        for name, content in contents.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        about = json.loads(contents[ABOUT])
        if about.get("format") != FORMAT:
            raise UserError(f"bundle {path}: format {about.get('format')}, this version reads {FORMAT}")
        yield Unpacked(root, about)


def _check(path: Path, contents: Mapping[str, bytes]) -> None:
    sums = contents.get(SUMS, b"").decode(errors="replace").splitlines()
    parted = [line.partition("  ") for line in sums]
    listed = {name: digest for digest, _, name in parted}
    found = {name for name in contents if name != SUMS}
    unsafe = [name for name in found if not SAFE.fullmatch(name)]
    differing = sorted(name for name in found & set(listed) if _digest(contents[name]) != listed[name])
    for what, names in (
        ("holds names that lead elsewhere", unsafe),
        ("lacks", sorted(set(listed) - found)),
        ("holds what its list does not name", sorted(found - set(listed))),
        ("is not as it was made", differing),
    ):
        if names:
            raise UserError(f"bundle {path}: {what}: {', '.join(names[:3])}{' …' * (len(names) > 3)}")
    if not {ABOUT, SUITE} <= found:
        raise UserError(f"bundle {path}: is not a bundle of this program's")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _beside(suite: Suite) -> bytes:
    """The suite's file; plug-ins lie beside it in the bundle, and so they must be named there."""
    for plugin in suite.plugins:
        if plugin.endswith(".py") and Path(plugin).parent != Path(suite.file).parent.resolve():
            raise UserError(f"suite {suite.name}: plug-in {plugin} is not beside its file, where a bundle keeps it")
    return Path(suite.file).read_bytes()
