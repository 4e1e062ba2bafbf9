# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cache of blobs: content-addressed, verified, resumable, and shared with Apptainer's and SingularityCE's own.

Blobs lie in an OCI image layout (OCI image specification, image-layout.md) at the place where ``apptainer pull`` looks
for them, so either finds what the other fetched.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from .errors import DigestMismatch, RegistryError, Unreachable
from .files import make_directory, need_space, storage_error
from .manifest import Descriptor

# Opens a blob at a byte offset; gives where the data really begins and its chunks.
Source = Callable[[int], AbstractContextManager["tuple[int, Iterator[bytes]]"]]

_READ = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Obtained:
    """Where a blob is, its size in bytes, and how many of these came over the network in this run."""

    path: str
    size: int
    received: int


class BlobCache:
    """A directory of blobs, used by many threads, processes and programs at once."""

    def __init__(self, directory: str, breaks: int = 3) -> None:
        """
        :param directory: of the OCI layout, for example ``~/.apptainer/cache/blob``.
        :param breaks: how many broken connections in a row, without a byte of progress, end a transfer.
        """
        self.directory = directory
        self._breaks = breaks
        self._lock = threading.Lock()
        self._running: dict[str, Future[Obtained]] = {}

    def path(self, digest: str) -> str:
        """Where a blob lies or would lie."""
        algorithm, _colon, encoded = digest.partition(":")
        return os.path.join(self.directory, "blobs", algorithm, encoded)

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there with its right size; where the size is unknown its digest is computed."""
        try:
            size = os.stat(self.path(descriptor.digest)).st_size
        except OSError:
            return False
        if descriptor.size is not None:
            return size == descriptor.size
        return self.proven(descriptor.digest)

    def read(self, descriptor: Descriptor, limit: int, source: Source, what: object) -> tuple[bytes, Obtained]:
        """The content of a small blob, such as a config, its digest proven even if it was cached.

        :param limit: bytes; a larger one is refused.
        :raises DigestMismatch, RegistryError, StorageError, NoSpace: as ``obtain``.
        """
        if descriptor.size is not None and descriptor.size > limit:
            raise DigestMismatch(f"{what} claims {descriptor.size} bytes; more than {limit} are not accepted here")
        obtained = self.obtain(descriptor, source, what)
        if not obtained.received and not self.proven(descriptor.digest):
            self.drop(descriptor.digest)
            obtained = self.obtain(descriptor, source, what)
        with open(obtained.path, "rb") as stream:
            return stream.read(limit), obtained

    def obtain(self, descriptor: Descriptor, source: Source, what: object) -> Obtained:
        """Make sure that a blob is there: at once if cached, else fetched, verified and kept.

        Threads that want the same blob wait for the first; so do other processes. What the first could not get from its
        repository, the next tries to get from its own. A cached blob is trusted for its size; who unpacks it
        verifies its digest on the way.

        :raises DigestMismatch: if the registry's content is not what the digest or size says.
        :raises RegistryError: as the source raises it.
        :raises StorageError, NoSpace: if the cache cannot hold it.
        """
        future: Future[Obtained] = Future()
        while True:
            with self._lock:
                first = self._running.setdefault(descriptor.digest, future)
            if first is future:
                break
            with suppress(RegistryError):
                done = first.result()
                return Obtained(done.path, done.size, 0)
        try:
            result = self._obtain(descriptor, source, what)
        except BaseException as error:
            with self._lock:
                del self._running[descriptor.digest]
            future.set_exception(error)
            raise
        with self._lock:
            del self._running[descriptor.digest]
        future.set_result(result)
        return result

    def drop(self, digest: str) -> None:
        """Forget a blob that turned out to be damaged."""
        with suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def proven(self, digest: str) -> bool:
        """Whether a blob is there and its content has its digest; reads all of it."""
        algorithm, _colon, encoded = digest.partition(":")
        hasher = hashlib.new(algorithm)
        try:
            with open(self.path(digest), "rb") as stream:
                for chunk in iter(lambda: stream.read(_READ), b""):
                    hasher.update(chunk)
        except OSError:
            return False
        return hasher.hexdigest() == encoded

    def _obtain(self, descriptor: Descriptor, source: Source, what: object) -> Obtained:
        path = self.path(descriptor.digest)
        if self.holds(descriptor):
            return Obtained(path, os.path.getsize(path), 0)
        make_directory(os.path.dirname(path), 0o700)
        # Hidden and beside the blob: Apptainer's own clean-up removes it with the rest, and the rename stays in one
        # directory.
        partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.partial")
        with self._partial(partial) as stream:
            if self.holds(descriptor):  # another process finished it while this one waited
                os.unlink(partial)
                return Obtained(path, os.path.getsize(path), 0)
            try:
                received = self._receive(stream, descriptor, source, what)
                os.fsync(stream.fileno())
                os.replace(partial, path)
            except OSError as error:
                with suppress(OSError):
                    os.unlink(partial)
                raise storage_error(error, partial) from error
            except BaseException:
                with suppress(OSError):
                    os.unlink(partial)
                raise
        return Obtained(path, os.path.getsize(path), received)

    @contextmanager
    def _partial(self, partial: str) -> Iterator[IO[bytes]]:
        """The locked file that a blob grows in; a file left by a killed run is continued."""
        while True:
            try:
                descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise storage_error(error, partial) from error
            with os.fdopen(descriptor, "r+b", buffering=0) as stream:  # nothing is left to fail when it is closed
                with suppress(OSError):  # without locks, the digest still decides in the end
                    fcntl.flock(stream, fcntl.LOCK_EX)
                try:
                    current = os.stat(partial).st_ino == os.fstat(stream.fileno()).st_ino
                except FileNotFoundError:
                    current = False
                if not current:  # the holder before renamed or removed it: what is locked here is not in the directory
                    continue
                yield stream
                return

    def _receive(self, stream: IO[bytes], descriptor: Descriptor, source: Source, what: object) -> int:
        """Fill a partial file until the blob is whole; returns the bytes received."""
        total = 0
        for last_chance in (False, True):
            hasher, position = _hash_of(stream, descriptor.digest)
            begun_with = position
            if descriptor.size is not None:
                if position > descriptor.size:
                    hasher, position = _restart(stream, descriptor.digest)
                need_space(self.directory, descriptor.size - position, f"{what}")
            hasher, position, received = self._transfer(stream, descriptor, source, what, hasher, position)
            total += received
            actual = f"{descriptor.digest.partition(':')[0]}:{hasher.hexdigest()}"
            if actual == descriptor.digest:
                return total
            # Resumed data may have been the bad part: once, start from nothing.
            if last_chance or not begun_with:
                raise DigestMismatch(
                    f"digest mismatch for {what}: the registry sent {position} bytes with {actual}, "
                    f"not {descriptor.digest}; the registry or a proxy damages it"
                )
            _restart(stream, descriptor.digest)
        raise AssertionError("unreachable")

    def _transfer(
        self,
        stream: IO[bytes],
        descriptor: Descriptor,
        source: Source,
        what: object,
        hasher: hashlib._Hash,
        position: int,
    ) -> tuple[hashlib._Hash, int, int]:
        received, broken = 0, 0
        while descriptor.size is None or position < descriptor.size or (descriptor.size == 0 and not received):
            before = position
            try:
                with source(position) as (begin, chunks):
                    if begin != position:
                        hasher, position = _restart(stream, descriptor.digest)
                    for chunk in chunks:
                        if descriptor.size is not None and position + len(chunk) > descriptor.size:
                            raise DigestMismatch(
                                f"digest mismatch for {what}: the registry sends more than its {descriptor.size} bytes"
                            )
                        _write(stream, chunk)
                        hasher.update(chunk)
                        position += len(chunk)
                        received += len(chunk)
                if descriptor.size is None or position >= descriptor.size:
                    break
                problem: Unreachable | None = None
            except Unreachable as error:
                problem = error
            broken = 0 if position > before else broken + 1
            if broken >= self._breaks:
                raise problem or Unreachable(
                    f"{what} is truncated: the registry ends it after {position} of {descriptor.size} bytes, "
                    "again and again"
                )
        return hasher, position, received


def _hash_of(stream: IO[bytes], digest: str) -> tuple[hashlib._Hash, int]:
    hasher = hashlib.new(digest.partition(":")[0])
    stream.seek(0)
    for chunk in iter(lambda: stream.read(_READ), b""):
        hasher.update(chunk)
    return hasher, stream.tell()


def _write(stream: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _restart(stream: IO[bytes], digest: str) -> tuple[hashlib._Hash, int]:
    stream.seek(0)
    stream.truncate()
    return hashlib.new(digest.partition(":")[0]), 0


def tally(obtained: Sequence[Obtained]) -> dict[str, dict[str, int]]:
    """Sums for a result: blobs and bytes that were fetched, and that the cache had."""
    fetched = [item.received for item in obtained if item.received]
    cached = [item.size for item in obtained if not item.received]
    return {
        "fetched": {"blobs": len(fetched), "bytes": sum(fetched)},
        "cached": {"blobs": len(cached), "bytes": sum(cached)},
    }
