# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tar archives read as streams of entries, as builders of images write them.

Formats read: POSIX.1-2001 ``pax`` ("ustar Interchange Format", "pax Header Block"), the GNU tar manual ("Basic Tar
Format", "Storing Sparse Files"), and what came before them. As strict as Go's ``archive/tar``, which the engines use:
damage is an error, never the end of the archive. ``tarfile`` takes ten times as long for a header.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from ..errors import InvalidLayer

FILE, DIRECTORY, SYMLINK, HARD_LINK, CHARACTER, BLOCK, FIFO = (
    "file",
    "directory",
    "symlink",
    "link",
    "char",
    "block",
    "fifo",
)

_PLAIN = (FILE, DIRECTORY)
_NO_DEVICE = (0, 0)
_NO_NAMES = (b"", b".", b"..")
BLOCK_SIZE = 512  # bytes of a block
_ZEROS = bytes(BLOCK_SIZE)
_ADLER = 65521  # the modulus of Adler-32
SPACES = 8 * 32  # the sum of the spaces that stand for a checksum while it is computed
_CHUNK = 1024 * 1024
_MAX_EXTENSION = 1024 * 1024  # bytes of one PAX or GNU extension header, as Go's archive/tar
_MAX_GLOBAL = 100  # records
_MAX_FILE = 2**44  # bytes; ext4 holds no larger file
_MAX_ATTRIBUTE = 65536  # bytes, as Linux
_MAX_SEGMENTS = 1 << 17  # of one sparse file
_MAX_DIGITS = 20  # of a decimal number
_MAX_PATH, _MAX_NAME = 4095, 255  # bytes, as Linux
_MAX_ID = 2**32 - 2
_MAX_DEVICE = (2**12 - 1, 2**20 - 1)
_NAMED = 3  # paths in one message
XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_KEYS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))

KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,  # contiguous
    b"S": FILE,  # GNU sparse
    b"5": DIRECTORY,
    b"2": SYMLINK,
    b"1": HARD_LINK,
    b"3": CHARACTER,
    b"4": BLOCK,
    b"6": FIFO,
}
PAX, _PAX_GLOBAL, LONG_NAME, LONG_LINK = (b"x", b"X"), b"g", b"L", b"K"
_EXTENSIONS = (*PAX, _PAX_GLOBAL, LONG_NAME, LONG_LINK)
GNU_MAGIC, _USTAR_MAGIC = b"ustar  \0", b"ustar\0"

Data = Iterable[memoryview]


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


def read(archive: IO[bytes], what: str) -> Iterator[tuple[Entry, Data | None]]:
    """Read an archive from a stream.

    Yields each entry, a file with the pieces of its data, which must be taken before the next entry is asked for. What
    follows the end of the archive is left in the stream, but for what was read ahead of it.

    :param what: names the archive in errors.
    :raises InvalidLayer: if it is not a tar archive, ends too early, or holds what no Linux file system holds.
    """
    try:
        yield from _ArchiveReader(archive, what).entries()
    except ValueError as error:
        raise _unsound(what, str(error)) from error


_Corrected = tuple[bytes, bytes, int, int, int, int, tuple[tuple[str, bytes], ...]]


class _Extensions:
    """The extension headers in front of an entry."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records
        self.segments: list[bytes] = []  # of a sparse file in PAX format 0.0, which repeats its keys
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.size = 0  # bytes of all of them

    def correct(self, path: bytes, target: bytes, uid: int, gid: int, size: int, mtime: int) -> _Corrected:
        """Return what a header says with what the extension headers say instead, and the extended attributes."""
        records = self.records
        if not records:  # only a long name, as GNU tar writes it
            return self.name or path, self.link or target, uid, gid, size, mtime, ()
        xattrs = tuple(
            (key[len(XATTR) :].decode("utf-8", "surrogateescape"), value)
            for key, value in sorted(records.items())
            if key.startswith(XATTR)
        )
        return (
            self.name or records.get(b"path") or path,
            self.link or records.get(b"linkpath") or target,
            _decimal(records, b"uid", uid),
            _decimal(records, b"gid", gid),
            _decimal(records, b"size", size),
            _decimal(records, b"mtime", mtime),
            xattrs,
        )


class _ArchiveReader:
    def __init__(self, archive: IO[bytes], what: str) -> None:
        self._archive = archive
        self._what = what
        self._chunk = b""
        self._at = 0
        self._left = 0  # of the present entry's data, as stored
        self._global: dict[bytes, bytes] = {}
        self._parents: dict[bytes, bytes] = {}

    def entries(self) -> Iterator[tuple[Entry, Data | None]]:
        while True:
            block = self._block()
            extensions = None
            while block and block[156:157] in _EXTENSIONS:
                _verify(block)
                extensions = extensions or _Extensions(dict(self._global))
                self._extend(extensions, block)
                block = self._block()
                if not block or block == _ZEROS:
                    if extensions.records == self._global and extensions.name is None and extensions.link is None:
                        break
                    raise ValueError("it ends after an extension header")
            if not block:  # an archive may end without the blocks of zeros that close it, or hold nothing at all
                return
            if block == _ZEROS:
                if self._block().strip(b"\0"):
                    raise ValueError("a block of zeros in the middle")
                return
            _verify(block)
            if self._global and not extensions:
                extensions = _Extensions(self._global)
            entry, segments = self._entry(block, extensions)
            if entry.kind != FILE:
                self._left = 0
                yield entry, None
                continue
            padding = -self._left % BLOCK_SIZE
            end = self._at + self._left
            if segments is None and end <= len(self._chunk):  # nearly all files: the piece that is there has all of it
                data = memoryview(self._chunk)[self._at : end] if self._left else None
                self._at, self._left = end, 0
                yield entry, (data,) if data else ()
                self._skip(padding, may_end=True)
                continue
            yield entry, self._pieces(self._left) if segments is None else self._expanded(segments, entry.size)
            self._skip(self._left)
            self._skip(padding, may_end=True)

    def _entry(self, block: bytes, extensions: _Extensions | None) -> tuple[Entry, list[tuple[int, int]] | None]:
        """Parse a header: return its entry, and the segments of a sparse file. The data is left to be read."""
        flag = block[156:157]
        kind = KINDS.get(flag)
        path, target = _text(block, 0, 100), _text(block, 157, 257) if block[157] else b""
        if block[345] and block[257:263] == _USTAR_MAGIC:
            star = block[508:512] == b"tar\0"
            path = _text(block, 345, 476 if star else 500) + b"/" + path
        mode, uid, gid = _access(block[100:124])
        size, mtime = _parse(block[124:136]), _parse_usual(block[136:148])
        segments = None
        xattrs: tuple[tuple[str, bytes], ...] = ()
        if extensions:
            path, target, uid, gid, size, mtime, xattrs = extensions.correct(path, target, uid, gid, size, mtime)
        if kind is None:
            raise ValueError(f"{shown_path(path)} is of an unknown type, {flag!r}")
        if not 0 <= size <= _MAX_FILE:
            raise ValueError(f"{shown_path(path)} has {size} bytes")
        self._left = size
        if flag == b"S":
            segments, size = self._gnu_segments(block), _parse(block[483:495])
        elif kind == FILE and extensions and any(key.startswith(_SPARSE) for key in extensions.records):
            path, segments, size = self._pax_segments(extensions, path, size)
        elif flag == b"\0" and path.endswith(b"/"):
            kind = DIRECTORY
        if not 0 <= size <= _MAX_FILE:
            raise ValueError(f"{shown_path(path)} has {size} bytes")
        device = _NO_DEVICE
        if kind == FILE:
            target = b""
        else:
            size = 0
            if kind in (CHARACTER, BLOCK):
                device = _parse(block[329:337]), _parse(block[337:345])
            target = self._normal(target) if kind == HARD_LINK else target if kind == SYMLINK else b""
        entry = Entry(self._normal(path), kind, mode & 0o7777, uid, gid, mtime, size, target, device, xattrs)
        _refuse_impossible(entry)
        return entry, segments

    def _normal(self, path: bytes) -> bytes:
        """Normalise a path below the root; files of one directory follow each other, so its path is kept."""
        parent, _slash, name = path.rpartition(b"/")
        if name in _NO_NAMES:
            return normal(path)
        known = self._parents.get(parent)
        if known is None:
            known = self._parents[parent] = normal(parent)
        return joined(known, name)

    def _extend(self, extensions: _Extensions, block: bytes) -> None:
        size = _parse(block[124:136])
        if not 0 <= size <= _MAX_EXTENSION:
            raise ValueError(f"a header of {size} bytes")
        extensions.size += size
        if extensions.size > _MAX_EXTENSION or len(self._global) > _MAX_GLOBAL:
            raise ValueError(f"more than {_MAX_EXTENSION} bytes of headers for one entry")
        content = self._take(size)
        self._skip(-size % BLOCK_SIZE)
        flag = block[156:157]
        if flag == LONG_NAME:
            extensions.name = content.partition(b"\0")[0]
        elif flag == LONG_LINK:
            extensions.link = content.partition(b"\0")[0]
        else:
            for key, value in _records(content):
                if key not in _KEYS and not key.startswith((XATTR, _SPARSE)):
                    continue
                if flag == _PAX_GLOBAL:
                    self._global[key] = value
                elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                    extensions.segments.append(value)
                extensions.records[key] = value

    def _gnu_segments(self, block: bytes) -> list[tuple[int, int]]:
        """Read four segments in the header, more in blocks that follow it (GNU tar manual, "Old GNU Format")."""
        fields, more = block[386:482], block[482]
        segments: list[tuple[int, int]] = []
        while True:
            for place in range(0, len(fields) // 24 * 24, 24):
                if fields[place : place + 12].strip(b"\0 "):
                    segments.append((_parse(fields[place : place + 12]), _parse(fields[place + 12 : place + 24])))
            if not more or len(segments) > _MAX_SEGMENTS:
                return segments
            block = self._take(BLOCK_SIZE)
            fields, more = block[:504], block[504]

    def _pax_segments(
        self, extensions: _Extensions, path: bytes, size: int
    ) -> tuple[bytes, list[tuple[int, int]] | None, int]:
        """Read the segments of a PAX archive (GNU tar manual, "PAX Format, Versions 0.0, 0.1 and 1.0")."""
        records = extensions.records
        path = records.get(b"GNU.sparse.name") or path
        if (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            numbers, real = self._numbers_before_data(), _decimal(records, b"GNU.sparse.realsize", -1)
        else:
            listed = records.get(b"GNU.sparse.map")
            numbers = [_natural(text) for text in (listed.split(b",") if listed else extensions.segments)]
            real = _decimal(records, b"GNU.sparse.size", -1)
            if real < 0 and not numbers:
                return path, None, size
        if real < 0 or len(numbers) % 2:
            raise ValueError(f"the sparse file {shown_path(path)} has no sound map")
        return path, list(zip(numbers[::2], numbers[1::2])), real

    def _numbers_before_data(self) -> list[int]:
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            if self._left < BLOCK_SIZE:
                raise ValueError("a sparse file's map has no end")
            self._left -= BLOCK_SIZE
            *whole, rest = (rest + self._take(BLOCK_SIZE)).split(b"\n")
            lines.extend(whole)
            if lines:
                wanted = 1 + 2 * _natural(lines[0])
            if len(lines) < wanted and len(rest.rstrip(b"\0")) > _MAX_DIGITS:
                raise ValueError("a sparse file's map holds something that is not a number")
            if wanted > 2 * _MAX_SEGMENTS:
                raise ValueError("a sparse file's map is too long")
        return [_natural(line) for line in lines[1:wanted]]

    def _expanded(self, segments: Sequence[tuple[int, int]], size: int) -> Data:
        """Yield the data of a sparse file with its holes as zeros."""
        position = 0
        for offset, length in segments:
            if offset < position or length < 0 or offset + length > size or length > self._left:
                raise _unsound(self._what, "a sparse file's map does not fit its data")
            yield from _hole(offset - position)
            yield from self._pieces(length)
            position = offset + length
        yield from _hole(size - position)

    def _pieces(self, count: int) -> Data:
        while count:
            if self._at == len(self._chunk):
                self._fill()
            piece = memoryview(self._chunk)[self._at : self._at + count]
            self._at += len(piece)
            self._left -= len(piece)
            count -= len(piece)
            yield piece

    def _block(self) -> bytes:
        """Return the next block; nothing at the end of the stream."""
        end = self._at + BLOCK_SIZE
        if end <= len(self._chunk):
            block = self._chunk[self._at : end]
            self._at = end
            return block
        if self._at == len(self._chunk) and not self._next_chunk():
            return b""
        return self._take(BLOCK_SIZE)

    def _take(self, count: int) -> bytes:
        taken = self._chunk[self._at : self._at + count]
        self._at += len(taken)
        while len(taken) < count:
            self._fill()
            piece = self._chunk[: count - len(taken)]
            self._at = len(piece)
            taken += piece
        return taken

    def _skip(self, count: int, may_end: bool = False) -> None:
        """Go over what nobody wants; an archive may end in the padding of its last file."""
        while count > len(self._chunk) - self._at:
            count -= len(self._chunk) - self._at
            if not may_end:
                self._fill()
            elif not self._next_chunk():
                return
        self._at += count

    def _next_chunk(self) -> bool:
        """Go on to the next piece of the stream, if there is one."""
        self._chunk, self._at = self._archive.read(_CHUNK), 0
        return bool(self._chunk)

    def _fill(self) -> None:
        if not self._next_chunk():
            raise _unsound(self._what, "unexpected end of data")


def _unsound(what: str, why: str) -> InvalidLayer:
    return InvalidLayer(f"{what} is not a sound tar archive: {why}")


def _hole(count: int) -> Data:
    zeros = memoryview(bytes(min(count, _CHUNK)))
    while count:
        piece = zeros[:count]
        count -= len(piece)
        yield piece


def _verify(block: bytes) -> None:
    """Check a header's checksum; some old programs summed signed characters."""
    if len(block) < BLOCK_SIZE:
        raise ValueError("truncated header")
    field = block[148:156]
    claimed = _parse(field)
    if (checksum(block) - sum(field) + SPACES - claimed) % _ADLER:
        rest = block[:148] + b"        " + block[156:]
        if claimed != sum(byte - 256 * (byte > 127) for byte in rest):
            raise ValueError("invalid header: bad checksum")


def joined(directory: bytes, name: bytes) -> bytes:
    """Return the path of a name in a directory; that of the root is empty."""
    return directory + b"/" + name if directory else name


def checksum(data: bytes) -> int:
    """Sum bytes up, modulo a prime that few headers reach: the low half of Adler-32 (RFC 1950), which counts from 1."""
    return ((zlib.adler32(data) & 0xFFFF) - 1) % _ADLER


def _parse(field: bytes) -> int:
    """Return a number of a header: octal digits, or the GNU format's binary number."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = field[:-1]
    if digits.isdigit() and not field[-1]:  # as nearly all programs write it
        return int(digits, 8)
    digits = field.partition(b"\0")[0].strip(b" ") or field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        raise ValueError(f"invalid header: {digits!r} is not a number")
    return int(digits, 8)


_parse_usual = functools.lru_cache(maxsize=1024)(_parse)  # of what most entries have in common


@functools.lru_cache(maxsize=1024)
def _access(fields: bytes) -> tuple[int, int, int]:
    """Return mode, owner and group, which most entries have in common."""
    return _parse(fields[:8]), _parse(fields[8:16]), _parse(fields[16:])


def _text(block: bytes, begin: int, end: int) -> bytes:
    """Return a text field: up to its first NUL."""
    stop = block.find(b"\0", begin, end)
    return block[begin : stop if stop >= 0 else end]


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a PAX header, ``length key=value`` and a line feed each."""
    content = content.rstrip(b"\0")
    at = 0
    while at < len(content):
        length, space, _rest = content[at : at + 20].partition(b" ")
        end = at + _natural(length)
        key, equals, value = content[at + len(length) + 1 : end - 1].partition(b"=")
        if not space or not key or not equals or content[end - 1 : end] != b"\n":
            raise ValueError("invalid header: a malformed PAX record")
        yield key, value
        at = end


def _natural(text: bytes) -> int:
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ValueError(f"invalid header: {text[:30]!r} is not a number")
    return int(text)


def _decimal(records: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
    """Return a number of a PAX record, without its fraction. An empty record leaves what the header says."""
    text = records.get(key)
    if not text:
        return otherwise
    whole = text.partition(b".")[0]
    return -_natural(whole[1:]) if whole.startswith(b"-") else _natural(whole)


def _refuse_impossible(entry: Entry) -> None:
    """Refuse what no Linux file system holds.

    :raises ValueError: naming the entry.
    """
    path, kind, _mode, uid, gid, _mtime, _size, target, device, xattrs = entry
    owned = 0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID
    if owned and kind in _PLAIN and not xattrs and len(path) <= _MAX_NAME and b"\0" not in path:
        return  # nearly all
    if kind == SYMLINK and not target:
        raise ValueError(f"a symlink to nothing, {shown_path(path)}")
    for text in (path, target) if target else (path,):
        if b"\0" in text:
            raise ValueError(f"a name with a NUL byte, {shown_path(text)}")
        names = kind != SYMLINK or text is path  # the text of a symlink need not be any
        if len(text) > _MAX_NAME and (len(text) > _MAX_PATH or (names and max(map(len, text.split(b"/"))) > _MAX_NAME)):
            raise ValueError(f"a name that is too long, {shown_path(text)}")
    if not owned:
        raise ValueError(f"the owner {uid}:{gid} of {shown_path(path)}")
    if not (0 <= device[0] <= _MAX_DEVICE[0] and 0 <= device[1] <= _MAX_DEVICE[1]):
        raise ValueError(f"the device number {device} of {shown_path(path)}")
    for name, value in xattrs:
        if "\0" in name or not 0 < len(encoded(name)) <= _MAX_NAME or len(value) > _MAX_ATTRIBUTE:
            raise ValueError(f"an attribute of {shown_path(path)} that no file can have, {name[:50]!r}")


def normal(path: bytes) -> bytes:
    """Normalise a path below the root: no ``./``, no leading or trailing slash; ``..`` stops at the root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def shown_path(path: bytes) -> str:
    """Return a path for a message: absolute, quoted, without control characters, and not too long."""
    text = repr("/" + path.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"


def named(paths: Sequence[str]) -> str:
    """Return the first few of some paths, for a message."""
    return ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")


def encoded(text: str) -> bytes:
    """Return the bytes of the name of an attribute."""
    return text.encode("utf-8", "surrogateescape")
