# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The union of layers: what the OCI image specification says (layer.md), and what unpacking one by one would give."""

from __future__ import annotations

import gc
import io
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.index import index
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import (
    Layer,
    Misjudged,
    Union,
    hidden_by,
    is_whiteout,
)
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.stacks import (
    UNIONS,
    Member,
    archive,
    layer,
    linkable,
    of,
    plain_stacks,
    tree,
    unpack,
)
from hypothesis import given, settings


@pytest.mark.parametrize("name", UNIONS)
def test_union(name: str) -> None:
    stack, expected = UNIONS[name]
    assert tree(Union([layer(*members) for members in stack]).entries()) == expected


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


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (b".wh.a", b"a"),
        (b"d/e/.wh.a", b"d/e/a"),
        (b".wh..wh..opq", b""),
        (b"d/e/.wh..wh..opq", b"d/e"),
        (b"d/.wh..a", b"d/.a"),
        (b"d/.wh..wh.aufs", None),
        (b"d/.wh..wh.plnk/1.2", None),
        (b"d/a.wh.b", None),
        (b".wh.d/a", None),
        (b"", None),
    ],
)
def test_a_whiteout_and_what_it_hides(path: bytes, hidden: bytes | None) -> None:
    assert is_whiteout(path) == (hidden is not None)
    if hidden is not None:
        assert hidden_by(path) == hidden


def test_the_size_of_a_union_counts_each_inode_once() -> None:
    stack = [layer(Member("a", "1234"), Member("b", link="a"), Member("c", "old")), layer(Member("c", "12"), "d/")]
    assert Union(stack).size == 6


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"", "directory"),
        (b"usr/lib/x", "file"),
        (b"lib/x", "file"),
        (b"lib", "symlink"),
        (b"lib/none", None),
        (b"usr/lib/x/y", None),
        (b"none/x", None),
    ],
)
def test_a_node_is_found_by_its_path(path: bytes, found: str | None) -> None:
    node = Union([layer("usr/", "usr/lib/", "usr/lib/x", Member("lib", symlink="usr/lib"))]).find(path)
    assert (node.entry.kind if node else None) == found


# What was written before all layers were known: ordinals of entries by layer.


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ({}, {"a": "a", "b": "= a", "d": "0o755", "d/c": "new"}),
        ({0: {0}}, {"b": "= a", "d": "0o755", "d/c": "new"}),
        ({0: {0}, 1: {0}}, {"b": "= a", "d": "0o755"}),
        ({1: {0}}, {"a": "a", "b": "= a", "d": "0o755"}),
    ],
)
def test_of_what_was_written_only_other_names_follow(written: dict[int, set[int]], left: dict[str, str]) -> None:
    union = Union([layer("a", Member("b", link="a"), "d/", "d/c"), layer(Member("d/c", "new"))])
    found = {}
    for entry, data in union.entries(written):
        if entry.kind == "link":
            found[entry.path.decode()] = f"= {entry.target.decode()}"
        elif entry.path:
            found[entry.path.decode()] = oct(entry.mode) if data is None else b"".join(data).decode()
    assert found == left


def test_a_file_written_under_its_second_name_is_what_the_first_links_to() -> None:
    union = Union([layer("b", Member("a", link="b"))])
    (linked,) = [entry for entry, _data in union.entries({0: {0}}) if entry.path]
    assert (linked.path, linked.kind, linked.target) == (b"a", "link", b"b")


@pytest.mark.parametrize(
    ("stack", "written"),
    [
        ([["a"], ["a"]], {0: {0}}),  # replaced by a newer layer
        ([["a", "a"]], {0: {0}}),  # or by its own
        ([["a"], [".wh.a"]], {0: {0}}),  # hidden
        ([["d/", Member("l", symlink="d"), "l/a"]], {0: {2}}),  # survives under another name
        ([["a"]], {0: {1}}),  # no such entry
        ([["a"]], {1: {0}}),  # no such layer
        ([["d/"]], {0: {0}}),  # no file
        ([["a", Member("b", link="a")], [".wh.a"]], {0: {0}}),  # survives under its other name only
    ],
)
def test_what_was_written_and_does_not_survive_is_misjudged(
    stack: list[list[Member | str]], written: dict[int, set[int]]
) -> None:
    with pytest.raises(Misjudged):
        next(Union([layer(*members) for members in stack]).entries(written))


def changing(before: bytes, after: bytes) -> Layer:
    """Return a layer whose archive is another one when it is read again."""
    return Layer("the layer", index(io.BytesIO(before), "the layer"), lambda: io.BytesIO(after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([Member("a", "one")], [Member("a", "three")]),
        ([Member("a", "one")], []),
        ([Member("a", "one"), Member("b", "two")], [Member("a", "one")]),
        ([Member("a", "")], [Member("a/")]),
    ],
)
def test_a_layer_that_changed_since_it_was_indexed_is_refused(before: list[Member], after: list[Member]) -> None:
    with pytest.raises(InvalidLayer, match="the layer changed while it was read"):
        tree(Union([changing(archive(before), archive(after))]).entries())


def test_an_archive_that_is_read_again_is_closed_even_if_not_read_to_its_end() -> None:
    content = archive(of("a", "b", "c"))
    opened: list[io.BytesIO] = []

    def reopen() -> io.BytesIO:
        opened.append(io.BytesIO(content))
        return opened[-1]

    entries = Union([Layer("the layer", index(io.BytesIO(content), "x"), reopen)]).entries()
    assert [next(entries)[0].path for _number in range(2)] == [b"", b"a"]
    assert [stream.closed for stream in opened] == [False]
    del entries
    gc.collect()
    assert [stream.closed for stream in opened] == [True]


def test_a_deep_path_is_no_problem() -> None:
    path = "/".join(["d"] * 2000)
    deep = [layer(path), layer(f"{path[:-2]}/.wh.d", f"{path[:-2]}/e"), layer(Member("e", link=f"{path[:-2]}/e"))]
    found = tree(Union(deep).entries())
    files = {path: value for path, value in found.items() if not value.startswith("0o")}
    assert files == {f"{path[:-2]}/e": f"{path[:-2]}/e", "e": f"= {path[:-2]}/e"}
    assert len(found) == 1999 + len(files)


# The same by unpacking


def on_disk(root: str) -> dict[str, Any]:
    """Return the thing at each path below a directory; a file by its content and all its names."""
    found: dict[str, Any] = {}
    names: dict[int, set[str]] = {}
    for parent, directories, files in os.walk(root):
        for name in directories:
            found[os.path.relpath(os.path.join(parent, name), root)] = "directory"
        for name in files:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, root)
            with open(path, encoding="utf-8") as stream:
                found[relative] = (stream.read(), os.stat(path).st_ino)
            names.setdefault(os.stat(path).st_ino, set()).add(relative)
    return {
        path: value if value == "directory" else (value[0], frozenset(names[value[1]])) for path, value in found.items()
    }


def united(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the union in the form of ``on_disk``."""
    flat = tree(Union(layers).entries())
    first = {path: value[2:] if value.startswith("= ") else path for path, value in flat.items()}
    names: dict[str, set[str]] = {}
    for path in flat:
        names.setdefault(first[path], set()).add(path)
    return {
        path: "directory" if value.startswith("0o") else (flat[first[path]], frozenset(names[first[path]]))
        for path, value in flat.items()
    }


@settings(max_examples=150)
@given(plain_stacks)
def test_the_union_is_what_unpacking_gives(stack: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = os.path.join(scratch, "root")
        os.mkdir(root)
        sound: list[list[Member]] = []
        for content in stack:
            sound.append(linkable(content, root))
            unpack(root, sound[-1:])
        assert united([layer(*content) for content in sound]) == on_disk(root)
