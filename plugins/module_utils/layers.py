# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The union of a stack of layers as one stream of entries, whoever writes them and wherever.

Source: OCI image specification 1.1, layer.md ("Applying Changesets", "Whiteouts", "Opaque Whiteout"). Layers are read
twice: once to index their tar headers, once for the data of what survives. In between, the index of each layer is
applied, the oldest first, to a tree of inodes in memory, which is what an unpacking to disk would do: paths go through
directory symlinks, and a hard link shares its inode until each of its names is replaced.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple, cast

from .errors import InvalidLayer

FILE, DIRECTORY, SYMLINK, HARD_LINK, CHARACTER, BLOCK, FIFO = (
    "file",
    "directory",
    "symlink",
    "link",
    "char",
    "block",
    "fifo",
)

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_MAX_LINKS = 40  # symlinks followed in one path, as Linux does
_XATTR = "SCHILY.xattr."
_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_ReadError, _HeaderError = tarfile.ReadError, tarfile.HeaderError
_EndOfArchive: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_EndOfFile: type[Exception] = tarfile.EmptyHeaderError  # type: ignore[attr-defined]
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_EXTENSION = 1024 * 1024  # bytes of one PAX or GNU extension header, as Go's archive/tar
_MAX_PATH, _MAX_NAME = 4095, 255  # bytes, as Linux
_MAX_ID = 2**32 - 2
_MAX_DEVICE = (2**12 - 1, 2**20 - 1)

_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.CONTTYPE: FILE,
    tarfile.GNUTYPE_SPARSE: FILE,
    tarfile.DIRTYPE: DIRECTORY,
    tarfile.SYMTYPE: SYMLINK,
    tarfile.LNKTYPE: HARD_LINK,
    tarfile.CHRTYPE: CHARACTER,
    tarfile.BLKTYPE: BLOCK,
    tarfile.FIFOTYPE: FIFO,
}


class Entry(NamedTuple):
    """One name in a file system tree.

    ``path`` has neither a leading nor a trailing slash and is empty for the root. ``mode`` are the twelve permission
    bits, ``size`` is in bytes, ``mtime`` in seconds since the epoch. ``target`` is a symlink's text, or the path that a
    hard link shares its inode with. ``device`` is (major, minor).
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()


_ROOT = Entry(b"", DIRECTORY, 0o755, 0, 0, 0)
# A directory that entries imply but no header describes: the specification is silent, this is what the engines make.
_IMPLICIT = Entry(b"", DIRECTORY, 0o775, 0, 0, 0)


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


def read_entries(archive: IO[bytes], what: str) -> Iterator[tuple[Entry, IO[bytes] | None]]:
    """Read a tar archive from a stream: ustar, PAX and GNU formats.

    Yields each entry with its data, which must be read before the next entry is asked for.

    :raises InvalidLayer: if it is no tar archive, or ends too early.
    """
    try:
        with tarfile.open(
            fileobj=archive, mode="r|", bufsize=_CHUNK, encoding="utf-8", errors="surrogateescape", tarinfo=_Header
        ) as stream:
            for member in stream:
                stream.members = []  # type: ignore[attr-defined]  # else a long archive fills the memory
                kind = _KINDS.get(member.type)
                if kind is None:
                    raise InvalidLayer(f"{what} holds {member.name!r} of an unknown tar type {member.type!r}")
                data = stream.extractfile(member) if kind == FILE else None
                yield _entry(member, kind), cast("IO[bytes]", _Data(data, what)) if data else None
    except (tarfile.TarError, EOFError, ValueError, OverflowError, IndexError) as error:
        raise InvalidLayer(f"{what} is no sound tar archive: {error}") from error


class _Header(tarfile.TarInfo):
    """A header as strict as Go's ``archive/tar``, which the engines use; ``tarfile`` takes damage for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Read a header block; refuse an extension header that would fill the memory."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSIONS and header.size > _MAX_EXTENSION:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:  # its name is the base class's
        """Read the next header; only two blocks of zeros, or the end of the file, are the end of the archive."""
        try:
            return super().fromtarfile(tarfile)
        except _EndOfArchive:
            if any(tarfile.fileobj.read(_BLOCK)):
                raise _ReadError("a block of zeros in the middle") from None
            raise
        except _EndOfFile:
            # an archive may end without the blocks of zeros that close it, or hold nothing at all
            raise _EndOfArchive("end of file") from None
        except _HeaderError as error:
            raise _ReadError(f"invalid header: {error}") from error


class _Data:
    """The data of one file; reading it raises errors of this library."""

    def __init__(self, source: IO[bytes], what: str) -> None:
        self._source, self._what = source, what

    def read(self, size: int = -1) -> bytes:
        try:
            return self._source.read(size)
        except (tarfile.TarError, EOFError) as error:
            raise InvalidLayer(f"{self._what} is no sound tar archive: {error}") from error


def index(archive: IO[bytes], what: str) -> list[Entry]:
    """The entries of a tar archive without their data.

    :raises InvalidLayer: if it is no tar archive, or ends too early.
    """
    return [entry for entry, _data in read_entries(archive, what)]


class Union:
    """The tree that a stack of layers makes."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """
        :param layers: from the oldest to the newest.
        :raises InvalidLayer: if an entry cannot be applied: a hard link to nothing, an endless symlink.
        """
        self._layers: list[Layer] = []
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
        """The node at a path, through symlinked directories, a last symlink not followed; None if there is none."""
        if not path:
            return self.root
        parent, name = _split(path)
        directory = self._directory(parent, "this image")
        return directory.children.get(name) if directory else None

    @property
    def size(self) -> int:
        """Bytes of all files, each inode once."""
        return sum(node.entry.size for _path, node, first in self._walk() if first)

    def entries(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        """The surviving entries, each path once, each with the data of a file.

        First all directories (parents before children), then what has no data, then the files, newest layer first, each
        followed by its hard links. Data must be read before the next entry is asked for.

        :raises InvalidLayer: if a layer is not any more what it was when it was indexed.
        """
        wanted: dict[int, dict[int, Node]] = {}
        others: list[Node] = []
        for path, node, first in self._walk():
            if isinstance(node, Directory):
                yield node.entry._replace(path=path), None
                continue
            node.paths = (path,) if first else (*node.paths, path)
            if first and node.entry.kind == FILE:
                wanted.setdefault(node.layer, {})[node.ordinal] = node
            elif first:
                others.append(node)
        for node in others:
            yield from self._named(node, None)
        for number in sorted(wanted, reverse=True):
            yield from self._files(self._layers[number], wanted[number])

    def _files(self, layer: Layer, wanted: dict[int, Node]) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        with layer.open() as archive:
            left = len(wanted)
            for ordinal, (entry, data) in enumerate(read_entries(archive, layer.what)):
                node = wanted.get(ordinal)
                if node is None:
                    continue
                if entry.size != node.entry.size or entry.kind != FILE:
                    raise InvalidLayer(f"{layer.what} changed while it was read")
                yield from self._named(node, data)
                left -= 1
                if not left:
                    return
        raise InvalidLayer(f"{layer.what} changed while it was read: {left} files are missing")

    @staticmethod
    def _named(node: Node, data: IO[bytes] | None) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        """An inode under its first name, then hard links to that."""
        first, *others = node.paths
        yield node.entry._replace(path=first), data
        for path in others:
            yield node.entry._replace(path=path, kind=HARD_LINK, target=first, size=0, xattrs=()), None

    def _walk(self) -> Iterator[tuple[bytes, Node, bool]]:
        """Each path with its node, parents first; the flag tells whether the node is met for the first time."""
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
        for entry in layer.entries:
            parent, name = _split(entry.path)
            if not name.startswith(_WHITEOUT) or (name.startswith(_AUFS) and name != _OPAQUE):
                continue
            directory = self._directory(parent, layer.what)
            if not directory:
                continue
            victims = list(directory.children) if name == _OPAQUE else [name[len(_WHITEOUT) :]]
            for victim in victims:
                node = directory.children.pop(victim, None)
                if node:
                    hidden[parent + b"/" + victim if parent else victim] = node
        for ordinal, entry in enumerate(layer.entries):
            if entry.path.startswith(_AUFS) or b"/" + _AUFS in entry.path:
                hidden[entry.path] = Node(entry, number, ordinal)  # no file, but hard links may point here
            elif not _split(entry.path)[1].startswith(_WHITEOUT):
                self._add(number, ordinal, entry, layer.what, hidden)

    def _add(self, number: int, ordinal: int, entry: Entry, what: str, hidden: dict[bytes, Node]) -> None:
        if not entry.path:
            if entry.kind == DIRECTORY:
                self.root.entry = entry
            return
        parent, name = _split(entry.path)
        children = self._make_directory(parent, what, number).children
        present = children.get(name)
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
        """The directory at a path, through symlinks, never above the root; None if there is none."""
        return self._follow(path, what, None)

    def _make_directory(self, path: bytes, what: str, number: int) -> Directory:
        """The same, but what is missing, or is no directory, is made for a layer, as unpacking it would."""
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
            trail.append(node)
        return trail[-1]


def _entry(member: tarfile.TarInfo, kind: str) -> Entry:
    target = b""
    if kind == SYMLINK:
        target = _bytes(member.linkname)
    elif kind == HARD_LINK:
        target = _normal(_bytes(member.linkname))
    entry = Entry(
        _normal(_bytes(member.name)),
        kind,
        member.mode & 0o7777,
        member.uid,
        member.gid,
        int(member.mtime),
        member.size if kind == FILE else 0,
        target,
        (member.devmajor, member.devminor) if kind in (CHARACTER, BLOCK) else (0, 0),
        tuple(
            (key[len(_XATTR) :], _bytes(value))
            for key, value in sorted(member.pax_headers.items())
            if key.startswith(_XATTR)
        ),
    )
    _refuse_impossible(entry)
    return entry


def _refuse_impossible(entry: Entry) -> None:
    """What no Linux file system holds.

    :raises ValueError: naming the entry.
    """
    for path in (entry.path, entry.target):
        if b"\0" in path:
            raise ValueError(f"a name with a NUL byte, {shown_path(path)}")
        if len(path) > _MAX_PATH or any(len(name) > _MAX_NAME for name in path.split(b"/")):
            raise ValueError(f"a name that is too long, {shown_path(path)}")
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise ValueError(f"the owner {entry.uid}:{entry.gid} of {shown_path(entry.path)}")
    if not (0 <= entry.device[0] <= _MAX_DEVICE[0] and 0 <= entry.device[1] <= _MAX_DEVICE[1]):
        raise ValueError(f"the device number {entry.device} of {shown_path(entry.path)}")
    if any("\0" in name for name, _value in entry.xattrs):
        raise ValueError(f"an attribute of {shown_path(entry.path)} with a NUL byte")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _normal(path: bytes) -> bytes:
    """A path below the root in normal form: no ``./``, no leading or trailing slash; ``..`` stops at the root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _slash, name = path.rpartition(b"/")
    return parent, name


def shown_path(path: bytes) -> str:
    """A path for a message: absolute, quoted, without control characters, and not too long."""
    text = repr("/" + path.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"
