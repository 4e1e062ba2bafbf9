# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The entries of one layer without their data, packed: images have layers of hundreds of thousands of entries.

An object for each entry takes some 500 bytes. Here an entry takes 24 bytes in columns of numbers, and its own name;
the path of its directory, and what entries have in common, are kept once for all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import IO, Any, NamedTuple

from .tar import Entry, joined, read

_LOW = 2**64 - 1  # the bits of a time that a column holds


class _Manner(NamedTuple):
    """The properties that many entries share. ``high`` are the bits of a time beyond the lowest 64, usually zeros."""

    kind: str
    mode: int
    uid: int
    gid: int
    high: int
    device: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]


class LayerIndex:
    """The entries of one layer in archive order, each made again from columns when it is asked for.

    :ivar names: the last part of each path.
    :ivar places: for each entry, which of ``parents`` it lies in.
    :ivar parents: paths of directories.
    :ivar sizes: of the data, in bytes.
    :ivar newest: the latest time of an entry, in seconds since the epoch; 0 for an empty layer.
    """

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.places = array("I")
        self.parents: list[bytes] = []
        self.sizes = array("Q")
        self.newest = 0
        self._times = array("Q")
        self._manners = array("I")
        self._targets: dict[int, bytes] = {}
        self._known: list[_Manner] = []
        self._number_of_parent: dict[bytes, int] = {}
        self._number_of_manner: dict[tuple[Any, ...], int] = {}

    def append(self, entry: Entry) -> None:
        """Keep one more entry."""
        path, kind, mode, uid, gid, mtime, size, target, device, xattrs = entry
        parent, _slash, name = path.rpartition(b"/")
        place = self._number_of_parent.get(parent)
        if place is None:
            place = self._number_of_parent[parent] = len(self.parents)
            self.parents.append(parent)
        manner = (kind, mode, uid, gid, mtime >> 64, device, xattrs)
        number = self._number_of_manner.get(manner)
        if number is None:
            number = self._number_of_manner[manner] = len(self._known)
            self._known.append(_Manner(*manner))
        if target:
            self._targets[len(self.names)] = target
        if mtime > self.newest or not self.names:
            self.newest = mtime
        self.names.append(name)
        self.places.append(place)
        self.sizes.append(size)
        self._times.append(mtime & _LOW)
        self._manners.append(number)

    def kind(self, ordinal: int) -> str:
        """Return the kind of an entry."""
        return self._known[self._manners[ordinal]].kind

    def kinds(self) -> Iterator[str]:
        """Yield the kinds of all entries."""
        return map([manner.kind for manner in self._known].__getitem__, self._manners)

    def path(self, ordinal: int) -> bytes:
        """Return the path of an entry."""
        return joined(self.parents[self.places[ordinal]], self.names[ordinal])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, ordinal: int) -> Entry:
        manner = self._known[self._manners[ordinal]]
        return Entry(
            self.path(ordinal),
            manner.kind,
            manner.mode,
            manner.uid,
            manner.gid,
            (manner.high << 64) + self._times[ordinal],
            self.sizes[ordinal],
            self._targets.get(ordinal, b""),
            manner.device,
            manner.xattrs,
        )


class Ordinals(AbstractSet[int]):
    """A set of ordinals of one layer's entries, a byte for each entry."""

    def __init__(self, count: int = 0) -> None:
        """
        :param count: ordinals below it need no more room.
        """
        self.marks = bytearray(count)

    def add(self, ordinal: int) -> None:
        """Take one more into the set."""
        missing = ordinal + 1 - len(self.marks)
        if missing > 0:
            self.marks += bytes(missing)
        self.marks[ordinal] = 1

    def discard(self, ordinal: int) -> None:
        """Take one out of the set, if it is in it."""
        if ordinal in self:
            self.marks[ordinal] = 0

    def __contains__(self, ordinal: object) -> bool:
        return isinstance(ordinal, int) and 0 <= ordinal < len(self.marks) and self.marks[ordinal] == 1

    def __iter__(self) -> Iterator[int]:
        at = self.marks.find(1)
        while at >= 0:
            yield at
            at = self.marks.find(1, at + 1)

    def __len__(self) -> int:
        return self.marks.count(1)


def index(archive: IO[bytes], what: str, count: Callable[[Entry], None] | None = None) -> LayerIndex:
    """Return the entries of an archive without their data.

    :param count: told each entry before it is kept.
    :raises InvalidLayer: as ``tar.read``, or as the counting raises it.
    """
    entries = LayerIndex()
    for entry, _data in read(archive, what):
        if count:
            count(entry)
        entries.append(entry)
    return entries
