# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading compressed layers: gzip, zstd or plain, told apart by their first bytes, not by what a manifest calls them.

The fastest decoder that is installed is used, none is required: ``compression.zstd`` (Python 3.14), ``zstandard``, or
the ``zstd`` program; those for gzip are in ``inflate.py``. The compressions of SIF files are another matter: these are
in ``sif/toolchain.py`` and ``sif/mksquashfs.py``.
"""

from __future__ import annotations

import os
import shutil
from typing import IO, Any, NamedTuple, cast

from ..errors import InvalidLayer
from .decompressed_stream import CHUNK, Decompressed, DecompressedStream, ProgramStream
from .inflate import MAGIC as _GZIP
from .inflate import inflated

_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
_ZSTD_WINDOW_LOG = 31  # the largest window that the format's own program makes, so all that exists can be read


def decompressed(
    source: IO[bytes], what: object, processors: int | None = None, work: list[Decompressed] | None = None
) -> IO[bytes]:
    """Return a readable stream of the content of a compressed file.

    :param source: at its beginning, seekable; it is closed with the returned stream.
    :param what: names the layer in errors.
    :param processors: may be used; None for all.
    :param work: gets which decoder gave how much, when the stream is closed; nothing for what is not compressed.
    :raises InvalidLayer: now or while reading, if the content is damaged or no decoder for it is installed.
    """
    magic = source.read(4)
    source.seek(0)
    if magic[:2] == _GZIP:
        return cast("IO[bytes]", inflated(source, what, processors, [] if work is None else work))
    if magic == _ZSTD or magic in _ZSTD_SKIPPABLE:
        return cast("IO[bytes]", _zstd(source, what, [] if work is None else work))
    return source


def _zstd(source: IO[bytes], what: object, work: list[Decompressed]) -> DecompressedStream:
    try:
        from compression import zstd
    except ImportError:
        pass
    else:
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        python = _Library("compression.zstd", zstd.ZstdFile(source, options=options), zstd.ZstdError)
        return _LibraryZstdStream(source, python, what, work)
    try:
        import zstandard
    except ImportError:
        pass
    else:
        decoder = zstandard.ZstdDecompressor(max_window_size=2**_ZSTD_WINDOW_LOG)
        stream = decoder.stream_reader(source, read_size=CHUNK, read_across_frames=True)
        return _LibraryZstdStream(source, _Library("zstandard", stream, zstandard.ZstdError), what, work)
    program = shutil.which("zstd")
    if not program:
        source.close()
        raise InvalidLayer(
            f"{what} is compressed with zstd, and nothing here can read that; "
            "install the package zstd (or python3-zstandard) on this host"
        )
    return _ProgramZstdStream(source, program, what, work)


class _Library(NamedTuple):
    """A library that reads zstd: its name, its reader, and what that raises."""

    name: str
    stream: Any
    error: type[Exception]


class _LibraryZstdStream(DecompressedStream):
    def __init__(self, source: IO[bytes], library: _Library, what: object, work: list[Decompressed]) -> None:
        super().__init__(source, library.name, work)
        self._stream, self._error, self._what = library.stream, library.error, what
        self._whole = False

    def _more(self) -> bytes:
        try:
            data = bytes(self._stream.read(CHUNK))
        except (self._error, EOFError) as error:
            raise InvalidLayer(f"{self._what} is damaged: {error}") from error
        if not data and not self._whole:  # zstandard takes any end of its input for the right one
            self._whole = _ends_with_a_frame(self._source)
            if not self._whole:
                raise InvalidLayer(f"{self._what} is cut off: the zstd stream has no end")
        return data


def _ends_with_a_frame(source: IO[bytes]) -> bool:
    """Tell whether a file of zstd frames that were decoded ends where the last one does (RFC 8878, section 3.1)."""
    end = source.seek(0, os.SEEK_END)
    position = 0
    while position < end:
        source.seek(position)
        head = source.read(8)
        if head[:4] in _ZSTD_SKIPPABLE:
            position += 8 + int.from_bytes(head[4:], "little")
            continue
        if len(head) < 5:
            return False
        descriptor = head[4]
        single_segment = descriptor >> 5 & 1
        content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
        position += 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size
        last = False
        while not last:
            source.seek(position)
            block = int.from_bytes(source.read(3), "little")
            last, run_length = bool(block & 1), block >> 1 & 3 == 1
            position += 3 + (1 if run_length else block >> 3)
            if position > end:
                return False
        position += 4 * (descriptor >> 2 & 1)  # checksum
    source.seek(end)
    return position == end


class _ProgramZstdStream(ProgramStream):
    def __init__(self, source: IO[bytes], program: str, what: object, work: list[Decompressed]) -> None:
        super().__init__(source, "zstd", [program, "-dcq", f"--long={_ZSTD_WINDOW_LOG}"], work)
        self._what = what

    def _more(self) -> bytes:
        data = super()._more()
        if self.failed is not None:
            raise InvalidLayer(f"{self._what} is damaged: {self.failed}")
        return data
