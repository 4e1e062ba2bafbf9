# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""One large blob over several connections, where a single one is slow: a server may give each of them only so much.

Ranges are fetched ahead into memory and given out in order, so that who writes them down never leaves a hole. That
costs the processor half as much again as one stream does, and the server more connections. So a quick stream stays
alone, and ranges that gain nothing, since a link or a disk is full, give way to one stream again.

All downloads of a run share its connections, and one of them at a time comes in ranges: by connections that no other
download uses. So neither the connections to a registry nor the memory grow with the number of blobs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import RegistryError, Unreachable
from .client import Registry

if TYPE_CHECKING:
    from ..oci.descriptor import Descriptor
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


class DownloadSlots:
    """The connections for blobs that one run may have open at the same time, shared by its threads."""

    def __init__(self, most: int) -> None:
        """
        :param most: how many; as many blobs are fetched at once.
        """
        self.most = most
        self._lock = threading.Lock()
        self._used = 0
        self._dividing = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """Use a connection for a block. Nobody waits for it: ranges of another blob give way as they end."""
        with self._lock:
            self._used += 1
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> bool:
        """Take one more connection, to be given back, if one is not in use; return whether there was one."""
        with self._lock:
            free = self._used < self.most
            self._used += free
            return free

    def give_back(self) -> None:
        """End the use of a connection."""
        with self._lock:
            self._used -= 1

    def begin_dividing(self) -> bool:
        """Tell whether a blob may come in ranges now: there is a connection for them, and no other blob does."""
        with self._lock:
            if self._dividing or self._used >= self.most:
                return False
            self._dividing = True
            return True

    def end_dividing(self) -> None:
        """Let another blob come in ranges."""
        with self._lock:
            self._dividing = False


def blob_in_ranges(registry: Registry, repository: str, descriptor: Descriptor, slots: DownloadSlots) -> Source:
    """Return the source of one blob for ``BlobCache.obtain``: several requests at once if it is large and comes slowly.

    A registry that does not honour ranges, or refuses them, serves it by one; so does one whose ranges did not give the
    blob of the digest, when that is begun anew.

    :param slots: the connections of this run.
    """
    reading = _Reading(registry, repository, descriptor.digest, descriptor.size or 0, slots)

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        with slots.one(), ExitStack() as stream:
            begin, chunks = stream.enter_context(registry.blob(repository, descriptor.digest, offset))
            # A registry that begins elsewhere than it was asked to knows no ranges.
            divisible = registry.divisible and begin == offset and len(reading.refusals) < _REFUSALS
            anew = reading.divided and not begin
            if not divisible or anew or reading.size - begin < _LARGE or slots.most < 2:
                yield begin, chunks
                return
            with closing(reading.chunks(begin, chunks, stream.close)) as given:
                yield begin, given

    return source


@dataclass
class _Reading:
    """One blob, as a stream while that is quick, else in ranges: as many are on their way as there are connections.

    ``refusals`` are added to when a range does not come. ``divided`` tells whether ranges were asked for.
    """

    registry: Registry
    repository: str
    digest: str
    size: int
    slots: DownloadSlots
    refusals: list[RegistryError] = field(default_factory=list)
    divided: bool = False
    starts: deque[int] = field(default_factory=deque)
    coming: deque[Future[list[bytes]]] = field(default_factory=deque)  # each but one by a connection that was taken
    ended: bool = False
    alone: float = 0.0  # bytes a second that a stream brought last
    best: float = 0.0  # and ever
    gave_way: bool = False  # whether ranges have gained nothing, once

    def chunks(self, begin: int, stream: Iterator[bytes], close: Callable[[], None]) -> Generator[bytes, None, None]:
        """Yield all of the blob from a byte on, in order, and an empty chunk where another request begins.

        :param stream: what comes from there.
        :param close: ends it.
        :raises RegistryError: if something does not come; ``Unreachable`` also if a range does not, or is none.
        """
        position = yield from self._as_stream(begin, stream)
        close()
        while position < self.size:
            position = yield from self._divided(position)
            if position < self.size:
                yield b""
                with self.registry.blob(self.repository, self.digest, position) as (start, rest):
                    self._need_part(start, position)
                    position = yield from self._as_stream(position, rest)

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
                divides = slow and self.slots.begin_dividing()
                if divides or not slow:  # else it still counts as slow when others leave connections to it
                    self.best = max(self.best, self.alone)
                if divides:
                    return position
                begin, since, waited = position, time.monotonic(), 0.0

    def _divided(self, position: int) -> Generator[bytes, None, int]:
        """Yield bytes in ranges, by threads of their own, as ``_in_ranges`` does; end what is on its way then."""
        self.divided, self.ended = True, False
        try:
            yield b""
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                try:
                    return (yield from self._in_ranges(position, pool))
                finally:
                    self.ended = True  # what is on its way reads nothing more
                    for future in self.coming:
                        future.cancel()
        finally:
            for _other in range(1, len(self.coming)):
                self.slots.give_back()
            self.coming.clear()
            self.slots.end_dividing()

    def _in_ranges(self, position: int, pool: ThreadPoolExecutor) -> Generator[bytes, None, int]:
        """Yield bytes in ranges, to the end or until it is clear that they gain nothing; return where they end.

        Whether they gain something is asked once.
        """
        self.starts = deque(range(position, self.size, _RANGE))
        self._begin(pool)
        begin, since, asked, most = position, time.monotonic(), self.gave_way, len(self.coming)
        while self.coming:
            try:
                data = self.coming[0].result()
            except RegistryError as error:
                self.refusals.append(error)
                raise Unreachable(f"a part of {self.digest} did not come: {error}") from error
            self.coming.popleft()
            if self.coming:
                self.slots.give_back()
            self._begin(pool)
            most = max(most, len(self.coming))
            yield from data
            position += sum(map(len, data))
            if not asked and position - begin >= _ROUNDS * most * _RANGE:
                asked = True
                if position - begin < _WORTH * self.alone * (time.monotonic() - since):
                    self.gave_way = True
                    self.starts.clear()  # what is on its way is still taken
        return position

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Ask for more ranges: one by the blob's own connection, others by those that nobody uses."""
        while self.starts and len(self.coming) < _CONNECTIONS and (not self.coming or self.slots.take()):
            start = self.starts.popleft()
            self.coming.append(pool.submit(self._fetch, start, min(start + _RANGE, self.size)))

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
