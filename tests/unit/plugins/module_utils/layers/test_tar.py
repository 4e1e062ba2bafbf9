# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading archives as Python's tarfile reads them and as GNU tar writes them, damage, and writing archives."""

from __future__ import annotations

import io
import itertools
import os
import posixpath
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.index import index
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import (
    Entry,
    normal,
    read,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar_writer import TarWriter
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

WHAT = "the layer"
UNSOUND = r"^the layer is not a sound tar archive: "
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


class Pieces(io.RawIOBase):
    """A stream that gives pieces of the given sizes, over and over, however many bytes are asked for."""

    def __init__(self, content: bytes, sizes: Sequence[int]) -> None:
        self.rest = content
        self._sizes = itertools.cycle(sizes)

    def read(self, size: int = -1) -> bytes:
        """Return the next piece; nothing at the end."""
        count = next(self._sizes)
        piece, self.rest = self.rest[:count], self.rest[count:]
        return piece


def stream(content: bytes) -> IO[bytes]:
    return io.BytesIO(content)


def contents(archive: bytes, sizes: Sequence[int] = (2**20,)) -> list[tuple[Entry, bytes | None]]:
    """Return our reader's view of an archive."""
    found = []
    for entry, data in read(cast("IO[bytes]", Pieces(archive, sizes)), WHAT):
        content = None
        if data is not None:
            pieces = list(data)
            assert all(isinstance(piece, memoryview) for piece in pieces)
            content = b"".join(pieces)
            assert len(content) == entry.size
        found.append((entry, content))
    return found


def tarfile_contents(archive: bytes) -> list[tuple[Entry, bytes | None]]:
    """Return Python's view of an archive, paths in normal form."""
    found: list[tuple[Entry, bytes | None]] = []
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as members:
        for member in members:
            kind = KINDS[member.type]
            target = os.fsencode(member.linkname)
            xattrs = sorted(
                (os.fsencode(key[len("SCHILY.xattr.") :]), os.fsencode(value))
                for key, value in member.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            )
            entry = Entry(
                path_below_root(os.fsencode(member.name)),
                kind,
                member.mode,
                member.uid,
                member.gid,
                int(member.mtime),
                member.size if kind == "file" else 0,
                target if kind == "symlink" else path_below_root(target) if kind == "link" else b"",
                (member.devmajor, member.devminor) if kind in ("char", "block") else (0, 0),
                tuple((os.fsdecode(name), value) for name, value in xattrs),
            )
            data = members.extractfile(member) if kind == "file" else None
            found.append((entry, data.read() if data else None))
    return found


def path_below_root(path: bytes) -> bytes:
    return posixpath.normpath(b"/" + path.lstrip(b"/"))[1:]


def python_archive(
    members: Sequence[tuple[tarfile.TarInfo, bytes]], format: int, headers: dict[str, str] | None = None
) -> bytes:
    """Return the archive that Python makes of members, without those that the format cannot hold."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape", pax_headers=headers
    ) as archive:
        for info, data in members:
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                event("a member that the format cannot hold")
    return buffer.getvalue()


def file(name: str, data: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member, a regular file unless ``type`` says other."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


# Archives of Python's tarfile

part = st.one_of(
    st.sampled_from([b"a", b"b", b"usr", b"lib"]),
    st.binary(min_size=1, max_size=40),
    st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), st.integers(90, 255)),
).map(lambda raw: raw.replace(b"\0", b"-").replace(b"/", b"-"))
path = st.lists(part, min_size=1, max_size=15).map(b"/".join)
sizes_of_files = st.sampled_from([0, 1, 511, 512, 513, 1022, 1024, 5000]) | st.integers(0, 3000)
file_data = st.builds(lambda size, seed: random.Random(seed).randbytes(size), sizes_of_files, st.integers(0, 9))
identifiers = st.one_of(
    st.integers(0, 70000), st.integers(0, 2**32 - 2), st.sampled_from([2**21 - 1, 2**21, 2**32 - 2])
)


@st.composite
def python_members(draw: st.DrawFn, format: int) -> tuple[tarfile.TarInfo, bytes]:
    """Draw any member that the tests' own Python can write in a format."""
    kind = draw(st.sampled_from([flag for flag in KINDS if flag != tarfile.GNUTYPE_SPARSE]))
    name = draw(st.sampled_from([b"", b"", b"./", b"/", b".//", b"../"])) + draw(path)
    if kind == tarfile.AREGTYPE:  # with a slash it is a directory, and tarfile cuts a long name anywhere
        name = name[:90].rstrip(b"/") or b"a"
    else:
        name += draw(st.sampled_from([b"", b"", b"/"]))
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type = kind
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(identifiers), draw(identifiers)
    least = {tarfile.USTAR_FORMAT: 0}.get(format, -(2**33))
    info.mtime = draw(st.integers(least, 2**33 - 1))
    if format == tarfile.PAX_FORMAT:
        info.mtime = info.mtime + draw(st.sampled_from([0, 0.5, 0.125]))
        info.pax_headers = draw(st.dictionaries(xattr_names.map("SCHILY.xattr.".__add__), pax_values, max_size=3))
    data = b""
    if KINDS[kind] == "file":
        data = draw(file_data)
        info.size = len(data)
    elif KINDS[kind] in ("link", "symlink"):
        info.linkname = os.fsdecode(draw(st.sampled_from([b"", b"/", b"../"])) + draw(path))
    elif KINDS[kind] in ("char", "block"):
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))
    return info, data


xattr_names = st.builds(
    str.__add__,
    st.sampled_from(["user.", "trusted.", "security."]),
    st.text("abc.é", min_size=1, max_size=6),
)
pax_values = st.binary(max_size=30).map(os.fsdecode)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=150)
@given(data=st.data())
def test_an_archive_of_python_reads_as_python_reads_it(format: int, data: st.DataObject) -> None:
    members = data.draw(st.lists(python_members(format), min_size=1, max_size=5))
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=5))
    headers = None
    if format == tarfile.PAX_FORMAT:
        headers = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "comment": pax_values,
                    "SCHILY.xattr.user.all": pax_values,
                    "mtime": st.integers(0, 2**32).map(str),
                    "uid": st.integers(0, 2**32 - 2).map(str),
                    "gname": st.just("wheel"),
                },
            )
        )
    archive = python_archive(members, format, headers)
    assert contents(archive, sizes) == tarfile_contents(archive)


def test_the_attributes_of_each_kind_of_entry() -> None:
    xattrs = {"SCHILY.xattr.user.note": "h\u00e4h", "SCHILY.xattr.user.a": "", "comment": "no attribute"}
    archive = python_archive(
        [
            file("f", b"abc", uid=3_000_000_000, gid=65534, mode=0o4711, mtime=12345, pax_headers=xattrs),
            file("d/", type=tarfile.DIRTYPE, mode=0o1777),
            file("s", type=tarfile.SYMTYPE, linkname="../d/./x//"),
            file("h", type=tarfile.LNKTYPE, linkname="./d//f"),
            file("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            file("b", type=tarfile.BLKTYPE, devmajor=259, devminor=2**20 - 1),
            file("p", type=tarfile.FIFOTYPE, mode=0),
        ],
        tarfile.PAX_FORMAT,
    )
    assert contents(archive) == [
        (
            Entry(
                b"f", "file", 0o4711, 3_000_000_000, 65534, 12345, 3, b"", (0, 0),
                (("user.a", b""), ("user.note", "h\u00e4h".encode())),
            ),
            b"abc",
        ),
        (Entry(b"d", "directory", 0o1777, 0, 0, 0), None),
        (Entry(b"s", "symlink", 0o644, 0, 0, 0, 0, b"../d/./x//"), None),
        (Entry(b"h", "link", 0o644, 0, 0, 0, 0, b"d/f"), None),
        (Entry(b"c", "char", 0o644, 0, 0, 0, 0, b"", (1, 3)), None),
        (Entry(b"b", "block", 0o644, 0, 0, 0, 0, b"", (259, 2**20 - 1)), None),
        (Entry(b"p", "fifo", 0, 0, 0, 0), None),
    ]  # fmt: skip


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_that_are_long_or_no_utf_8_stay_as_they_are(format: int) -> None:
    names = [
        b"x" * 255,
        b"d/" + b"y" * 180 + b"/" + b"z" * 180,
        b"/".join([b"q" * 255] * 16),
        b"caf\xe9",
        "gr\u00fcn".encode(),
        b"new\nline",
        b'q"\\ ',
        b" ",
    ]
    archive = python_archive([file(os.fsdecode(name)) for name in names], format)
    assert [entry.path for entry in index(stream(archive), WHAT)] == names
    assert len(names[2]) == 4095


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", b""),
        (b".", b""),
        (b"./", b""),
        (b"..", b""),
        (b"a", b"a"),
        (b"/a", b"a"),
        (b"./a/", b"a"),
        (b"a//b/./c", b"a/b/c"),
        (b"a/../b", b"b"),
        (b"../../a", b"a"),
        (b"a/b/../../../c", b"c"),
        (b"a/..", b""),
        (b"..a/b..", b"..a/b.."),
        (b"a/...", b"a/..."),
    ],
)
def test_a_path_in_normal_form(path: bytes, expected: bytes) -> None:
    assert normal(path) == expected
    (entry,) = index(stream(extension(b"L", path + b"\0") + block()), WHAT)
    assert entry.path == expected


def test_the_root_in_normal_form_is_empty() -> None:
    assert normal(b"") == normal(b"./") == b""


def test_entries_of_one_directory_by_many_names_are_in_one_directory() -> None:
    names = [
        "a/b/1",
        "./a/b/2",
        "/a/b/3",
        "a//b/4",
        "a/c/../b/5",
        "a/b/6/",
        "a/b/7/.",
        "a/b/c/../8",
        "../a/b/9",
        "a/b/.",
    ]
    paths = [entry.path for entry in index(stream(python_archive([file(name) for name in names], 1)), WHAT)]
    assert paths == [*(f"a/b/{number}".encode() for number in range(1, 10)), b"a/b"]


# Archives of GNU tar

TAR = shutil.which("tar")
gnu_tar = pytest.mark.skipif(
    TAR is None or b"GNU tar" not in subprocess.run([TAR, "--version"], capture_output=True, check=False).stdout,
    reason="there is no GNU tar on this host",
)


class Found(NamedTuple):
    """The thing at a path on disk."""

    kind: int
    mode: int
    owner: tuple[int, int]
    mtime: int
    target: bytes
    device: tuple[int, int]
    content: bytes
    inode: frozenset[bytes]


def on_disk(root: bytes) -> dict[bytes, Found]:
    found: dict[bytes, Found] = {}
    names: dict[int, set[bytes]] = {}
    everything = [os.path.join(parent, name) for parent, more, files in os.walk(root) for name in (*more, *files)]
    for place in everything:
        names.setdefault(os.lstat(place).st_ino, set()).add(os.path.relpath(place, root))
    for place in everything:
        status = os.lstat(place)
        kind = stat.S_IFMT(status.st_mode)
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        found[os.path.relpath(place, root)] = Found(
            kind,
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            int(status.st_mtime),
            os.readlink(place) if kind == stat.S_IFLNK else b"",
            device,
            Path(os.fsdecode(place)).read_bytes() if kind == stat.S_IFREG else b"",
            frozenset(names[status.st_ino]),
        )
    return found


MODES = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}


def in_archive(archive: bytes) -> dict[bytes, Found]:
    """Return the same of an archive of a whole directory."""
    found: dict[bytes, Found] = {}
    names: dict[bytes, set[bytes]] = {}
    first: dict[bytes, bytes] = {}
    for entry, data in contents(archive):
        if not entry.path:
            continue
        first[entry.path] = entry.target if entry.kind == "link" else entry.path
        names.setdefault(first[entry.path], set()).add(entry.path)
        if entry.kind == "link":
            found[entry.path] = found[entry.target]
        else:
            owner = (entry.uid, entry.gid)
            found[entry.path] = Found(
                MODES[entry.kind], entry.mode, owner, entry.mtime, entry.target, entry.device, data or b"", frozenset()
            )
    return {path: item._replace(inode=frozenset(names[first[path]])) for path, item in found.items()}


def gnu_archive(root: Path, *options: str) -> bytes:
    command = ["tar", "--create", "--file=-", "--numeric-owner", *options, "--directory", str(root), "."]
    return subprocess.run(command, capture_output=True, check=True).stdout


@gnu_tar
@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_an_archive_of_gnu_tar_holds_what_was_on_disk(tmp_path: Path, format: str) -> None:
    root = tmp_path / "root"
    long = format in ("oldgnu", "gnu", "pax")
    inner = root / "d" / ("e" * 60)
    inner.mkdir(parents=True)
    (inner / "caf\udce9 \n*").write_bytes(b"x" * 1000)
    (inner / "empty").touch(mode=0o600)
    (root / "block").write_bytes(bytes(range(256)) * 2)
    (root / "s").symlink_to("t" * (99 if format == "v7" else 100))
    os.link(root / "block", inner / "linked")
    (root / "setuid").write_bytes(b"#!")
    (root / "setuid").chmod(0o4755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    if format != "v7":
        os.mkfifo(root / "pipe")
        prefixed = root / ("p" * 60) / ("q" * 50)
        prefixed.mkdir(parents=True)
        (prefixed / ("r" * 99)).write_bytes(b"prefix")
    if long:
        (root / "d" / ("f" * 150)).mkdir()
        (root / "d" / ("f" * 150) / ("g" * 255)).write_bytes(b"long")
        (root / "far").symlink_to("t" * 250 + "/" + "t" * 250)
        os.link(root / "d" / ("f" * 150) / ("g" * 255), root / "long link")
    if os.geteuid() == 0:
        os.chown(root / "setuid", 70000, 2**21 if long else 2**21 - 1)
        (root / "setuid").chmod(0o6755)
        if format != "v7":
            os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.utime(root / "block", (-5 if format in ("gnu", "oldgnu", "pax") else 5,) * 2)
    found = in_archive(gnu_archive(root, f"--format={format}"))
    expected = on_disk(os.fsencode(root))
    assert found == expected


SPARSE = [
    ("gnu", [], b"S"),
    ("oldgnu", [], b"S"),
    ("pax", ["--sparse-version=0.0"], b"GNU.sparse.offset"),
    ("pax", ["--sparse-version=0.1"], b"GNU.sparse.map"),
    ("pax", ["--sparse-version=1.0"], b"GNU.sparse.major=1\n"),
]


@gnu_tar
@pytest.mark.parametrize("segments", [0, 1, 3, 4, 5, 25, 26, 60])
@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize(("format", "options", "mark"), SPARSE)
def test_a_sparse_file_of_gnu_tar_has_its_holes(
    tmp_path: Path, format: str, options: list[str], mark: bytes, begin: int, segments: int
) -> None:
    step, chance = 65536, random.Random(segments)
    content = bytearray(step * (2 * segments + 3 - begin) + chance.randrange(1000))
    for number in range(segments):
        place = (2 * number + begin) * step
        length = 4096 * chance.randrange(1, 4)
        content[place : place + length] = chance.randbytes(length)
    with (tmp_path / "sparse").open("wb") as target:
        for place in range(0, len(content), 4096):
            if any(content[place : place + 4096]):
                target.seek(place)
                target.write(content[place : place + 4096])
        target.truncate(len(content))
    (tmp_path / "ordinary").write_bytes(b"after it")
    command = ["tar", "--create", "--file=-", f"--format={format}", "--sparse", *options, "sparse", "ordinary"]
    archive = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert len(archive) < len(content)
    assert archive[156:157] == mark or mark in archive
    found = {entry.path: data for entry, data in contents(archive, (2**16, 511, 4097))}
    assert found == {b"sparse": bytes(content), b"ordinary": b"after it"}
    assert [entry.size for entry in index(stream(archive), WHAT)] == [len(content), 8]


@gnu_tar
@pytest.mark.parametrize("options", [["--sparse-version=0.0"], ["--sparse-version=0.1"], ["--sparse-version=1.0"], []])
def test_a_sparse_file_has_its_own_long_name(tmp_path: Path, options: list[str]) -> None:
    name = "n" * 200
    with (tmp_path / name).open("wb") as target:
        target.truncate(2**20)
    archive = gnu_archive(tmp_path, f"--format={'pax' if options else 'gnu'}", "--sparse", *options)
    assert len(archive) < 2**16
    assert [(entry.path, entry.size) for entry in index(stream(archive), WHAT)][1:] == [(name.encode(), 2**20)]


@gnu_tar
def test_extended_attributes_that_gnu_tar_writes_arrive(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    try:
        os.setxattr(tmp_path / "a", "user.binary", bytes(range(256)))
    except OSError:
        pytest.skip(f"the file system of {tmp_path} holds no extended attributes")
    entries = index(stream(gnu_archive(tmp_path, "--format=pax", "--xattrs")), WHAT)
    assert [entry.xattrs for entry in entries if entry.path] == [(("user.binary", bytes(range(256))),)]


@pytest.mark.skipif(shutil.which("bsdtar") is None, reason="there is no bsdtar on this host")
@pytest.mark.parametrize("format", ["gnutar", "pax", "ustar", "v7"])
def test_an_archive_of_libarchive_holds_what_was_on_disk(tmp_path: Path, format: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 1000)
    (tmp_path / "s").symlink_to("d/f")
    os.link(tmp_path / "d" / "f", tmp_path / "h")
    command = ["bsdtar", "--create", "--file", "-", "--format", format, "--directory", str(tmp_path), "."]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    assert in_archive(archive) == on_disk(os.fsencode(tmp_path))


# Headers by hand: POSIX.1-2001 pax, "ustar Interchange Format"

PLACES = {"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "flag": 156, "link": 157}
PLACES |= {"magic": 257, "major": 329, "minor": 337, "prefix": 345, "trailer": 508}
PLACES |= {"segments": 386, "extended": 482, "realsize": 483}
USTAR, GNU = b"ustar\x0000", b"ustar  \0"
END = bytes(1024)


def block(signed: bool = False, **fields: bytes) -> bytes:
    """Return a header: an empty file "a" of the ustar format, but for what is said."""
    raw = bytearray(512)
    usual = {"name": b"a", "mode": b"0000644\0", "size": b"%011o\0" % 0, "flag": b"0", "magic": USTAR}
    for field, value in (usual | fields).items():
        raw[PLACES[field] : PLACES[field] + len(value)] = value
    raw[148:156] = b" " * 8
    total = sum(byte - 256 * (signed and byte > 127) for byte in raw)
    raw[148:156] = b"%06o\0 " % total
    return bytes(raw)


def octal(number: int) -> bytes:
    return b"%011o\0" % number


def binary(number: int, length: int) -> bytes:
    """Write a number in base 256 (GNU tar manual, "Basic Tar Format"): two's complement after a bit that is set."""
    raw = bytearray((number % 256**length).to_bytes(length, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extension(flag: bytes, content: bytes) -> bytes:
    return block(name=b"extension", flag=flag, size=octal(len(content))) + padded(content)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = next(length for length in itertools.count() if length == len(rest) + len(str(length)))
    return b"%d" % length + rest


def pax(flag: bytes = b"x", **values: bytes) -> bytes:
    return extension(flag, b"".join(record(key.replace("__", ".").encode(), value) for key, value in values.items()))


def octals(segments: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(octal(begin) + octal(length) for begin, length in segments)


def gnu_sparse(segments: bytes, size: bytes, data: bytes, extended: Sequence[bytes] = ()) -> bytes:
    more = b"\1" if extended else b"\0"
    head = block(
        flag=b"S", magic=GNU, size=octal(len(data)), segments=segments, extended=more, realsize=size.rjust(12, b"0")
    )
    return head + b"".join(part.ljust(512, b"\0") for part in extended) + padded(data)


EMPTY = Entry(b"a", "file", 0o644, 0, 0, 0)
HAND_MADE: dict[str, tuple[bytes, Entry]] = {
    "a plain header": (block(), EMPTY),
    "a contiguous file is a file": (block(flag=b"7"), EMPTY),
    "before POSIX a NUL was a file": (block(flag=b"\0", magic=b""), EMPTY),
    "and a directory had a trailing slash": (
        block(flag=b"\0", magic=b"", name=b"d/"),
        EMPTY._replace(path=b"d", kind="directory"),
    ),
    "a file has none": (block(name=b"d/"), EMPTY._replace(path=b"d")),
    "a name may fill its field": (block(name=b"n" * 100), EMPTY._replace(path=b"n" * 100)),
    "a prefix comes before a name": (block(prefix=b"p/q"), EMPTY._replace(path=b"p/q/a")),
    "a prefix may fill its field": (
        block(prefix=b"p" * 75 + b"/" + b"q" * 79),
        EMPTY._replace(path=b"p" * 75 + b"/" + b"q" * 79 + b"/a"),
    ),
    "the prefix of star is shorter": (
        block(prefix=b"p" * 131 + octal(7) + octal(8), trailer=b"tar\0"),
        EMPTY._replace(path=b"p" * 131 + b"/a"),
    ),
    "GNU has no prefix": (block(prefix=b"0" * 11, magic=GNU), EMPTY),
    "the older formats have none": (block(prefix=b"p", magic=b""), EMPTY),
    "numbers may be padded by spaces": (
        block(mode=b"   755 \0", uid=b"    12 \0", gid=b" 13\0   x", mtime=b"        17  "),
        EMPTY._replace(mode=0o755, uid=0o12, gid=0o13, mtime=0o17),
    ),
    "or by NULs": (block(uid=b"\0\0\0\x0012\0\0"), EMPTY._replace(uid=0o12)),
    "or be missing": (block(mode=bytes(8), uid=b" " * 8), EMPTY._replace(mode=0)),
    "or fill their field": (block(uid=b"77777777"), EMPTY._replace(uid=0o77777777)),
    "of a mode only the permissions count": (block(mode=b"0104755\0"), EMPTY._replace(mode=0o4755)),
    "numbers in base 256": (
        block(magic=GNU, uid=binary(2**32 - 2, 8), gid=binary(2**21, 8), mtime=binary(2**40, 12)),
        EMPTY._replace(uid=2**32 - 2, gid=2**21, mtime=2**40),
    ),
    "negative ones too": (block(magic=GNU, mtime=binary(-1, 12)), EMPTY._replace(mtime=-1)),
    "far before the epoch": (block(magic=GNU, mtime=binary(-(2**40), 12)), EMPTY._replace(mtime=-(2**40))),
    "a checksum of unsigned characters": (block(name=b"\xff" * 99), EMPTY._replace(path=b"\xff" * 99)),
    "a checksum of signed ones": (block(signed=True, name=b"\xff" * 99), EMPTY._replace(path=b"\xff" * 99)),
    "a device": (
        block(flag=b"3", major=b"0007777\0", minor=b"3777777\0"),
        EMPTY._replace(kind="char", device=(4095, 2**20 - 1)),
    ),
    "what is no device has no numbers": (block(major=b"0000001\0", minor=b"0000001\0"), EMPTY),
    "what has no data has no size": (
        block(flag=b"5", size=octal(1024)),
        EMPTY._replace(kind="directory"),
    ),
    "a record wins over the header": (
        pax(path=b"p", uid=b"5", gid=b"6", mtime=b"7.25") + block(),
        EMPTY._replace(path=b"p", uid=5, gid=6, mtime=7),
    ),
    "so does that of Solaris": (pax(b"X", path=b"p") + block(), EMPTY._replace(path=b"p")),
    "and a link's": (
        pax(linkpath=b"/other") + block(flag=b"1", link=b"l"),
        EMPTY._replace(kind="link", target=b"other"),
    ),
    "an empty record leaves the header's value": (
        pax(path=b"", uid=b"", gid=b"", mtime=b"", size=b"", linkpath=b"")
        + block(flag=b"2", link=b"l", uid=b"0000007\0", gid=b"0000007\0", mtime=octal(7)),
        EMPTY._replace(kind="symlink", target=b"l", uid=7, gid=7, mtime=7),
    ),
    "a time before the epoch": (pax(mtime=b"-1.5") + block(), EMPTY._replace(mtime=-1)),
    "of two records the last counts": (pax(path=b"p") + pax(path=b"q") + block(), EMPTY._replace(path=b"q")),
    "a record may hold line feeds and equals signs": (
        pax(path=b"a=b\n5 x=y\n") + block(),
        EMPTY._replace(path=b"a=b\n5 x=y\n"),
    ),
    "a length may count NULs": (
        extension(b"x", record(b"path", b"p") + bytes(100)) + block(),
        EMPTY._replace(path=b"p"),
    ),
    "a global record counts": (pax(b"g", mtime=b"9") + block(), EMPTY._replace(mtime=9)),
    "an entry's own record wins over it": (
        pax(b"g", mtime=b"9") + pax(mtime=b"10") + block(),
        EMPTY._replace(mtime=10),
    ),
    "an attribute of an empty value": (
        pax(SCHILY__xattr__user__x=b"") + block(),
        EMPTY._replace(xattrs=(("user.x", b""),)),
    ),
    "an attribute of any bytes": (
        pax(SCHILY__xattr__user__x=b"\0\xff\n=") + block(),
        EMPTY._replace(xattrs=(("user.x", b"\0\xff\n="),)),
    ),
    "a long name": (extension(b"L", b"l" * 200 + b"\0") + block(), EMPTY._replace(path=b"l" * 200)),
    "a long name without its NUL": (extension(b"L", b"l" * 200) + block(), EMPTY._replace(path=b"l" * 200)),
    "a long name wins over a record": (
        pax(path=b"p") + extension(b"L", b"long\0") + block(),
        EMPTY._replace(path=b"long"),
    ),
    "a long name and a long link": (
        extension(b"K", b"k" * 150 + b"\0") + extension(b"L", b"l" * 150 + b"\0") + block(flag=b"2"),
        EMPTY._replace(path=b"l" * 150, kind="symlink", target=b"k" * 150),
    ),
    "a name of 4095 bytes": (
        extension(b"L", b"x/" * 2047 + b"x") + block(),
        EMPTY._replace(path=b"x/" * 2047 + b"x"),
    ),
    "a header of one mebibyte": (
        extension(b"x", record(b"comment", b"c" * (2**20 - 17))) + block(),
        EMPTY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_header_by_hand(name: str) -> None:
    archive, expected = HAND_MADE[name]
    following = block(name=b"next")
    for end in (END, b""):
        first, second = index(stream(archive + following + end), WHAT)
        assert first == expected
        assert second.path == b"next"


def test_an_entrys_own_records_are_not_those_of_the_next() -> None:
    archive = pax(path=b"p", SCHILY__xattr__user__x=b"1") + block() + block()
    archive += (
        pax(b"g", mtime=b"1", path=b"g") + block() + pax(path=b"") + block() + pax(mtime=b"2") + block() + block()
    )
    found = [(entry.path, entry.mtime, len(entry.xattrs)) for entry in index(stream(archive), WHAT)]
    assert found == [(b"p", 0, 1), (b"a", 0, 0), (b"g", 1, 0), (b"a", 1, 0), (b"g", 2, 0), (b"g", 1, 0)]


def test_a_record_may_give_a_size_that_no_header_holds() -> None:
    for head in (pax(size=b"%d" % 2**40) + block(), block(magic=GNU, size=binary(2**40, 12))):
        entry, _data = next(read(stream(head), WHAT))
        assert entry.size == 2**40


def test_a_header_that_holds_both_records_and_data_gives_both() -> None:
    archive = pax(size=b"5") + block() + padded(b"hello") + END
    assert contents(archive) == [(EMPTY._replace(size=5), b"hello")]


SPARSE_BY_HAND: dict[str, tuple[bytes, bytes]] = {
    "GNU, no data": (gnu_sparse(b"", octal(3000), b""), bytes(3000)),
    "GNU, an empty segment marks the end": (
        gnu_sparse(octals([(1, 2), (3000, 0)]), octal(3000), b"xy"),
        b"\0xy" + bytes(2997),
    ),
    "GNU, nothing but data": (gnu_sparse(octals([(0, 700)]), octal(700), b"z" * 700), b"z" * 700),
    "GNU, in blocks of their own": (
        gnu_sparse(
            octals([(number, 1) for number in range(0, 8, 2)]),
            octal(100),
            b"x" * 26,
            [octals([(number, 1) for number in range(8, 50, 2)]) + b"\1", octals([(60, 1)])],
        ),
        b"x\0" * 25 + bytes(10) + b"x" + bytes(39),
    ),
    "GNU, numbers in base 256": (
        gnu_sparse(binary(1, 12) + binary(2, 12), binary(10, 12), b"xy"),
        b"\0xy" + bytes(7),
    ),
    "GNU, more data than segments": (gnu_sparse(octals([(0, 1)]), octal(2), b"xyz" * 500), b"x\0"),
    "0.0": (
        extension(
            b"x",
            record(b"GNU.sparse.size", b"10")
            + record(b"GNU.sparse.numblocks", b"2")
            + record(b"GNU.sparse.offset", b"1")
            + record(b"GNU.sparse.numbytes", b"2")
            + record(b"GNU.sparse.offset", b"8")
            + record(b"GNU.sparse.numbytes", b"2"),
        )
        + block(size=octal(4))
        + padded(b"xyzw"),
        b"\0xy\0\0\0\0\0zw",
    ),
    "0.1": (
        pax(GNU__sparse__size=b"10", GNU__sparse__map=b"1,2,8,2", GNU__sparse__name=b"a")
        + block(name=b"./GNUSparseFile.7/a", size=octal(4))
        + padded(b"xyzw"),
        b"\0xy\0\0\0\0\0zw",
    ),
    "1.0": (
        pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=b"10", GNU__sparse__name=b"a")
        + block(name=b"./GNUSparseFile.7/a", size=octal(516))
        + padded(b"2\n1\n2\n8\n2\n")
        + padded(b"xyzw"),
        b"\0xy\0\0\0\0\0zw",
    ),
    "1.0, a map of several blocks": (
        pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=b"1400")
        + block(size=octal(len(padded(b"700\n" + b"".join(b"%d\n1\n" % (2 * n) for n in range(700)))) + 700))
        + padded(b"700\n" + b"".join(b"%d\n1\n" % (2 * n) for n in range(700)))
        + padded(b"x" * 700),
        b"x\0" * 700,
    ),
    "a record that only names it": (
        pax(GNU__sparse__name=b"a") + block(name=b"b", size=octal(2)) + padded(b"xy"),
        b"xy",
    ),
}


@pytest.mark.parametrize("sizes", [[2**20], [1], [511], [513], [1000, 3]])
@pytest.mark.parametrize("name", SPARSE_BY_HAND)
def test_a_sparse_file_by_hand(name: str, sizes: list[int]) -> None:
    archive, expected = SPARSE_BY_HAND[name]
    found = contents(archive + block(name=b"next") + END, sizes)
    assert [(entry.path, data) for entry, data in found] == [(b"a", expected), (b"next", b"")]
    assert [entry.path for entry in index(stream(archive + block(name=b"next")), WHAT)] == [b"a", b"next"]


SOUND = [archive for archive, _expected in (*HAND_MADE.values(), *SPARSE_BY_HAND.values())]

# What is refused, and what should be

THREE = python_archive([file(name, name.encode()) for name in "abc"], tarfile.USTAR_FORMAT)
ROOM = b"x" * 512


UNFIT = "a sparse file's map does not fit its data"


def sparse10(lines: bytes, realsize: bytes = b"10", size: int | None = None) -> bytes:
    records = pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=realsize)
    return records + block(size=octal(len(padded(lines)) if size is None else size)) + padded(lines) + END


def sparse01(listed: bytes, size: bytes = b"10", stored: bytes = ROOM) -> bytes:
    return pax(GNU__sparse__size=size, GNU__sparse__map=listed) + block(size=octal(len(stored))) + padded(stored) + END


DAMAGED: dict[str, tuple[bytes, str]] = {
    "text": (b"no tar archive at all" * 100, "not a number|bad checksum"),
    "a file cut off": (python_archive([file("a", b"b" * 5000)], 0)[:3000], "unexpected end of data"),
    "a file without a byte of its data": (python_archive([file("a", b"b")], 0)[:512], "unexpected end of data"),
    "a header cut off": (THREE[: 1024 + 100], "unexpected end of data"),
    "a header of one byte": (b"\1", "unexpected end of data"),
    "a header with a wrong byte": (THREE[:1024] + b"\xff" + THREE[1025:], "bad checksum"),
    "a header with two bytes exchanged for others of the same value": (
        b"b" + block(uid=b"0000012\0")[1:], "bad checksum",
    ),
    "a checksum that is no number": (block()[:148] + b"12x456\0 " + block()[156:], "is not a number"),
    "a checksum of nothing": (block()[:148] + bytes(8) + block()[156:], "bad checksum"),
    "a block of zeros in the middle": (THREE[:1024] + bytes(512) + THREE[1024:], "a block of zeros in the middle"),
    "half a block of zeros": (THREE[:1024] + bytes(512) + bytes(100), "unexpected end of data"),
    "a number with a wrong digit": (block(uid=b"0000008\0"), "invalid literal|is not a number"),
    "a number with a sign": (block(uid=b"-000001\0"), "is not a number"),
    "a number with a gap": (block(uid=b"12 34\0"), "is not a number"),
    "an unknown type": (block(flag=b"Z"), "'/a' is of an unknown type, b'Z'"),
    "a volume's name": (block(flag=b"V"), "is of an unknown type, b'V'"),
    "a negative size": (block(size=binary(-1, 12)), "'/a' has -1 bytes"),
    "a negative size in a record": (pax(size=b"-1") + block(), "'/a' has -1 bytes"),
    "a negative owner": (block(uid=binary(-1, 8)), "the owner -1:0 of '/a'"),
    "an owner that Linux has not": (block(gid=binary(2**32 - 1, 8)), "the owner 0:4294967295 of '/a'"),
    "such an owner in a record": (pax(uid=b"4294967295") + block(), "the owner 4294967295:0 of '/a'"),
    "a device's major number": (block(flag=b"3", major=b"0010000\0"), "the device number .4096, 0. of '/a'"),
    "a device's minor number": (block(flag=b"4", minor=b"4000000\0"), "the device number .0, 1048576. of '/a'"),
    "a negative device number": (block(flag=b"4", minor=binary(-1, 8)), "the device number .0, -1. of '/a'"),
    "a name of 256 bytes": (extension(b"L", b"n" * 256) + block(), "a name that is too long, '/nnn"),
    "a name of 256 bytes in the middle": (
        extension(b"L", b"d/" + b"n" * 256 + b"/d") + block(), "a name that is too long",
    ),
    "a path of 4096 bytes": (extension(b"L", b"x/" * 2048 + b"y") + block(), "a name that is too long"),
    "a link to 4096 bytes": (extension(b"K", b"xy/" * 1366) + block(flag=b"2"), "a name that is too long"),
    "a NUL in a path": (pax(path=b"a\0b") + block(), "a name with a NUL byte, '/a.x00b'"),
    "a NUL in a link": (pax(linkpath=b"a\0b") + block(flag=b"2"), "a name with a NUL byte"),
    "a NUL in a hard link": (pax(linkpath=b"a\0b") + block(flag=b"1"), "a name with a NUL byte"),
    "a NUL in an attribute's name": (pax(**{"SCHILY.xattr.user.\0": b""}) + block(), "an attribute of '/a' that no"),
    "an attribute larger than any file system holds": (
        pax(**{"SCHILY.xattr.user.a": b"x" * 65537}) + block(), "an attribute of '/a' that no file can have"
    ),
    "an attribute without a name": (pax(**{"SCHILY.xattr.": b"x"}) + block(), "an attribute of '/a' that no file can"),
    "headers of two mebibytes for one entry": (
        3 * pax(**{"SCHILY.xattr.user.a": b"x" * 700_000}) + block(), "bytes of headers for one entry"
    ),
    "a file larger than any file system holds": (block(size=binary(2**45, 12)), "has 35184372088832 bytes"),
    "a sparse file larger than any": (gnu_sparse(b"", binary(2**60, 12), b""), "bytes"),

    "an extension at the end": (THREE[:1024] + pax(path=b"p"), "it ends after an extension header"),
    "an extension before blocks of zeros": (pax(path=b"p") + END, "it ends after an extension header"),
    "a long name at the end": (extension(b"L", b"p") + END, "it ends after an extension header"),
    "a long link at the end": (extension(b"K", b"p") + END, "it ends after an extension header"),
    "an extension cut off": (pax(path=b"p" * 600)[:700], "unexpected end of data"),
    "an extension without its padding": (pax(path=b"p")[:520], "unexpected end of data"),
    "an extension with a wrong checksum": (b"y" + pax(path=b"p")[1:] + block(), "bad checksum"),
    "an extension of 3 GiB": (block(flag=b"x", size=octal(3 << 30)), "a header of 3221225472 bytes"),
    "an extension of more than a mebibyte": (block(flag=b"L", size=octal(2**20 + 1)), "a header of 1048577 bytes"),
    "an extension of a negative size": (block(flag=b"g", size=binary(-5, 12)), "a header of -5 bytes"),
    "a sparse file, segments that overlap": (gnu_sparse(octals([(0, 5), (4, 5)]), octal(20), b"x" * 10), UNFIT),
    "a sparse file, segments in the wrong order": (gnu_sparse(octals([(9, 1), (0, 1)]), octal(20), b"xy"), UNFIT),
    "a sparse file, a segment beyond its size": (gnu_sparse(octals([(18, 3)]), octal(20), b"xyz"), UNFIT),
    "a sparse file, a segment without data": (gnu_sparse(octals([(0, 5)]), octal(20), b"xy"), UNFIT),
    "a sparse file, a segment of a negative length": (
        gnu_sparse(octal(1) + binary(-1, 12), octal(9), b"xy"), UNFIT,
    ),
    "a sparse file, a segment at a negative place": (
        gnu_sparse(binary(-1, 12) + octal(1), octal(9), b"xy"), UNFIT,
    ),
    "a sparse file, its map cut off": (gnu_sparse(b"", octal(9), b"", [b""])[:612], "unexpected end of data"),
    "a sparse file, data cut off": (
        gnu_sparse(octals([(0, 600)]), octal(600), b"x" * 600)[:1100], "unexpected end of data",
    ),
    "0.1, an odd map": (sparse01(b"1,2,8"), "the sparse file '/a' has no sound map"),
    "0.1, no number": (sparse01(b"1,2,x,3"), "b'x' is not a number"),
    "0.1, a sign": (sparse01(b"-1,2"), "b'-1' is not a number"),
    "0.1, beyond the size": (sparse01(b"9,2"), UNFIT),
    "0.1, beyond the data": (sparse01(b"0,9", stored=b"x"), UNFIT),
    "0.1, no size": (pax(GNU__sparse__map=b"1,2") + block(), "the sparse file '/a' has no sound map"),
    "0.1, a negative size": (sparse01(b"1,2", b"-1"), "the sparse file '/a' has no sound map"),
    "1.0, no map": (sparse10(b"", size=0), "a sparse file's map has no end"),
    "1.0, a map that never ends": (sparse10(b"3\n1\n2\n"), "a sparse file's map has no end"),
    "1.0, no number": (sparse10(b"1\n1\nx\n"), "is not a number"),
    "1.0, no size": (sparse10(b"1\n1\n1\n", b""), "the sparse file '/a' has no sound map"),
    "1.0, too many segments": (sparse10(b"%d\n" % (2**17 + 1)), "a sparse file's map is too long"),
    "1.0, a number of a hundred digits": (sparse10(b"9" * 100 + b"\n"), "is not a number"),
}  # fmt: skip


@pytest.mark.parametrize("sizes", [[2**20], [1], [511, 3]])
@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_sound_archive_is_refused(name: str, sizes: list[int]) -> None:
    archive, message = DAMAGED[name]
    if len(archive) > 2**20 and sizes == [1]:
        sizes = [509]  # two million reads would take half a minute, and end in the same place
    with pytest.raises(InvalidLayer, match=UNSOUND + rf".*(?:{message})"):
        contents(archive, sizes)


# Where the reader is not yet what it should be: each of these has to go to the tables above.


def test_a_negative_size_of_a_sparse_file_is_refused() -> None:
    with pytest.raises(InvalidLayer, match=UNSOUND):
        contents(gnu_sparse(b"", binary(-5, 12), b""))


def test_an_empty_long_name_leaves_the_headers_name() -> None:
    """As Go's archive/tar reads it."""
    (entry,) = index(stream(extension(b"L", b"\0") + extension(b"K", b"\0") + block(flag=b"2", link=b"t")), WHAT)
    assert (entry.path, entry.target) == (b"a", b"t")


def test_an_archive_may_end_in_the_padding_of_its_last_file() -> None:
    """As Go's archive/tar reads it: "it is okay to hit io.EOF in the padding"."""
    for end in (0, 1, 508):
        assert contents(block(size=octal(3)) + b"abc" + bytes(end)) == [(EMPTY._replace(size=3), b"abc")]


def test_a_symlink_may_hold_what_is_no_name() -> None:
    (entry,) = index(stream(extension(b"K", b"t" * 4095) + block(flag=b"2")), WHAT)
    assert entry.target == b"t" * 4095


def test_a_map_without_a_line_end_is_given_up_early() -> None:
    source = Pieces(sparse10(b"1" * (1 << 20)), [512])
    with pytest.raises(InvalidLayer, match=UNSOUND):
        index(cast("IO[bytes]", source), WHAT)
    assert len(source.rest) > 1 << 19


def segments_without_end() -> Iterator[bytes]:
    """Yield an old GNU sparse file whose map goes on for ever."""
    more = octals([(1, 0)] * 21) + b"\1"
    yield gnu_sparse(b"", octal(9), b"", [more])
    while True:
        yield more.ljust(512, b"\0")


def test_a_map_without_end_is_given_up() -> None:
    class Endless(io.RawIOBase):
        blocks = segments_without_end()

        def read(self, _size: int = -1) -> bytes:
            return next(self.blocks)

    with pytest.raises(InvalidLayer, match=UNSOUND):
        index(cast("IO[bytes]", Endless()), WHAT)


RECORDS = [
    b"path=p\n",
    b"9path=p\n",
    b" 9 path=p\n",
    b"x path=p\n",
    b"-9 path=p\n",
    b"+9 path=p\n",
    b"0 path=p\n",
    b"1 path=p\n",
    b"2 path=p\n",
    b"3 path=p\n",
    b"8 path=p\n",
    b"11 path=p\n",
    b"99 path=p\n",
    b"9 path=p",
    b"9 path=p ",
    b"7 path\n",
    b"5 =p\n",
    b"9 path=p\n5",
    b"9 path=p\n\n",
    b"9" * 30 + b" path=p\n",
    "\u0669 path=p\n".encode(),
    b"13 mtime=abc\n",
    b"13 mtime=1e9\n",
    b"11 mtime=.5\n",
    b"10 uid=1 2\n",
    b"9 size=\xb2\n",
    b"12 size=0x5\n",
]


@pytest.mark.parametrize("records", RECORDS)
@pytest.mark.parametrize("flag", [b"x", b"g"])
def test_a_malformed_record_is_refused(records: bytes, flag: bytes) -> None:
    with pytest.raises(InvalidLayer, match=UNSOUND + "invalid header: "):
        index(stream(extension(flag, records) + block() + END), WHAT)


def test_data_that_is_cut_off_shows_while_it_is_read() -> None:
    archive = python_archive([file("first", b"1"), file("second", b"2" * 5000)], 1)[: 512 * 5]
    entries = read(cast("IO[bytes]", Pieces(archive, [512])), WHAT)
    first, data = next(entries)
    assert (first.path, b"".join(data or ())) == (b"first", b"1")
    second, data = next(entries)
    assert (second.path, second.size) == (b"second", 5000)
    assert data is not None
    pieces = iter(data)
    assert [len(next(pieces)) for _number in range(2)] == [512, 512]
    with pytest.raises(InvalidLayer, match=UNSOUND + "unexpected end of data"):
        next(pieces)


def test_data_that_is_cut_off_shows_also_where_nobody_reads_it() -> None:
    with pytest.raises(InvalidLayer, match=UNSOUND + "unexpected end of data"):
        index(stream(python_archive([file("a", b"2" * 5000)], 1)[:2000]), WHAT)


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_data_that_is_not_taken_whole_is_passed_over(taken: int, sparse: bool) -> None:
    data = bytes(range(256)) * 10
    one = gnu_sparse(octals([(0, 1000), (2000, 1560)]), octal(3560), data) if sparse else block(size=octal(2560)) + data
    entries = read(cast("IO[bytes]", Pieces(one + block(name=b"next", size=octal(3)) + padded(b"abc"), [700])), WHAT)
    _entry, pieces = next(entries)
    for piece in itertools.islice(pieces or (), taken):
        assert piece
    following, rest = next(entries)
    assert (following.path, b"".join(rest or ())) == (b"next", b"abc")
    assert list(entries) == []


# Ends


@pytest.mark.parametrize("nothing", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_an_archive_of_nothing_holds_nothing(nothing: bytes) -> None:
    assert list(index(stream(nothing), WHAT)) == []


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(2048), bytes(1024) + b"rubbish" * 500])
def test_an_archive_may_end_in_many_ways(end: bytes) -> None:
    assert [entry.path for entry in index(stream(THREE[:3072] + end), WHAT)] == [b"a", b"b", b"c"]


def test_an_archive_may_end_after_a_header_for_all() -> None:
    assert [entry.path for entry in index(stream(block() + pax(b"g", comment=b"x") + END), WHAT)] == [b"a"]


@pytest.mark.parametrize("rubbish", [b"rubbish" * 200, THREE])
def test_what_follows_the_end_stays_in_the_stream(rubbish: bytes) -> None:
    source = Pieces(THREE[:3072] + END + rubbish, [512])
    assert len(index(cast("IO[bytes]", source), WHAT)) == 3
    assert source.rest == rubbish


@settings(max_examples=200)
@given(
    archive=st.sampled_from(SOUND),
    sizes=st.lists(st.integers(1, 5000) | st.sampled_from([1, 511, 512, 513, 4096]), min_size=1, max_size=6),
)
@example(archive=THREE, sizes=[1])
@example(archive=THREE, sizes=[511])
@example(archive=THREE, sizes=[513])
@example(archive=THREE, sizes=[4096])
def test_the_size_of_the_pieces_of_a_stream_does_not_matter(archive: bytes, sizes: list[int]) -> None:
    assert contents(archive, sizes) == contents(archive)


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_damaged_an_archive_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SOUND)) + THREE)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    head = bytearray(raw[:512])
    if data.draw(st.booleans()):  # a header that is wrong and says it is right
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        raw[:512] = head
    try:
        entries = list(itertools.islice(read(stream(bytes(raw)), WHAT), 100))
    except InvalidLayer:
        event("refused")
    else:
        event("read")
        assert all(entry.size >= 0 for entry, _data in entries)


# Writing


@st.composite
def entries_to_write(draw: st.DrawFn) -> tuple[Entry, bytes | None]:
    """Draw any entry that the reader can give, with its data."""
    kind = draw(st.sampled_from(["file", "directory", "symlink", "link", "char", "block", "fifo"]))
    data = draw(file_data) if kind == "file" else None
    xattrs = draw(
        st.dictionaries(
            xattr_names | st.binary(min_size=1, max_size=9).map(attribute_name), st.binary(max_size=99), max_size=3
        )
    )
    below = path.map(path_below_root).filter(bool)
    entry = Entry(
        draw(below),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(identifiers),
        draw(identifiers),
        draw(st.integers(-(2**34), 2**34) | st.sampled_from([-1, 0, 2**32 - 1, 2**32])),
        len(data or b""),
        draw(below) if kind == "link" else draw(path) if kind == "symlink" else b"",
        (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))) if kind in ("char", "block") else (0, 0),
        tuple(sorted(xattrs.items(), key=lambda pair: os.fsencode(pair[0]))),
    )
    return entry, data


def attribute_name(raw: bytes) -> str:
    return "user." + os.fsdecode(raw.replace(b"\0", b"-").replace(b"=", b"-"))


def written(entries: Sequence[tuple[Entry, bytes | None]], target: IO[bytes] | None = None) -> bytes:
    target = target or io.BytesIO()
    writer = TarWriter(target)
    for entry, data in entries:
        pieces = None if data is None else (memoryview(data)[place : place + 77] for place in range(0, len(data), 77))
        writer.add(entry, pieces)
    writer.finish()
    return cast("io.BytesIO", target).getvalue()


class Slow(io.BytesIO):
    """A target that takes few bytes at once, as a pipe may."""

    def write(self, data: Any) -> int:
        """Take the first of some bytes."""
        return super().write(bytes(data)[:1000])


@settings(max_examples=300)
@given(st.lists(entries_to_write(), max_size=5))
def test_what_is_written_is_read_again_by_us_and_by_python(entries: list[tuple[Entry, bytes | None]]) -> None:
    archive = written(entries)
    assert len(archive) % 512 == 0
    expected = [(entry._replace(mtime=min(max(entry.mtime, 0), 2**32 - 1)), data) for entry, data in entries]
    assert contents(archive) == expected
    assert tarfile_contents(archive) == expected
    assert written(entries, Slow()) == archive


@gnu_tar
def test_gnu_tar_unpacks_what_is_written(tmp_path: Path) -> None:
    name = b"d/" + b"n" * 255
    owner = (os.geteuid(), os.getegid())
    entries: list[tuple[Entry, bytes | None]] = [
        (Entry(b"d", "directory", 0o755, *owner, 5), None),
        (Entry(name, "file", 0o640, *owner, 2**32 - 1, 1000), b"x" * 1000),
        (Entry(b"caf\xe9", "link", 0o640, *owner, 2**32 - 1, 0, name), None),
        (Entry(b"s", "symlink", 0o777, *owner, 7, 0, b"t" * 200 + b"/" + b"t" * 200), None),
        (Entry(b"p", "fifo", 0o600, *owner, 9), None),
    ]
    command = [
        "tar",
        "--extract",
        "--file=-",
        "--preserve-permissions",
        "--warning=no-timestamp",
        "--directory",
        str(tmp_path),
    ]
    done = subprocess.run(command, input=written(entries), capture_output=True, check=True)
    assert done.stderr == b""
    assert on_disk(os.fsencode(tmp_path)) == in_archive(written(entries))


def test_attributes_of_any_length_are_written() -> None:
    """The length of a record counts its own digits."""
    lengths = [*range(130), *range(940, 1040), *range(9960, 10010)]
    entries: list[tuple[Entry, bytes | None]] = [
        (EMPTY._replace(xattrs=(("user.x", b"v" * length),)), b"") for length in lengths
    ]
    assert contents(written(entries)) == entries


def test_a_file_too_large_for_octal_digits_is_written_in_base_256() -> None:
    for size in (8**11 - 1, 8**11, 2**40):
        target = io.BytesIO()
        writer = TarWriter(target)
        writer.add(Entry(b"a", "file", 0o644, 0, 0, 0, size))
        writer.finish()
        entry, _data = next(read(stream(target.getvalue()), WHAT))
        assert entry.size == size
        assert tarfile.TarInfo.frombuf(target.getvalue()[:512], "utf-8", "strict").size == size


def test_the_highest_bytes_in_every_field_have_a_right_checksum() -> None:
    entry = Entry(b"\xff" * 100, "symlink", 0o7777, 2**32 - 2, 2**32 - 2, 2**32 - 1, 0, b"\xff" * 100)
    assert tarfile_contents(written([(entry, None)])) == [(entry, None)]


def test_large_data_reaches_the_target_piece_by_piece() -> None:
    class Counting(io.BytesIO):
        largest = 0

        def write(self, data: Any) -> int:
            self.largest = max(self.largest, len(data))
            return super().write(data)

    target = Counting()
    data = random.Random(1).randbytes(3 << 20)
    writer = TarWriter(target)
    writer.add(
        Entry(b"a", "file", 0o644, 0, 0, 0, len(data)),
        (memoryview(data)[n : n + 65536] for n in range(0, len(data), 65536)),
    )
    writer.finish()
    assert contents(target.getvalue()) == [(Entry(b"a", "file", 0o644, 0, 0, 0, len(data)), data)]
    assert target.largest < 2 << 20


def test_an_error_of_the_target_comes_through() -> None:
    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        written([(EMPTY, b"")], Full())
