"""Fuzzing of data files: read exactly or one line, no code run, bounded memory."""

import gzip
import io
import itertools
import pickle
import struct
import tarfile

import numpy as np
import torch
from fuzzing import HOSTILE, MARKER, Hostile, counts, damaged, one_line, run
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from small_sets import pixels

from lmsa_bench.data import command as data
from lmsa_bench.tasks import arrow, batches, fashion, folders
from lmsa_bench.tasks.published import Archive, DataSet


def both_orders(array):
    return array.tobytes(), array.tobytes(order="F")


def batch(protocol, **content):
    return pickle.dumps({"data": pixels(4), "labels": [0, 1, 2, 3]} | content, protocol)


# numpy calls that would allocate an array of any size, a dtype with objects, and a memo of 2 GiB.
PICKLES = [
    *HOSTILE,
    *(batch(p, labels=Hostile(n)) for n in range(len(Hostile.CALLS)) for p in (0, 2, 4, 5)),
    b"\x80\x02}U\x04datacnumpy\nndarray\n(J\x00\x00\x00\x0cM\x00\x0c\x86U\x02u1tRs.",
    b"\x80\x02cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|N(U\x01atU\x00K\x08K\x01K?tb.",
    b"\x80\x02]r\x00\x00\x00\x10.",
    b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.",
    b"(" * 100_000,
    b"]" * 50_000 + b"a" * 49_999 + b".",
    *(batch(4, data=np.array(value)) for value in (["a"], [None], 1.5, [[1j]], ["2020-01-01"])),
]


@counts(60, 1200)
def test_a_pickled_batch_is_read_exactly_or_is_one_line(tmp_path, count):
    path = tmp_path / "batch"
    good = batch(3)

    def check(content):
        path.write_bytes(content)
        split = one_line(lambda: batches.read_batch(path, "labels", 10))
        if split is not None:
            assert split.images.shape[1:] == (3, 32, 32) and len(split.images) == len(split.labels)
            assert all(0 <= label < 10 for label in split.labels.tolist())
            # The oldest protocols write bytes as text, whatever number a damaged file has.
            assert (
                b"_codecs" in content
                or content[:2] < b"\x80\x03"
                or any(order in content for order in both_orders(split.images.numpy().reshape(len(split.labels), -1)))
            )

    check(good)
    assert len(batches.read_batch(path, "labels", 10)) == 4
    run(check, st.sampled_from([batch(p) for p in range(6)]).flatmap(damaged), count, PICKLES)
    check(good)


def npy(header, content=b"", version=1):
    head = header.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2 if version == 1 else 4, "little") + head + content


HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }\n"
SHAPES = [
    "(5, 32, 32, 3)",
    f"({10**12}, 32, 32, 3)",
    f"({10**30},)",
    "(-5, 32)",
    "(0,)",
    "()",
    "(True,)",
    "5",
    "(5,)",
]
TYPES = ["'|u1'", "'|O'", "('a',)", "[()]", "[('a','u1',-1)]", "None", "'<f8'", "[('a', '|O')]", "('u1', (10,)*9)"]
NPYS = [
    *(npy(HEADER % (t, order, shape), bytes(5 * 3072)) for t in TYPES for shape in SHAPES for order in (False, True)),
    *(
        npy(text)
        for text in ("{'descr': '''", "{'descr': 'u1', (\n", "(" * 5000, "{[]: 1}", "__import__('os')", "1" * 9000)
    ),
    *(npy(" " * 20_000, version=2), b"PK\x03\x04aaa", b"", *HOSTILE),
]


@counts(40, 800)
def test_an_npy_file_is_read_exactly_or_is_one_line(tmp_path, count):
    images, labels = tmp_path / "fog.npy", tmp_path / "labels.npy"
    np.save(images, pixels(10).reshape(10, 32, 32, 3))
    np.save(labels, np.array([3, 4] * 5, np.uint8))
    whole = {path: path.read_bytes() for path in (images, labels)}

    def check(case):
        changed, content = case
        for path, text in whole.items():
            path.unlink()
            path.write_bytes(content if path == changed else text)
        split = one_line(lambda: batches.read_corrupted(images, labels, 2))
        if split is not None:
            assert split.images.shape == (len(split.labels), 3, 32, 32) and split.images.dtype == torch.uint8
            rows = np.ascontiguousarray(split.images.permute(0, 2, 3, 1).numpy())
            fortran = b"'fortran_order': True" in images.read_bytes()
            assert fortran or rows.tobytes() in images.read_bytes()
            assert all(0 <= label < 10 for label in split.labels.tolist())

    changes = st.sampled_from([images, labels]).flatmap(lambda path: st.tuples(st.just(path), damaged(whole[path])))
    run(check, changes, count, itertools.product((images, labels), NPYS))


@counts(40, 800)
def test_an_idx_file_matches_its_header_or_is_one_line(tmp_path, monkeypatch, count):
    name = "t10k-images-idx3-ubyte"
    content = struct.pack(">4I", 0x0803, 3, 28, 28) + pixels(1).tobytes()[: 3 * 784]
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"

    def check(case):
        suffix, text, checksum = case
        plain.unlink(missing_ok=True)
        (packed if suffix else plain).write_bytes(text)
        monkeypatch.setitem(fashion.MD5, name, checksum)
        pixels_read = one_line(lambda: fashion.read_idx(plain, (28, 28)))
        if pixels_read is None:
            return
        assert not suffix or pixels_read.numpy().tobytes() == content[16:]
        assert pixels_read.numpy().tobytes() == (content if suffix else text)[16:] and pixels_read.shape[1:] == (28, 28)

    bomb = gzip.compress(struct.pack(">4I", 0x0803, 1 << 21, 28, 28)) + 64 * gzip.compress(bytes(1 << 24))
    known = [(True, bomb, ""), (False, b"", ""), (True, b"", ""), *((False, text, "") for text in HOSTILE)]
    known += [
        (False, struct.pack(">4I", *head) + content[16:], "") for head in ((2051, 2**32 - 1, 28, 28), (2051, 4, 28, 28))
    ]
    changes = st.tuples(st.just(False), damaged(content), st.sampled_from(["", "0" * 32]))
    run(check, changes | st.tuples(st.just(True), damaged(gzip.compress(content)), st.just("")), count, known)
    for part, size in (("images-idx3", (28, 28)), ("labels-idx1", ())):
        monkeypatch.setitem(fashion.MD5, f"t10k-{part}-ubyte", "")
        head = (0x0801 + len(size), 0, *size)
        (tmp_path / f"t10k-{part}-ubyte").write_bytes(struct.pack(f">{len(head)}I", *head))
    assert one_line(lambda: fashion._split(tmp_path, "t10k")) is None  # no image at all


def picture(form, size, mode="RGB"):
    buffer = io.BytesIO()
    (Image.effect_noise(size, 90) if size[0] < 100 else Image.new("1", size)).convert(mode).save(buffer, form)
    return buffer.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"


@counts(40, 800)
def test_an_image_has_its_size_or_is_one_line(tmp_path, monkeypatch, count):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {MARKER}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path, out = tmp_path / "image.JPEG", tmp_path / "out.arrow"

    def check(case):
        cut, content = case
        path.write_bytes(content)
        if one_line(lambda: folders.write(out, [(path, 7)], cut, 32, "recipe") or True):
            split = arrow.read(out)
            assert split.images.shape == (1, 3, 32, 32) and split.labels.tolist() == [7]
            out.unlink()
        assert not (tmp_path / ".out.arrow.pixels").exists()

    cuts = st.sampled_from([folders.as_is, folders.center_crop])
    good = [
        picture("JPEG", (32, 32)),
        picture("PNG", (32, 32)),
        picture("JPEG", (40, 50), "L"),
        picture("PNG", (9, 9), "1"),
    ]
    bombs = [picture("PNG", size, "1") for size in ((1, 60_000), (60_000, 1), (13_000, 13_000))]
    other = [picture(form, (32, 32)) for form in ("TIFF", "GIF", "BMP", "PPM", "ICO")]
    known = [
        (folders.as_is, bombs[2]),
        *((folders.center_crop, text) for text in bombs[:2]),
        (folders.center_crop, EPS),
    ]
    known += [(folders.center_crop, text) for text in [*other, *HOSTILE, b"", b"P6 0 5 255\n", b"P6 1 1 255\n"]]
    run(check, st.tuples(cuts, st.sampled_from(good).flatmap(damaged)), count, known)


@counts(60, 1200)
def test_an_arrow_file_is_read_exactly_or_is_one_line(tmp_path, count):
    path = tmp_path / "images.arrow"
    images, labels = torch.from_numpy(pixels(2)[:, :192].copy()).view(2, 3, 8, 8), torch.tensor([3, 4])
    arrow.write(path, images, labels, "recipe")
    whole = path.read_bytes()

    def check(content):
        path.write_bytes(content)
        arrow._verified.clear()
        split = one_line(lambda: arrow.read(path))
        if split is not None:
            assert torch.equal(split.images, images) and torch.equal(split.labels, labels)

    shapes = [whole.replace(b"3,8,8", text) for text in (b"8,8,3", b"-3,-8,8", b"9,9,9", b"0,8,8", b"x,8,8", b"3,8  ")]
    flips = [
        whole.replace(pixels(2)[:, :192].tobytes()[:9], b"other pix"),
        whole.replace(b"\3\0\0\0\0\0\0\0\4", b"\5" + bytes(7) + b"\4"),
    ]
    run(check, damaged(whole), count, [*shapes, *flips, *HOSTILE, b"", b"ARROW1", whole[:-6]])


KINDS = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
}
NAMES = [
    "held",
    "set/held",
    "../held",
    "../../../outside",
    MARKER,
    "a/../../held",
    "a",
    "a/b",
    "é",
    "",
]


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for kind, name, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = KINDS[kind], link
            content = b"content" if kind == "file" else b""
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


GOOD_TAR = archive([("folder", "set", ""), ("file", "set/held", "")])


@counts(60, 1200)
def test_an_archive_is_unpacked_in_its_folder_or_is_one_line(tmp_path, count):
    root = tmp_path / "deep" / "er" / "root"
    path = root / "downloads" / "set.tar"
    path.parent.mkdir(parents=True)
    known_set = DataSet("set", "set", "", "", (Archive("http://none/set.tar", ("held",)),))

    def check(content):
        path.write_bytes(content)
        placed = one_line(lambda: data.place(known_set, root, known_set.archives[0], path) or True)
        held = root / "set" / "held"
        assert bool(placed) == held.exists()
        files = {p for p in tmp_path.rglob("*") if not p.is_dir()} - {path}
        assert all(p.is_relative_to(root / "set") and p.is_file() and not p.is_symlink() for p in files)
        if held.is_dir():
            held.rename(root / "downloads" / "gone")
        for p in sorted((root / "downloads").rglob("*"), reverse=True):
            p.rmdir() if p.is_dir() else p.unlink()
        held.unlink(missing_ok=True)

    members = st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(NAMES), st.sampled_from([*NAMES, "/etc/passwd"]))
    known = [
        archive([("link", "a", "../.."), ("file", "a/held", "")]),
        b"",
        *HOSTILE,
        b"\x1f\x8b",
        b"BZh9",
        b"\xfd7zXZ\0",
    ]
    run(check, st.lists(members, min_size=1, max_size=4).map(archive) | damaged(GOOD_TAR), count, known)
