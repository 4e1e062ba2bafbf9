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
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ..errors import RegistryError, Unreachable
from .client import Registry

if TYPE_CHECKING:
    from ..oci.partial import Source

_LARGE = 128 * 2**20  # bytes; below, the connections would hardly get up to speed
_TRIAL = 16 * 2**20  # bytes of a stream that tell how quick it is; it is looked at again after each
_QUICK = 64 * 2**20  # bytes a second
_RANGE = 8 * 2**20  # bytes, of which one for each connection is in memory, and one more
_CONNECTIONS = 4
_ROUNDS = 3  # of a range for each connection, after which ranges have shown what they gain
_WORTH = 1.25  # times as quick as one stream, or more
_FALL = 8  # times slower than before: a server throttles who has had much, a link is only shared by more
_REFUSALS = 2  # some servers, or proxies, allow an address one connection only


def blob_in_ranges(registry: Registry, repository: str, digest: str, size: int | None, connections: int) -> Source:
    """What ``BlobCache.obtain`` needs to fetch one blob, by several requests at once if it is large and comes slowly.

    A registry that does not honour ranges, or refuses them, serves it by one.

    :param size: in bytes, if it is known.
    :param connections: how many this run may use.
    """
    ahead = min(_CONNECTIONS, connections)
    refusals: list[RegistryError] = []

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        with registry.blob(repository, digest, offset) as (begin, chunks):
            # A registry that begins elsewhere than it was asked to knows no ranges.
            divisible = registry.divisible and begin == offset and len(refusals) < _REFUSALS
            if not divisible or size is None or size - begin < _LARGE or ahead < 2:
                yield begin, chunks
                return
            with ThreadPoolExecutor(ahead) as pool:
                reading = _Reading(registry, repository, digest, size, pool, ahead, refusals)
                try:
                    with closing(reading.chunks(begin, chunks)) as given:
                        yield begin, given
                finally:
                    reading.end()

    return source


class _Reading:
    """One blob, as a stream while that is quick, else in ranges: as many are on their way as there are connections.

    ``refusals`` are added to when a range does not come.
    """

    def __init__(
        self,
        registry: Registry,
        repository: str,
        digest: str,
        size: int,
        pool: ThreadPoolExecutor,
        ahead: int,
        refusals: list[RegistryError],
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._size = size
        self._pool = pool
        self._ahead = ahead
        self._refusals = refusals
        self._starts = iter(range(0))
        self._coming: deque[Future[list[bytes]]] = deque()
        self._ended = False
        self._alone = self._best = 0.0  # bytes a second that a stream brought last, and ever
        self._gave_way = False  # whether ranges have gained nothing, once

    def chunks(self, begin: int, stream: Iterator[bytes]) -> Generator[bytes, None, None]:
        """All of the blob from a byte on, in order.

        :param stream: what comes from there.
        :raises RegistryError: if something does not come; ``Unreachable`` also if a range does not, or is none.
        """
        position = yield from self._as_stream(begin, stream)
        while position < self._size:
            position = yield from self._in_ranges(position)
            if position < self._size:
                with self._registry.blob(self._repository, self._digest, position) as (start, rest):
                    self._need_part(start, position)
                    position = yield from self._as_stream(position, rest)

    def end(self) -> None:
        """Begin nothing more, and read nothing more of what is on its way."""
        self._ended = True
        for future in self._coming:
            future.cancel()

    def _as_stream(self, position: int, stream: Iterator[bytes]) -> Generator[bytes, None, int]:
        """Bytes of a stream, to its end or until it is so slow that ranges are worth a try; returns where that is."""
        begin, since, waited = position, time.monotonic(), 0.0
        while True:
            asked = time.monotonic()
            chunk = next(stream, b"")
            # What the reader does meanwhile, such as writing to a slow disk, says nothing about the server.
            waited += time.monotonic() - asked
            if not chunk:
                return self._size  # that it is whole, the stream itself has seen to
            yield chunk
            position += len(chunk)
            tried = position - begin
            if tried >= _TRIAL and self._size - position >= _LARGE // 2:
                self._alone = tried / max(time.monotonic() - since, 1e-9)
                slow = tried < _QUICK * waited and (not self._best or self._alone < self._best / _FALL)
                self._best = max(self._best, self._alone)
                if slow:
                    return position
                begin, since, waited = position, time.monotonic(), 0.0

    def _in_ranges(self, position: int) -> Generator[bytes, None, int]:
        """Bytes in ranges, to the end or until it is clear that they gain nothing, which is asked once; returns where
        they end.
        """
        self._starts = iter(range(position, self._size, _RANGE))
        for _each in range(self._ahead):
            self._begin()
        begin, since, asked = position, time.monotonic(), self._gave_way
        while self._coming:
            try:
                data = self._coming.popleft().result()
            except RegistryError as error:
                self._refusals.append(error)
                raise Unreachable(f"a part of {self._digest} did not come: {error}") from error
            self._begin()
            yield from data
            position += sum(map(len, data))
            if not asked and position - begin >= _ROUNDS * self._ahead * _RANGE:
                asked = True
                if position - begin < _WORTH * self._alone * (time.monotonic() - since):
                    self._gave_way = True
                    self._starts = iter(range(0))  # what is on its way is still taken
        return position

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
                if size > end - start or self._ended:
                    break
        if size != end - start:
            raise Unreachable(f"a part of {self._digest} that {self._registry.host} sends has another length")
        return data

    def _need_part(self, begin: int, asked: int) -> None:
        if begin != asked:
            raise Unreachable(f"{self._registry.host} does not send {self._digest} in parts")
