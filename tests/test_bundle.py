"""A bundle verifies itself: checksums, every number, and trials run again."""

import json
import random
import shutil
import zipfile
from hashlib import sha256

import pytest

import lmsa_bench as lb
from lmsa_bench.bundle.archive import SUMS, unpacked
from lmsa_bench.bundle.command import main
from lmsa_bench.errors import UserError
from lmsa_bench.results.journal import Journal

SUITE = {
    "suite": "kept",
    "tasks": ["digits_flip"],
    "seeds": 2,
    "epochs": 1,
    "sources": "one",
    "rows": {
        "no_adaptation": {"ranked": True},
        "lmsa_adam": {"grid": {"lr": {"start": [1e-2], "extend": 10, "bounds": [1e-2, 1e-1]}}},  # goes on once
    },
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "suite.yaml").write_text(json.dumps(SUITE))
    lb.run(lb.load_suite(str(folder / "suite.yaml")), folder / "results", data)
    made = folder / "kept.zip"
    assert main([str(folder / "suite.yaml"), "--results", str(folder / "results"), "--output", str(made)]) == 0
    return made


def changed(bundle, path, change, *, listed=False):
    """A copy whose files are ``change``d; with ``listed`` its list of checksums is made to agree."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    if listed:
        names = sorted(set(files) - {SUMS})
        files[SUMS] = "".join(f"{sha256(files[name]).hexdigest()}  {name}\n" for name in names).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_it_holds_here_bit_by_bit(bundle, data, capsys):
    assert main(["--verify", str(bundle), "--rerun", "2", "--lot", "0", "--data", str(data)]) == 0
    told = capsys.readouterr().out
    ran = len(Journal(bundle.parent / "results").ids())
    assert ran > 4 and f"every number of the table follows from the records of {ran} trials" in told
    assert told.count("test accuracy +0.00 points, 0.00% of its test images") == 2 and "what they should be" in told


def test_one_flipped_bit_of_any_file_is_found(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
    assert any(name.endswith("outcomes.bin") for name in names) and "summary/kept_accuracies.png" in names
    for name in names:

        def flip(files, name=name):
            place = random.Random(name).randrange(len(files[name]))
            files[name] = files[name][:place] + bytes([files[name][place] ^ 4]) + files[name][place + 1 :]

        with pytest.raises(UserError, match="bundle"), unpacked(changed(bundle, tmp_path / "flipped.zip", flip)):
            pass
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 3] ^= 1
    (tmp_path / "raw.zip").write_bytes(raw)
    with pytest.raises(UserError, match=r"raw\.zip"), unpacked(tmp_path / "raw.zip"):
        pass


def test_a_number_that_the_records_do_not_give_is_found(bundle, tmp_path, capsys):
    def better(files):
        document = json.loads(files["summary/table.json"])
        document["verdicts"]["tasks"][0]["comparisons"][0]["half"] *= 1.001
        files["summary/table.json"] = json.dumps(document).encode()

    assert main(["--verify", str(changed(bundle, tmp_path / "b.zip", better, listed=True)), "--rerun", "0"]) == 1
    assert "verdicts.tasks[0].comparisons[0].half" in capsys.readouterr().out


def test_files_that_lead_elsewhere_or_lack_are_refused(bundle, tmp_path):
    for name, told in (("../evil", "lead elsewhere"), ("more.txt", "does not name")):
        with (
            pytest.raises(UserError, match=told),
            unpacked(changed(bundle, tmp_path / "c.zip", lambda files, name=name: files.update({name: b"x"}))),
        ):
            pass
    with (
        pytest.raises(UserError, match="lacks"),
        unpacked(changed(bundle, tmp_path / "d.zip", lambda files: files.pop("suite.yaml"))),
    ):
        pass


def test_a_suite_that_is_not_whole_is_not_bundled(bundle, tmp_path):
    results = bundle.parent / "results"
    shutil.copytree(results, tmp_path / "results")
    next(iter((tmp_path / "results" / "trials").glob("*/result.json"))).unlink()
    assert Journal(tmp_path / "results").ids()
    with pytest.raises(UserError, match="1 trials have not ended"):
        main([str(bundle.parent / "suite.yaml"), "--results", str(tmp_path / "results")])
