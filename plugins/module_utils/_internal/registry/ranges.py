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
from dataclasses import dataclass, field
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
    """Return the source of one blob for ``BlobCache.obtain``: several requests at once if it is large and comes slowly.

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


@dataclass
class _Reading:
    """One blob, as a stream while that is quick, else in ranges: as many are on their way as there are connections.

    ``refusals`` are added to when a range does not come.
    """

    registry: Registry
    repository: str
    digest: str
    size: int
    pool: ThreadPoolExecutor
    ahead: int
    refusals: list[RegistryError]
    starts: Iterator[int] = field(default_factory=lambda: iter(()))
    coming: deque[Future[list[bytes]]] = field(default_factory=deque)
    ended: bool = False
    alone: float = 0.0  # bytes a second that a stream brought last
    best: float = 0.0  # and ever
    gave_way: bool = False  # whether ranges have gained nothing, once

    def chunks(self, begin: int, stream: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Yield all of the blob from a byte on, in order.

        :param stream: what comes from there.
        :raises RegistryError: if something does not come; ``Unreachable`` also if a range does not, or is none.
        """
        position = yield from self._as_stream(begin, stream)
        while position < self.size:
            position = yield from self._in_ranges(position)
            if position < self.size:
                with self.registry.blob(self.repository, self.digest, position) as (start, rest):
                    self._need_part(start, position)
                    position = yield from self._as_stream(position, rest)

    def end(self) -> None:
        """Begin nothing more, and read nothing more of what is on its way."""
        self.ended = True
        for future in self.coming:
            future.cancel()

    def _as_stream(self, position: int, stream: Iterator[bytes]) -> Generator[bytes, None, int]:
        """Yield bytes of a stream, until it ends or is so slow that ranges are worth a try; return where that is."""
        begin, since, waited = position, time.monotonic(), 0.0
        while True:
            asked = time.monotonic()
            chunk = next(stream, b"")
            # What the reader does meanwhile, such as writing to a slow disk, says nothing about the server.
            waited += time.monotonic() - asked
            if not chunk:
                return self.size  # that it is whole, the stream itself has seen to
            yield chunk
            position += len(chunk)
            tried = position - begin
            if tried >= _TRIAL and self.size - position >= _LARGE // 2:
                self.alone = tried / max(time.monotonic() - since, 1e-9)
                slow = tried < _QUICK * waited and (not self.best or self.alone < self.best / _FALL)
                self.best = max(self.best, self.alone)
                if slow:
                    return position
                begin, since, waited = position, time.monotonic(), 0.0

    def _in_ranges(self, position: int) -> Generator[bytes, None, int]:
        """Yield bytes in ranges, to the end or until it is clear that they gain nothing; return where they end.

        Whether they gain something is asked once.
        """
        self.starts = iter(range(position, self.size, _RANGE))
        for _each in range(self.ahead):
            self._begin()
        begin, since, asked = position, time.monotonic(), self.gave_way
        while self.coming:
            try:
                data = self.coming.popleft().result()
            except RegistryError as error:
                self.refusals.append(error)
                raise Unreachable(f"a part of {self.digest} did not come: {error}") from error
            self._begin()
            yield from data
            position += sum(map(len, data))
            if not asked and position - begin >= _ROUNDS * self.ahead * _RANGE:
                asked = True
                if position - begin < _WORTH * self.alone * (time.monotonic() - since):
                    self.gave_way = True
                    self.starts = iter(())  # what is on its way is still taken
        return position

    def _begin(self) -> None:
        start = next(self.starts, None)
        if start is not None:
            self.coming.append(self.pool.submit(self._fetch, start, min(start + _RANGE, self.size)))

    def _fetch(self, start: int, end: int) -> list[bytes]:
        with self.registry.blob(self.repository, self.digest, start, end) as (begin, chunks):
            self._need_part(begin, start)
            # Kept as they come: joined, they would be copied twice, into memory that is new each time.
            data, size = [], 0
            for chunk in chunks:
                data.append(chunk)
                size += len(chunk)
                if size > end - start or self.ended:
                    break
        if size != end - start:
            raise Unreachable(f"a part of {self.digest} that {self.registry.host} sends has another length")
        return data

    def _need_part(self, begin: int, asked: int) -> None:
        if begin != asked:
            raise Unreachable(f"{self.registry.host} does not send {self.digest} in parts")
