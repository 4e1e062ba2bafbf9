# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The common part of all readers of compressed layers: pieces of bounded size, and an account of what they took."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, cast

from .. import programs

CHUNK = 1048576  # bytes

_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux, which Python has a name for since 3.10


@dataclass(frozen=True)
class Decompressed:
    """The work of one decoder on one layer: its name, the bytes that it gave, the seconds that it was waited for."""

    decoder: str
    bytes: int
    seconds: float


def totals(work: Sequence[Decompressed]) -> list[dict[str, Any]]:
    """Return name, bytes and seconds of each decoder, as results show them; the one that gave most comes first."""
    names = {each.decoder for each in work}
    sums = [
        {
            "name": name,
            "bytes": sum(each.bytes for each in work if each.decoder == name),
            "seconds": round(sum(each.seconds for each in work if each.decoder == name), 3),
        }
        for name in sorted(names)
    ]
    return sorted(sums, key=lambda each: -cast("int", each["bytes"]))


class DecompressedStream(io.RawIOBase):
    """The common part of the readers: ``_more`` gives the next bytes, none at the end."""

    def __init__(self, source: IO[bytes], decoder: str, work: list[Decompressed]) -> None:
        """
        :param source: it is closed with this stream.
        :param work: gets what was done, when this stream is closed.
        """
        self._source = source
        self._decoder_name, self._work = decoder, work
        self._rest = memoryview(b"")
        self._bytes, self._seconds = 0, 0.0

    def readable(self) -> bool:
        """Return True."""
        return True

    def _more(self) -> bytes:
        raise NotImplementedError

    def read(self, size: int | None = -1) -> bytes:
        """Return at most so many bytes, or all that are left; nothing at the end.

        :raises InvalidLayer: if the content is damaged.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._rest:
            begin = time.monotonic()
            more = self._more()
            self._seconds += time.monotonic() - begin
            self._bytes += len(more)
            if len(more) <= size:
                return more
            self._rest = memoryview(more)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return piece

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as one piece goes, and return how far that is."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def end(self) -> None:
        """Let go of the decoder, but not of the source."""
        if self._bytes:
            self._work.append(Decompressed(self._decoder_name, self._bytes, self._seconds))
        self._bytes = 0

    def close(self) -> None:
        """Let go of the decoder and of the source."""
        if not self.closed:
            self.end()
            self._source.close()
        super().close()


class ProgramStream(DecompressedStream):
    """The output of a program that reads a file. ``failed`` is what it said, once it ended with an error."""

    def __init__(self, source: IO[bytes], name: str, command: Sequence[str], work: list[Decompressed]) -> None:
        super().__init__(source, name, work)
        os.lseek(source.fileno(), 0, os.SEEK_SET)  # Python has read ahead; the program reads the file itself
        self._process = subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=programs.inherited(),
        )
        self._output, self._errors = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)
        with suppress(OSError):  # fewer changes between the processes; a user has only so many of such pipes
            fcntl.fcntl(self._output.fileno(), _SET_PIPE_SIZE, CHUNK)
        self.failed: str | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def _more(self) -> bytes:
        data = self._output.read(CHUNK)
        if not data and self.failed is None and self._process.wait() != 0:
            self.failed = self._errors.read(500).decode("utf-8", "replace").strip()
        return data

    def end(self) -> None:
        """End the process, if it runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._output.close()
        self._errors.close()
        super().end()
