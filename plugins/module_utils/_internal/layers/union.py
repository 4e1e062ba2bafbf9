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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import IO

from ..errors import InvalidLayer
from ..text import in_words
from . import tar
from .tar import DIRECTORY, FILE, HARD_LINK, SYMLINK, Data, Entry, shown_path

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # what AUFS keeps for itself
_MAX_LINKS = 40  # symlinks followed in one path, as Linux does
_MAX_DEPTH = 2048  # directories on one path, which has at most 4095 bytes
_MAX_IMPLIED = 500_000  # directories that no header describes; each takes memory
# Of all layers of an image together. An entry takes 0.7 to 1.3 kB of memory beside its text, so these are 5 GB at most.
# The largest images that are known, with several conda environments, have somewhat more than a million.
_MAX_ENTRIES = 3_000_000
_MAX_TEXT = 1024 * 1024 * 1024  # bytes of paths, targets and extended attributes

_ROOT = Entry(b"", DIRECTORY, 0o755, 0, 0, 0)
# A directory that entries imply but no header describes: the specification is silent, this is what the engines make.
_IMPLICIT = Entry(b"", DIRECTORY, 0o775, 0, 0, 0)


class Misjudged(Exception):
    """A file was written before all layers were known, and does not survive."""


class Node:
    """An inode: its entry, where its data lies (layer and ordinal of the entry in it), and, once known, its names."""

    __slots__ = ("entry", "layer", "ordinal", "paths")

    def __init__(self, entry: Entry, layer: int, ordinal: int) -> None:
        self.entry = entry
        self.layer = layer
        self.ordinal = ordinal
        self.paths: tuple[bytes, ...] = ()


class Directory(Node):
    """A directory with its children by name."""

    __slots__ = ("children",)

    def __init__(self, entry: Entry, layer: int) -> None:
        super().__init__(entry, layer, -1)
        self.children: dict[bytes, Node] = {}


@dataclass(frozen=True)
class Layer:
    """One layer: what names it in errors, its entries in archive order, and how to open its tar archive again."""

    what: str
    entries: Sequence[Entry]
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


class Union:
    """The tree that a stack of layers makes."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """
        :param layers: from the oldest to the newest.
        :raises InvalidLayer: if an entry cannot be applied: a hard link to nothing, an endless symlink.
        """
        self._layers: list[Layer] = []
        self._implied = 0
        self._resolved: dict[bytes, Directory] = {}  # parents of entries; names of one directory follow each other
        self.root = Directory(_ROOT, -1)
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Put one more layer on top.

        :raises InvalidLayer: if an entry cannot be applied.
        """
        self._layers.append(layer)
        self._apply(len(self._layers) - 1, layer)

    def find(self, path: bytes) -> Node | None:
        """Find the node at a path, through symlinked directories, a last symlink not followed, or None."""
        if not path:
            return self.root
        parent, name = _split(path)
        directory = self._directory(parent, "this image")
        return directory.children.get(name) if directory else None

    def resolve(self, path: bytes) -> Node | None:
        """Find the node at a path, a last symlink followed as well; None for none, or an endless symlink."""
        for _count in range(_MAX_LINKS):
            node = self.find(path)
            if node is None or node.entry.kind != SYMLINK:
                return node
            target = node.entry.target
            path = target if target.startswith(b"/") else _split(path)[0] + b"/" + target
            path = path.rstrip(b"/")
        return None

    def read(self, nodes: Iterable[Node]) -> Iterator[tuple[Node, bytes]]:
        """Read some files again, each whole: each with its content, in no particular order.

        :raises InvalidLayer: if a layer is not any more what it was when it was indexed.
        """
        wanted: dict[int, dict[int, Node]] = {}
        for node in nodes:
            wanted.setdefault(node.layer, {})[node.ordinal] = node
        for number, files in wanted.items():
            for node, data in self._data(self._layers[number], files):
                yield node, b"".join(data or ())

    @property
    def size(self) -> int:
        """Bytes of all files, each inode once."""
        return sum(node.entry.size for _path, node, first in self._walk() if first)

    def entries(self, written: Mapping[int, AbstractSet[int]] | None = None) -> Iterator[tuple[Entry, Data | None]]:
        """Yield the surviving entries, each path once, each file with its data.

        First all directories (parents before children), then what has no data, then the files, newest layer first, each
        followed by its hard links. Data must be read before the next entry is asked for.

        :param written: the ordinals, by layer, of files that were written already, each under the path of its entry;
            of these, only other names follow.
        :raises Misjudged: before the first entry, if what was written does not survive under that name.
        :raises InvalidLayer: if a layer is not any more what it was when it was indexed.
        """
        others: list[Node] = []
        files: dict[int, dict[int, Node]] = {}
        for path, node, first in self._walk():
            if isinstance(node, Directory):
                continue
            node.paths = (path,) if first else (*node.paths, path)
            if first and node.entry.kind == FILE:
                files.setdefault(node.layer, {})[node.ordinal] = node
            elif first:
                others.append(node)
        done = [node for number, ordinals in (written or {}).items() for node in _take(files, number, ordinals)]
        for path, node, _first in self._walk():
            if isinstance(node, Directory):
                yield node.entry._replace(path=path), None
        for node in others:
            yield from self._named(node, None)
        for node in done:
            yield from self._other_names(node)
        for number in sorted(files, reverse=True):
            if files[number]:
                yield from self._files(self._layers[number], files[number])

    def _files(self, layer: Layer, wanted: dict[int, Node]) -> Iterator[tuple[Entry, Data | None]]:
        for node, data in self._data(layer, wanted):
            yield from self._named(node, data)

    @staticmethod
    def _data(layer: Layer, wanted: dict[int, Node]) -> Iterator[tuple[Node, Data | None]]:
        """Yield files of a layer by ordinal, each with its data, which must be taken before the next is asked for."""
        with layer.open() as archive:
            left = len(wanted)
            for ordinal, (entry, data) in enumerate(tar.read(archive, layer.what)):
                node = wanted.get(ordinal)
                if node is None:
                    continue
                if entry.size != node.entry.size or entry.kind != FILE:
                    raise InvalidLayer(f"{layer.what} changed while it was read")
                yield node, data
                left -= 1
                if not left:
                    return
        raise InvalidLayer(f"{layer.what} changed while it was read: {left} files are missing")

    def _named(self, node: Node, data: Data | None) -> Iterator[tuple[Entry, Data | None]]:
        """Yield an inode under its first name, then hard links to that."""
        yield node.entry._replace(path=node.paths[0]), data
        yield from self._other_names(node)

    @staticmethod
    def _other_names(node: Node) -> Iterator[tuple[Entry, None]]:
        first, *others = node.paths
        for path in others:
            yield node.entry._replace(path=path, kind=HARD_LINK, target=first, size=0, xattrs=()), None

    def _walk(self) -> Iterator[tuple[bytes, Node, bool]]:
        """Yield each path with its node, parents first; the flag tells whether the node is met for the first time."""
        met: set[int] = set()
        stack: list[tuple[bytes, Node]] = [(b"", self.root)]
        while stack:
            path, node = stack.pop()
            first = id(node) not in met
            met.add(id(node))
            yield path, node, first
            if isinstance(node, Directory):
                prefix = path + b"/" if path else b""
                stack.extend((prefix + name, child) for name, child in sorted(node.children.items(), reverse=True))

    def _apply(self, number: int, layer: Layer) -> None:
        """Whiteouts first: they hide what older layers hold, never what their own layer brings."""
        hidden: dict[bytes, Node] = {}
        self._resolved.clear()
        whiteouts = [entry.path for entry in layer.entries if is_whiteout(entry.path)]
        own = {entry.path for entry in layer.entries if entry.kind == DIRECTORY} if whiteouts else set()
        for path in whiteouts:
            parent, name = _split(path)
            directory = self._directory(parent, layer.what)
            if not directory or self._is_replaced(parent, own):
                continue
            victims = list(directory.children) if name == _OPAQUE else [name[len(_WHITEOUT) :]]
            for victim in victims:
                node = directory.children.pop(victim, None)
                if node:
                    hidden[parent + b"/" + victim if parent else victim] = node
        for ordinal, entry in enumerate(layer.entries):
            if entry.path.startswith(_AUFS) or b"/" + _AUFS in entry.path:  # no file, but hard links may point here
                if entry.kind == HARD_LINK:
                    hidden[entry.path] = self._link_target(entry, layer.what, hidden)
                else:
                    is_directory = entry.kind == DIRECTORY
                    hidden[entry.path] = Directory(entry, number) if is_directory else Node(entry, number, ordinal)
            elif not _split(entry.path)[1].startswith(_WHITEOUT):
                self._add(number, ordinal, entry, layer.what, hidden)

    def _is_replaced(self, path: bytes, own: AbstractSet[bytes]) -> bool:
        """Tell whether a layer makes a directory where a symlink leads on this path: nothing older is in that one."""
        while path:
            node = self.find(path) if path in own else None
            if node and node.entry.kind == SYMLINK:
                return True
            path = _split(path)[0]
        return False

    def _add(self, number: int, ordinal: int, entry: Entry, what: str, hidden: dict[bytes, Node]) -> None:
        if not entry.path:
            if entry.kind == DIRECTORY:
                self.root.entry = entry
            return
        parent, name = _split(entry.path)
        directory = self._resolved.get(parent)
        if directory is None:
            directory = self._resolved[parent] = self._make_directory(parent, what, number)
        children = directory.children
        present = children.get(name)
        if (
            present
            and present.entry.kind in (DIRECTORY, SYMLINK)
            and not (entry.kind == present.entry.kind == DIRECTORY)
        ):
            self._resolved.clear()  # paths may have gone through it
        if entry.kind == HARD_LINK:
            children[name] = self._link_target(entry, what, hidden)
        elif entry.kind != DIRECTORY:
            children[name] = Node(entry, number, ordinal)
        elif isinstance(present, Directory):
            present.entry = entry
        else:
            children[name] = Directory(entry, number)

    def _link_target(self, entry: Entry, what: str, hidden: dict[bytes, Node]) -> Node:
        # the layer may have linked the file before it hid the other name
        node = self.find(entry.target) or self._hidden(entry.target, hidden)
        if node is None or isinstance(node, Directory):
            problem = "a directory" if node else "a file that does not exist"
            raise InvalidLayer(
                f"{what} holds {shown_path(entry.path)}, a hard link to {shown_path(entry.target)}, {problem}"
            )
        return node

    @staticmethod
    def _hidden(path: bytes, hidden: dict[bytes, Node]) -> Node | None:
        parts = path.split(b"/")
        for length in range(len(parts), 0, -1):
            node = hidden.get(b"/".join(parts[:length]))
            for name in parts[length:]:
                node = node.children.get(name) if isinstance(node, Directory) else None
            if node:
                return node
        return None

    def _directory(self, path: bytes, what: str) -> Directory | None:
        """Return the directory at a path, through symlinks, never above the root; None if there is none."""
        return self._follow(path, what, None)

    def _make_directory(self, path: bytes, what: str, number: int) -> Directory:
        """Return the same, but what is missing, or not a directory, is made for a layer, as unpacking it would."""
        return self._follow(path, what, number) or self.root

    def _follow(self, path: bytes, what: str, create: int | None) -> Directory | None:
        trail = [self.root]
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] or [self.root]
                continue
            children = trail[-1].children
            node = children.get(name)
            if node and node.entry.kind == SYMLINK:
                links += 1
                if links > _MAX_LINKS:
                    raise InvalidLayer(f"{what} holds an entry in {shown_path(path)}, which is an endless symlink")
                if node.entry.target.startswith(b"/"):
                    trail = [self.root]
                todo.extend(node.entry.target.split(b"/")[::-1])
                continue
            if not isinstance(node, Directory):
                if create is None:
                    return None
                node = children[name] = Directory(_IMPLICIT, create)
                self._implied += 1
                if self._implied > _MAX_IMPLIED:
                    raise InvalidLayer(f"{what} implies more than {_MAX_IMPLIED} directories that it does not hold")
            trail.append(node)
            if len(trail) > _MAX_DEPTH:
                raise InvalidLayer(f"{what} holds an entry deeper than {_MAX_DEPTH} directories, {shown_path(path)}")
        return trail[-1]


def is_whiteout(path: bytes) -> bool:
    """Tell whether an entry of this path says what a layer hides."""
    name = path.rpartition(b"/")[2]
    return name.startswith(_WHITEOUT) and (name == _OPAQUE or not name.startswith(_AUFS))


def hidden_by(whiteout: bytes) -> bytes:
    """Return the path that a whiteout hides; of an opaque one, the directory whose older content it hides."""
    parent, name = _split(whiteout)
    if name == _OPAQUE:
        return parent
    name = name[len(_WHITEOUT) :]
    return parent + b"/" + name if parent else name


def _take(files: dict[int, dict[int, Node]], number: int, ordinals: AbstractSet[int]) -> list[Node]:
    """Take the nodes of a layer's files that were written under the paths of their entries out of those to be written.

    :raises Misjudged: if one does not survive under this name.
    """
    nodes = []
    for ordinal in sorted(ordinals):
        node = files.get(number, {}).pop(ordinal, None)
        if node is None or node.entry.path not in node.paths:
            raise Misjudged(number, ordinal)
        first = node.entry.path
        node.paths = (first, *(path for path in node.paths if path != first))
        nodes.append(node)
    return nodes


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _slash, name = path.rpartition(b"/")
    return parent, name
