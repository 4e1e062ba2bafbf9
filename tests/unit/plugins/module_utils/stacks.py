# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks of layers: what is in them, the trees they make, any stack at all, and what plain unpacking makes of one."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.index import index
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import Data, Entry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import Layer
from hypothesis import strategies as st


@dataclass(frozen=True)
class Member:
    """One entry of a layer: a name with a trailing slash is a directory. ``note`` is an extended attribute."""

    name: str
    content: str = ""
    symlink: str | None = None
    link: str | None = None
    mode: int | None = None
    uid: int = 0
    note: str | None = None


Members = Sequence[Member]


def of(*members: Member | str) -> list[Member]:
    """Return the members of a layer; a plain string is a file or directory of that name, its content the name."""
    return [member if isinstance(member, Member) else Member(member, member) for member in members]


def archive(members: Members) -> bytes:
    """Return a tar archive of the members, in their order."""
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
            info.uid = member.uid
            if member.note is not None:
                info.pax_headers = {"SCHILY.xattr.user.note": member.note}
            stream.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def layer(*members: Member | str) -> Layer:
    """Return a layer in memory."""
    content = archive(of(*members))
    return Layer("the layer", index(io.BytesIO(content), "the layer"), lambda: io.BytesIO(content))


def text(data: Data | None) -> str:
    """Return the data of a file."""
    return b"".join(data or ()).decode()


def tree(entries: Iterable[tuple[Entry, Data | None]]) -> dict[str, Any]:
    """Return the entries of a union by path: a directory's mode, a file's content, ``-> target`` for a symlink.

    A hard link is ``= first``.
    """
    found: dict[str, Any] = {}
    for entry, data in entries:
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
            assert (data is None) == (entry.kind != "file")
            found[path] = text(data) if data is not None else entry.kind
    found.pop(".")
    return found


DIRECTORY = "0o755"
IMPLIED = "0o775"

UNIONS: dict[str, tuple[list[list[Member]], dict[str, Any]]] = {
    "a newer file replaces an older one": ([of("a"), of(Member("a", "new"))], {"a": "new"}),
    "the last of two entries in one layer counts": ([of("a", Member("a", "last"))], {"a": "last"}),
    "a whiteout hides a file": ([of("d/", "d/a", "d/b"), of("d/.wh.a")], {"d": DIRECTORY, "d/b": "d/b"}),
    "a whiteout hides a directory with all below": ([of("d/", "d/a/", "d/a/b"), of("d/.wh.a")], {"d": DIRECTORY}),
    "a whiteout of nothing does nothing": ([of("a"), of(".wh.b", "no/.wh.c")], {"a": "a"}),
    "a whiteout does not hide its own layer, before": ([of("a"), of("a", ".wh.a")], {"a": "a"}),
    "a whiteout does not hide its own layer, after": ([of("a"), of(".wh.a", "a")], {"a": "a"}),
    "a directory made anew holds nothing old": (
        [of("d/", "d/old"), of("d/", "d/new", ".wh.d")],
        {"d": DIRECTORY, "d/new": "d/new"},
    ),
    "an opaque directory keeps what its layer brings": (
        [of("d/", "d/a", "d/b/", "d/b/c"), of("d/", "d/new", "d/.wh..wh..opq", "d/b/", "d/b/x")],
        {"d": DIRECTORY, "d/new": "d/new", "d/b": DIRECTORY, "d/b/x": "d/b/x"},
    ),
    "an opaque directory needs no entry of its own": ([of("d/", "d/a"), of("d/.wh..wh..opq")], {"d": DIRECTORY}),
    "metadata of aufs is no file": ([of(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a")], {"a": "a"}),
    "a hard link into the metadata of aufs is the file": (
        [of(".wh..wh.plnk/", ".wh..wh.plnk/1.2", Member("a", link=".wh..wh.plnk/1.2"), Member("b", link="a"))],
        {"a": ".wh..wh.plnk/1.2", "b": "= a"},
    ),
    "a directory replaces a file": ([of("a"), of("a/", "a/b")], {"a": DIRECTORY, "a/b": "a/b"}),
    "a file replaces a directory": ([of("a/", "a/b"), of("a")], {"a": "a"}),
    "a directory replaces a symlink": (
        [of("b/", Member("a", symlink="b")), of("a/", "a/c")],
        {"a": DIRECTORY, "a/c": "a/c", "b": DIRECTORY},
    ),
    "a directory replaces a symlink in the middle of a layer": (
        [of("d/", Member("l", symlink="d"), "l/a", "l/", "l/b")],
        {"d": DIRECTORY, "d/a": "l/a", "l": DIRECTORY, "l/b": "l/b"},
    ),
    "a symlink replaces a directory in the middle of a layer": (
        [of("d/", "l/", "l/a", Member("l", symlink="d"), "l/b")],
        {"d": DIRECTORY, "d/b": "l/b", "l": "-> d"},
    ),
    "a file replaces a directory in the middle of a layer": (
        [of("d/", "d/a", "d", "d/b")],
        {"d": IMPLIED, "d/b": "d/b"},
    ),
    "a newer directory keeps the older children": (
        [of("d/", "d/a"), of(Member("d/", mode=0o700))],
        {"d": "0o700", "d/a": "d/a"},
    ),
    "parents that have no entry are made": ([of("a/b/c")], {"a": IMPLIED, "a/b": IMPLIED, "a/b/c": "a/b/c"}),
    "a path goes through a symlinked directory": (
        [of("usr/", "usr/lib/", Member("lib", symlink="usr/lib")), of("lib/x")],
        {"lib": "-> usr/lib", "usr": DIRECTORY, "usr/lib": DIRECTORY, "usr/lib/x": "lib/x"},
    ),
    "an absolute symlink means the image's root": (
        [of("usr/", Member("l", symlink="/usr")), of("l/x")],
        {"l": "-> /usr", "usr": DIRECTORY, "usr/x": "l/x"},
    ),
    "a symlink cannot lead above the root": (
        [of(Member("l", symlink="../../../etc")), of("l/passwd")],
        {"l": "-> ../../../etc", "etc": IMPLIED, "etc/passwd": "l/passwd"},
    ),
    "a name cannot lead above the root": ([of("../../a", "b/../../c")], {"a": "../../a", "c": "b/../../c"}),
    "an opaque directory in place of a symlink hides nothing where that led": (
        [
            of("lib/", "lib/site", Member("lib64", symlink="lib")),
            of("lib64/", "lib64/.wh..wh..opq", "lib64/new"),
        ],
        {"lib": DIRECTORY, "lib/site": "lib/site", "lib64": DIRECTORY, "lib64/new": "lib64/new"},
    ),
    "a whiteout in place of a symlink hides nothing where that led": (
        [of("real/", "real/x", Member("d", symlink="real")), of("d/", "d/.wh.x")],
        {"real": DIRECTORY, "real/x": "real/x", "d": DIRECTORY},
    ),
    "a symlink that leads elsewhere in the middle of a layer": (
        [of("a/", "b/", Member("l", symlink="a"), "l/x", Member("l", symlink="b"), "l/y")],
        {"a": DIRECTORY, "a/x": "l/x", "b": DIRECTORY, "b/y": "l/y", "l": "-> b"},
    ),
    "a hard link into the metadata of aufs, which is one itself": (
        [of("foo", Member(".wh..wh.plnk/1.2", link="foo"), Member("bar", link=".wh..wh.plnk/1.2"))],
        {"bar": "foo", "foo": "= bar"},
    ),
    "a whiteout goes through a symlinked directory": (
        [of("usr/", "usr/x", Member("l", symlink="usr")), of("l/.wh.x")],
        {"l": "-> usr", "usr": DIRECTORY},
    ),
    "absolute and dotted names are the same": (
        [of("./a", "/b", "c//d")],
        {"a": "./a", "b": "/b", "c": IMPLIED, "c/d": "c//d"},
    ),
    "a hard link shares the file": ([of("a", Member("b", link="a"))], {"a": "a", "b": "= a"}),
    "a hard link reaches into an older layer": ([of("a"), of(Member("b", link="a"))], {"a": "a", "b": "= a"}),
    "a hard link survives its target's removal": ([of("a", Member("b", link="a")), of(".wh.a")], {"b": "a"}),
    "a hard link survives its target's replacement": (
        [of("a", Member("b", link="a")), of(Member("a", "new"))],
        {"a": "new", "b": "a"},
    ),
    "a hard link to what its own layer hides": ([of("a"), of(Member("b", link="a"), ".wh.a")], {"b": "a"}),
    "a hard link to a symlink links the symlink": (
        [of("x", Member("a", symlink="x"), Member("b", link="a"))],
        {"a": "-> x", "b": "= a", "x": "x"},
    ),
    "an empty layer changes nothing": ([of("a"), of()], {"a": "a"}),
}

# Any stack. There are few names, so that entries meet each other.

_names = st.sampled_from(["a", "b", "c"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_KINDS = ("file", "file", "file", "directory", "whiteout", "opaque", "link")


@st.composite
def members(draw: st.DrawFn, kinds: Sequence[str] = _KINDS) -> Member:
    """Return an entry of any kind."""
    path = draw(_paths)
    kind = draw(st.sampled_from(kinds))
    if kind == "whiteout":
        parent, _slash, name = path.rpartition("/")
        return Member(f"{parent}/.wh.{name}" if parent else f".wh.{name}")
    if kind == "opaque":
        return Member(f"{path}/.wh..wh..opq")
    mode, uid, note = draw(st.sampled_from([(None, 0, None), (0o700, 1000, None), (0o4711, 0, "x")]))
    if kind == "directory":
        return Member(path + "/", mode=mode, uid=uid, note=note)
    if kind == "link":
        return Member(path, link=draw(_paths))
    if kind == "symlink":
        return Member(path, symlink=draw(st.sampled_from(["/", "../", ""])) + draw(_paths))
    return Member(path, content=draw(st.text("xyz", max_size=3)), mode=mode, uid=uid, note=note)


plain_stacks = st.lists(st.lists(members(), max_size=6), min_size=1, max_size=4)
stacks = st.lists(st.lists(members((*_KINDS, "symlink")), max_size=6), min_size=1, max_size=4)


# The same by unpacking: each layer over the ones before, with the operating system's own calls.


def unpack(root: str, layers: Sequence[Members]) -> None:
    """Apply layers without symlinks to a directory: first what each hides, then what it brings."""
    for content in layers:
        for member in content:
            parent, _slash, name = member.name.rpartition("/")
            directory = os.path.join(root, parent)
            if name == ".wh..wh..opq" and os.path.isdir(directory):
                for child in os.listdir(directory):
                    _remove(os.path.join(directory, child))
            elif name.startswith(".wh.") and name != ".wh..wh..opq":
                _remove(os.path.join(directory, name[len(".wh.") :]))
        for member in content:
            if ".wh." not in member.name:
                _bring(root, member)


def linkable(content: Members, before: str) -> list[Member]:
    """Return the members without hard links that a plain unpacking could not make, tried one by one on the disk.

    What a layer hides is gone before it links anything.
    """
    kept: list[Member] = []
    whiteouts = [member for member in content if ".wh." in member.name]
    for member in content:
        with tempfile.TemporaryDirectory() as scratch:
            root = os.path.join(scratch, "root")
            shutil.copytree(before, root, symlinks=True)
            unpack(root, [[*whiteouts, *kept]])
            target = os.path.join(root, member.link or "")
            path = os.path.join(root, member.name)
            inside = f"{member.link}/".startswith(f"{member.name}/") or f"{member.name}/".startswith(f"{member.link}/")
            if member.link is None or (os.path.isfile(target) and not inside and not os.path.isdir(path)):
                kept.append(member)
    return kept


def _bring(root: str, member: Member) -> None:
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
            _remove(path)
            os.mkdir(path)
    elif member.link is not None:
        target = os.path.join(root, member.link)
        if os.path.isfile(target) and target != path:
            _remove(path)
            os.link(target, path)
    else:
        _remove(path)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(member.content)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
