"""Where a result comes from, and that results of different origins do not mix."""

import subprocess
from pathlib import Path

import pytest
from hand_made import entry, suite_of, write

from lmsa_bench import provenance, suite
from lmsa_bench.errors import UserError
from lmsa_bench.report import report
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.store import ResultStore, default_uri


def test_a_process_tells_commit_packages_and_command():
    facts = provenance.of_process()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert facts["commit"] == (head.stdout.strip() or None)
    assert facts["dirty"] in ((True, False) if facts["commit"] else (None,))
    assert facts["torch"] and facts["python"] and str(facts["command"]).startswith("python -m lmsa_bench.sweep")


def test_a_suites_hash_is_of_what_it_says(tmp_path):
    text = "suite: mine\ntasks: [digits_c]\nrows:\n  full: {grid: {lr: 1e-2}}\n"
    hashes = []
    for i, content in enumerate((text, f"# a remark\n{text}", text.replace("1e-2", "1e-3"))):
        path = tmp_path / f"{i}.yaml"
        path.write_text(content)
        hashes.append(suite.load(str(path)).config)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_shows_commit_and_command(tmp_path):
    journal = Journal(tmp_path)
    made = entry("t", "m", {}, 0)
    made.result.provenance.update(commit="c0ffee", command="python -m lmsa_bench.sweep mine")
    write(journal, made)
    opened = ResultStore(default_uri(tmp_path))
    opened.publish(journal, "suite")
    (run,) = [run for run in opened._runs() if "lmsa.trial_key" in run.data.tags]
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["mlflow.source.name"] == "python -m lmsa_bench.sweep mine"


MIXTURES = {
    "protocols": [entry("t", "m", {}, 0), entry("t", "m", {}, 1, protocol=2)],
    "different data": [entry("t", "m", {}, 0), entry("t", "m", {}, 1, data="newer")],
}


@pytest.mark.parametrize("reason", MIXTURES)
def test_results_of_different_origins_are_refused_from_the_folder_and_from_the_store(reason, tmp_path):
    journal = Journal(tmp_path)
    for made in MIXTURES[reason]:
        write(journal, made)
    opened = ResultStore(default_uri(tmp_path))
    opened.publish(journal, "suite")
    for table in (journal.table(), opened.table()):
        with pytest.raises(UserError, match=reason):
            report(suite_of({"row": MIXTURES[reason]}), table)
