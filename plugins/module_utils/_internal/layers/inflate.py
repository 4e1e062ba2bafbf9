# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading gzip by the fastest decoder that is installed; none is required.

A large layer goes to ``rapidgzip``, which uses several processors; else to the library ``isal``, to the program
``igzip``, or to ``zlib``, in this order. Whichever reads, the verdict on a layer is that of ``GzipStream``, in the same
words: what a program does not take, or what does not end as a single member does, is read again by it. For instance,
rapidgzip 0.16 takes a stream that is cut off for whole, and refuses padding; igzip 2.31 overlooks what follows padding.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from ..errors import InvalidLayer
from .decompressed_stream import CHUNK, Decompressed, DecompressedStream, ProgramStream

MAGIC = b"\x1f\x8b"

_WORTH_A_PROGRAM = 4 * CHUNK  # bytes of gzip, below which a process costs more than it saves
_WORTH_PROCESSORS = 32 * CHUNK
_MOST_PROCESSORS = 4  # their memory grows with their number; four inflate about as fast as a packer can read
_MOST_MEMORY = 512 * 1024 * 1024  # bytes, of the process that uses several processors
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Run by a Python that looks nowhere but in its own directories and, last, where the library was found.
_RUN_RAPIDGZIP = "import sys; sys.path.append(sys.argv.pop(1)); import rapidgzip; sys.exit(rapidgzip.cli())"

_taken = threading.Lock()  # one process with several processors at a time: so its bound of memory is one of the run

try:
    from isal import isal_zlib
except ImportError:
    _gzip_module: Any = zlib
else:
    _gzip_module = isal_zlib


def inflated(source: IO[bytes], what: object, processors: int | None, work: list[Decompressed]) -> DecompressedStream:
    """Return a readable stream of the content of a gzip file.

    :param source: at its beginning, seekable; it is closed with the returned stream.
    :param what: names the layer in errors.
    :param processors: may be used; None for all.
    :param work: gets which decoder gave how much, when the stream is closed.
    """
    size = os.fstat(source.fileno()).st_size
    parallel = size >= _WORTH_PROCESSORS
    igzip = shutil.which("igzip") if size >= _WORTH_A_PROGRAM and _gzip_module is zlib else None
    if (parallel or igzip) and _has_large_member(source):
        stream = _in_parallel(source, what, processors, work) if parallel else None
        if stream:
            return stream
        if igzip:
            return _ProvenStream(ProgramStream(source, "igzip", [igzip, "-dc"], work), source, what, work)
    return GzipStream(source, what, work)


def _in_parallel(
    source: IO[bytes], what: object, processors: int | None, work: list[Decompressed]
) -> DecompressedStream | None:
    """Return a stream that several processors inflate; None where they cannot, or already inflate another layer."""
    count = min(len(os.sched_getaffinity(0)), processors or _MOST_PROCESSORS, _MOST_PROCESSORS)
    found = importlib.util.find_spec("rapidgzip") if count > 1 else None
    if not found or not found.origin or not sys.executable or not _taken.acquire(blocking=False):
        return None
    try:
        where, piece = os.path.dirname(found.origin), str(_piece(source))
        command = [sys.executable, "-I", "-c", _RUN_RAPIDGZIP, where, "-dcP", str(count), "--chunk-size", piece]
        return _ProvenStream(_ParallelStream(source, command, work, _taken.release), source, what, work)
    except BaseException:
        _taken.release()
        raise


def _piece(source: IO[bytes]) -> int:
    """Return of how many KiB the pieces should be that ``rapidgzip`` gives to processors: large ones cost a fifth less
    time than its usual ones, but with what becomes much longer they would take too much memory.
    """
    size = os.fstat(source.fileno()).st_size
    return 16384 if _told_length(source) <= 4 * size else 4096


def _told_length(source: IO[bytes]) -> int:
    """Return the length of the last member as its end tells it, modulo 2^32 (ISIZE, RFC 1952, section 2.3.1). The file
    is at its beginning afterwards.
    """
    source.seek(max(0, source.seek(0, os.SEEK_END) - 4))
    told = int.from_bytes(source.read(4), "little")
    source.seek(0)
    return told


def _has_large_member(source: IO[bytes]) -> bool:
    """Tell whether a file begins with a valid member longer than a piece, compressed or not. Files of many small
    members, such as eStargz, are not made for what finds places of its own to begin at, and how they end does not tell
    their length.
    """
    decoder = zlib.decompressobj(wbits=31)
    try:
        decoder.decompress(source.read(CHUNK), CHUNK)
        return not decoder.eof
    except zlib.error:
        return False
    finally:
        source.seek(0)


class GzipStream(DecompressedStream):
    """Gzip with any number of members (RFC 1952, section 2.2). What follows the last member, such as padding, is
    ignored, as gzip itself does: the digest of the content tells whether that was right.
    """

    def __init__(self, source: IO[bytes], what: object, work: list[Decompressed]) -> None:
        super().__init__(source, "zlib" if _gzip_module is zlib else "isal", work)
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
                    if not data.startswith(MAGIC):
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
            raise damaged(self._what) from error  # each library has words of its own

    def _next_after_padding(self) -> bytes:
        while True:
            data = self._source.read(CHUNK)
            if not data:
                return b""
            data = data.lstrip(b"\0")
            if data:
                return data


def damaged(what: object) -> InvalidLayer:
    """Return the error about a layer whose gzip stream holds what no gzip stream can hold."""
    return InvalidLayer(f"{what} is damaged: its gzip stream is not valid")


class _ParallelStream(ProgramStream):
    """The output of ``rapidgzip``. That opens the file anew, so how far it is in it has to be asked."""

    def __init__(
        self, source: IO[bytes], command: list[str], work: list[Decompressed], release: Callable[[], None]
    ) -> None:
        super().__init__(source, "rapidgzip", command, work)
        self._release: Callable[[], None] | None = release
        self._size = os.fstat(source.fileno()).st_size

    def _more(self) -> bytes:
        data = super()._more()
        if data:
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{self.pid}/io", encoding="ascii") as account:
                    read = int(account.readline().split()[1])
                self._source.seek(min(read, self._size))
                if self._resident() > _MOST_MEMORY:
                    self._process.kill()
        return data

    def _resident(self) -> int:
        """Return how much memory the process has, in bytes."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as account:
            return int(account.read().split()[1]) * _PAGE

    def end(self) -> None:
        super().end()
        if self._release:
            self._release()
        self._release = None


class _ProvenStream(DecompressedStream):
    """The output of a program, and, where that is not proven to be all, the rest as ``GzipStream`` reads it."""

    def __init__(self, program: ProgramStream, source: IO[bytes], what: object, work: list[Decompressed]) -> None:
        super().__init__(source, "", [])
        self._program = program
        self._what, self._all_work = what, work
        self._given = 0
        self._ended = False
        self._again: GzipStream | None = None

    def _more(self) -> bytes:
        if self._ended:
            return b""
        if self._again:
            return self._again.read(CHUNK)
        data = self._program.read(CHUNK)
        self._given += len(data)
        if data:
            return data
        self._program.end()
        if self._program.failed is None and self._given % 2**32 == _told_length(self._source):
            self._source.seek(0, os.SEEK_END)
            self._ended = True
            return b""
        return self._rest_of_it()

    def _rest_of_it(self) -> bytes:
        """Read it all again, and return what follows on what was given.

        :raises InvalidLayer: if that was more than there is, or as ``GzipStream`` raises it.
        """
        self._source.seek(0)
        self._again = GzipStream(self._source, self._what, self._all_work)
        left = self._given
        while left:
            known = self._again.read(min(left, CHUNK))
            if not known:
                raise damaged(self._what)
            left -= len(known)
        return self._again.read(CHUNK)

    def end(self) -> None:
        self._program.end()
        if self._again:
            self._again.end()
