"""Writes the skeleton of a method, a task or a suite of your own:  lmsa-bench new method NAME"""

import keyword
from collections.abc import Sequence
from pathlib import Path

from lmsa_bench.errors import UserError
from lmsa_bench.new.arguments import FILES, parser

SKELETONS = Path(__file__).with_name("skeletons")


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Writes a kind's files under that name; raises UserError where one exists or the name is none."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UserError(f"{kind} {name!r}: expected a name in snake_case, such as my_{kind}")
    files = {folder / file.format(name): (SKELETONS / skeleton) for skeleton, file in FILES[kind].items()}
    for path in files:
        if path.exists():
            raise UserError(f"{path}: exists already; choose another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, skeleton in files.items():
            path.write_text(skeleton.read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from None
    return list(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0, or 2 after a user's error (see errors.exit_status)."""
    options = parser().parse_args(arguments)
    for path in write(options.kind, options.name, options.folder):
        print(path)
    suite = options.folder / f"{options.name}.yaml"
    print(f"next: python -m lmsa_bench.sweep {suite} --local")
    return 0
