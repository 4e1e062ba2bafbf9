# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a layer: its cached blob, decompressed, and verified while it is read for the first time."""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Protocol, cast

from ..errors import DigestMismatch, InvalidLayer
from ..fs.digest import matches
from ..fs.files import storage_error
from ..oci.blobs import BlobCache
from ..oci.descriptor import Descriptor
from .compression import decompressed
from .decompressed_stream import Decompressed

_CHUNK = 1024 * 1024  # bytes
_AHEAD = 4  # pieces, of at most _CHUNK each


class DamagedBlob(DigestMismatch):
    """A cached blob is not what its digest says; the cache has to fetch it anew."""

    def __init__(self, descriptor: Descriptor, message: str) -> None:
        super().__init__(message)
        self.descriptor = descriptor


class ArrivingLayers(Protocol):
    """The layers of an image, while they arrive in the cache."""

    def wait(self, layer: Descriptor) -> None:
        """Return when a layer is in the cache.

        :raises SregistryError: that tells why it does not come.
        """

    def note_read(self, layer: Descriptor, position: int) -> None:
        """Note how many bytes of a layer, as it is compressed, have been read."""


class Content:
    """The tar archive of one layer. ``what`` names the layer in errors."""

    def __init__(
        self,
        descriptor: Descriptor,
        diff_id: str | None,
        what: str,
        cache: BlobCache,
        arriving: ArrivingLayers,
        processors: int | None = None,
    ) -> None:
        """
        :param diff_id: the digest of the uncompressed archive, if the image tells it.
        :param arriving: is waited for until the blob is in the cache, and told how much of it has been read.
        :param processors: that may decompress it; None for all.
        :ivar work: which decoder gave how much of it.
        """
        self.what = what
        self._descriptor = descriptor
        self._diff_id = diff_id
        self._cache = cache
        self._arriving = arriving
        self._path = cache.path(descriptor.digest)
        self._processors = processors
        self._verified: tuple[int, ...] | None = None
        self.work: list[Decompressed] = []

    @contextmanager
    def verified(self) -> Iterator[IO[bytes]]:
        """Give the archive, for a block that reads it. At its end, the rest is read, and all of it is verified.

        The digest of the uncompressed archive, which the image's config vouches for, proves the content. Only where
        there is none, or it does not fit, the blob's own is computed, to tell a damaged cache from a badly published
        image.

        :raises DamagedBlob: if the blob has to be fetched again.
        :raises DigestMismatch: if the image was published wrongly.
        :raises InvalidLayer: if it cannot be decompressed, or the block raises it.
        :raises StorageError: if it cannot be read.
        """
        arriving, layer = self._arriving, self._descriptor
        arriving.wait(layer)
        source, identity = self._source()
        try:
            plain = self._decompressed(source)
            hashing = _Hashing(plain, self._diff_id, lambda: arriving.note_read(layer, source.tell()))
            with _Ahead(hashing, self._path) as archive:
                yield cast("IO[bytes]", archive)
                while archive.read(_CHUNK):  # padding after the end of the archive belongs to the digest
                    pass
            if self._diff_id and hashing.digest != self._diff_id:
                raise DigestMismatch(
                    f"digest mismatch for {self.what}: its content is {hashing.digest}, but the image's config says "
                    f"{self._diff_id}; the image was published wrongly"
                )
        except (InvalidLayer, DigestMismatch) as error:
            if self._proven():
                raise
            raise self._damaged() from error
        if not self._diff_id and not self._proven():
            raise self._damaged()
        self._verified = identity

    def open(self) -> IO[bytes]:
        """Return the archive once more: in a cache that others may write, the blob could be another by now. Where locks
        keep nobody out, it may as well be the same, which another run has fetched too.

        :raises InvalidLayer: if it is not the blob that was verified.
        :raises DamagedBlob: if it has to be fetched again.
        :raises StorageError: if it cannot be read.
        """
        source, identity = self._source()
        if identity != self._verified:
            try:
                same = self._verified is not None and matches(source, self._descriptor.digest)
                source.seek(0)
            except OSError as error:
                source.close()
                raise storage_error(error, self._path) from error
            if not same:
                source.close()
                raise InvalidLayer(f"{self.what} changed while it was read")
            self._verified = identity
        return cast("IO[bytes]", _Ahead(self._decompressed(source), self._path))

    def _source(self) -> tuple[IO[bytes], tuple[int, ...]]:
        """Return the blob, and what changes whenever someone writes to it, or puts another file in its place.

        :raises DamagedBlob: if there is none any more.
        :raises StorageError: if it cannot be read.
        """
        try:
            source = open(self._path, "rb")  # noqa: SIM115 (the stream of its content closes it)
            status = os.fstat(source.fileno())
        except FileNotFoundError as error:
            raise DamagedBlob(self._descriptor, f"{self.what} was removed from the cache meanwhile") from error
        except OSError as error:
            raise storage_error(error, self._path) from error
        return source, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _decompressed(self, source: IO[bytes]) -> IO[bytes]:
        try:
            return decompressed(source, self.what, self._processors, self.work)
        except OSError as error:
            source.close()
            raise storage_error(error, self._path) from error

    def _proven(self) -> bool:
        return self._cache.proven(self._descriptor.digest)

    def _damaged(self) -> DamagedBlob:
        return DamagedBlob(
            self._descriptor, f"digest mismatch for {self.what}: the cached file {self._path} is damaged"
        )


class _Hashing(io.RawIOBase):
    """A readable stream that computes the digest of all that is read through it."""

    def __init__(self, source: IO[bytes], like: str | None, went_on: Callable[[], None]) -> None:
        self._source = source
        self._went_on = went_on
        self._algorithm = (like or "sha256").partition(":")[0]
        self._hasher = hashlib.new(self._algorithm)

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hasher.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._hasher.update(data)
        self._went_on()
        return data

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class _Ahead(io.RawIOBase):
    """A readable stream that a thread of its own reads a little ahead: decompressing and hashing need no interpreter
    lock, so what is done with the content goes on meanwhile.
    """

    def __init__(self, source: IO[bytes] | io.RawIOBase, path: str) -> None:
        self._source = source
        self._path = path
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, of any size; nothing at the end."""
        if self._ended:
            return b""
        piece = self._pieces.get()
        self._ended = not piece or isinstance(piece, BaseException)
        if isinstance(piece, OSError):
            raise storage_error(piece, self._path) from piece
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                piece = self._source.read(_CHUNK) or b""
                self._pieces.put(piece)
                if not piece:
                    return
        except Exception as error:  # noqa: BLE001 (it is raised where the content is read)
            self._pieces.put(error)

    def close(self) -> None:
        if not self.closed:
            self._closing.set()
            while self._thread.is_alive():
                with suppress(queue.Empty):
                    self._pieces.get(timeout=0.01)  # it may be waiting for room
            self._source.close()
        super().close()
