# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file that a blob grows in: it has one writer, also where locks keep nobody out, and appears whole.

Where this run is sure to be alone, the file has the same name each time, and is continued where a killed run left it.
That name tells the host and its boot, since a lock may be known to one kernel only. Where a run is not sure, it writes
to a file of its own, which begins with a copy of what others have: the digest of the whole decides whether that was
right. So blobs may be fetched twice, but never fail for that.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TypeVar

from ..errors import DigestMismatch, StorageError, TooSlow, Unreachable
from ..fs import flock, guard, stale
from ..fs.digest import CHUNK, hash_of
from ..fs.files import free_space, need_space, storage_error

# Opens a blob at a byte offset; gives where the data really begins and its chunks. An empty chunk says that what
# follows was asked for by another request.
Source = Callable[[int], AbstractContextManager["tuple[int, Iterator[bytes]]"]]

_MAX_RESUMPTIONS = 100  # of one blob; a registry may break off after every few bytes
_PROGRESS = 64 * 1024  # bytes; what comes too slowly always brings a few
_MAX_TURNS = 1000  # how often somebody else may take away the file that is waited for
# A blob of unknown size (schema 1) has no end until it ends: after so many bytes, so many must still be free.
_UNKNOWN_STEP = 64 * 1024 * 1024
_UNKNOWN_RESERVE = 256 * 1024 * 1024
_MAX_REMOVED = 10  # files that other runs took away on the way, before the cache is given up
_BOOT = "/proc/sys/kernel/random/boot_id"

_Result = TypeVar("_Result")


class PartialBlobRemoved(Exception):
    """Another run has removed the file: it could not see that it is held, and took it for what a killed run left."""


class PartialBlob:
    """A blob on its way: the file that it grows in, the hash of its content, and how far it is."""

    def __init__(self, path: str, stream: IO[bytes], algorithm: str) -> None:
        """
        :param path: of the file.
        :param stream: the file, to read and write, without a buffer.
        :param algorithm: of the digest, as in ``sha256:…``.
        :raises OSError: if it cannot be read.
        """
        self.path = path
        self._stream = stream
        self._algorithm = algorithm
        self.received = 0  # bytes, by this run
        self.continued = False  # whether it is of more than one piece
        stream.seek(0)
        self._hasher = hash_of(stream, algorithm)
        self.position = stream.tell()

    @property
    def digest(self) -> str:
        """The digest of what is there."""
        return f"{self._algorithm}:{self._hasher.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Append what was received.

        :raises OSError: if it cannot be written.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._hasher.update(data)
        self.position += len(data)
        self.received += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        self._stream.seek(0)
        self._stream.truncate()
        self._hasher = hashlib.new(self._algorithm)
        self.position = 0

    def publish(self, path: str) -> os.stat_result:
        """Give the finished file its name, in place of what is there; returns its status.

        :raises PartialBlobRemoved: if another run has removed it.
        :raises OSError: if it cannot be renamed.
        """
        os.fsync(self._stream.fileno())
        status = os.fstat(self._stream.fileno())
        if not _is_at(self._stream.fileno(), self.path):
            raise PartialBlobRemoved
        try:
            guard.hand_over(self._stream.fileno(), os.path.dirname(path))  # only now: who owns it can write to it
            os.replace(self.path, path)
        except FileNotFoundError as error:
            raise PartialBlobRemoved from error
        return status


@contextmanager
def turn(path: str) -> Iterator[bool]:
    """Wait, as far as the file system has locks, for other runs of this user that fetch a blob, also on other hosts.

    :param path: where the blob will lie, in a directory that exists.
    Yields whether no other run of this host can fetch it during the block.

    :raises StorageError: if the directory takes no file.
    """
    place = lock_path(path)
    held = _lock_in_place(place)
    if held is None:
        yield False
        return
    descriptor, alone = held
    try:
        yield alone
    finally:
        if _is_at(descriptor, place):
            with suppress(OSError):
                os.unlink(place)
        os.close(descriptor)


def lock_path(path: str) -> str:
    """Return the file that is locked while the blob of a path is fetched."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.lock")


def partial_path(path: str) -> str:
    """Return where the blob of a path grows on this host, if that is continued where a killed run left it."""
    try:
        with open(_BOOT, encoding="ascii") as boot:
            mark = boot.read().strip().replace("-", "")
    except OSError:
        mark = "unknown"
    return os.path.join(os.path.dirname(path), f"{stale.prefix(path)}{mark}{stale.SUFFIX}")


@contextmanager
def growing(path: str, algorithm: str, alone: bool, others: Sequence[str] = ()) -> Iterator[PartialBlob]:
    """Open the file that a blob grows in, for a block; it is removed if the block does not end well.

    :param path: where the blob will lie, in a directory that exists.
    :param alone: nobody else of this host fetches it.
    :param others: files in which other runs have some of it; the digest of the whole has to be known then.
    :raises StorageError, NoSpace: if it cannot be made or written.
    """
    try:
        descriptor, place = _opened(path, alone)
    except OSError as error:
        raise storage_error(error, path) from error
    # without buffering, nothing is left to fail when it is closed
    with _finishing(place), os.fdopen(descriptor, "r+b", buffering=0) as stream:
        stale.protect(descriptor)
        partial = PartialBlob(place, stream, algorithm)
        if not partial.position:
            _begin_as(partial, others)
        yield partial


def persistently(finish: Callable[[], _Result], directory: str) -> _Result:
    """Do once more what failed since another run took away the file that was written to.

    :param directory: of the cache, for errors.
    :raises StorageError: if that happens again and again.
    """
    for _time in range(_MAX_REMOVED):
        with suppress(PartialBlobRemoved):
            return finish()
    raise StorageError(
        f"cannot use {directory}: what is fetched is removed again and again; choose a cache that no other program "
        "empties meanwhile"
    )


@dataclass(frozen=True)
class Transfer:
    """The transfer of one blob from a source into its partial file.

    ``size`` of the whole blob is in bytes, None if nobody tells it. ``what`` names the blob in errors. ``directory``
    names the file system that must have room for it. ``breaks``: so many broken connections in a row, without a byte
    of progress, end it.
    """

    source: Source
    size: int | None
    what: object
    directory: str
    breaks: int

    def fetch_verified(self, partial: PartialBlob, digest: str) -> None:
        """Receive what a blob lacks until it is the one of the digest.

        :raises DigestMismatch: if it is another one.
        :raises RegistryError, NoSpace: as ``fetch``.
        """
        for last_chance in (False, True):
            partial.continued = partial.position > 0
            try:
                self.fetch(partial)
                if partial.digest == digest:
                    return
                raise DigestMismatch(
                    f"digest mismatch for {self.what}: the registry sent {partial.position} bytes with "
                    f"{partial.digest}, not {digest}; the registry or a proxy damages it"
                )
            except DigestMismatch:
                # What continued it, after a killed run or a break, may have been the bad part: start anew, once.
                if last_chance or not partial.continued:
                    raise
            partial.restart()

    def fetch(self, partial: PartialBlob) -> None:
        """Receive what a blob lacks, again after each break.

        :raises DigestMismatch: if there is more than its size.
        :raises Unreachable: if it does not come.
        :raises RegistryError: as the source raises it.
        :raises NoSpace: if the file system has too little room.
        """
        size = self.size
        if size is not None and partial.position > size:
            partial.restart()
        if size is not None:
            need_space(self.directory, size - partial.position, f"{self.what}")
        if size and partial.position == size:
            return
        broken = 0
        problem: Unreachable | None = None
        for _time in range(_MAX_RESUMPTIONS):
            before = partial.position
            problem = self._receive(partial)
            if partial.position >= size if size else not problem:
                return
            progress = _PROGRESS if isinstance(problem, TooSlow) else 1
            broken = 0 if partial.position - before >= progress else broken + 1
            if broken >= self.breaks:
                raise problem or Unreachable(
                    f"{self.what} is truncated: the registry ends it after {partial.position} of {size} bytes, again "
                    "and again"
                )
        raise Unreachable(
            f"{self.what} breaks off again and again: {partial.position} bytes after {_MAX_RESUMPTIONS} tries; check "
            "the network and the registry"
        ) from problem

    def _receive(self, partial: PartialBlob) -> Unreachable | None:
        """Receive until the registry ends or the connection breaks, which is returned."""
        size = self.size
        try:
            with self.source(partial.position) as (begin, chunks):
                if begin != partial.position:
                    partial.restart()
                partial.continued = partial.continued or partial.position > 0
                for chunk in chunks:
                    partial.continued = partial.continued or not chunk
                    if size is not None and partial.position + len(chunk) > size:
                        raise DigestMismatch(
                            f"digest mismatch for {self.what}: the registry sends more than its {size} bytes"
                        )
                    steps = partial.position // _UNKNOWN_STEP
                    partial.write(chunk)
                    if size is None and partial.position // _UNKNOWN_STEP > steps:
                        need_space(self.directory, _UNKNOWN_RESERVE, f"{self.what}, whose size is unknown,")
        except Unreachable as error:
            partial.continued = partial.position > 0  # also if it broke off after the last byte
            return error
        return None


def _lock_in_place(place: str) -> tuple[int, bool] | None:
    """Return the locked file of that name, open, and whether that keeps out other runs of this host.

    None if it is not to be had, or another user has it, who might never let go of it.

    :raises StorageError: if the directory takes no file.
    """
    for _time in range(_MAX_TURNS):
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if os.path.lexists(place):
                return None
            raise storage_error(error, place) from error
        try:
            if not _is_own(descriptor):
                break
            alone = flock.lock(descriptor, wait=True)
            if _is_at(descriptor, place):
                return os.dup(descriptor), alone  # which has the lock as well
            # The holder before removed it: what is locked here is not in the directory.
        finally:
            os.close(descriptor)
    return None


def _opened(path: str, alone: bool) -> tuple[int, str]:
    """Return the file to write to, open, and where it is: of this user, with no other name, and no other writer.

    :raises OSError: if there can be none.
    """
    if alone:
        place = partial_path(path)
        with suppress(OSError):  # others may write to a shared cache: what they put there is not written to
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            if _is_own(descriptor):
                return descriptor, place
            os.close(descriptor)
    return tempfile.mkstemp(prefix=stale.prefix(path), suffix=stale.SUFFIX, dir=os.path.dirname(path))


def _begin_as(partial: PartialBlob, others: Sequence[str]) -> None:
    """Copy the longest of what other runs have, if there is room for it. They may go on with theirs meanwhile."""
    for other in sorted(others, key=_size, reverse=True):
        with suppress(OSError, StorageError):
            descriptor = os.open(other, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                if not _is_own(descriptor) or free_space(other) < os.fstat(descriptor).st_size:
                    continue
                try:
                    for chunk in iter(lambda: stream.read(CHUNK), b""):
                        partial.write(chunk)
                except OSError:
                    partial.restart()
                partial.received = 0
                return


@contextmanager
def _finishing(place: str) -> Iterator[None]:
    """Remove a partial file if a block does not end well."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            os.unlink(place)
        raise storage_error(error, place) from error
    except BaseException:
        with suppress(OSError):
            os.unlink(place)
        raise


def _is_own(descriptor: int) -> bool:
    """Tell whether an open file is a regular one of this user's, with no other name."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink <= 1


def _is_at(descriptor: int, path: str) -> bool:
    try:
        there = os.lstat(path)
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
