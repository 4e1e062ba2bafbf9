# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""One large blob over several connections: a server, or a proxy, often gives each of them only so much.

Ranges are fetched ahead into memory and given out in order, so that who writes them down never leaves a hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from .blobs import Source
from .errors import Unreachable
from .registry import Registry

_LARGE = 128 * 2**20  # bytes; below, the connections would hardly get up to speed
_RANGE = 8 * 2**20  # bytes, of which one for each connection is in memory, and one more
_CONNECTIONS = 4


def blob_in_ranges(registry: Registry, repository: str, digest: str, size: int | None, connections: int) -> Source:
    """What ``BlobCache.obtain`` needs to fetch one blob, by several requests at once if it is large.

    A registry that does not honour ranges serves it by one.

    :param size: in bytes, if it is known.
    :param connections: how many this run may use.
    """
    ahead = min(_CONNECTIONS, connections)

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        if registry.divisible and size is not None and size - offset >= _LARGE and ahead > 1:
            with ThreadPoolExecutor(ahead) as pool:
                reading = _Reading(registry, repository, digest, offset, size, pool, ahead)
                try:
                    first = reading.next()
                    if first is not None:
                        yield offset, reading.from_first(first)
                        return
                finally:
                    reading.end()
        with registry.blob(repository, digest, offset) as whole:
            yield whole

    return source


class _Reading:
    """The ranges of one blob, from an offset on: as many are on their way as there are connections."""

    def __init__(
        self,
        registry: Registry,
        repository: str,
        digest: str,
        offset: int,
        size: int,
        pool: ThreadPoolExecutor,
        ahead: int,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._starts = iter(range(offset, size, _RANGE))
        self._size = size
        self._pool = pool
        self._coming: deque[Future[list[bytes] | None]] = deque()
        for _each in range(ahead):
            self._begin()

    def next(self) -> list[bytes] | None:
        """The chunks of the next range; none at the end; None if the registry does not honour ranges."""
        if not self._coming:
            return []
        data = self._coming.popleft().result()
        if data:
            self._begin()
        return data

    def from_first(self, data: list[bytes]) -> Iterator[bytes]:
        """All chunks in order.

        :param data: those of the first range.
        :raises RegistryError: if one does not come; ``Unreachable`` if it breaks off, or is suddenly not honoured.
        """
        piece: list[bytes] | None = data
        while piece:
            yield from piece
            piece = self.next()
        if piece is None:
            raise Unreachable(f"{self._registry.host} sends {self._digest} no longer in parts")

    def end(self) -> None:
        """Begin nothing more."""
        for future in self._coming:
            future.cancel()

    def _begin(self) -> None:
        start = next(self._starts, None)
        if start is not None:
            self._coming.append(self._pool.submit(self._fetch, start, min(start + _RANGE, self._size)))

    def _fetch(self, start: int, end: int) -> list[bytes] | None:
        with self._registry.blob(self._repository, self._digest, start, end) as (begin, chunks):
            if begin != start:
                return None
            # Kept as they come: joined, they would be copied twice, into memory that is new each time.
            data, size = [], 0
            for chunk in chunks:
                data.append(chunk)
                size += len(chunk)
                if size > end - start:
                    return None
        if size < end - start:
            raise Unreachable(f"the connection broke while reading {self._digest}: a part of it is too short")
        return data
