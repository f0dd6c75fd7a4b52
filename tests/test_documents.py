"""What README, docs and the headers of suites tell a reader to type, and where they tell him to look, is there."""

import importlib
import re
from pathlib import Path

import pytest

from lmsa_bench.__main__ import COMMANDS
from lmsa_bench.control import CRITERIA
from lmsa_bench.methods import METHODS
from lmsa_bench.suites.spec import CONFIGS
from lmsa_bench.tasks.published import DATA_SETS

TOP = Path(__file__).parents[1]
PAGES = [
    TOP / "README.md",
    TOP / "CONTRIBUTING.md",
    *sorted((TOP / "docs").glob("*.md")),
    *sorted(CONFIGS.glob("*.yaml")),
]
TYPED = re.compile(r"(?:python -m lmsa_bench\.|lmsa-bench )(\w+)((?: [^\s`#;|,)]+)*)")
SUBCOMMANDS = {"data": ("list", "fetch", "verify", "prepare"), "results": ("sync",), "new": ("method", "task", "suite")}


def typed() -> set[tuple[str, str, tuple[str, ...]]]:
    """(page, command, its words) of every command line."""
    found = set()
    for page in PAGES:
        for command, words in TYPED.findall(page.read_text().replace("\n#", "")):
            found.add((page.name, command, tuple(words.split())))
    return found


def help_of(capsys, command: str, *before: str) -> str:
    room, before = ("results", ("ui",)) if command == "ui" else (command, before)
    with pytest.raises(SystemExit):
        importlib.import_module(f"lmsa_bench.{room}.command").main([*before, "--help"])
    return capsys.readouterr().out


def test_every_command_that_is_named_exists_with_its_options(capsys):
    known = {(command, before): help_of(capsys, command, *before) for command in COMMANDS for before in [()]}
    for command, names in SUBCOMMANDS.items():
        known |= {(command, (name,)): help_of(capsys, command, name) for name in names}
    wrong = []
    for page, command, words in sorted(typed()):
        assert command in COMMANDS, (page, command)
        sub = words[:1] if words[:1] and words[0] in SUBCOMMANDS.get(command, ()) else ()
        text = known[command, sub]
        wrong += [(page, command, word) for word in words if word.startswith("--") and word not in text]
    assert not wrong


def test_every_suite_and_data_set_that_is_named_exists():
    suites = {path.stem for path in CONFIGS.glob("*.yaml")}
    wrong = []
    for page, command, words in sorted(typed()):
        name = words[0] if words else ""
        if command in ("sweep", "report") and re.fullmatch(r"[a-z_0-9]+", name) and name not in suites:
            wrong.append((page, command, name))
        if command == "data" and name in ("fetch", "verify", "prepare"):
            wrong += [(page, command, word) for word in words[1:2] if word.islower() and word not in DATA_SETS]
    assert len(typed()) > 40 and not wrong


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name)
def test_every_link_and_path_leads_somewhere(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    # Pictures are made anew after a sweep, by docs/gallery.py.
    lost = [link for link in links if not link.endswith(".png") and not (page.parent / link).exists()]
    rooms = "|".join(path.name for path in (TOP / "lmsa_bench").iterdir() if path.is_dir())
    for path in re.findall(
        rf"`((?:tests|docs|examples|tune_configs|lmsa_bench)/[\w./-]+|(?:{rooms})/[\w./]+\.py)`", text
    ):
        if not any((folder / path).exists() for folder in (TOP, TOP / "lmsa_bench")):
            lost.append(path)
    assert not lost


def test_every_method_and_criterion_is_described_and_counted():
    methods, criteria = (
        {name for name in registry.names() if registry.get(name).__module__.startswith("lmsa_bench.")}
        for registry in (METHODS, CRITERIA)
    )
    page = (TOP / "docs/rows.md").read_text()
    assert not [name for name in methods | criteria if f"`{name}`" not in page]
    assert f"{len(methods)} methods and {len(criteria)} criteria" in (TOP / "README.md").read_text()


def test_every_test_that_a_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (TOP / "docs/failures.md").read_text()))
    assert len(named) > 5 and named <= {path.stem for path in (TOP / "tests").rglob("test_*.py")}
