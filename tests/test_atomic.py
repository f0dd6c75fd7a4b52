"""Files written whole or not at all, and temporary folders that are removed."""

import os

import pytest

from lmsa_bench.atomic import drop_scratch, replacing, scratch_folder, write_whole


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path, durable=True) as file:
        file.write(b"half of the new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_only_unlocked_scratch_folders_are_dropped(tmp_path):
    (tmp_path / ".ray-killed").mkdir()
    with scratch_folder(tmp_path) as scratch:
        drop_scratch(tmp_path)
        assert list(tmp_path.iterdir()) == [scratch]
    assert not list(tmp_path.iterdir())


def test_what_nobody_writes_any_more_is_dropped(tmp_path):
    old, new, other = (tmp_path / name for name in (f".table.txt.{'0' * 32}", f".x.{'f' * 32}", ".x"))
    for path in (old, new, other):
        path.touch()
    (tmp_path / f".new-{'0' * 32}").mkdir()
    for path in [old, other, tmp_path / f".new-{'0' * 32}"]:
        os.utime(path, (0, 0))
    drop_scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])
