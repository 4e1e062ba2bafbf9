# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of 12 GB, as of machine learning: model weights in one file, data, and very many small files.

It is made at the speed of a disk: what cannot be compressed is stored in the deflate stream, and comes from a pool.
"""

from __future__ import annotations

import random
import struct
import tarfile
import zlib
from collections.abc import Iterator

from tests.lab import large
from tests.lab.large import MEBIBYTE

WEIGHTS = 8750  # MiB of the one large file: more than the 8 GiB that a tar header can say in octal digits
DATA, DATA_EACH = 63, 64  # files, and MiB of each
FILES, FILES_EACH = 300_000, 300  # in all, and in each directory

_POOL = 32 * MEBIBYTE
_STORED = 0xFFFF  # bytes of one block, at most
_EMPTY = MEBIBYTE // 8  # of each MiB can be compressed
_LONGEST = 4000  # bytes of a small file


class Incompressible(bytes):
    """A piece of a tar that is stored as it is."""


class Mixed(large.Stream):
    """A gzip layer with one member, of which the incompressible pieces are stored (RFC 1951, section 3.2.4)."""

    def compressed(self) -> Iterator[bytes]:
        """Yield the blob in pieces."""
        yield b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"
        deflate = zlib.compressobj(self._level, zlib.DEFLATED, -zlib.MAX_WBITS)
        checksum = size = 0
        for piece in self._tar:
            self._tar_digest.update(piece)
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
            if isinstance(piece, Incompressible):
                yield deflate.flush(zlib.Z_FULL_FLUSH)  # to a whole byte; what follows refers to nothing before it
                yield from _stored(piece)
            else:
                yield deflate.compress(piece)
        yield deflate.flush()
        yield struct.pack("<II", checksum, size & 0xFFFFFFFF)


def layers(part: int = 1) -> list[large.Stream]:
    """Return its layers, the oldest first.

    :param part: 10 makes a tenth of it.
    """
    return [
        Mixed(_small_files(FILES // part), "COPY packages /opt/packages"),
        Mixed(_files("data", DATA // part or 1, DATA_EACH), "COPY data /opt/data"),
        Mixed(_files("weights", 1, WEIGHTS // part), "COPY weights /opt/weights"),
    ]


def _stored(piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), _STORED):
        block = piece[start : start + _STORED]
        yield struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF) + block


def _files(name: str, count: int, mebibytes: int) -> Iterator[bytes]:
    """Yield the tar of files of which seven eighths cannot be compressed."""
    pool = random.Random(name).randbytes(_POOL)
    yield from large.member(large.new(f"opt/{name}", tarfile.DIRTYPE, 0o755))
    for number in range(count):
        head = large.new(f"opt/{name}/{number:03}.bin", tarfile.REGTYPE, 0o644, mebibytes * MEBIBYTE)
        yield from large.member(head, _content(pool, number, mebibytes))
    yield large.END


def _content(pool: bytes, number: int, mebibytes: int) -> Iterator[bytes]:
    """Yield pieces of the pool, other ones for each file: the packer would store equal files once."""
    size = MEBIBYTE - _EMPTY
    for mebibyte in range(mebibytes):
        start = (number * 7919 + mebibyte * 104_729) % (len(pool) - size)
        yield Incompressible(pool[start : start + size])
        yield bytes(_EMPTY)


def _small_files(count: int) -> Iterator[bytes]:
    source = random.Random("packages")
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _number in range(3000)]
    text = " ".join(source.choices(words, k=200_000)).encode()
    for number in range(count):
        directory, place = divmod(number, FILES_EACH)
        name = f"opt/packages/{directory:04}"
        if not place:
            yield from large.member(large.new(name, tarfile.DIRTYPE, 0o755))
        size = source.randint(100, _LONGEST)
        start = source.randrange(len(text) - size)
        head = large.new(f"{name}/{place:03}.py", tarfile.REGTYPE, 0o644, size)
        yield from large.member(head, [text[start : start + size]])
    yield large.END
