# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The union of a stack of layers as one stream of entries, whoever writes them and wherever.

Source: OCI image specification 1.1, layer.md ("Applying Changesets", "Whiteouts", "Opaque Whiteout"). The index of each
layer is applied, the oldest first, to a tree of inodes in memory, which is what an unpacking to disk would do: paths go
through directory symlinks, and a hard link shares its inode until each of its names is replaced. The data of what
survives is read from the layers again, but for what was written already while they were indexed.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import compress
from typing import IO, NamedTuple

from ..errors import InvalidLayer
from ..text import in_words
from . import tar
from .index import LayerIndex, Ordinals
from .tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, Data, Entry, joined, shown_path

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # what AUFS keeps for itself
_MAX_LINKS = 40  # symlinks followed in one path, as Linux does
_MAX_DEPTH = 2048  # directories on one path, which has at most 4095 bytes
_MAX_IMPLIED = 500_000  # directories that no header describes; each takes memory
# Of all layers of an image together. An entry takes 0.3 kB of memory, at most 0.75 beside its text, so these are 3.3 GB
# at most. The largest images that are known, with several conda environments, have somewhat more than a million.
_MAX_ENTRIES = 3_000_000
_MAX_TEXT = 1024 * 1024 * 1024  # bytes of paths, targets and extended attributes

_ROOT = Entry(b"", DIRECTORY, 0o755, 0, 0, 0)
# A directory that entries imply but no header describes: the specification is silent, this is what the engines make.
_IMPLICIT = Entry(b"", DIRECTORY, 0o775, 0, 0, 0)
_NO_ENTRY = -1
_BITS = 32  # of an inode's number, for the ordinal of its entry
_ORDINAL = 2**_BITS - 1


class Misjudged(Exception):
    """A file was written before all layers were known, and does not survive."""


class Directory:
    """A directory of a union: the inode whose entry describes it, and what is in it by name."""

    __slots__ = ("children", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.children: dict[bytes, Inode] = {}


# Anything but a directory is known by a number alone: that of its layer, and in the low bits the ordinal of its entry.
Inode = typing.Union[int, Directory]


class Node(NamedTuple):
    """The thing at a path of a union: its entry, under the name that it had in its layer, and what it shares with its
    other names.
    """

    entry: Entry
    inode: Inode


@dataclass(frozen=True)
class Layer:
    """One layer: what names it in errors, its entries in archive order, and how to open its tar archive again."""

    what: str
    entries: LayerIndex
    open: Callable[[], IO[bytes]]


class Census:
    """The memory that the entries of all layers of one image take, counted while they are read, also by threads."""

    def __init__(self, image: str) -> None:
        """
        :param image: what names the image in errors.
        """
        self._image = image
        self._entries = 0
        self._text = 0
        self._lock = threading.Lock()

    def take(self, entry: Entry) -> None:
        """Count one more entry.

        :raises InvalidLayer: if that is more than fits into the memory of a usual host.
        """
        text = len(entry.path) + len(entry.target)
        if entry.xattrs:
            text += sum(len(name) + len(value) for name, value in entry.xattrs)
        with self._lock:
            self._entries += 1
            self._text += text
        if self._entries > _MAX_ENTRIES or self._text > _MAX_TEXT:
            raise InvalidLayer(
                f"{self._image} has too many files: its layers hold more than {_MAX_ENTRIES:,} entries, or "
                f"{in_words(_MAX_TEXT)} of names and attributes ({self._entries:,} entries with "
                f"{in_words(self._text)} were counted so far), and each takes memory of this host; put its data into "
                "an archive or a file system image, or build it with the engine itself and add the file"
            )


class _Survivors:
    """The part of a union that is left to be written.

    :ivar directories: in the order of a walk, parents first.
    :ivar others: what is neither a directory nor a file, in the order of a walk.
    :ivar files: by layer.
    :ivar names: of inodes that may have several, in the order of a walk.
    :ivar elsewhere: the paths of files that are not where their entries say.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.directories: list[tuple[bytes, Directory]] = []
        self.others: list[tuple[bytes, int]] = []
        self.files = [Ordinals(len(layer.entries)) for layer in layers]
        self.names: dict[int, list[bytes]] = {}
        self.elsewhere: dict[int, bytes] = {}

    def take(self, number: int, ordinals: Iterable[int], entries: LayerIndex) -> list[int]:
        """Take a layer's files that were written under the paths of their entries out of those to be written.

        :returns: those that have other names too, by ordinal.
        :raises Misjudged: if one does not survive under this name.
        """
        files, names, elsewhere = self.files[number], self.names, self.elsewhere
        left, first = files.marks, number << _BITS
        taken = []
        for ordinal in ordinals:
            inode = first | ordinal
            if ordinal not in files or inode in elsewhere:
                raise Misjudged(number, ordinal)
            left[ordinal] = 0
            if inode in names:
                path = entries.path(ordinal)
                if path not in names[inode]:
                    raise Misjudged(number, ordinal)
                names[inode] = [path, *(name for name in names[inode] if name != path)]
                taken.append(inode)
        return sorted(taken)


class Union:
    """The tree that a stack of layers makes.

    :ivar root: the entry of the root directory.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        """
        :param layers: from the oldest to the newest.
        :raises InvalidLayer: if an entry cannot be applied: a hard link to nothing, an endless symlink.
        """
        self.root = _ROOT
        self._layers: list[Layer] = []
        self._implied = 0
        self._linked: set[int] = set()  # inodes that had more than one name at some time
        # Of the present layer: where the paths of its directories lead. Names of one directory follow each other.
        self._resolved: dict[int, Directory] = {}
        self._tree = Directory(_NO_ENTRY)
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Put one more layer on top.

        :raises InvalidLayer: if an entry cannot be applied.
        """
        self._layers.append(layer)
        self._apply(len(self._layers) - 1, layer)

    def find(self, path: bytes) -> Node | None:
        """Find what is at a path, through symlinked directories, a last symlink not followed, or None."""
        inode = self._find(path)
        return None if inode is None else Node(self._entry(inode), inode)

    def resolve(self, path: bytes) -> Node | None:
        """Find what is at a path, a last symlink followed as well; None for none, or an endless symlink."""
        for _count in range(_MAX_LINKS):
            node = self.find(path)
            if node is None or node.entry.kind != SYMLINK:
                return node
            target = node.entry.target
            path = target if target.startswith(b"/") else _split(path)[0] + b"/" + target
            path = path.rstrip(b"/")
        return None

    def below(self, node: Node) -> Iterator[tuple[bytes, Node]]:
        """Yield what is in a directory, each with its name, in the order of names; of anything else nothing."""
        if isinstance(node.inode, Directory):
            for name, inode in sorted(node.inode.children.items(), key=lambda item: item[0]):
                yield name, Node(self._entry(inode), inode)

    def read(self, inodes: Iterable[Inode]) -> Iterator[tuple[int, bytes]]:
        """Read some files again, each whole: each inode with its content, in no particular order.

        :raises InvalidLayer: if a layer is not any more what it was when it was indexed.
        """
        wanted: dict[int, Ordinals] = {}
        for inode in inodes:
            if isinstance(inode, int):
                wanted.setdefault(inode >> _BITS, Ordinals()).add(inode & _ORDINAL)
        for number, files in wanted.items():
            for inode, _entry, data in self._data(number, files):
                yield inode, b"".join(data or ())

    @property
    def size(self) -> int:
        """Bytes of all files, each inode once."""
        left = self._survivors().files
        return sum(
            size for layer, files in zip(self._layers, left) for size in compress(layer.entries.sizes, files.marks)
        )

    def entries(self, written: Mapping[int, AbstractSet[int]] | None = None) -> Iterator[tuple[Entry, Data | None]]:
        """Yield the surviving entries, each path once, each file with its data.

        First all directories (parents before children), then what has no data, then the files, newest layer first, each
        followed by its hard links. Data must be read before the next entry is asked for.

        :param written: the ordinals, by layer, of files that were written already, each under the path of its entry;
            of these, only other names follow.
        :raises Misjudged: before the first entry, if what was written does not survive under that name.
        :raises InvalidLayer: if a layer is not any more what it was when it was indexed.
        """
        left = self._survivors()
        done: list[int] = []
        for number, ordinals in (written or {}).items():
            if not ordinals:
                continue
            if number >= len(self._layers):
                raise Misjudged(number)
            done += left.take(number, ordinals, self._layers[number].entries)
        yield self.root, None
        for path, directory in left.directories:
            yield self._entry(directory)._replace(path=path), None
        for path, inode in left.others:
            entry = self._entry(inode)
            yield entry._replace(path=path), None
            yield from _other_names(entry, left.names.get(inode, ()))
        for inode in done:
            yield from _other_names(self._entry(inode), left.names[inode])
        for number in range(len(self._layers) - 1, -1, -1):
            if left.files[number]:
                yield from self._files(number, left)

    def _files(self, number: int, left: _Survivors) -> Iterator[tuple[Entry, Data | None]]:
        """Yield the files of a layer that are left, each under its first name, then hard links to that."""
        for inode, entry, data in self._data(number, left.files[number]):
            names = left.names.get(inode)
            if names:
                yield entry._replace(path=names[0]), data
                yield from _other_names(entry, names)
            else:
                path = left.elsewhere.get(inode)
                yield entry if path is None else entry._replace(path=path), data

    def _data(self, number: int, wanted: Ordinals) -> Iterator[tuple[int, Entry, Data | None]]:
        """Yield files of a layer by ordinal, each with its data, which must be taken before the next is asked for."""
        layer = self._layers[number]
        first, left = number << _BITS, len(wanted)
        with layer.open() as archive:
            for ordinal, (entry, data) in enumerate(tar.read(archive, layer.what)):
                if ordinal not in wanted:
                    continue
                if entry != layer.entries[ordinal]:
                    raise InvalidLayer(f"{layer.what} changed while it was read")
                yield first | ordinal, entry, data
                left -= 1
                if not left:
                    return
        raise InvalidLayer(f"{layer.what} changed while it was read: {left} files are missing")

    def _survivors(self) -> _Survivors:
        left = _Survivors(self._layers)
        kinds = [layer.entries.kind for layer in self._layers]
        places = [(layer.entries.places, layer.entries.parents) for layer in self._layers]
        for parent, name, inode in self._walk():
            if isinstance(inode, Directory):
                left.directories.append((joined(parent, name), inode))
                continue
            number, ordinal = inode >> _BITS, inode & _ORDINAL
            if inode in self._linked:
                path = joined(parent, name)
                names = left.names.setdefault(inode, [])
                names.append(path)
                if len(names) > 1:
                    continue
            if kinds[number](ordinal) != FILE:
                left.others.append((joined(parent, name), inode))
                continue
            left.files[number].marks[ordinal] = 1
            place, parents = places[number]
            if parents[place[ordinal]] != parent and inode not in self._linked:
                left.elsewhere[inode] = joined(parent, name)
        return left

    def _walk(self) -> Iterator[tuple[bytes, bytes, Inode]]:
        """Yield all but the root, parents first: the path of its directory, its name, and what it is."""
        stack: list[tuple[bytes, Directory, Iterator[bytes]]] = [(b"", self._tree, iter(sorted(self._tree.children)))]
        while stack:
            parent, directory, names = stack[-1]
            children = directory.children
            for name in names:
                inode = children[name]
                yield parent, name, inode
                if isinstance(inode, Directory):
                    path = joined(parent, name)
                    stack.append((path, inode, iter(sorted(inode.children))))
                    break
            else:
                stack.pop()

    def _entry(self, inode: Inode) -> Entry:
        """Return the entry of an inode, under the name that it had in its layer."""
        if inode is self._tree:
            return self.root
        number = inode.number if isinstance(inode, Directory) else inode
        return _IMPLICIT if number == _NO_ENTRY else self._layers[number >> _BITS].entries[number & _ORDINAL]

    def _kind(self, inode: Inode | None) -> str | None:
        if inode is None or isinstance(inode, Directory):
            return DIRECTORY if inode else None
        return self._layers[inode >> _BITS].entries.kind(inode & _ORDINAL)

    def _find(self, path: bytes) -> Inode | None:
        if not path:
            return self._tree
        parent, name = _split(path)
        directory = self._directory(parent, "this image")
        return directory.children.get(name) if directory else None

    def _apply(self, number: int, layer: Layer) -> None:
        """Whiteouts first: they hide what older layers hold, never what their own layer brings."""
        entries, hidden = layer.entries, self._hide(layer)
        aufs = {place for place, path in enumerate(entries.parents) if b"/" + _AUFS in b"/" + path}
        marked = bool(aufs) or any(name.startswith(_WHITEOUT) for name in entries.names)
        self._resolved.clear()
        first = number << _BITS
        for ordinal, (place, name, kind) in enumerate(zip(entries.places, entries.names, entries.kinds())):
            if marked and (place in aufs or name.startswith(_WHITEOUT)):
                if place in aufs or name.startswith(_AUFS):  # no file, but hard links may point here
                    inode: Inode = first | ordinal
                    if kind == HARD_LINK:
                        inode = self._link_target(entries[ordinal], layer.what, hidden)
                    hidden[entries.path(ordinal)] = Directory(first | ordinal) if kind == DIRECTORY else inode
                continue
            if not name:
                if kind == DIRECTORY:
                    self.root = entries[ordinal]
                continue
            directory = self._resolved.get(place)
            if directory is None:
                directory = self._make_directory(entries.parents[place], layer.what)
                self._resolved[place] = directory
            present = directory.children.get(name)
            if present is not None or kind in (HARD_LINK, DIRECTORY):
                link = self._link_target(entries[ordinal], layer.what, hidden) if kind == HARD_LINK else None
                self._put(directory, name, first | ordinal, link)
            else:
                directory.children[name] = first | ordinal

    def _hide(self, layer: Layer) -> dict[bytes, Inode]:
        """Take away what the whiteouts of a layer hide, and return it by path."""
        hidden: dict[bytes, Inode] = {}
        entries = layer.entries
        whiteouts = [entries.path(ordinal) for ordinal, name in enumerate(entries.names) if is_whiteout(name)]
        own: set[bytes] = set()
        if whiteouts:
            own = {entries.path(ordinal) for ordinal, kind in enumerate(entries.kinds()) if kind == DIRECTORY}
        for path in whiteouts:
            parent, name = _split(path)
            directory = self._directory(parent, layer.what)
            if not directory or self._is_replaced(parent, own):
                continue
            victims = list(directory.children) if name == _OPAQUE else [name[len(_WHITEOUT) :]]
            for victim in victims:
                inode = directory.children.pop(victim, None)
                if inode is not None:
                    hidden[joined(parent, victim)] = inode
        return hidden

    def _is_replaced(self, path: bytes, own: AbstractSet[bytes]) -> bool:
        """Tell whether a layer makes a directory where a symlink leads on this path: nothing older is in that one."""
        while path:
            if path in own and self._kind(self._find(path)) == SYMLINK:
                return True
            path = _split(path)[0]
        return False

    def _put(self, directory: Directory, name: bytes, inode: int, link: int | None) -> None:
        """Put an entry into a directory, in place of what is there.

        :param link: what it is another name of, if it is a hard link.
        """
        children = directory.children
        present = children.get(name)
        kind, before = self._kind(inode), self._kind(present)
        if before in (DIRECTORY, SYMLINK) and not kind == before == DIRECTORY:
            self._resolved.clear()  # paths may have gone through it
        if link is not None:
            children[name] = link
        elif kind != DIRECTORY:
            children[name] = inode
        elif isinstance(present, Directory):
            present.number = inode
        else:
            children[name] = Directory(inode)

    def _link_target(self, entry: Entry, what: str, hidden: dict[bytes, Inode]) -> int:
        # the layer may have linked the file before it hid the other name
        inode = self._find(entry.target)
        if inode is None:
            inode = self._hidden(entry.target, hidden)
        if inode is None or isinstance(inode, Directory):
            problem = "a directory" if inode else "a file that does not exist"
            raise InvalidLayer(
                f"{what} holds {shown_path(entry.path)}, a hard link to {shown_path(entry.target)}, {problem}"
            )
        self._linked.add(inode)
        return inode

    @staticmethod
    def _hidden(path: bytes, hidden: dict[bytes, Inode]) -> Inode | None:
        parts = path.split(b"/")
        for length in range(len(parts), 0, -1):
            inode = hidden.get(b"/".join(parts[:length]))
            for name in parts[length:]:
                inode = inode.children.get(name) if isinstance(inode, Directory) else None
            if inode is not None:
                return inode
        return None

    def _directory(self, path: bytes, what: str) -> Directory | None:
        """Return the directory at a path, through symlinks, never above the root; None if there is none."""
        return self._follow(path, what, make=False)

    def _make_directory(self, path: bytes, what: str) -> Directory:
        """Return the same, but what is missing, or not a directory, is made, as unpacking would."""
        return self._follow(path, what, make=True) or self._tree

    def _follow(self, path: bytes, what: str, make: bool) -> Directory | None:
        trail = [self._tree]
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] or [self._tree]
                continue
            children = trail[-1].children
            inode = children.get(name)
            if not isinstance(inode, Directory):
                if inode is not None and self._kind(inode) == SYMLINK:
                    target = self._entry(inode).target
                    links += 1
                    if links > _MAX_LINKS:
                        raise InvalidLayer(f"{what} holds an entry in {shown_path(path)}, which is an endless symlink")
                    if target.startswith(b"/"):
                        trail = [self._tree]
                    todo.extend(target.split(b"/")[::-1])
                    continue
                if not make:
                    return None
                inode = children[name] = Directory(_NO_ENTRY)
                self._implied += 1
                if self._implied > _MAX_IMPLIED:
                    raise InvalidLayer(f"{what} implies more than {_MAX_IMPLIED} directories that it does not hold")
            trail.append(inode)
            if len(trail) > _MAX_DEPTH:
                raise InvalidLayer(f"{what} holds an entry deeper than {_MAX_DEPTH} directories, {shown_path(path)}")
        return trail[-1]


def _other_names(entry: Entry, names: Sequence[bytes]) -> Iterator[tuple[Entry, None]]:
    """Yield hard links to the first name of an entry."""
    for path in names[1:]:
        yield entry._replace(path=path, kind=HARD_LINK, target=names[0], size=0, xattrs=()), None


def is_whiteout(path: bytes) -> bool:
    """Tell whether an entry of this path says what a layer hides."""
    name = path.rpartition(b"/")[2]
    return name.startswith(_WHITEOUT) and (name == _OPAQUE or not name.startswith(_AUFS))


def hidden_by(whiteout: bytes) -> bytes:
    """Return the path that a whiteout hides; of an opaque one, the directory whose older content it hides."""
    parent, name = _split(whiteout)
    if name == _OPAQUE:
        return parent
    return joined(parent, name[len(_WHITEOUT) :])


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _slash, name = path.rpartition(b"/")
    return parent, name
