# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packed entries of a layer: what goes in comes out, and a large layer takes little memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.index import LayerIndex, Ordinals
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import Entry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import Layer, Union
from hypothesis import given
from hypothesis import strategies as st

PATHS = st.lists(st.sampled_from([b"a", b"lib", b"\xff"]), max_size=4).map(b"/".join)
NUMBERS = st.integers(0, 2**32 - 2)
ENTRIES = st.builds(
    Entry,
    PATHS,
    st.sampled_from(["file", "directory", "symlink", "link", "char"]),
    st.integers(0, 0o7777),
    NUMBERS,
    NUMBERS,
    st.integers(-(2**70), 2**90),  # a header may hold any of these
    st.integers(0, 2**44),
    PATHS,
    st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    st.lists(st.tuples(st.just("user.a"), st.binary(max_size=2)), max_size=2).map(tuple),
)
MOST = 330  # bytes an entry; objects take three times that


def packed(entries: list[Entry]) -> LayerIndex:
    """Return the index of some entries."""
    index = LayerIndex()
    for entry in entries:
        index.append(entry)
    return index


@given(st.lists(ENTRIES, max_size=6))
def test_what_is_packed_comes_out_again(entries: list[Entry]) -> None:
    index = packed(entries)
    assert list(index) == entries
    assert [index[number] for number in range(len(index))] == entries
    assert list(index.kinds()) == [entry.kind for entry in entries]
    assert [(index.kind(n), index.path(n)) for n in range(len(index))] == [(e.kind, e.path) for e in entries]
    assert index.newest == max((entry.mtime for entry in entries), default=0)


@given(st.lists(st.integers(0, 40)), st.lists(st.integers(0, 50)), st.integers(0, 30))
def test_ordinals_are_a_set(taken: list[int], dropped: list[int], count: int) -> None:
    ordinals = Ordinals(count)
    for ordinal in taken:
        ordinals.add(ordinal)
    for ordinal in dropped:
        ordinals.discard(ordinal)
    expected = set(taken) - set(dropped)
    assert (list(ordinals), len(ordinals), bool(ordinals)) == (sorted(expected), len(expected), bool(expected))
    assert [n for n in range(-60, 60) if n in ordinals] == sorted(expected)


def environment(count: int) -> Iterator[Entry]:
    """Yield as many entries as there are, as a conda environment has them: ten files in a directory, long paths."""
    for number in range(count):
        package = b"opt/conda/envs/science/lib/python3.11/site-packages/package_%d/subpackage/tests" % (number // 11)
        if number % 11 == 0:
            yield Entry(package, "directory", 0o755, 0, 0, 1_700_000_000 + number)
        else:
            path = package + b"/test_of_something_%d.py" % number
            yield Entry(path, "file", 0o644, 0, 0, 1_700_000_000 + number, 3 * number)


@pytest.mark.parametrize("foreseen", [True, False], ids=["stream", "sandbox"])
def test_an_entry_takes_little_memory(foreseen: bool) -> None:
    count = 22_000
    tracemalloc.start()
    try:
        index, written = LayerIndex(), Ordinals()
        for entry in environment(count):
            if foreseen and entry.kind == "file":
                written.add(len(index))
            index.append(entry)
        union = Union([Layer("the layer", index, io.BytesIO)])
        entries = union.entries({0: written})
        directories = [next(entries) for _number in range(20)]
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert directories[0][0].path == b""
    assert peak / count < MOST
