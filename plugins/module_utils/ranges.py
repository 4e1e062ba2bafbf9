# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""One large blob over several connections, where a single one is slow: a server may give each of them only so much.

Ranges are fetched ahead into memory and given out in order, so that who writes them down never leaves a hole. That
costs the processor half as much again as one stream does, and the server more connections. So a quick stream stays
alone, and ranges that gain nothing, since a link or a disk is full, give way to one stream again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from .blobs import Source
from .errors import Unreachable
from .registry import Registry

_LARGE = 128 * 2**20  # bytes; below, the connections would hardly get up to speed
_TRIAL = 16 * 2**20  # bytes of the one stream that tell how quick it is
_QUICK = 64 * 2**20  # bytes a second
_RANGE = 8 * 2**20  # bytes, of which one for each connection is in memory, and one more
_CONNECTIONS = 4
_ROUNDS = 3  # of a range for each connection, after which ranges have shown what they gain
_WORTH = 1.25  # times as quick as one stream, or more


def blob_in_ranges(registry: Registry, repository: str, digest: str, size: int | None, connections: int) -> Source:
    """What ``BlobCache.obtain`` needs to fetch one blob, by several requests at once if it is large and comes slowly.

    A registry that does not honour ranges serves it by one.

    :param size: in bytes, if it is known.
    :param connections: how many this run may use.
    """
    ahead = min(_CONNECTIONS, connections)

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        with registry.blob(repository, digest, offset) as (begin, chunks):
            # A registry that begins elsewhere than it was asked to knows no ranges.
            if not registry.divisible or begin != offset or size is None or size - begin < _LARGE or ahead < 2:
                yield begin, chunks
                return
            with ThreadPoolExecutor(ahead) as pool:
                reading = _Reading(registry, repository, digest, size, pool, ahead)
                try:
                    yield begin, reading.after_trial(begin, chunks)
                finally:
                    reading.end()

    return source


class _Reading:
    """One blob, as one stream or, from some byte on, in ranges: as many are on their way as there are connections."""

    def __init__(
        self, registry: Registry, repository: str, digest: str, size: int, pool: ThreadPoolExecutor, ahead: int
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._size = size
        self._pool = pool
        self._ahead = ahead
        self._starts = iter(range(0))
        self._coming: deque[Future[list[bytes]]] = deque()

    def after_trial(self, begin: int, stream: Iterator[bytes]) -> Iterator[bytes]:
        """All chunks of a stream in order; if it turns out to be slow, what is left of it comes in ranges.

        :raises RegistryError: if something does not come; ``Unreachable`` also if ranges are not honoured.
        """
        position, since, waited = begin, time.monotonic(), 0.0
        while True:
            asked = time.monotonic()
            chunk = next(stream, b"")
            # What the reader does meanwhile, such as writing to a slow disk, says nothing about the server.
            waited += time.monotonic() - asked
            if not chunk:
                break
            yield chunk
            position += len(chunk)
            tried = position - begin
            if tried >= _TRIAL and self._size - position >= _LARGE // 2:
                if tried < _QUICK * waited:
                    break
                yield from stream
                return
        alone = (position - begin) / max(time.monotonic() - since, 1e-9)
        position = yield from self._in_ranges(position, alone)
        if position < self._size:
            yield from self._as_stream(position)

    def end(self) -> None:
        """Begin nothing more."""
        for future in self._coming:
            future.cancel()

    def _in_ranges(self, position: int, alone: float) -> Generator[bytes, None, int]:
        """Bytes in ranges, to the end or until it is clear that they gain nothing; returns where they end.

        :param alone: bytes a second that one stream brought.
        """
        self._starts = iter(range(position, self._size, _RANGE))
        for _each in range(self._ahead):
            self._begin()
        begin, since, trial = position, time.monotonic(), _ROUNDS * self._ahead * _RANGE
        while self._coming:
            data = self._coming.popleft().result()
            self._begin()
            yield from data
            position += sum(map(len, data))
            if trial and position - begin >= trial:
                if position - begin < _WORTH * alone * (time.monotonic() - since):
                    self._starts = iter(range(0))  # what is on its way is still taken
                trial = 0
        return position

    def _as_stream(self, position: int) -> Iterator[bytes]:
        with self._registry.blob(self._repository, self._digest, position) as (begin, chunks):
            self._need_part(begin, position)
            yield from chunks

    def _begin(self) -> None:
        start = next(self._starts, None)
        if start is not None:
            self._coming.append(self._pool.submit(self._fetch, start, min(start + _RANGE, self._size)))

    def _fetch(self, start: int, end: int) -> list[bytes]:
        with self._registry.blob(self._repository, self._digest, start, end) as (begin, chunks):
            self._need_part(begin, start)
            # Kept as they come: joined, they would be copied twice, into memory that is new each time.
            data, size = [], 0
            for chunk in chunks:
                data.append(chunk)
                size += len(chunk)
                if size > end - start:
                    break
        if size != end - start:
            raise Unreachable(f"a part of {self._digest} that {self._registry.host} sends has another length")
        return data

    def _need_part(self, begin: int, asked: int) -> None:
        if begin != asked:
            raise Unreachable(f"{self._registry.host} does not send {self._digest} in parts")
