"""Fuzzing of suite files, checkpoints and results folders: read correctly or one line, no code run, bounded memory."""

import copy
import io
import json
import re
from dataclasses import asdict
from hashlib import sha256

import pytest
import torch
import toy
import yaml
from fuzzing import HOSTILE, MARKER, Hostile, counts, damaged, one_line, run
from hand_made import entry, write
from hypothesis import strategies as st

from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.table import rows
from lmsa_bench.suites import load as suite
from lmsa_bench.trial import checkpoint

GOOD = """suite: mine
tasks: [digits_c, digits_flip]
seeds: 2
epochs: 3
batch_size: 32
curves: false
figures: [accuracies]
plugins: [json]
resources: {cpu: 1, gpu: 0.5}
weights: {wrn_10_1: evil.py}
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-3, 0.01], weight_decay: 0}}
  slow: {method: lmsa, epochs: 2, tasks: [digits_flip], grid: {rho: [1, 0.1], costate_penalty: true}}
  lift: {grid: {lr: 1e-3, order: [front_to_end, random]}}
"""
TOKENS = re.split(r"([\s,\[\]{}:]+)", GOOD)
WORDS = [i for i, token in enumerate(TOKENS) if re.match(r"\w", token)]
DIGITS = [i for i in WORDS if TOKENS[i][0].isdigit()]
NUMBERS = [
    "1",
    "2",
    "7",
    "0",
    "-1",
    "+3",
    "0.5",
    ".5",
    "5.",
    "1e-3",
    "1E2",
    "3e0",
    "1.0",
    "1e400",
    ".inf",
    ".NaN",
    "007",
]
NUMBERS += [
    "010",
    "08",
    "1:30",
    "0x10",
    "0o7",
    "1_0",
    "1_000.5",
    "!!int 3",
    "!!float 3",
    '"3"',
    "[1, 2, 2]",
    "[5, 3]",
    f"{2**64}",
]
TAGS = ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system", "python/module:os"]
TAGS += ["int", "float", "str", "bool", "null", "timestamp", "binary", "set", "omap", "pairs", "map", "seq", "none"]
VALUES = [
    *(f"!!{tag} ['touch {MARKER}']" for tag in TAGS),
    *(f"!!{tag} {value}" for tag in TAGS for value in ("x", '""', "010", "7")),
    *("&a [*a]", "&a {a: *a}", "*none", "<<: {a: 1}", "&a 3", ".nan", ".inf", "-.inf", "1e999", "9" * 400, "9" * 5000),
    *("010", "1:30", "0x10", "0b1", "1_000", "-0", "+1", "0.5", "1e-3", "-1", "2147483648", f"[{2**63}]", "[3, 1, 3]"),
    *("true", "yes", "off", "null", "~", '""', "'a b'", '"\\0"', '"\\ud800"', '"a\\nb"', "é", "\u2028", "日本", "\x7f"),
    *("evil.py", "[evil]", "none.py", "~none_such/x", "../x", "a" * 300, "2026-01-01", "@", "%a", "`", "|", ">", "? a"),
    *("[" * 60 + "]" * 60, "[" * 3000, "{a: " * 60 + "1" + "}" * 60, "[]", "{}", "[full, lift]", "{lr: 1}", "digits_c"),
]
BOMB = "".join(f"  b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else 'x'] * 9)}]\n" for i in range(14))
KNOWN = [
    *(GOOD.replace("seeds: 2", f"seeds: {text}") for text in ("010", "1:30", "0x10", f"[{10**30}]", '!!int ""')),
    *(
        GOOD.replace("epochs: 3", f"epochs: {text}")
        for text in (f"{10**30}", "!!timestamp x", '!!float ""', "!!int 010")
    ),
    *(GOOD.replace("evil.py", text) for text in ('"a\\0b"', '"\\ud800"', "~none_such/x")),
    *(GOOD.replace("[json]", text) for text in ('["a\\0.py"]', '["a\\nb"]', "[stops.py]", "[lines.py]")),
    *(GOOD.replace(f"{key}:", f"{key}:\n{BOMB}  x:", 1) for key in ("weights", "resources", "suite", "tasks")),
    *(GOOD + BOMB.replace("  ", ""), GOOD + "? {a: b}\n: 1\n", GOOD + "\x01", GOOD + "!!bool x: 1\n"),
    GOOD.replace("tasks: [digits_flip], ", "tasks: [], "),
    # Values that no check reads: an alias that contains itself, dates, aliases of aliases.
    *(
        GOOD.replace("epochs: 2", f"task_grids: {{digits_c: {{rho: {text}}}}}")
        for text in ("&a [*a]", "2026-01-01", "!!timestamp 2026-01-01")
    ),
    GOOD.replace("epochs: 2", "task_grids: {digits_c: {rho: *b13}}").replace("rows:", f"weights:\n{BOMB}rows:"),
    GOOD.replace("seeds: 2", "seeds: 10000").replace("0.01]", f"0.01, {', '.join(map(str, range(1, 5000)))}]"),
]


@st.composite
def suites(draw):
    """The good file with one to three words replaced or tagged, a line removed or doubled, or damaged bytes."""
    tokens = copy.copy(TOKENS)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        kind = draw(st.sampled_from(["number"] * 4 + ["value", "word", "text", "tag", "twice", "nest", "lose"]))
        at = draw(st.sampled_from(DIGITS if kind == "number" else WORDS))
        if kind == "number":
            tokens[at] = draw(st.sampled_from(NUMBERS))
        elif kind == "value":
            tokens[at] = draw(st.sampled_from(VALUES))
        elif kind == "word":
            tokens[at] = tokens[draw(st.sampled_from([i for i in WORDS if TOKENS[i] not in ("plugins", "evil.py")]))]
        elif kind == "text":
            tokens[at] = draw(st.text(max_size=12))
        elif kind == "tag":
            tokens[at] = f"!!{draw(st.sampled_from(TAGS))} {tokens[at]}"
        elif kind == "twice":
            tokens[at] = f"{tokens[at]}: 1, {tokens[at]}"
        elif kind == "nest":
            tokens[at] = f"[{tokens[at]}, {{a: {tokens[at]}}}]"
        else:
            tokens[at] = ""
    lines = "".join(tokens).splitlines(keepends=True)
    if draw(st.integers(0, 3)) == 3 and lines:
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] *= draw(st.sampled_from([0, 2]))
    text = "".join(lines)
    return draw(damaged(text.encode("utf-8", "replace"))) if text and draw(st.integers(0, 3)) == 3 else text


def means(value, text):
    """Whether the value is what a scalar's text means."""
    if isinstance(value, bool):
        return text.lower() in (("true", "yes", "on") if value else ("false", "no", "off"))
    if value is None:
        return text.lower() in ("null", "~", "", "none")
    if isinstance(value, str):
        return value == text
    return (int(text) if isinstance(value, int) else float(text)) == value


def listed(raw):
    return raw if isinstance(raw, list) else [raw]


def assert_means(suite, raw):
    """Compares a suite with its text, which PyYAML parsed to lists, mappings and strings."""
    assert suite.name == raw["suite"] and list(suite.tasks) == list(dict.fromkeys(raw["tasks"]))
    seeds = raw.get("seeds", "3")
    assert {t.seed for t in suite.trials} == set(range(int(seeds)) if isinstance(seeds, str) else map(int, seeds))
    assert {t.task for t in suite.trials} <= set(suite.tasks)
    assert all(means(t.batch_size, raw.get("batch_size", "64")) for t in suite.trials)
    assert all(means(t.curves, raw.get("curves", "false")) for t in suite.trials)
    resources = raw.get("resources", {})
    assert suite.cpus == float(resources.get("cpu", 1)) and suite.gpus == float(resources.get("gpu", 0))
    assert "figures" not in raw or list(suite.figures) == list(dict.fromkeys(raw["figures"]))
    if any(row and "each" in row for row in raw["rows"].values()):
        return
    assert [row.name for row in suite.rows] == list(raw["rows"])
    for row in suite.rows:
        fields = raw["rows"][row.name] or {}
        fields = fields if isinstance(fields, dict) else {}
        trials = [t for t in suite.trials if t.configuration in row.configurations]
        assert {t.method for t in trials} <= {fields.get("method", row.name), row.name}
        assert {t.epochs for t in trials} <= {0, int(fields.get("epochs", raw.get("epochs", 10)))}
        assert {t.task for t in trials} <= set(fields.get("tasks", suite.tasks))
        assert means(row.ranked, fields.get("ranked", "true"))
        for name, texts in fields.get("grid", {}).items() if "task_grids" not in fields else ():
            values = {t.hparams[name] for t in trials}
            assert all(any(means(value, text) for text in listed(texts)) for value in values)
            assert not trials or all(any(means(value, text) for value in values) for text in listed(texts))


@counts(80, 1200)
def test_a_suite_file_means_its_text_or_is_one_line(tmp_path, count):
    (tmp_path / "evil.py").write_text(f"open({MARKER!r}, 'w')\n")
    (tmp_path / "stops.py").write_text("raise SystemExit\n")
    (tmp_path / "lines.py").write_text("raise ValueError('two\\nlines')\n")
    path = tmp_path / "suite.yaml"

    def check(text):
        content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        if re.search(rb"plugins.{0,40}evil", content, re.DOTALL):  # a suite's plugins are trusted, and run
            return
        path.write_bytes(content)
        loaded = one_line(lambda: suite.load(str(path)))
        if loaded is not None:
            assert_means(loaded, yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader))

    check(GOOD)
    assert suite.load(str(path)).trials
    run(check, suites(), count, KNOWN)


def _as_written(record, line):
    """Whether a record or result has all values of its line of JSON."""
    plain = json.loads(json.dumps(asdict(record)))
    return all(repr(_floats(plain[name])) == repr(_floats(value)) for name, value in json.loads(line).items())


def _floats(value):
    if isinstance(value, list):
        return [_floats(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


JSON = [
    *(b"[" * 100_000, b'{"a":' * 3000, b"[]", b"null", b"", b"\n", b"\xff", b'{"trial": 1}', b"{}", b"NaN"),
    *(b'{"format": NaN}', b'{"format": [1]}', b'{"format": 1e400}'),
]
FILES = ("trial.json", "records.jsonl", "result.json", "../../lmsa_bench.json")


@counts(60, 1200)
def test_a_results_folder_is_what_its_files_say_or_one_line(tmp_path, count):
    expected = entry("t", "m", {"lr": 1e-3, "order": "random"}, 1, [0.1, 0.3, 0.2], 0.7, layers=(0, 3), variant="noise")
    write(Journal(tmp_path, make=True), expected)
    folder = tmp_path / "trials" / expected.trial.id
    whole = {name: (folder / name).read_bytes() for name in FILES}

    def check(case):
        name, content = case
        for other, text in whole.items():
            (folder / other).write_bytes(text)
        (folder / name).write_bytes(content)
        one_line(lambda: Journal(tmp_path).finished())
        one_line(lambda: Journal(tmp_path).result(expected.trial.id))
        loaded = one_line(lambda: Journal(tmp_path).entry(expected.trial.id))
        if loaded is not None:
            assert loaded.trial == expected.trial
            rows([loaded])
            lines = (folder / "records.jsonl").read_bytes().splitlines()
            assert len(lines) == len(loaded.records) and all(map(_as_written, loaded.records, lines))
            assert _as_written(loaded.result, (folder / "result.json").read_bytes())

    known = [(name, content) for name in FILES for content in JSON]
    long = whole["result.json"].replace(b'"flops":0', b'"flops":%d' % 10**30)
    known += [("result.json", long), ("result.json", whole["result.json"].replace(b'"reason":""', b'"reason":7'))]
    known += [("result.json", whole["result.json"].replace(b'"reason"', b'"raeson"'))]
    known += [("trial.json", whole["trial.json"].replace(b"0.001", b"0.002"))]
    strategy = st.sampled_from(FILES).flatmap(lambda name: st.tuples(st.just(name), damaged(whole[name])))
    run(check, strategy, count, known)


def _digested(content: bytes) -> bytes:
    return sha256(content).digest() + content


def _saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@counts(40, 800)
def test_a_checkpoint_is_complete_or_one_line(tmp_path, count):
    states = [{"epoch": n, "parameters": {0: [torch.full((3,), float(n))]}} for n in (1, 2)]
    for state in states:
        checkpoint.save(tmp_path, state)
    names = ("checkpoint.pt", "checkpoint.previous.pt")
    whole = [(tmp_path / name).read_bytes() for name in names]

    def check(case):
        for name, content in zip(names, case, strict=True):
            (tmp_path / name).write_bytes(content)
        state = one_line(lambda: checkpoint.load(tmp_path, torch.device("cpu")))
        if state is not None:
            assert state["epoch"] in ((2, 1) if case[0] == whole[0] else (1,))
            assert torch.equal(state["parameters"][0][0], torch.full((3,), float(state["epoch"])))

    # With a correct digest, but not written by this program.
    known = [(_digested(content), whole[1]) for content in [*HOSTILE, b"", b"x", *map(_saved, map(Hostile, range(2)))]]
    last, before = damaged(whole[0]), damaged(whole[1])
    run(check, st.tuples(st.just(whole[0]) | last, before) | st.tuples(last, st.just(whole[1])), count, known)


def test_a_checkpoint_with_other_content_is_one_line(tmp_path):
    (tmp_path / "trial").mkdir()
    other = toy.run(toy.trial("full"), tmp_path)
    next(other.epochs())
    other.save()
    state = checkpoint.load(tmp_path, torch.device("cpu"))
    wrong = [{}, {"optimizer": {}}, *({k: v for k, v in state.items() if k != name} for name in ("epoch", "best"))]
    wrong += [state | {"parameters": {0: [torch.zeros(1)]}}, state | {"layers": (99,)}, [1]]
    for content in wrong:
        checkpoint.save(tmp_path / "trial", content)
        with pytest.raises(UserError, match="its checkpoint does not fit") as error:
            toy.run(toy.trial("full"), tmp_path / "trial")
        assert len(str(error.value).splitlines()) == 1
