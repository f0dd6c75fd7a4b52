import csv
import io
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made import entry, suite_of

from lmsa_bench.analysis.build import TWO, paper, report
from lmsa_bench.analysis.ranks import statistics
from lmsa_bench.errors import UserError
from lmsa_bench.report import figures
from lmsa_bench.report.arguments import FORMATS
from lmsa_bench.report.command import main
from lmsa_bench.report.document import named_layers
from lmsa_bench.report.overview import overview
from lmsa_bench.report.tables import render
from lmsa_bench.results.table import rows
from lmsa_bench.suites import known

# Row -> task -> a test accuracy a seed. Ranks: noise good 1, fair 2, poor 3; flip good 1, poor 2, fair 3.
ACCURACIES = {
    "none": {"noise": (0.1, 0.1), "flip": (0.0, 0.0)},
    "fair": {"noise": (0.6, 0.7), "flip": (0.3, 0.3)},
    "good": {"noise": (0.8, 0.9), "flip": (0.9, 0.8)},
    "poor": {"noise": (0.5, 0.5), "flip": (0.4, 0.5)},
}


@pytest.fixture
def made():
    entries = {
        row: [
            entry(
                task,
                row,
                {"lr": lr},
                seed,
                [0.9 if lr == 0.1 else 0.2],
                value,
                layers=(0, 1) if task == "noise" else (3,),
            )
            for task, values in tasks.items()
            for seed, value in enumerate(values)
            for lr in (0.1, 0.01)
        ]
        for row, tasks in ACCURACIES.items()
    }
    return suite_of(entries, unranked=["none"]), [one for group in entries.values() for one in group]


def changed(made, row, task, seed, **options):
    """The same with one selected trial ended in another way."""
    suite, entries = made
    (old,) = [
        e
        for e in entries
        if (e.trial.method, e.trial.task, e.trial.seed, e.trial.hparams["lr"]) == (row, task, seed, 0.1)
    ]
    new = entry(task, row, {"lr": 0.1}, seed, [0.9], **options)
    return suite, [new if e is old else e for e in entries]


def text_of(made):
    suite, entries = made
    return render(report(suite, rows(entries)), "table").decode()


def test_rows_are_sorted_by_average_rank_and_the_best_are_marked(made):
    lines = text_of(made).splitlines()
    assert lines[0] == f"hand_made: mean over seeds{TWO}, n = 2 seeds"
    assert lines[2] == "On flip, good leads (85 %); poor (45 %) may be as good; fair is 55 points behind."
    lines = lines[lines.index(next(line for line in lines if line.startswith("method"))) :]
    assert [line.split()[0] for line in lines[2:6]] == ["none", "good", "fair", "poor"]
    assert lines[3].split() == ["good", "85.0", "(80", "to", "90)*", "85.0", "(80", "to", "90)*", "1.00"]
    assert lines[4].split()[-1] == "2.50"
    assert "count in the label budget" in " ".join(text_of(made).split())  # without its line breaks
    assert "not separable: on 2 tasks" in text_of(made)


def test_two_seeds_show_both_values_and_no_interval(made):
    suite, entries = made
    found = report(suite, rows(entries))
    texts = {form: render(found, form).decode() for form in ("table", "markdown", "html", "latex")}
    for form, text in texts.items():
        assert text.count("85.0 (80 to 90)") == 2 and "±" not in text.split("0.0 (0 to 0)")[1].splitlines()[0], form
        assert "interval would be 12.7 times as wide), n = 2 seeds" in text
    assert "85.0 (80 to 90)" in overview(found).description  # what MLflow shows


def test_selected_hyper_parameters_and_layers_are_shown(made):
    text = text_of(made)
    assert "good    lr=0.1!  lr=0.1!" in text and "(! at an end of its grid)" in text
    assert "good    0-1 (2/2)  3 (2/2)" in text


def test_incomplete_cells_are_marked_and_explained(made):
    text = text_of(changed(made, "fair", "flip", 1, status="failed", reason="CUDA out\nof memory"))
    assert "30.0 (1/2 seeds)" in text
    assert "\nfailed: flip fair lr=0.1 seed=1: CUDA out of memory\n" in text and "fair on flip: 1 failed." in text
    assert "n = 1 to 2 seeds" in text
    text = text_of(changed(made, "fair", "flip", 1, status=None))
    assert "fair on flip: 1 not finished." in text


def test_a_reason_to_fail_is_told_once_and_whole(made):
    place = f"/home/me/{'long_name/' * 15}my_method.py:8"
    command = {"command": "python -m lmsa_bench.sweep mine.yaml --seeds 2"}
    for task in ("noise", "flip"):
        trial = entry(task, "fair", {"lr": 0.1}, 1, [0.9]).trial
        reason = f"KeyError: 'momentum' ({place}); its traceback: results/trials/{trial.id}/error.txt"
        made = changed(made, "fair", task, 1, status="failed", reason=reason, facts=command)
    made = changed(made, "poor", "flip", 1, status="failed", reason="CUDA out of memory", facts=command)
    found = report(made[0], rows(made[1]))
    text, flat = render(found, "table").decode(), " ".join(render(found, "table").decode().split())
    assert "failed: 2 trials of fair on noise, flip, such as noise fair lr=0.1 seed=1: KeyError: 'momentum' (" in flat
    assert flat.count("KeyError") == 1 and place in text  # not broken between two lines
    assert "failed: flip poor lr=0.1 seed=1: CUDA out of memory Failed trials are tried again by: python -m" in flat
    assert "2 trials failed: KeyError" in render(found, "html").decode().replace("\n", " ")


def test_a_diverged_cell_ranks_last(made):
    suite, entries = changed(made, "good", "noise", 0, status="diverged")
    # Without its other configuration the diverged one is all there is.
    entries = [e for e in entries if (e.trial.method, e.trial.task, e.trial.hparams["lr"]) != ("good", "noise", 0.01)]
    found = report(suite, rows(entries))
    assert found.statistics.average_ranks == {"fair": 2.0, "good": 2.0, "poor": 2.0}
    assert "diverged (1)" in render(found, "table").decode()
    assert found.cells["good", "noise"].mean is None
    assert not any(d.task == "noise" and d.row == "good" for d in found.differences)
    assert json.loads(render(found, "json"))["statistics"]["average_ranks"]["good"] == 2.0


def test_a_task_that_lacks_a_row_is_left_out_of_the_ranks(made):
    suite, entries = made
    found = report(suite, rows(e for e in entries if (e.trial.method, e.trial.task) != ("poor", "flip")))
    assert (found.statistics.blocks, found.statistics.left_out) == (("noise",), ("flip",))
    assert "has a result there: flip." in render(found, "table").decode()


def test_json_has_the_promised_shape(made):
    suite, entries = made
    document = json.loads(render(report(suite, rows(entries)), "json"))
    assert document["suite"] == "hand_made"
    first = document["rows"][1]
    assert (first["method"], first["average_rank"]) == ("good", 1.0)
    cell = first["tasks"]["noise"]
    assert (cell["mean"], cell["n"], cell["selected"]) == (pytest.approx(0.85), 2, {"lr": 0.1})
    assert cell["interval"] == pytest.approx([0.85 - 0.6353, 0.85 + 0.6353], abs=1e-4)
    assert {"chi2", "p", "f", "f_p", "critical_difference", "verdict"} <= set(document["statistics"])


def test_csv_and_parquet_hold_the_same_cells(made):
    suite, entries = made
    found = report(suite, rows(entries))
    lines = list(csv.DictReader(io.StringIO(render(found, "csv").decode())))
    table = pq.read_table(pa.BufferReader(render(found, "parquet"))).to_pylist()
    assert len(lines) == len(table) == 8
    assert [(line["method"], line["task"], float(line["mean"])) for line in lines] == [
        (row["method"], row["task"], row["mean"]) for row in table
    ]


def test_latex_escapes_and_marks_the_best(made):
    suite, entries = made
    text = render(report(suite, rows(entries)), "latex").decode()
    assert r"good & \textbf{85.0 (80 to 90)} & \textbf{85.0 (80 to 90)} & 1.00 \\" in text
    assert r"cifar10\_c" in render(paper(), "latex").decode()


def test_layers_are_named_in_runs():
    assert [named_layers(layers) for layers in ((), (2,), (0, 1, 2, 5))] == ["none", "2", "0-2,5"]


def test_no_results_names_the_command_that_makes_them(made, tmp_path, monkeypatch):
    suite, _ = made
    with pytest.raises(UserError, match=r"python -m lmsa_bench\.sweep hand_made"):
        report(suite, rows([]))
    monkeypatch.setattr(known, "load", lambda name, seeds: suite)
    with pytest.raises(UserError, match=r"none: there are no results; a sweep makes them"):
        main(["hand_made", "--results", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def test_formats_go_to_a_file(tmp_path):
    for form in FORMATS:
        assert main(["--paper", "--format", form, "--output", str(tmp_path / form)]) == 0
        assert (tmp_path / form).stat().st_size > 100
    with pytest.raises(UserError, match="--output"):
        main(["--paper", "--format", "parquet"])
    with pytest.raises(UserError, match="cannot be written"):
        main(["--paper", "--output", str(tmp_path / "none" / "x")])


def test_figures_are_drawn_for_whole_and_for_broken_tables(made, tmp_path):
    suite, entries = made
    drawn = figures.draw(report(suite, rows(entries)), tmp_path / "whole")
    assert [path.name for path in drawn] == [
        f"hand_made_{name}.{suffix}" for name in ("accuracies", "critical_difference") for suffix in ("png", "pdf")
    ]
    assert all(path.stat().st_size > 1000 for path in drawn)
    few = report(suite, rows(entries[:1]))
    assert [path.suffix for path in figures.draw(few, tmp_path / "few")] == [".png", ".pdf"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="figures folder"):
        figures.draw(few, tmp_path / "file")


def test_groups_of_the_diagram_are_maximal():
    # Five rows on many tasks, always in the same order: CD = 2.728 * sqrt(5 * 6 / (6 * 12)) = 1.76, so a bar spans two.
    tasks = [str(i) for i in range(12)]
    found = statistics({name: dict.fromkeys(tasks, -float(i)) for i, name in enumerate("abcde")}, tasks)
    assert figures.inseparable(found) == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    assert figures.inseparable(paper().statistics) == [("L-MSA", "LIFT")]


def test_the_papers_table_from_the_command_line():
    told = subprocess.run(
        [sys.executable, "-m", "lmsa_bench.report", "--paper"], capture_output=True, text=True, check=True
    )
    for text in (
        "2.00",
        "2.25",
        "2.50",
        "4.00",
        "4.25",
        "chi2 = 7.0",
        "p = 0.136",
        "F = 2.33",
        "p = 0.115",
        "CD = 3.05",
    ):
        assert text in told.stdout
    assert "not separable" in told.stdout
    assert told.stderr == ""


def test_a_users_error_is_one_line_and_exit_2(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "lmsa_bench.report", "--paper", "--format", "parquet"], capture_output=True, text=True
    )
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1 and told.stderr.startswith("error: --format parquet")
