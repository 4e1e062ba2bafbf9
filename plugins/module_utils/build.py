# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an image's layers to one finished SIF."""

from __future__ import annotations

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, cast

from . import sandbox, sif, skeleton
from .blobs import BlobCache
from .compression import decompressed
from .engine import Engine
from .errors import DigestMismatch, InvalidLayer
from .files import make_directory, need_space, replacing, storage_error, temporary_directory
from .image import ResolvedImage
from .layers import Layer, Union, index
from .manifest import Descriptor
from .squashfs import Packer

_CHUNK = 1024 * 1024


@dataclass
class Built:
    """A finished SIF: where it is, its size in bytes, its sha256, and warnings."""

    path: str
    size: int
    sha256: str
    warnings: list[str] = field(default_factory=list)


class DamagedBlob(DigestMismatch):
    """A cached blob is not what its digest says; the cache has to fetch it anew."""

    def __init__(self, descriptor: Descriptor, message: str) -> None:
        super().__init__(message)
        self.descriptor = descriptor


def build(
    image: ResolvedImage,
    cache: BlobCache,
    engine: Engine,
    packer: Packer,
    target: str,
    tmpdir: str,
    clock: Callable[[str], AbstractContextManager[None]],
    prepare: Callable[[str], None],
    workers: int = 2,
) -> Built:
    """Unite the layers in a sandbox, add what the engine adds, pack it, and put it into a SIF that replaces ``target``.

    :param tmpdir: a directory with room for the unpacked image and its squashfs.
    :param clock: measures the time of a named step: verify, metadata, unpack, pack, assemble.
    :param prepare: sets owner and mode of the finished file before it gets its name.
    :param workers: layers that are verified and indexed at once.
    :raises DamagedBlob: if a cached layer has to be fetched again.
    :raises InvalidLayer, EngineError, PackerError, StorageError, NoSpace: as the steps raise them.
    """
    make_directory(tmpdir)
    with temporary_directory(tmpdir) as work:
        with clock("verify"), ThreadPoolExecutor(max(1, workers)) as pool:
            diff_ids = image.config.diff_ids
            expected = (
                diff_ids if diff_ids is not None and len(diff_ids) == len(image.layers) else [None] * len(image.layers)
            )
            layers = list(pool.map(lambda pair: _layer(image, cache, *pair), zip(image.layers, expected)))
        with clock("metadata"):
            union = Union(layers)
            engine_tree = os.path.join(work, "engine")
            os.mkdir(engine_tree)
            frame = skeleton.make(engine, image.config, image.reference.uri, engine_tree)
            union.add(frame.cover(union))
        with clock("unpack"):
            need_space(work, union.size, f"unpacking {image.reference}")
            root = os.path.join(work, "root")
            os.mkdir(root)
            warnings = sandbox.write(root, union.entries())
        with clock("pack"):
            squashfs = os.path.join(work, "squashfs")
            packer.pack(root, squashfs, as_root=os.geteuid() != 0)
        with clock("assemble"):
            size, sha256 = _assemble(image, frame, squashfs, target, prepare)
    return Built(target, size, sha256, warnings)


def _assemble(
    image: ResolvedImage, frame: skeleton.Skeleton, squashfs: str, target: str, prepare: Callable[[str], None]
) -> tuple[int, str]:
    make_directory(os.path.dirname(target))
    need_space(os.path.dirname(target), os.path.getsize(squashfs), f"the SIF of {image.reference}")
    with replacing(target, mode=0o777, prepare=prepare) as stream, open(squashfs, "rb") as partition:
        sif.write(stream, partition, image.config.platform.architecture, frame.objects, uuid.uuid4(), int(time.time()))
        stream.seek(0)
        hasher = hashlib.sha256()
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            hasher.update(chunk)
        size = stream.tell()
    return size, hasher.hexdigest()


def _layer(image: ResolvedImage, cache: BlobCache, descriptor: Descriptor, diff_id: str | None) -> Layer:
    """Index a layer and verify its content on the way.

    The digest of the uncompressed archive, which the image's config vouches for, proves the content. Only where there
    is none, or it does not fit, the blob's own is computed, to tell a damaged cache from a badly published image.
    """
    what = f"the layer {descriptor.digest} of {image.reference}"
    path = cache.path(descriptor.digest)
    try:
        source = open(path, "rb")  # noqa: SIM115 (the stream of its content closes it)
        verified = _identity(source)
        with _Hashing(decompressed(source, what), diff_id) as archive:
            entries = index(cast("IO[bytes]", archive), what)
            while archive.read(_CHUNK):  # padding after the end of the archive belongs to the digest
                pass
        if diff_id and archive.digest != diff_id:
            raise DigestMismatch(
                f"digest mismatch for {what}: its content is {archive.digest}, but the image's config says {diff_id}; "
                "the image was published wrongly"
            )
    except OSError as error:
        raise storage_error(error, path) from error
    except (InvalidLayer, DigestMismatch) as error:
        if cache.proven(descriptor.digest):
            raise
        raise DamagedBlob(descriptor, f"digest mismatch for {what}: the cached file {path} is damaged") from error
    if not diff_id and not cache.proven(descriptor.digest):
        raise DamagedBlob(descriptor, f"digest mismatch for {what}: the cached file {path} is damaged")
    return Layer(what, entries, lambda: _open_again(path, verified, what))


def _identity(source: IO[bytes]) -> tuple[int, ...]:
    """What changes whenever someone writes to a file, or puts another in its place."""
    status = os.fstat(source.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open_again(path: str, verified: tuple[int, ...], what: str) -> IO[bytes]:
    """The content of a blob that was verified before: in a cache that others may write, it could be another by now."""
    source = open(path, "rb")  # noqa: SIM115 (the stream of its content closes it)
    if _identity(source) != verified:
        source.close()
        raise InvalidLayer(f"{what} changed while it was read")
    return decompressed(source, what)


class _Hashing(io.RawIOBase):
    """A readable stream that computes the digest of all that is read through it."""

    def __init__(self, source: IO[bytes], like: str | None) -> None:
        self._source = source
        self._algorithm = (like or "sha256").partition(":")[0]
        self._hasher = hashlib.new(self._algorithm)

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hasher.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._hasher.update(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
