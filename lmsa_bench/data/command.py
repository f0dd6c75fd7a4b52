"""List, fetch, verify and prepare the published data sets in a data root."""

import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lmsa_bench import download
from lmsa_bench.data.arguments import parser
from lmsa_bench.errors import UserError, nearest, one_line
from lmsa_bench.tasks import cifar, fashion, imagenet
from lmsa_bench.tasks.published import (
    COMMON19,
    CORRUPTIONS_3D,
    DATA_SETS,
    IMAGENET_3DCC,
    IMAGENET_C,
    Archive,
    DataSet,
)

# Takes the data root, whether to verify, the corruptions (empty: all that are present), and their severity.
Prepare = Callable[[Path, bool, Sequence[str], int], None]


def _cifar10_c(root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
    names = corruptions or _present(DATA_SETS["cifar10_c"], root, COMMON19, ".npy")
    cifar.prepare_cifar10_c(root, verify, names, severity)


def _folders(data: DataSet, known: Sequence[str]) -> Prepare:
    def run(root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
        imagenet.prepare_corrupted(data, root, verify, corruptions or _present(data, root, known), severity)

    return run


def _imagenet(root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
    imagenet.prepare_living17(root, verify)
    imagenet.prepare_holdout(root)


def _fashion(root: Path, verify: bool, corruptions: Sequence[str], severity: int) -> None:
    if not verify:
        raise UserError("fashion_mnist: --no-verify is not supported: its files are always verified")
    fashion.FASHION.prepare(root)


def _present(data: DataSet, root: Path, known: Sequence[str], suffix: str = "") -> list[str]:
    """The known corruptions in the data root; raises UserError if there are none."""
    present = [name for name in known if (root / data.folder / f"{name}{suffix}").exists()]
    return present or [data.find(root, f"{known[0]}{suffix}").stem]


PREPARE: dict[str, Prepare] = {
    "cifar10": lambda root, verify, *_: cifar.prepare_cifar10(root, verify),
    "cifar100": lambda root, verify, *_: cifar.prepare_cifar100(root, verify),
    "cifar10_c": _cifar10_c,
    "imagenet": _imagenet,
    "imagenet_c": _folders(IMAGENET_C, COMMON19),
    "imagenet_3dcc": _folders(IMAGENET_3DCC, CORRUPTIONS_3D),
    "fashion_mnist": _fashion,
}


def listing(root: Path) -> Iterator[str]:
    """One line per data set: whether it is present, its download size, folder, format and licence."""
    for data in DATA_SETS.values():
        missing, size = data.missing(root), sum(a.size or 0 for a in data.archives if not a.optional)
        state = "present" if not missing else f"{len(missing)} of {len(data.needs)} missing"
        gb = f"{size / 1e9:.1f} GB" if size else "size unknown"
        yield f"{data.name:<14} {state:<18} {gb:>12}  {root / data.folder}: {data.layout}; licence: {data.licence}"
        if missing:
            yield f"{'':<14} {data.get()}"
    for path in sorted(root.glob("*/*.arrow")):
        yield f"prepared       {path.stat().st_size / 1e9:.2f} GB  {path}"


def fetch(data: DataSet, root: Path, files: Sequence[str] = (), url: str = "", verify: bool = True) -> None:
    """Downloads and unpacks a data set, or only these of its archives, unless present; raises UserError.

    ``url``, if given, is a mirror's folder with the archives.
    """
    if not data.archives:
        raise UserError(f"{data.name}: not publicly downloadable: {data.get()}")
    known = {archive.name: archive for archive in data.archives}
    for name in files:
        if name not in known:
            raise UserError(f"{data.name}: no file {name!r}: {nearest(name, known)}")
    for archive in [known[name] for name in files] or [a for a in data.archives if not a.optional]:
        if all((root / data.folder / name).exists() for name in archive.members):
            print(f"{data.name}: {archive.name} is already fetched")
            continue
        checksums, path = archive.checksums if verify else {}, root / "downloads" / archive.name
        address = f"{url.rstrip('/')}/{archive.name}" if url else archive.url
        if path.exists():  # left by an interrupted run, and perhaps not verified
            download.check(path, checksums, address)
        place(data, root, archive, download.fetch(address, path, checksums, archive.size))
        if checksums:
            data.verified_marker(root, archive).touch()
        print(f"{data.name}: {archive.name} {'fetched' if checksums else 'fetched, not verified'}")


def place(data: DataSet, root: Path, archive: Archive, path: Path) -> None:
    """Moves an archive's content into the data set's folder and removes the archive; raises UserError."""
    folder = root / data.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not archive.name.endswith((".tar", ".tar.gz")):
            os.replace(path, folder / archive.members[0])
            return
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            with tarfile.open(path, "r:gz" if archive.name.endswith(".gz") else "r:") as tar:
                tar.extractall(scratch, filter=_plain)
            for name in archive.members:
                matches = [match for depth in ("", "*/", "*/*/") for match in Path(scratch).glob(f"{depth}{name}")]
                if not matches:
                    raise UserError(f"{path}: does not contain {name}")
                if not (folder / name).exists():
                    os.replace(matches[0], folder / name)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, zlib.error) as error:
        path.unlink(missing_ok=True)
        raise UserError(f"{path}: not a complete archive ({one_line(error)}); it was removed, fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be unpacked ({error.strerror or error})") from None
    path.unlink()


def _plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Accepts only files and folders inside the target folder: published archives have no links or devices."""
    if not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"{member.name!r} is neither a file nor a folder")
    return tarfile.data_filter(member, folder)


def verify(data: DataSet, root: Path) -> Iterator[str]:
    """Compares files with the published checksums, one line each; raises UserError at the end if any fails."""
    failed = data.missing(root)
    yield from (f"missing     {root / data.folder / name}" for name in failed)
    for name in data.md5:
        if (root / data.folder / name).exists():
            try:
                yield f"ok          {data.checked(root, name)}"
            except UserError as error:
                failed.append(name)
                yield f"wrong       {error}"
    for archive in data.archives:
        if not data.md5 and not set(archive.members) & set(failed):
            verified = data.verified_marker(root, archive).exists()
            yield f"{'ok, fetched ' if verified else 'unverified '} {archive.name}: {', '.join(archive.members)}"
    if not data.md5 and not data.archives:
        yield f"unverified  {root / data.folder}: no checksums are published"
    if failed:
        raise UserError(f"{data.name}: {len(failed)} files are missing or wrong: {data.get()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns exit status 0; raises UserError."""
    options = parser().parse_args(arguments)
    root = options.data.absolute()
    if options.command == "list":
        print("\n".join(listing(root)))
        return 0
    if options.name not in DATA_SETS:
        raise UserError(f"unknown data set {options.name!r}: {nearest(options.name, DATA_SETS)}")
    data = DATA_SETS[options.name]
    if options.command == "fetch":
        fetch(data, root, options.files, options.url, not options.no_verify)
    elif options.command == "verify":
        for line in verify(data, root):
            print(line, flush=True)
    else:
        PREPARE[data.name](root, not options.no_verify, options.corruptions, options.severity)
        print(f"{data.name}: prepared{', unverified' if options.no_verify else ''}")
    return 0
