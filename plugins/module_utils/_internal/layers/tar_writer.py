# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing tar archives, as packers read them (GNU tar manual, "Basic Tar Format")."""

from __future__ import annotations

import functools
import struct
from typing import IO

from .tar import (
    BLOCK_SIZE,
    FILE,
    GNU_MAGIC,
    KINDS,
    LONG_LINK,
    LONG_NAME,
    PAX,
    SPACES,
    XATTR,
    Data,
    Entry,
    checksum,
    encoded,
)

_ZEROS = bytes(BLOCK_SIZE)
_TAIL = struct.Struct("c100s8s64x8s8s167x")
_TYPES = {kind: flag for flag, kind in KINDS.items() if flag.isdigit() and flag != b"7"}
_MAX_TIME = 2**32 - 1  # seconds; squashfs knows no other


class TarWriter:
    """A writer of one archive in the GNU format, which holds names of any bytes and length, and any owner.

    Extended attributes go into a PAX header in front of their entry, as Linux programs write them.
    """

    _GATHERED = 256 * 1024  # bytes that are worth a system call

    def __init__(self, target: IO[bytes]) -> None:
        """
        :param target: unbuffered.
        """
        self._target = target
        self._pieces: list[bytes | memoryview] = []
        self._gathered = 0

    def add(self, entry: Entry, data: Data | None = None) -> None:
        """Write one entry, a file with exactly as much data as its size says.

        :raises OSError: as the target raises it.
        """
        if len(entry.target) > 100:
            self._extension(LONG_LINK, entry.target + b"\0")
        if len(entry.path) > 100:
            self._extension(LONG_NAME, entry.path + b"\0")
        if entry.xattrs:
            self._extension(PAX[0], b"".join(_record(XATTR + encoded(name), value) for name, value in entry.xattrs))
        self._put(self._header(entry))
        if data is not None:
            for piece in data:
                self._put(piece)
            if entry.size % BLOCK_SIZE:
                self._put(_ZEROS[entry.size % BLOCK_SIZE :])

    def finish(self) -> None:
        """Write the end of the archive.

        :raises OSError: as the target raises it.
        """
        self._put(_ZEROS * 2)
        self._flush()

    def _put(self, piece: bytes | memoryview) -> None:
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= self._GATHERED:
            self._flush()

    def _flush(self) -> None:
        rest = memoryview(b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0] if self._pieces else b"")
        self._pieces.clear()
        self._gathered = 0
        while rest:
            rest = rest[self._target.write(rest) :]

    def _extension(self, flag: bytes, content: bytes) -> None:
        head = Entry(b"extension", FILE, 0, 0, 0, 0, len(content))
        self._put(self._header(head, flag))
        self._put(content + bytes(-len(content) % BLOCK_SIZE))

    @staticmethod
    def _header(entry: Entry, flag: bytes | None = None) -> bytes:
        path, kind, mode, uid, gid, mtime, size, target, device, _xattrs = entry
        time = _usual_number(min(max(mtime, 0), _MAX_TIME), 12)
        head = b"%b%b%b%b" % (path[:100].ljust(100, b"\0"), _access(mode, uid, gid), _number(size, 12), time)
        tail, total = _tail(flag or _TYPES[kind], target, device)
        return b"%b%06o\0 %b" % (head, checksum(head) + total, tail)  # the sum of a header made here is below the prime


def _number(value: int, length: int) -> bytes:
    """Write octal digits, or where these do not suffice the GNU format's binary number."""
    if value < 8 ** (length - 1):
        return b"%0*o\0" % (length - 1, value)
    return b"\x80" + value.to_bytes(length - 1, "big")


_usual_number = functools.lru_cache(maxsize=1024)(_number)


@functools.lru_cache(maxsize=1024)
def _access(mode: int, uid: int, gid: int) -> bytes:
    return _number(mode, 8) + _number(uid, 8) + _number(gid, 8)


@functools.lru_cache(maxsize=1024)
def _tail(flag: bytes, target: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """Return what follows the checksum of a header, and the sum of that and of the spaces in the checksum's place."""
    tail = _TAIL.pack(flag, target, GNU_MAGIC, _number(device[0], 8), _number(device[1], 8))
    return tail, checksum(tail) + SPACES


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record of a PAX header ("pax Extended Header"): its length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest
