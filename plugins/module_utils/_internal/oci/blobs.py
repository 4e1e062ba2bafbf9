# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cache of blobs: content-addressed, verified, resumable, and shared with Apptainer's and SingularityCE's own.

Blobs lie in an OCI image layout (OCI image specification, image-layout.md) at the place where ``apptainer pull`` looks
for them, so either finds what the other fetched.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from ..errors import DigestMismatch, RegistryError, StorageError
from ..fs import guard, stale
from ..fs.digest import matches
from ..fs.files import give_name, link_in_place, make_directory, storage_error
from ..late import importing

if TYPE_CHECKING:
    from .descriptor import Descriptor
    from .partial import Source

ALGORITHMS = ("sha256", "sha512")
_ENCODED = re.compile("[0-9a-f]+")


@dataclass(frozen=True)
class Obtained:
    """A blob of the cache: its path, its size in bytes, and how many of these came over the network in this run."""

    path: str
    size: int
    received: int


_FileIdentity = tuple[int, int, int, int]
"""Device, inode, size in bytes and mtime in ns of a file."""


class BlobCache:
    """A directory of blobs, used by many threads, processes and programs at once."""

    def __init__(self, directory: str, breaks: int = 3, shared: bool = False) -> None:
        """
        :param directory: of the OCI layout, for example ``~/.apptainer/cache/blob``.
        :param breaks: how many broken connections in a row, without a byte of progress, end a transfer.
        :param shared: with other runs, of which one may prune it.
        """
        self.directory = directory
        self._breaks = breaks
        self._lock = threading.Lock()
        self._running: dict[str, Future[Obtained]] = {}
        self._received: dict[str, _FileIdentity] = {}
        self._seen: dict[str, list[str]] = {}
        self._unguarded = shared

    def path(self, digest: str) -> str:
        """Return where a blob lies or would lie.

        :raises StorageError: if it is not a digest; a document of the inventory may hold anything.
        """
        algorithm, _colon, encoded = digest.partition(":")
        if algorithm not in ALGORITHMS or not _ENCODED.fullmatch(encoded):
            raise StorageError(
                f"{digest!r} is not a digest, so no blob of {self.directory} has it; look where it is from"
            )
        return os.path.join(self.directory, "blobs", algorithm, encoded)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell whether a blob is there with its right size; where the size is unknown its digest is computed."""
        size = size_of(self.path(descriptor.digest))
        if size is None:
            return False
        if descriptor.size is not None:
            return size == descriptor.size
        return self.proven(descriptor.digest)

    def missing(self, descriptor: Descriptor) -> int:
        """Return the bytes of a blob that would have to be fetched; 0 where nobody tells its size."""
        if descriptor.size is None or self.holds(descriptor):
            return 0
        return _rest(self.path(descriptor.digest), descriptor.size)

    def undiscovered(self, key: str, size: int | None) -> int:
        """Return the bytes that ``discover`` would have to fetch; 0 where nobody tells the size."""
        return _rest(self._unnamed(key), size) if size is not None else 0

    def read(self, descriptor: Descriptor, limit: int, source: Source, what: object) -> tuple[bytes, Obtained]:
        """Return the content of a small blob, such as a config, its digest proven even if it was cached.

        :param limit: bytes; a larger one is refused.
        :raises DigestMismatch, RegistryError, StorageError, NoSpace: as ``obtain``.
        """
        if descriptor.size is not None and descriptor.size > limit:
            raise DigestMismatch(f"{what} claims {descriptor.size} bytes; more than {limit} are not accepted here")
        obtained = self.obtain(descriptor, source, what)
        if not obtained.received and not self.proven(descriptor.digest):
            self.drop(descriptor.digest)
            obtained = self.obtain(descriptor, source, what)
        try:
            with _reading(obtained.path) as stream:
                return stream.read(limit), obtained
        except OSError as error:
            raise _unreadable(error, obtained.path) from error

    def obtain(self, descriptor: Descriptor, source: Source, what: object) -> Obtained:
        """Make sure that a blob is there: at once if cached, else fetched, verified and kept.

        Threads that want the same blob wait for the first; so do other processes. What the first could not get from its
        repository, the next tries to get from its own. A cached blob is trusted for its size; who unpacks it
        verifies its digest on the way.

        :raises DigestMismatch: if the registry's content is not what the digest or size says.
        :raises RegistryError: as the source raises it.
        :raises StorageError, NoSpace: if the cache cannot hold it.
        """
        self._use()
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

    def discover(self, key: str, size: int | None, source: Source, what: object) -> tuple[str, Obtained]:
        """Fetch a blob whose digest is known only in the end; returns that, and where the blob is.

        :param key: names what is fetched, in this very version: what a killed run left of the same is continued.
        :param size: bytes, if that is known.
        :raises RegistryError, StorageError, NoSpace: as ``obtain``.
        """
        with importing:
            from .partial import Transfer, growing, persistently, turn

        path = self._unnamed(key)
        transfer = Transfer(source, size, what, self.directory, self._breaks)

        def finish() -> tuple[str, Obtained]:
            with self._made(path) as name, turn(name) as alone, growing(name, "sha256", alone) as partial:
                transfer.fetch(partial)
                found = self.path(partial.digest)
                status = partial.publish(os.path.join(os.path.dirname(name), os.path.basename(found)))
                self._sweep(path)
                return partial.digest, Obtained(found, status.st_size, partial.received)

        return persistently(finish, self.directory)

    def keep(self, path: str, digest: str) -> None:
        """Remember a finished file by its digest, without a copy: as another name of it, where the file system can."""
        place = self.path(digest)
        with suppress(OSError, StorageError):
            make_directory(os.path.dirname(place), 0o700, self.directory)
            give_name(path, place)  # what was there may be damaged, or another file's

    def keeps(self, digest: str) -> bool:
        """Tell whether a file that was kept is there, and is nobody else's and in no other place."""
        try:
            return _is_given(os.lstat(self.path(digest)), names=1)
        except (OSError, StorageError):
            return False

    def give(self, digest: str, path: str, prepare: Callable[[str], None]) -> bool:
        """Put a file that was kept in a place, if it is there, still what its digest says, and nowhere else in use.

        :param prepare: sets owner and mode of the file before it gets its name.
        :raises StorageError: if it cannot be put there.
        """

        def accept(stream: IO[bytes]) -> bool:
            status = os.fstat(stream.fileno())
            # What this run has received and verified, nobody else can have written to since: it need not be read again.
            own = self._received.get(digest) == _identity(status)
            return _is_given(status, names=2) and (own or matches(stream, digest))

        return link_in_place(self.path(digest), path, accept, prepare)

    def forget(self, digest: str) -> None:
        """Do not keep a file any longer, as far as this user may say so."""
        with suppress(StorageError):
            self.drop(digest)

    def drop(self, digest: str) -> None:
        """Forget a blob that turned out to be damaged.

        :raises StorageError: if it cannot be removed.
        """
        self.remove(self.path(digest))

    def _unnamed(self, key: str) -> str:
        """Return where a blob would lie whose digest is not known yet: its partial file is named after this."""
        return self.path(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}")

    def _use(self) -> None:
        """Keep others from pruning the cache for as long as this object lives."""
        with self._lock:
            if self._unguarded:
                self._unguarded = False
                with importing:
                    from .cache_lock import share
                share(self.directory, self)

    def remove(self, path: str) -> None:
        """Remove a file of the cache.

        :raises StorageError: if it cannot be removed.
        """
        try:
            with suppress(FileNotFoundError), guard.reached(os.path.dirname(path), self.directory) as place:
                os.unlink(os.path.join(place, os.path.basename(path)))
        except OSError as error:
            raise storage_error(error, path) from error

    @contextmanager
    def _made(self, path: str) -> Iterator[str]:
        """Yield the path of a blob in its directory, which is made if it is not there, and held for a block."""
        try:
            with guard.reached(os.path.dirname(path), self.directory, 0o700) as place:
                yield os.path.join(place, os.path.basename(path))
        except OSError as error:
            raise storage_error(error, path) from error

    def proven(self, digest: str) -> bool:
        """Tell whether a blob is there and its content has its digest; reads all of it."""
        try:
            with _reading(self.path(digest)) as stream:
                return matches(stream, digest)
        except OSError:
            return False

    def _obtain(self, descriptor: Descriptor, source: Source, what: object) -> Obtained:
        path = self.path(descriptor.digest)
        if self.holds(descriptor):
            return _cached(path)
        with importing:
            from .partial import Transfer, growing, persistently, turn

        algorithm = descriptor.digest.partition(":")[0]
        transfer = Transfer(source, descriptor.size, what, self.directory, self._breaks)

        def finish() -> Obtained:
            with self._made(path) as name, turn(name) as alone:
                if self.holds(descriptor):  # another process finished it while this one waited
                    self._sweep(path)
                    return _cached(path)
                with growing(name, algorithm, alone, self._others(path)) as partial:
                    transfer.fetch_verified(partial, descriptor.digest)
                    status = partial.publish(name)
                self._sweep(path)
            self._received[descriptor.digest] = _identity(status)
            return Obtained(path, status.st_size, partial.received)

        return persistently(finish, self.directory)

    def _others(self, path: str) -> list[str]:
        """Return the files in which other runs began a blob."""
        return stale.made_for(path, self._hidden(os.path.dirname(path)))

    def _sweep(self, path: str) -> None:
        """Remove what killed runs left of a blob that is there now."""
        stale.remove_files(path, self._hidden(os.path.dirname(path)))

    def _hidden(self, directory: str) -> list[str]:
        """Return the hidden names of a directory, as this run first saw it: there may be thousands."""
        with self._lock:
            if directory not in self._seen:
                self._seen[directory] = [name for name in names_in(directory) if name.startswith(".")]
            return self._seen[directory]


def size_of(path: str) -> int | None:
    """Return the size of a file; None if there is none, or something else. A link is not followed."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _rest(path: str, size: int) -> int:
    """Return the bytes of a blob that are not in the file that a killed run left of it."""
    with importing:
        from .partial import partial_path

    begun = size_of(partial_path(path)) or 0
    return size - begun if begun <= size else size


def names_in(directory: str) -> list[str]:
    """Return the names in a directory; none where there is no directory."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise storage_error(error, directory) from error


def _identity(status: os.stat_result) -> _FileIdentity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_given(status: os.stat_result, names: int) -> bool:
    """Tell whether a kept file may be given out: of this user, written by nobody else, with so many names at most."""
    own = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return own and stat.S_ISREG(status.st_mode) and status.st_nlink <= names


def _cached(path: str) -> Obtained:
    """Return a blob that is there.

    :raises StorageError: if this user may not read it.
    """
    try:
        with _reading(path) as stream:
            return Obtained(path, os.fstat(stream.fileno()).st_size, 0)
    except OSError as error:
        raise _unreadable(error, path) from error


def _reading(path: str) -> IO[bytes]:
    """Open a blob for reading; a link to one is an ``OSError``."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK))


def _unreadable(error: OSError, path: str) -> StorageError:
    return StorageError(
        f"cannot read the cached blob {path}: {error.strerror or error}; remove it or make it readable for this user, "
        "or choose another cache"
    )


def tally(obtained: Sequence[Obtained]) -> dict[str, dict[str, int]]:
    """Return sums for a result: blobs and bytes that were fetched, and that the cache had."""
    fetched = [item.received for item in obtained if item.received]
    cached = [item.size for item in obtained if not item.received]
    return {
        "fetched": {"blobs": len(fetched), "bytes": sum(fetched)},
        "cached": {"blobs": len(cached), "bytes": sum(cached)},
    }
