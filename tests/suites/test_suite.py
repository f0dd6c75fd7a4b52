"""Suite files: what a valid one loads as, and the one-line error for each mistake."""

import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmsa_bench.errors import UserError
from lmsa_bench.methods import METHODS
from lmsa_bench.suites.load import load
from lmsa_bench.trial.code import code_of, modules_of

GOOD = """
suite: mine
tasks: [digits_c, digits_flip]
seeds: 2
epochs: 3
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: [1e-3, 0.01]}}
  slow: {method: lmsa, epochs: 2, tasks: [digits_flip], grid: {rho: [1, 0.1]}}
  lift: {grid: {lr: 1e-3, order: [front_to_end, random]}}
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str) -> str:
        path = tmp_path / "suite.yaml"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return make


def test_a_valid_file(write):
    suite = load(write(GOOD))
    rows = {row.name: row for row in suite.rows}
    assert suite.name == "mine" and suite.tasks == ("digits_c", "digits_flip")
    # digits_c has 2 variants, so 3 (task, variant) pairs: 1 + 2 + 2 (one task) + 2 configurations, at 2 seeds
    assert {name: len(row.configurations) for name, row in rows.items()} == {
        "no_adaptation": 3,
        "full": 6,
        "slow": 2,
        "lift": 6,
    }
    assert len(suite.trials) == 2 * 17
    assert not rows["no_adaptation"].ranked and rows["lift"].averaged == ("order",)
    by_method = {trial.method: trial for trial in suite.trials}
    assert by_method["no_adaptation"].epochs == 0 and by_method["full"].epochs == 3 and by_method["lmsa"].epochs == 2
    assert by_method["lmsa"].hparams["inner_steps"] == 5  # defaults are filled in, and so part of the trial's id
    assert {trial.hparams["lr"] for trial in suite.trials if trial.method == "full"} == {0.001, 0.01}
    assert {trial.seed for trial in suite.trials} == {0, 1}


def test_fewer_seeds_are_the_first_ones(write):
    path = write(GOOD)
    assert {t.id for t in load(path, seeds=1).trials} == {t.id for t in load(path).trials if t.seed == 0}


def test_a_subset_of_a_suite(write):
    suite = load(write(GOOD))
    subset = suite.only(["digits_flip"], ["slow", "full"])
    assert subset.tasks == ("digits_flip",) and [row.name for row in subset.rows] == ["full", "slow"]
    assert {(t.task, t.method) for t in subset.trials} == {("digits_flip", "full"), ("digits_flip", "lmsa")}
    assert suite.only([], []) == suite
    with pytest.raises(UserError, match="did you mean 'digits_flip'"):
        suite.only(["digit_flip"], [])


def test_a_trial_in_two_rows_is_one_trial(write):
    suite = load(write(GOOD + "  again: {method: full, grid: {lr: 1e-3}}\n"))
    assert len(suite.trials) == 2 * 17


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3", ".001"])
def test_every_notation_of_a_number_is_read(write, text):
    suite = load(write(f"suite: s\ntasks: [digits_flip]\nrows: {{full: {{grid: {{lr: {text}}}}}}}\n"))
    assert suite.trials[0].hparams["lr"] == 0.001


BAD = {
    "an unknown method": ("full: {grid", "ful: {grid", "unknown method 'ful': did you mean 'full'"),
    "an unknown task": ("digits_flip]\nseeds", "digits_flop]\nseeds", "did you mean 'digits_flip'"),
    "an unknown hyper-parameter": ("lr: [1e-3, 0.01]", "lrr: 1", "'full' has no|full has no hyper-parameter 'lrr'"),
    "a hyper-parameter that is missing": ("lr: [1e-3, 0.01]", "weight_decay: 0", "full needs a value of 'lr'"),
    "a value out of range": ("lr: [1e-3, 0.01]", "lr: -1", "rows.full.grid.lr: -1 is not valid: .* greater than 0"),
    "a value of another type": ("rho: [1, 0.1]", 'rho: "big"', "rho: 'big' is not valid: .* number"),
    "not a number": ("rho: [1, 0.1]", "rho: .nan", "rho: nan is not valid"),
    "infinite": ("rho: [1, 0.1]", "rho: .inf", "rho: inf is not valid"),
    "a boolean for a number": ("rho: [1, 0.1]", "rho: true", "rho: True is not valid"),
    "an invalid choice": ("random", "sideways", "order: 'sideways' is not valid"),
    "a key given twice": ("epochs: 3", "epochs: 3\nepochs: 4", "line 6, column 1: 'epochs' is given twice"),
    "an unknown key": ("epochs: 3", "epoch: 3", "unknown key 'epoch': did you mean 'epochs'"),
    "an unknown key of a row": ("epochs: 2", "epoch: 2", "rows.slow: unknown key 'epoch': did you mean 'epochs'"),
    "an empty grid": ("lr: [1e-3, 0.01]", "lr: []", "rows.full.grid.lr: is empty"),
    "no rows": (GOOD[GOOD.index("rows:") :], "rows: {}\n", "rows: is empty"),
    "no tasks": ("[digits_c, digits_flip]", "[]", "tasks: is empty"),
    "no seeds": ("seeds: 2", "seeds: 0", "seeds: 0 is not valid"),
    "a missing key": ("suite: mine", "", "the key 'suite' is missing"),
    "malformed YAML": ("seeds: 2", "seeds: [2", "suite.yaml: line 5"),
    "a tab": ("seeds: 2", "\tseeds: 2", "line 4, column 1"),
    "a list for a mapping": ("{ranked: false}", "[ranked]", "rows.no_adaptation: expected a mapping"),
    "a row's task that the suite lacks": ("tasks: [digits_flip]", "tasks: [digits_super]", "not one of the suite's"),
    "a grid too large": (
        "lr: [1e-3, 0.01]",
        f"lr: {[i + 1 for i in range(400)]}, weight_decay: {list(range(300))}",
        "more",
    ),
    "a Python object": ("seeds: 2", "seeds: !!python/object/apply:os.system ['false']", "line 4"),
    "an unknown resource": ("epochs: 3", "epochs: 3\nresources: {gpus: 1}", "unknown key 'gpus': did you mean 'gpu'"),
    "a name with invalid characters": ("suite: mine", 'suite: "a b/c"', "suite: 'a b/c' is not valid"),
    "a missing plugin": (
        "epochs: 3",
        "epochs: 3\nplugins: [no_such_module]",
        "plugin no_such_module: there is no such module",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_an_invalid_file_is_a_users_error(write, mistake):
    old, new, message = BAD[mistake]
    assert old in GOOD
    with pytest.raises(UserError, match=message) as error:
        load(write(GOOD.replace(old, new, 1)))
    assert "suite.yaml" in str(error.value) or "plugin" in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="unknown suite 'quikstart': did you mean 'quickstart'"):
        load("quikstart")
    with pytest.raises(UserError, match="No such file"):
        load(str(tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"suite: \xff")
    with pytest.raises(UserError, match="not UTF-8"):
        load(str(tmp_path / "latin.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(UserError, match="a suite file is a mapping"):
        load(str(tmp_path / "empty.yaml"))


PLUGIN = """
    from functools import partial

    from lmsa_bench.control import selectors
    from lmsa_bench.control.updates import Adam
    from lmsa_bench.methods import METHODS, Method, Positive

    @METHODS.register
    def last_{tag}(lr: Positive) -> Method:
        return Method(selectors.only(-1), partial(Adam, lr=lr))
"""


def test_a_plugin_adds_a_method_and_its_code_is_no_part_of_the_identity(tmp_path, write):
    plugin = tmp_path / "mine.py"
    plugin.write_text(textwrap.dedent(PLUGIN.format(tag="a")))
    path = write("suite: s\nplugins: [mine.py]\ntasks: [digits_flip]\nrows: {last_a: {grid: {lr: 0.1}}}\n")
    before = load(path).trials[0]
    assert "last_a" in METHODS.names() and code_of(before)
    plugin.write_text(plugin.read_text() + "\nCHANGED = True\n")
    assert load(path).trials[0].id == before.id


def test_a_plugin_imports_a_file_beside_it(tmp_path, write):
    (tmp_path / "rate_of_b.py").write_text("RATE = 0.5\n")
    (tmp_path / "with_rate.py").write_text("from rate_of_b import RATE\n" + textwrap.dedent(PLUGIN.format(tag="b")))
    path = write("suite: s\nplugins: [with_rate.py]\ntasks: [digits_flip]\nrows: {last_b: {grid: {lr: 0.1}}}\n")
    names = set(modules_of(load(path).trials[0]))
    assert {"with_rate.py", "rate_of_b.py", "lmsa_bench/tasks/digits.py"} < names


def test_a_file_beside_a_plugin_that_another_module_hides_is_refused(tmp_path, write):
    (tmp_path / "textwrap.py").write_text("RATE = 0.5\n")
    (tmp_path / "hidden.py").write_text("from textwrap import RATE\n")
    with pytest.raises(UserError, match=r"imports textwrap, which is another module than textwrap.py beside it"):
        load(write(GOOD.replace("epochs: 3", "epochs: 3\nplugins: [hidden.py]", 1)))


def test_a_plugin_that_raises(tmp_path, write):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"broken.py: on import: ZeroDivisionError: division by zero .*broken.py:1"):
        load(write(GOOD.replace("epochs: 3", "epochs: 3\nplugins: [broken.py]", 1)))


def test_a_plugin_may_not_reuse_a_name(tmp_path, write):
    (tmp_path / "taken.py").write_text(
        "from lmsa_bench.methods import METHODS\n@METHODS.register\ndef full(lr: float):\n    pass\n"
    )
    with pytest.raises(UserError, match=r"method 'full' of .* is already registered"):
        load(write(GOOD.replace("epochs: 3", "epochs: 3\nplugins: [taken.py]", 1)))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**30), st.floats(), st.text(max_size=8), st.sampled_from(["lr", "full"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_content_loads_or_ends_in_a_user_error(tmp_path, data):
    import yaml

    content = yaml.safe_load(GOOD.replace("1e-3", "0.001"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = content
        while isinstance(place, dict) and place:
            key = data.draw(st.sampled_from(sorted(map(str, place))))
            if key not in place or not isinstance(place[key], dict) or data.draw(st.booleans()):
                place[key] = data.draw(values)
                break
            place = place[key]
    path = tmp_path / "fuzzed.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        suite = load(str(path))
    except UserError as error:
        assert str(error)
    else:
        assert bool(suite.trials) == bool(suite.rows) and len({t.id for t in suite.trials}) == len(suite.trials)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from(GOOD + "&*!|>%@`'\"?"), max_size=200), at=st.integers(0, len(GOOD)))
def test_any_text_loads_or_ends_in_a_user_error(tmp_path, text, at):
    path = tmp_path / "fuzzed.yaml"
    path.write_text(GOOD[:at] + text + GOOD[at + len(text) :], encoding="utf-8")
    try:
        load(str(path))
    except UserError as error:
        assert str(error)


def test_variants_of_one_method_are_ranked_only_where_asked(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "suite: s\ntasks: [digits_flip]\nseeds: 1\nrows:\n  lmsa:\n  lmsa_literal: {method: lmsa, grid: {c: 1}}\n"
        "  lmsa_too: {method: lmsa, ranked: true, grid: {c: 2}}\n  full: {ranked: false, grid: {lr: 0.1}}\n"
    )
    assert {row.name: row.ranked for row in load(str(path)).rows} == {
        "lmsa": True,
        "lmsa_literal": False,
        "lmsa_too": True,
        "full": False,
    }
