# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading compressed layers: gzip, zstd or plain, told apart by their first bytes, not by what a manifest calls them.

The fastest decoder that is installed is used, none is required: ``compression.zstd`` (Python 3.14), ``zstandard``, or
the ``zstd`` program; for gzip ``isal``, else ``zlib``. The compressions of SIF files are another matter: these are in
``sif/toolchain.py`` and ``sif/mksquashfs.py``.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zlib
from typing import IO, Any, cast

from .. import programs
from ..errors import InvalidLayer

CHUNK = 1048576  # bytes

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
_ZSTD_WINDOW_LOG = 31  # the largest window that the format's own program makes, so all that exists can be read

try:
    from isal import isal_zlib
except ImportError:
    _gzip_module: Any = zlib
else:
    _gzip_module = isal_zlib


def decompressed(source: IO[bytes], what: object) -> IO[bytes]:
    """Return a readable stream of the content of a compressed file.

    :param source: at its beginning, seekable; it is closed with the returned stream.
    :param what: names the layer in errors.
    :raises InvalidLayer: now or while reading, if the content is damaged or no decoder for it is installed.
    """
    magic = source.read(4)
    source.seek(0)
    if magic[:2] == _GZIP:
        return cast("IO[bytes]", _GzipStream(source, what))
    if magic == _ZSTD or magic in _ZSTD_SKIPPABLE:
        return cast("IO[bytes]", _zstd(source, what))
    return source


class _DecompressedStream(io.RawIOBase):
    """The common part of the readers: ``_more`` gives the next bytes, none at the end."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def _more(self) -> bytes:
        raise NotImplementedError

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._rest:
            more = self._more()
            if len(more) <= size:
                return more
            self._rest = memoryview(more)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return piece

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class _GzipStream(_DecompressedStream):
    """Gzip with any number of members (RFC 1952, section 2.2). What follows the last member, such as padding, is
    ignored, as gzip itself does: the digest of the content tells whether that was right.
    """

    def __init__(self, source: IO[bytes], what: object) -> None:
        super().__init__(source)
        self._what = what
        self._decoder = _gzip_module.decompressobj(wbits=31)
        self._ended = False

    def _more(self) -> bytes:
        try:
            while not self._ended:
                data = self._decoder.unconsumed_tail or (self._decoder.unused_data if self._decoder.eof else b"")
                if self._decoder.eof:
                    data = data.lstrip(b"\0") or self._next_after_padding()
                    if len(data) == 1:
                        data += self._source.read(CHUNK)
                    if not data.startswith(_GZIP):
                        self._ended = True
                        break
                    self._decoder = _gzip_module.decompressobj(wbits=31)
                elif not data:
                    data = self._source.read(CHUNK)
                    if not data:
                        raise InvalidLayer(f"{self._what} is cut off: the gzip stream has no end")
                piece = self._decoder.decompress(data, CHUNK)
                if piece:
                    return bytes(piece)
            return b""
        except (zlib.error, getattr(_gzip_module, "error", zlib.error)) as error:
            raise InvalidLayer(f"{self._what} is damaged: {error}") from error

    def _next_after_padding(self) -> bytes:
        while True:
            data = self._source.read(CHUNK)
            if not data:
                return b""
            data = data.lstrip(b"\0")
            if data:
                return data


def _zstd(source: IO[bytes], what: object) -> _DecompressedStream:
    try:
        from compression import zstd
    except ImportError:
        pass
    else:
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        return _LibraryZstdStream(source, zstd.ZstdFile(source, options=options), zstd.ZstdError, what)
    try:
        import zstandard
    except ImportError:
        pass
    else:
        decoder = zstandard.ZstdDecompressor(max_window_size=2**_ZSTD_WINDOW_LOG)
        stream = decoder.stream_reader(source, read_size=CHUNK, read_across_frames=True)
        return _LibraryZstdStream(source, stream, zstandard.ZstdError, what)
    program = shutil.which("zstd")
    if not program:
        source.close()
        raise InvalidLayer(
            f"{what} is compressed with zstd, and nothing here can read that; "
            "install the package zstd (or python3-zstandard) on this host"
        )
    return _ProgramZstdStream(source, program, what)


class _LibraryZstdStream(_DecompressedStream):
    def __init__(self, source: IO[bytes], stream: Any, error: type[Exception], what: object) -> None:
        super().__init__(source)
        self._stream, self._error, self._what = stream, error, what
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


class _ProgramZstdStream(_DecompressedStream):
    def __init__(self, source: IO[bytes], program: str, what: object) -> None:
        super().__init__(source)
        self._what = what
        os.lseek(source.fileno(), 0, os.SEEK_SET)  # Python has read ahead; the program reads the file itself
        self._process = subprocess.Popen(
            [program, "-dcq", f"--long={_ZSTD_WINDOW_LOG}"],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=programs.inherited(),
        )

        self._output, self._errors = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)

    def _more(self) -> bytes:
        data = self._output.read(CHUNK)
        if not data and self._process.wait() != 0:
            said = self._errors.read(500).decode("utf-8", "replace").strip()
            raise InvalidLayer(f"{self._what} is damaged: {said}")
        return data

    def close(self) -> None:
        if not self.closed:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._output.close()
            self._errors.close()
        super().close()
