# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The union of layers: what the OCI image specification says (layer.md), and what unpacking one by one would give."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils.layers import Layer, Union, index, read_entries
from hypothesis import given, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Member:
    """One entry of a layer: a name with a trailing slash is a directory."""

    name: str
    content: str = ""
    symlink: str | None = None
    link: str | None = None
    mode: int | None = None


def archive(members: Sequence[Member]) -> bytes:
    """A tar archive of the members, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as stream:
        for member in members:
            info = tarfile.TarInfo(member.name.rstrip("/"))
            data = b""
            if member.symlink is not None:
                info.type, info.linkname = tarfile.SYMTYPE, member.symlink
            elif member.link is not None:
                info.type, info.linkname = tarfile.LNKTYPE, member.link
            elif member.name.endswith("/"):
                info.type = tarfile.DIRTYPE
            else:
                data = member.content.encode()
                info.size = len(data)
            info.mode = member.mode or (0o755 if info.isdir() else 0o644)
            stream.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def layer(*members: Member | str) -> Layer:
    """A layer of members; a plain string is a file or directory of that name, its content the name."""
    content = archive([member if isinstance(member, Member) else Member(member, member) for member in members])
    return Layer("the layer", index(io.BytesIO(content), "the layer"), lambda: io.BytesIO(content))


def tree(*layers: Layer) -> dict[str, Any]:
    """The union by path: a directory's mode, a file's content, ``-> target`` for a symlink, ``= first`` for a link."""
    found: dict[str, Any] = {}
    for entry, data in Union(layers).entries():
        path = entry.path.decode() or "."
        assert path not in found, "a path came twice"
        assert path == "." or os.path.dirname(path) in {*found, ""}, "a parent came late"
        if entry.kind == "directory":
            found[path] = oct(entry.mode)
        elif entry.kind == "symlink":
            found[path] = f"-> {entry.target.decode()}"
        elif entry.kind == "link":
            assert entry.target.decode() in found, "a hard link came before what it links to"
            found[path] = f"= {entry.target.decode()}"
        else:
            found[path] = data.read().decode() if data else entry.kind
    found.pop(".")
    return found


DIRECTORY = "0o755"
IMPLIED = "0o775"

UNIONS: dict[str, tuple[list[Layer], dict[str, Any]]] = {
    "a newer file replaces an older one": ([layer("a"), layer(Member("a", "new"))], {"a": "new"}),
    "the last of two entries in one layer counts": ([layer("a", Member("a", "last"))], {"a": "last"}),
    "a whiteout hides a file": ([layer("d/", "d/a", "d/b"), layer("d/.wh.a")], {"d": DIRECTORY, "d/b": "d/b"}),
    "a whiteout hides a directory with all below": ([layer("d/", "d/a/", "d/a/b"), layer("d/.wh.a")], {"d": DIRECTORY}),
    "a whiteout of nothing does nothing": ([layer("a"), layer(".wh.b", "no/.wh.c")], {"a": "a"}),
    "a whiteout does not hide its own layer, before": ([layer("a"), layer("a", ".wh.a")], {"a": "a"}),
    "a whiteout does not hide its own layer, after": ([layer("a"), layer(".wh.a", "a")], {"a": "a"}),
    "a directory made anew holds nothing old": (
        [layer("d/", "d/old"), layer("d/", "d/new", ".wh.d")],
        {"d": DIRECTORY, "d/new": "d/new"},
    ),
    "an opaque directory keeps what its layer brings": (
        [layer("d/", "d/a", "d/b/", "d/b/c"), layer("d/", "d/new", "d/.wh..wh..opq", "d/b/", "d/b/x")],
        {"d": DIRECTORY, "d/new": "d/new", "d/b": DIRECTORY, "d/b/x": "d/b/x"},
    ),
    "an opaque directory needs no entry of its own": ([layer("d/", "d/a"), layer("d/.wh..wh..opq")], {"d": DIRECTORY}),
    "metadata of aufs is no file": ([layer(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a")], {"a": "a"}),
    "a hard link into the metadata of aufs is the file": (
        [layer(".wh..wh.plnk/", ".wh..wh.plnk/1.2", Member("a", link=".wh..wh.plnk/1.2"), Member("b", link="a"))],
        {"a": ".wh..wh.plnk/1.2", "b": "= a"},
    ),
    "a directory replaces a file": ([layer("a"), layer("a/", "a/b")], {"a": DIRECTORY, "a/b": "a/b"}),
    "a file replaces a directory": ([layer("a/", "a/b"), layer("a")], {"a": "a"}),
    "a directory replaces a symlink": (
        [layer("b/", Member("a", symlink="b")), layer("a/", "a/c")],
        {"a": DIRECTORY, "a/c": "a/c", "b": DIRECTORY},
    ),
    "a newer directory keeps the older children": (
        [layer("d/", "d/a"), layer(Member("d/", mode=0o700))],
        {"d": "0o700", "d/a": "d/a"},
    ),
    "parents that have no entry are made": ([layer("a/b/c")], {"a": IMPLIED, "a/b": IMPLIED, "a/b/c": "a/b/c"}),
    "a path goes through a symlinked directory": (
        [layer("usr/", "usr/lib/", Member("lib", symlink="usr/lib")), layer("lib/x")],
        {"lib": "-> usr/lib", "usr": DIRECTORY, "usr/lib": DIRECTORY, "usr/lib/x": "lib/x"},
    ),
    "an absolute symlink means the image's root": (
        [layer("usr/", Member("l", symlink="/usr")), layer("l/x")],
        {"l": "-> /usr", "usr": DIRECTORY, "usr/x": "l/x"},
    ),
    "a symlink cannot lead above the root": (
        [layer(Member("l", symlink="../../../etc")), layer("l/passwd")],
        {"l": "-> ../../../etc", "etc": IMPLIED, "etc/passwd": "l/passwd"},
    ),
    "a name cannot lead above the root": ([layer("../../a", "b/../../c")], {"a": "../../a", "c": "b/../../c"}),
    "a whiteout goes through a symlinked directory": (
        [layer("usr/", "usr/x", Member("l", symlink="usr")), layer("l/.wh.x")],
        {"l": "-> usr", "usr": DIRECTORY},
    ),
    "absolute and dotted names are the same": (
        [layer("./a", "/b", "c//d")],
        {"a": "./a", "b": "/b", "c": IMPLIED, "c/d": "c//d"},
    ),
    "a hard link shares the file": ([layer("a", Member("b", link="a"))], {"a": "a", "b": "= a"}),
    "a hard link reaches into an older layer": ([layer("a"), layer(Member("b", link="a"))], {"a": "a", "b": "= a"}),
    "a hard link survives its target's removal": ([layer("a", Member("b", link="a")), layer(".wh.a")], {"b": "a"}),
    "a hard link survives its target's replacement": (
        [layer("a", Member("b", link="a")), layer(Member("a", "new"))],
        {"a": "new", "b": "a"},
    ),
    "a hard link to what its own layer hides": ([layer("a"), layer(Member("b", link="a"), ".wh.a")], {"b": "a"}),
    "a hard link to a symlink links the symlink": (
        [layer("x", Member("a", symlink="x"), Member("b", link="a"))],
        {"a": "-> x", "b": "= a", "x": "x"},
    ),
    "an empty layer changes nothing": ([layer("a"), layer()], {"a": "a"}),
}


@pytest.mark.parametrize("name", UNIONS)
def test_union(name: str) -> None:
    layers, expected = UNIONS[name]
    assert tree(*layers) == expected


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([Member("b", link="a")], "the layer holds '/b', a hard link to '/a', a file that does not exist"),
        (["a/", Member("b", link="a")], "the layer holds '/b', a hard link to '/a', a directory"),
        (
            [Member("a", symlink="b"), Member("b", symlink="a"), "a/x"],
            "the layer holds an entry in '/a', which is an endless symlink",
        ),
    ],
)
def test_what_cannot_be_applied_is_refused(members: list[Member | str], message: str) -> None:
    with pytest.raises(InvalidLayer) as caught:
        Union([layer(*members)])
    assert str(caught.value) == message


def test_attributes_arrive_as_the_archive_has_them() -> None:
    info = tarfile.TarInfo("a")
    info.uid, info.gid, info.mode, info.mtime, info.size = 3_000_000_000, 65534, 0o4711, 12345, 3
    info.pax_headers = {"SCHILY.xattr.user.note": "h\u00e4h", "comment": "no attribute"}
    device = tarfile.TarInfo("dev")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as stream:
        stream.addfile(info, io.BytesIO(b"abc"))
        stream.addfile(device)
    first, second = index(io.BytesIO(buffer.getvalue()), "x")
    assert first[1:7] == ("file", 0o4711, 3_000_000_000, 65534, 12345, 3)
    assert first.xattrs == (("user.note", "h\u00e4h".encode()),)
    assert (second.kind, second.device) == ("char", (1, 3))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_that_are_long_or_no_utf_8_stay_as_they_are(format: int) -> None:
    names = [
        b"x" * 255,
        b"d/" + b"y" * 180 + b"/" + b"z" * 180,
        b"caf\xe9",
        "gr\u00fcn".encode(),
        b"new\nline",
        b'q"\\ ',
    ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as stream:
        for name in names:
            stream.addfile(tarfile.TarInfo(os.fsdecode(name)))
    assert [entry.path for entry in index(io.BytesIO(buffer.getvalue()), "x")] == names


THREE = archive([Member("a", "a"), Member("b", "b"), Member("c", "c")])


def long_header(size: int) -> bytes:
    """A PAX header that says a size."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "damage",
    [
        b"no tar archive at all" * 100,
        archive([Member("a", "b" * 5000)])[:3000],
        THREE[:1024] + b"\xff" + THREE[1025:],
        THREE[:1024] + bytes(512) + THREE[1024:],
        THREE[: 1024 + 100],
        long_header(3 * 2**30),
        archive([Member("x/" + "y" * 256)]),
        archive([Member("/".join(["a"] * 2100))]),
        archive([Member("s", symlink="t" * 5000)]),
    ],
)
def test_what_is_no_sound_archive_is_refused(damage: bytes) -> None:
    def read_all() -> list[bytes]:
        return [data.read() for _entry, data in read_entries(io.BytesIO(damage), "the layer") if data]

    with pytest.raises(InvalidLayer, match=r"^the layer is no sound tar archive: ."):
        read_all()


@pytest.mark.parametrize("nothing", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_an_archive_of_nothing_holds_nothing(nothing: bytes) -> None:
    assert index(io.BytesIO(nothing), "the layer") == []


def test_an_archive_may_end_without_blocks_of_zeros() -> None:
    assert [entry.path for entry in index(io.BytesIO(THREE[:3072]), "the layer")] == [b"a", b"b", b"c"]


def test_a_layer_that_changed_since_it_was_indexed_is_refused() -> None:
    contents = [archive([Member("a", "one")]), archive([Member("a", "three")])]
    changing = Layer("the layer", index(io.BytesIO(contents[0]), "the layer"), lambda: io.BytesIO(contents[1]))
    with pytest.raises(InvalidLayer, match="the layer changed while it was read"):
        tree(changing)


# The same by unpacking: each layer over the ones before, with the operating system's own calls.

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@st.composite
def members(draw: st.DrawFn) -> Member:
    """An entry of any kind, among few names, so that entries meet each other."""
    path = draw(PATHS)
    kind = draw(st.sampled_from(["file", "file", "directory", "whiteout", "opaque", "link"]))
    if kind == "directory":
        return Member(path + "/")
    if kind == "whiteout":
        parent, _slash, name = path.rpartition("/")
        return Member(f"{parent}/.wh.{name}" if parent else f".wh.{name}")
    if kind == "opaque":
        return Member(f"{path}/.wh..wh..opq")
    if kind == "link":
        return Member(path, link=draw(PATHS))
    return Member(path, content=draw(st.text("xyz", max_size=3)))


def unpack(root: str, layers: Sequence[Sequence[Member]]) -> None:
    """Apply layers to a directory: first what each hides, then what it brings."""
    for content in layers:
        for member in content:
            parent, _slash, name = member.name.rpartition("/")
            directory = os.path.join(root, parent)
            if name == ".wh..wh..opq" and os.path.isdir(directory):
                for child in os.listdir(directory):
                    remove(os.path.join(directory, child))
            elif name.startswith(".wh.") and name != ".wh..wh..opq":
                remove(os.path.join(directory, name[len(".wh.") :]))
        for member in content:
            if ".wh." not in member.name:
                bring(root, member)


def bring(root: str, member: Member) -> None:
    """Write one entry, making way and parents for it."""
    path = os.path.join(root, member.name.rstrip("/"))
    parent = os.path.dirname(path)
    while parent != root:
        if os.path.lexists(parent) and not os.path.isdir(parent):
            os.unlink(parent)
        parent = os.path.dirname(parent)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if member.name.endswith("/"):
        if not os.path.isdir(path):
            remove(path)
            os.mkdir(path)
    elif member.link is not None:
        target = os.path.join(root, member.link)
        if os.path.isfile(target) and target != path:
            remove(path)
            os.link(target, path)
    else:
        remove(path)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(member.content)


def remove(path: str) -> None:
    """Remove what is at a path, if anything is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def on_disk(root: str) -> dict[str, Any]:
    """A directory in the form of ``tree``, hard links by the sorted first of their names."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for parent, directories, files in os.walk(root):
        directories.sort()
        for name in directories:
            found[os.path.relpath(os.path.join(parent, name), root)] = "directory"
        for name in sorted(files):
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, root)
            with open(path, encoding="utf-8") as stream:
                found[relative] = (stream.read(), os.stat(path).st_ino)
            inodes.setdefault(os.stat(path).st_ino, relative)
    groups: dict[int, set[str]] = {}
    for path, value in found.items():
        if value != "directory":
            groups.setdefault(value[1], set()).add(path)
    return {
        path: value if value == "directory" else (value[0], frozenset(groups[value[1]]))
        for path, value in found.items()
    }


def united(layers: Sequence[Layer]) -> dict[str, Any]:
    """The union in the form of ``on_disk``."""
    flat = tree(*layers)
    groups: dict[str, set[str]] = {}
    for path, value in flat.items():
        first = value[2:] if value.startswith("= ") else path
        groups.setdefault(first, set()).add(path)
    found: dict[str, Any] = {}
    for path, value in flat.items():
        first = value[2:] if value.startswith("= ") else path
        found[path] = "directory" if value.startswith("0o") else (flat[first], frozenset(groups[first]))
    return found


def linkable(content: Sequence[Member], before: str) -> list[Member]:
    """The members without hard links that a plain unpacking could not make, tried one by one over what is there."""
    kept: list[Member] = []
    for member in content:
        with tempfile.TemporaryDirectory() as scratch:
            root = os.path.join(scratch, "root")
            shutil.copytree(before, root, symlinks=True)
            unpack(root, [kept])
            target = os.path.join(root, member.link or "")
            path = os.path.join(root, member.name)
            inside = f"{member.link}/".startswith(f"{member.name}/") or f"{member.name}/".startswith(f"{member.link}/")
            if member.link is None or (os.path.isfile(target) and not inside and not os.path.isdir(path)):
                kept.append(member)
    return kept


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(members(), max_size=6), min_size=1, max_size=4))
def test_the_union_is_what_unpacking_gives(stack: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = os.path.join(scratch, "root")
        os.mkdir(root)
        sound: list[list[Member]] = []
        for content in stack:
            sound.append(linkable(content, root))
            unpack(root, sound[-1:])
        assert united([layer(*content) for content in sound]) == on_disk(root)
