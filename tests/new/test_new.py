"""What `lmsa-bench new` writes works at once, and its own tests pass."""

import subprocess
import sys

import pytest

from lmsa_bench.errors import UserError
from lmsa_bench.new.arguments import FILES
from lmsa_bench.new.command import main
from lmsa_bench.suites.load import load


@pytest.mark.parametrize("kind", FILES)
def test_a_skeleton_is_a_suite_that_loads(kind, tmp_path, capsys):
    name = f"skeleton_{kind}"
    assert main([kind, name, "--folder", str(tmp_path)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written[:-1] == [str(path) for path in (tmp_path / file.format(name) for file in FILES[kind].values())]
    assert written[-1] == f"next: python -m lmsa_bench.sweep {tmp_path / name}.yaml --local"
    suite = load(str(tmp_path / f"{name}.yaml"))
    assert suite.name == name and suite.trials
    assert "NAME" not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.slow  # two source models are trained
def test_the_tests_of_a_new_method_and_a_new_task_pass(tmp_path):
    for kind in ("method", "task"):
        main([kind, f"own_{kind}", "--folder", str(tmp_path)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_nothing_is_overwritten_and_a_name_is_a_name(tmp_path):
    main(["suite", "mine", "--folder", str(tmp_path)])
    with pytest.raises(UserError, match=r"mine\.yaml: exists already; choose another name or folder"):
        main(["suite", "mine", "--folder", str(tmp_path)])
    for name in ("my-method", "My", "class", "1st"):
        with pytest.raises(UserError, match=f"method '{name}': expected a name in snake_case, such as my_method"):
            main(["method", name, "--folder", str(tmp_path)])
