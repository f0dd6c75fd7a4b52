"""The library that notebooks import, and the examples of its use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lmsa_bench as lb

EXAMPLES = Path(__file__).parents[1] / "examples"
SUITE = """
suite: two
tasks: [digits_flip]
seeds: 2
sources: one
epochs: 2
rows:
  no_adaptation: {ranked: false}
  full: {grid: {lr: 1e-2}}
  lmsa: {grid: {lr: 1e-2, rho: 0.1}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    (folder / "two.yaml").write_text(SUITE)
    suite = lb.load_suite(str(folder / "two.yaml"))
    return suite, lb.run(suite, folder / "results", folder / "data"), folder


def test_every_public_name_exists():
    for name in lb.__all__:
        assert getattr(lb, name) is not None and name in dir(lb)
    with pytest.raises(AttributeError, match="no attribute 'sweep_all'"):
        lb.sweep_all  # noqa: B018


def test_importing_it_is_fast():
    program = (
        "import sys, time; started = time.perf_counter(); import lmsa_bench\n"
        "heavy = {'ray', 'mlflow', 'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "print(heavy or time.perf_counter() - started)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1


def test_running_a_suite_needs_neither_ray_nor_mlflow_nor_a_compiler(run, tmp_path):
    program = (
        "import sys, lmsa_bench as lb\n"
        "suite, heavy = lb.load_suite(sys.argv[1]), {'ray', 'mlflow', 'torch._dynamo', 'triton'}\n"
        "print(len(lb.run(suite.trials[0], sys.argv[2], sys.argv[3]).frame()), heavy & set(sys.modules))"
    )
    _, _, folder = run
    command = [sys.executable, "-c", program, str(folder / "two.yaml"), str(tmp_path / "r"), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "1 set()"


def test_a_suite_to_a_frame_and_a_report(run):
    suite, results, _ = run
    frame = results.frame()
    assert len(frame) == 2 * (1 + 2 + 2) and set(frame["status"]) == {"finished"}
    assert set(frame.loc[frame["method"] == "lmsa", "rho"]) == {0.1} and "hparams" not in frame
    report = results.report(suite)
    assert set(report.statistics.average_ranks) == {"full", "lmsa"}
    cell = report.cells["full", "digits_flip"]
    ends = frame[(frame["method"] == "full") & (frame["epoch"] == frame["best_epoch"])]
    assert cell.mean == pytest.approx(ends["test_accuracy"].mean())
    shown = report._repr_html_()
    assert shown.count("<tr>") == 1 + len(suite.rows) and "average rank" in shown
    assert set(report.figures()) == {"accuracies", "forgetting"} and '"method": "full"' in report.text("json")


def test_finished_trials_are_not_run_again(run):
    suite, results, folder = run
    before = {path: path.stat().st_mtime_ns for path in results.journal.trials.glob("*/result.json")}
    again = lb.run(suite, folder / "results", folder / "data")
    assert again.table().equals(results.table()) and lb.open_results(folder / "results").table().equals(again.table())
    assert before == {path: path.stat().st_mtime_ns for path in results.journal.trials.glob("*/result.json")}


def test_changed_code_is_refused_kept_or_rerun(run, tmp_path):
    suite, _, folder = run
    trial = suite.trials[0]
    results = lb.run(trial, tmp_path / "results", folder / "data")
    path = results.journal.trials / trial.id / "result.json"
    now = results.journal.result(trial.id).provenance["trial_code"]
    path.write_text(path.read_text().replace(now, "c0ffee"))
    with pytest.raises(lb.UserError, match=r"1 finished trial of no_adaptation ran on other code .*changed=\"rerun\""):
        lb.run(trial, tmp_path / "results", folder / "data")
    for how, code in (("keep", "c0ffee"), ("rerun", now)):
        lb.run(trial, tmp_path / "results", folder / "data", changed=how)
        assert results.journal.result(trial.id).provenance["trial_code"] == code


def test_a_missing_folder_is_an_error_and_not_created(tmp_path):
    with pytest.raises(lb.UserError, match="typo: there are no results"):
        lb.open_results(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_torchs_settings_are_restored(run, tmp_path):
    import torch

    suite, _, folder = run
    torch.set_num_threads(2)
    lb.run(suite.trials[0], tmp_path / "results", folder / "data")
    assert torch.get_num_threads() == 2 and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_runs(example, tmp_path):
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    pictures = list(tmp_path.rglob("*.png"))
    assert pictures and all(picture.stat().st_size > 5000 for picture in pictures)


def test_the_example_of_a_package_is_a_plugin(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "suite: s\nplugins: [lmsa_bench_mine]\ntasks: [digits_flip_resnet]\nrows: {full: {grid: {lr: 1e-2}}}\n"
    )
    paths = os.pathsep.join([str(EXAMPLES / "package"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "lmsa_bench.sweep", "s.yaml", "--dry-run", "--data", str(tmp_path / "data")]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert "0 of 3 trials are done, 3 to run" in done.stdout
