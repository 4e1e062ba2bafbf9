# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of layers as one archive, written newest layer first: the same tree as the union's, whatever was foreseen."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import DigestMismatch, InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import union as layers_module
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.content import Content
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.stream import (
    Archive,
    CrowdedDirectory,
    write_foreseen,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import Data, Entry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import Census, Misjudged, Union
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.builder import indexed
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.stacks import (
    UNIONS,
    Member,
    Members,
    archive,
    layer,
    of,
    stacks,
)
from hypothesis import event, given, settings

IMAGE = "registry.example.org/team/app:1"


class Thing(NamedTuple):
    """The thing at a path, and all paths that share it."""

    kind: str
    mode: int
    uid: int
    target: bytes
    note: bytes | None
    data: bytes
    names: frozenset[bytes]


Tree = dict[bytes, Thing]


def shared(things: dict[bytes, Thing | bytes]) -> Tree:
    """Return a tree of things, where a path may be that of another one that it is a hard link to."""
    first = {path: thing if isinstance(thing, bytes) else path for path, thing in things.items()}
    names: dict[bytes, set[bytes]] = {}
    for path, origin in first.items():
        names.setdefault(origin, set()).add(path)
    tree: Tree = {}
    for path, origin in first.items():
        thing = things[origin]
        assert isinstance(thing, Thing)
        tree[path] = thing._replace(names=frozenset(names[origin]))
    return tree


def tree_of_entries(entries: Iterable[tuple[Entry, Data | None]]) -> Tree:
    things: dict[bytes, Thing | bytes] = {}
    for entry, data in entries:
        if entry.kind == "link":
            things[entry.path] = entry.target
        elif entry.path:
            note = dict(entry.xattrs).get("user.note")
            content = b"".join(data or ())
            things[entry.path] = Thing(entry.kind, entry.mode, entry.uid, entry.target, note, content, frozenset())
    return shared(things)


def tree_of_archive(content: bytes) -> Tree:
    """Return Python's view of an archive, where each path comes once and a hard link after what it links to."""
    things: dict[bytes, Thing | bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        for member in members:
            path = member.name.encode()
            assert path not in things, "a path came twice"
            if member.islnk():
                assert isinstance(things.get(member.linkname.encode()), Thing), "a hard link came too early"
                things[path] = member.linkname.encode()
                continue
            kind = "directory" if member.isdir() else "symlink" if member.issym() else "file"
            noted = member.pax_headers.get("SCHILY.xattr.user.note")
            note = noted.encode() if noted is not None else None
            data = members.extractfile(member) if member.isreg() else None
            things[path] = Thing(
                kind,
                member.mode,
                member.uid,
                member.linkname.encode() if member.issym() else b"",
                note,
                data.read() if data else b"",
                frozenset(),
            )
    return shared(things)


class Counted(Content):
    """A layer's content that counts how often it was read again."""

    reopened = 0

    def open(self) -> io.IOBase:  # type: ignore[override]
        """Open it once more."""
        self.reopened += 1
        return super().open()  # type: ignore[return-value]


class Arrived:
    """Layers that are all in the cache; how much of them is read interests nobody."""

    def wait(self, layer: Descriptor) -> None:
        """Return at once."""

    def note_read(self, layer: Descriptor, position: int) -> None:
        """Take no notice."""


def stored(directory: str | Path, stack: Sequence[Members]) -> list[Counted]:
    """Return the layers of a stack in a cache of blobs."""
    cache = BlobCache(str(directory))
    found = []
    for number, members in enumerate(stack):
        content = archive(members)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = Path(cache.path(digest))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        descriptor = Descriptor(digest, len(content))
        found.append(Counted(descriptor, digest, f"the layer {number}", cache, Arrived()))
    return found


class Streamed(NamedTuple):
    """An archive, whether all was foreseen, and how many layers had to be read again for that."""

    archive: bytes
    foreseen: bool
    reopened: int


def streamed(
    directory: str | Path, stack: Sequence[Members], hidden: Sequence[bytes] = (), cover: Members = ()
) -> tuple[Streamed, Union]:
    """Stream a stack as a build does: as foreseen, and where that was wrong, once more from the union.

    :param cover: what is put on top of the stack; ``hidden`` are the paths of its files.
    """
    target = io.BytesIO()
    stream = Archive(target)
    contents = stored(directory, stack)
    layers, written = write_foreseen(contents, hidden, stream, None, Census(IMAGE))
    union = Union(layers)
    if cover:
        union.add(layer(*cover))
    try:
        stream.finish(union.entries(written))
    except Misjudged:
        reopened = sum(content.reopened for content in contents)
        target = io.BytesIO()
        Archive(target).finish(union.entries())
        return Streamed(target.getvalue(), False, reopened), union
    return Streamed(target.getvalue(), True, sum(content.reopened for content in contents)), union


# Stacks of the table of unions that nobody could foresee: a path through a symlink of an older layer, or of its own; a
# name twice in one layer.
UNFORESEEN = {
    "the last of two entries in one layer counts",
    "a directory replaces a symlink in the middle of a layer",
    "a symlink that leads elsewhere in the middle of a layer",
    "a symlink replaces a directory in the middle of a layer",
    "a file replaces a directory in the middle of a layer",
    "a path goes through a symlinked directory",
    "an absolute symlink means the image's root",
    "a symlink cannot lead above the root",
    "a whiteout goes through a symlinked directory",
}


@pytest.mark.parametrize("name", UNIONS)
def test_a_stack_of_the_table_of_unions(tmp_path: Path, name: str) -> None:
    result, union = streamed(tmp_path, UNIONS[name][0])
    assert tree_of_archive(result.archive) == tree_of_entries(union.entries())
    assert result.foreseen == (name not in UNFORESEEN)


# What builders make of images

DEBIAN = of(
    "bin/",
    "etc/",
    "usr/",
    "usr/bin/",
    "usr/bin/sh",
    Member("usr/bin/dash", link="usr/bin/sh"),
    "usr/lib/",
    "usr/lib/libc.so.6",
    Member("lib", symlink="usr/lib"),
    Member("etc/passwd", "root"),
    Member("usr/bin/su", mode=0o4755),
    Member("usr/bin/ping", note="cap"),
)
ORDINARY: dict[str, list[list[Member]]] = {
    "one layer": [DEBIAN],
    "a package": [DEBIAN, of("usr/", "usr/bin/", "usr/bin/vim", "usr/lib/libvim.so", Member("etc/passwd", "root vim"))],
    "a clean-up": [
        DEBIAN,
        of("usr/", "usr/bin/", "usr/bin/gcc", "var/", "var/cache"),
        of("usr/bin/.wh.gcc", ".wh.var"),
    ],
    "a directory removed and made anew": [DEBIAN, of(".wh.etc", "etc/", "etc/new")],
    "an opaque directory": [DEBIAN, of("etc/", "etc/.wh..wh..opq", "etc/new")],
    "opaque over opaque": [DEBIAN, of("etc/", "etc/.wh..wh..opq", "etc/a"), of("etc/", "etc/.wh..wh..opq", "etc/b")],
    "an empty image below": [of("etc/", "etc/a"), of("./", ".wh..wh..opq", "b")],
    "a file over a directory": [DEBIAN, of("etc")],
    "a directory over a file": [of("a"), of("a/", "a/b")],
    "a directory over a file, and something older below": [of("a/", "a/b", "a/c"), of("a"), of("a/", "a/c")],
    "a directory without an entry over a file": [of("a/", "a/b"), of("a"), of("a/c")],
    "a directory without its parent over a file": [of("a"), of("a/b/")],
    "a symlink over a directory": [DEBIAN, of(Member("etc", symlink="usr"))],
    "a directory over a symlink": [DEBIAN, of("lib/", "lib/x")],
    "the same file again and again": [of("a/", Member("a/b", str(n))) for n in range(5)],
    "a name twice in a layer that is hidden": [of("a", "a", "b"), of(".wh.a")],
    "a name twice below a directory that is hidden": [of("d/", "d/a", "d/a"), of(".wh.d", "d/", "d/b")],
    "a directory twice": [of("d/", "d/a", "d/", "d/b"), of("d/", "d/c")],
    "a whiteout and the same name": [of("a"), of(".wh.a", Member("a", "new"))],
    "a hard link in one layer": [of("a", Member("b", link="a"), Member("c", link="b"))],
    "a hard link to an older layer": [of("a"), of(Member("b", link="a"))],
    "a hard link over a file": [of("a", "b"), of("c", Member("b", link="c"))],
    "a hard link whose first name is removed": [of("a", Member("b", link="a"), "c"), of("x"), of(".wh.b")],
    "files of a dump of bytes": [of("\u00e4/", "\u00e4/\u2603")],
    "layers that change nothing": [of(), DEBIAN, of(), of("usr/"), of()],
}
READ_AGAIN: dict[str, list[list[Member]]] = {
    "a hard link's first name is removed by a newer layer": [of("a", Member("b", link="a")), of(".wh.a")],
    "and by the layer that makes the link": [of("a"), of(Member("b", link="a"), ".wh.a")],
    "a hard link's first name is replaced": [of("a", Member("b", link="a")), of("x", Member("a", "new"))],
    "a whiteout of something below a file": [of("a"), of("a/.wh.b")],
    "metadata of aufs": [of(".wh..wh.plnk/", ".wh..wh.plnk/1.2", Member("a", link=".wh..wh.plnk/1.2"))],
}
SURPRISING: dict[str, list[list[Member]]] = {
    "a path through a symlink of an older layer": [DEBIAN, of("lib/x")],
    "a path that hides something through a symlink": [DEBIAN, of("lib/libc.so.6")],
    "a whiteout through a symlink": [DEBIAN, of("lib/.wh.libc.so.6")],
    "an opaque directory through a symlink": [DEBIAN, of("lib/.wh..wh..opq")],
    "a path through a symlink of its own layer": [of("d/", Member("l", symlink="d"), "l/x")],
    "a symlink that comes after what leads through it": [of("l/x", Member("l", symlink="d"))],
    "a name twice in one layer": [of("a", "b", Member("a", "new"))],
    "a name twice by two spellings": [of("a/b", Member("./a//b", "new"))],
    "a file, then a directory": [of("a", "a/")],
    "a file, then a symlink": [of("a", Member("a", symlink="b"))],
    "a file, then a hard link": [of("b", "a", Member("a", link="b"))],
    "a file, then its directory as a file": [of("d/", "d/a", "d")],
    "a file, then what is below it": [of("a", "a/b")],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_of_an_ordinary_image_each_layer_is_read_once(tmp_path: Path, name: str) -> None:
    result, union = streamed(tmp_path, ORDINARY[name])
    assert tree_of_archive(result.archive) == tree_of_entries(union.entries())
    assert (result.foreseen, result.reopened) == (True, 0)


@pytest.mark.parametrize("name", READ_AGAIN)
def test_what_survives_under_another_name_is_read_again(tmp_path: Path, name: str) -> None:
    result, union = streamed(tmp_path, READ_AGAIN[name])
    assert tree_of_archive(result.archive) == tree_of_entries(union.entries())
    assert (result.foreseen, result.reopened) == (True, 1)


@pytest.mark.parametrize("name", SURPRISING)
def test_what_nobody_could_foresee_is_noticed_before_anything_is_read_again(tmp_path: Path, name: str) -> None:
    result, union = streamed(tmp_path, SURPRISING[name])
    assert tree_of_archive(result.archive) == tree_of_entries(union.entries())
    assert (result.foreseen, result.reopened) == (False, 0)


def is_sound(stack: Sequence[Members]) -> bool:
    """Tell whether a stack can be united at all: without hard links to nothing, and endless symlinks."""
    try:
        Union([layer(*members) for members in stack])
    except InvalidLayer:
        return False
    return True


def test_any_stack_gives_the_tree_of_its_union() -> None:
    ways: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(stacks.filter(is_sound))
    def check(stack: list[list[Member]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            result, union = streamed(directory, stack)
            assert tree_of_archive(result.archive) == tree_of_entries(union.entries())
        way = "foreseen" if result.foreseen else "not foreseen"
        event(way)
        ways[way] += 1

    check()
    assert min(ways["foreseen"], ways["not foreseen"]) >= 20, ways


@pytest.mark.parametrize(
    ("cover", "hidden"),
    [
        (of("etc/", Member("etc/passwd", "covered")), [b"etc/passwd"]),
        (of("etc/", Member("etc/new", "covered")), [b"etc/new"]),
        (of("bin/sh/", Member("bin/sh/new", "covered")), [b"bin/sh/new"]),
        (of(".d/", Member(".d/a", "covered"), Member("a", symlink=".d/a")), [b".d/a"]),
    ],
)
def test_what_lies_on_top_is_foreseen(tmp_path: Path, cover: list[Member], hidden: list[bytes]) -> None:
    result, union = streamed(tmp_path, [DEBIAN, of("bin/sh", "etc/", "etc/passwd")], hidden, cover)
    found = tree_of_archive(result.archive)
    assert found == tree_of_entries(union.entries())
    assert found[hidden[0]].data == b"covered"
    assert result.foreseen


def test_what_lies_on_top_and_was_not_announced_is_noticed(tmp_path: Path) -> None:
    result, union = streamed(tmp_path, [DEBIAN], (), of(Member("etc/passwd", "covered")))
    assert not result.foreseen
    assert tree_of_archive(result.archive)[b"etc/passwd"].data == b"covered"
    assert tree_of_archive(result.archive) == tree_of_entries(union.entries())


def test_files_come_first_and_those_of_the_newest_layer_before_all(tmp_path: Path) -> None:
    result, _union = streamed(tmp_path, [of("d/", "d/old"), of("d/", "d/middle", "z"), of("d/", "d/new", "a")])
    with tarfile.open(fileobj=io.BytesIO(result.archive)) as members:
        assert members.getnames() == ["d/new", "a", "d/middle", "z", "d/old", "d"]


def test_data_goes_on_before_an_older_layer_is_there(tmp_path: Path) -> None:
    target = io.BytesIO()
    arrived: list[bytes] = []

    class Arriving(Arrived):
        def wait(self, layer: Descriptor) -> None:
            arrived.append(target.getvalue())

    new = of(Member("new", "n" * 10**6))
    contents = stored(tmp_path, [of("old"), new])
    for content in contents:
        content._arriving = Arriving()
    write_foreseen(contents, (), Archive(target), None, Census(IMAGE))
    assert arrived[0] == b""
    assert arrived[1].count(b"n") > 500_000


# Crowded directories


def crowd(count: int, directory: str = "d/") -> list[Member]:
    return [Member(f"{directory}{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("stack", "crowded"),
    [
        ([crowd(10)], None),
        ([crowd(11)], b"d"),
        ([crowd(11, "")], b""),
        ([crowd(11, "d/e/")], b"d/e"),
        ([crowd(10), crowd(10, "e/")], None),
        ([crowd(5), crowd(10)[5:]], None),
        ([crowd(5), crowd(11)[5:]], b"d"),  # together
        ([crowd(10), crowd(10)], None),  # the older ones are hidden
        ([crowd(50), of(".wh.d", "d/", "d/a")], None),
        ([of(*(f"d/{number}/" for number in range(50)))], None),  # directories do not count
        ([of(*(Member(f"d/{number}", symlink="x") for number in range(50)))], None),
    ],
)
def test_a_directory_of_more_files_than_the_limit_is_named(
    tmp_path: Path, stack: list[list[Member]], crowded: bytes | None
) -> None:
    contents = stored(tmp_path, stack)
    if crowded is None:
        write_foreseen(contents, (), Archive(io.BytesIO()), 10, Census(IMAGE))
        return
    with pytest.raises(CrowdedDirectory) as caught:
        write_foreseen(contents, (), Archive(io.BytesIO()), 10, Census(IMAGE))
    assert (caught.value.path, caught.value.limit) == (crowded, 10)


def test_without_a_limit_no_directory_is_crowded(tmp_path: Path) -> None:
    _layers, written = write_foreseen(stored(tmp_path, [crowd(1000)]), (), Archive(io.BytesIO()), None, Census(IMAGE))
    assert {number: set(ordinals) for number, ordinals in written.items()} == {0: set(range(1000))}


# Depth


def test_a_path_of_two_thousand_directories_is_no_problem(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 2000)
    stack = [of(f"{deep}"), of(f"{deep[:-2]}/e", f"{deep[:-2]}/.wh.d"), of(Member("l", link=f"{deep[:-2]}/e"))]
    result, union = streamed(tmp_path, stack)
    found = tree_of_archive(result.archive)
    assert found == tree_of_entries(union.entries())
    assert found[b"l"].names == {b"l", deep[:-2].encode() + b"/e"}
    assert (result.foreseen, len(found)) == (True, 1999 + 2)


# Bounds


@pytest.mark.parametrize(
    ("stack", "fits"),
    [
        ([crowd(10), crowd(10), crowd(10)], True),
        ([crowd(31)], False),
        ([crowd(10), crowd(10), crowd(11)], False),  # together, also what newer layers replace
        ([of(*(f"d/{number}/" for number in range(31)))], False),  # whatever they are
        ([of(*(Member(f"d/{number}", symlink="x") for number in range(31)))], False),
        ([of(*(f"d/.wh.{number}" for number in range(31)))], False),
    ],
)
def test_the_entries_of_all_layers_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: list[list[Member]], fits: bool
) -> None:
    monkeypatch.setattr(layers_module, "_MAX_ENTRIES", 30)
    contents = stored(tmp_path, stack)
    if fits:
        write_foreseen(contents, (), Archive(io.BytesIO()), None, Census(IMAGE))
        return
    words = f"^{re.escape(IMAGE)} has too many files: its layers hold more than 30 entries.*31 entries with"
    with pytest.raises(InvalidLayer, match=words):
        write_foreseen(contents, (), Archive(io.BytesIO()), None, Census(IMAGE))
    census = Census(IMAGE)
    with pytest.raises(InvalidLayer, match=words):
        _layers = [indexed(content, census) for content in contents]


@pytest.mark.parametrize("long", [{"symlink": "x" * 60}, {"note": "x" * 60}], ids=["target", "attribute"])
def test_what_is_long_counts_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: dict[str, Any]) -> None:
    monkeypatch.setattr(layers_module, "_MAX_TEXT", 150)
    stack = [of(Member("a", **long)), of(Member("b", **long)), of(Member("c", **long))]
    write_foreseen(stored(tmp_path, stack[:2]), (), Archive(io.BytesIO()), None, Census(IMAGE))
    with pytest.raises(InvalidLayer, match=r"or 150 B of names and attributes \(3 entries with"):
        write_foreseen(stored(tmp_path, stack), (), Archive(io.BytesIO()), None, Census(IMAGE))


def test_images_with_a_million_entries_pass() -> None:
    assert layers_module._MAX_ENTRIES >= 2_000_000
    assert layers_module._MAX_TEXT >= 2_000_000 * 200  # bytes; a path in a conda environment has some 100


# Errors


def test_a_damaged_layer_ends_it(tmp_path: Path) -> None:
    contents = stored(tmp_path, [of("a"), of("b")])
    Path(contents[0]._path).write_bytes(archive(of("x")))
    with pytest.raises(DigestMismatch, match="the layer 0"):
        write_foreseen(contents, (), Archive(io.BytesIO()), None, Census(IMAGE))


# Extended attributes


def test_attributes_that_no_squashfs_holds_are_left_out_with_a_warning() -> None:
    target = io.BytesIO()
    stream = Archive(target)
    kept = ("user.a", b"1")
    entries = [
        Entry(b"a", "file", 0o644, 0, 0, 0, 0, b"", (0, 0), (kept, ("system.posix_acl_access", b"2"))),
        *(
            Entry(b"%d" % number, "file", 0o644, 0, 0, 0, 0, b"", (0, 0), (("user", b""), ("os2.x", b"")))
            for number in range(2)
        ),
        Entry(b"b", "file", 0o644, 0, 0, 0, 0, b"", (0, 0), (kept, ("trusted.t", b""), ("security.s", b""))),
    ]
    stream.finish((entry, iter(())) for entry in entries)
    with tarfile.open(fileobj=io.BytesIO(target.getvalue())) as members:
        found = {member.name: sorted(member.pax_headers) for member in members}
    prefix = "SCHILY.xattr."
    assert found == {
        "a": [f"{prefix}user.a"],
        "0": [],
        "1": [],
        "b": [f"{prefix}security.s", f"{prefix}trusted.t", f"{prefix}user.a"],
    }
    assert stream.warnings() == [
        (
            "'/a' (system.posix_acl_access), '/0' (user), '/0' (os2.x) and 2 more "
            "lacks an attribute that a squashfs cannot hold"
        )
    ]


def test_nothing_lost_is_no_warning() -> None:
    stream = Archive(io.BytesIO())
    stream.finish([(Entry(b"", "directory", 0o755, 0, 0, 0), None)])
    assert stream.warnings() == []


def test_the_root_directory_is_not_in_the_archive() -> None:
    target = io.BytesIO()
    Archive(target).finish([(Entry(b"", "directory", 0o755, 0, 0, 0), None)])
    assert target.getvalue() == bytes(1024)
