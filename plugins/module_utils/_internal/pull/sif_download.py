# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finished SIF files, which are not built but fetched as they are: resolved, fetched, checked, put in their place."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ..errors import DigestMismatch, InvalidSif
from ..fs.digest import hash_of, sha256_of
from ..fs.files import make_directory, need_space, replacing
from ..oci.blobs import BlobCache, Obtained
from ..oci.descriptor import Descriptor
from ..oci.manifest import absent
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..registry import artifact
from ..registry.artifact import Artifact
from ..registry.blob_source import source_of
from ..registry.pool import Registries
from ..registry.web import Download
from ..sif import container
from ..sif.formats import SIF
from ..text import in_words
from .outcome import PullOutcome
from .session import Session

if TYPE_CHECKING:
    from ..oci.partial import Source

FinishedSif = Union[Artifact, Download]


@dataclass(frozen=True)
class Fetched:
    """A finished file in the cache: its digest, and where it is."""

    digest: str
    blob: Obtained


@dataclass(frozen=True)
class Placed:
    """A finished file in its place: size in bytes, mtime in ns, sha256, and its digest as the cache knows it."""

    size: int
    mtime_ns: int
    sha256: str
    digest: str


def resolve_sif(
    registries: Registries, reference: Reference, wanted: Platform, digest: str | None = None
) -> FinishedSif:
    """Resolve the name of a finished file.

    :param digest: what a name in a registry points at, where that is known and not to be asked.
    :raises RegistryError, InvalidManifest, PlatformNotFound: as registry and web server raise them.
    """
    if reference.from_web:
        return registries.web.probe(reference)
    return artifact.resolve_artifact(registries.of(reference), reference, wanted, digest)


def comes_again(session: Session, image: FinishedSif, digest: str) -> bool:
    """Tell whether the file of a web server has a digest; reads all of it, and keeps nothing.

    :raises RegistryError: if it does not come.
    """
    with _source(session, image)(0) as (begin, chunks):
        hasher = hashlib.new(digest.partition(":")[0])
        for chunk in chunks:
            hasher.update(chunk)
    return begin == 0 and f"{hasher.name}:{hasher.hexdigest()}" == digest


def inputs(reference: Reference) -> dict[str, str]:
    """Return what is known of how such a file came to be."""
    return {"format": SIF, "origin": "web" if reference.from_web else "oras"}


def missing(cache: BlobCache, image: FinishedSif) -> tuple[str, int]:
    """Return by which name the cache knows a file, or will not know it, and how many bytes have to be fetched."""
    if isinstance(image, Artifact):
        return image.layer.digest, cache.missing(image.layer)
    if image.digest:
        return image.digest, cache.missing(Descriptor(image.digest, image.size))
    return _version(image), cache.undiscovered(_version(image), image.size)


def _version(image: Download) -> str:
    """Return what tells this very version of a file, whose digest nobody tells."""
    return f"{image.reference} {image.validators}"


@dataclass
class SifDownload:
    """A finished file on its way into the cache; what is fetched counts in an outcome.

    :ivar source: where it comes from, if not from what its own name names.
    """

    session: Session
    image: FinishedSif
    outcome: PullOutcome
    source: Source | None = None
    _begun: Future[Fetched] | None = None

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch it."""
        self.session.progress.expect(self.image.reference.uri, self._size)
        self._begun = pool.submit(self._fetch)

    def arrive(self) -> Fetched:
        """Wait for the file.

        :raises RegistryError, StorageError, NoSpace: if it does not come.
        """
        with self.outcome.clock("fetch"):
            fetched = self._begun.result() if self._begun else self._fetch()
        self._begun = None
        self.outcome.obtained.append(fetched.blob)
        return fetched

    def place(self, fetched: Fetched, path: str, prepare: Callable[[str], None]) -> Placed:
        """Put the file in its place, as another name of the one in the cache if nobody else has that.

        Its digest is proven on the way: the cache may be shared with others, and is trusted for sizes only.

        :param prepare: sees the whole file before it gets its name; what it raises leaves everything as it was.
        :raises InvalidSif, PlatformNotFound: if it is no SIF, or not one of the platform.
        :raises StorageError, NoSpace: if it cannot be put there.
        """

        status: list[os.stat_result] = []  # before it has its name, by which another run's file may follow at once

        def check(temporary: str) -> None:
            _require_sif(temporary, self.image, self.session.platform)
            prepare(temporary)
            status[:] = [os.stat(temporary)]

        cache = self.session.cache
        make_directory(os.path.dirname(path))
        if not cache.give(fetched.digest, path, check):
            try:
                _copy(fetched, path, check)
            except _Damaged:
                cache.drop(fetched.digest)
                fetched = self.arrive()
                try:
                    _copy(fetched, path, check)
                except _Damaged as error:
                    raise DigestMismatch(
                        f"the file of {self.image.reference} is damaged in the cache, again and again; choose another "
                        "cache"
                    ) from error
        algorithm, _colon, encoded = fetched.digest.partition(":")
        sha256 = encoded if algorithm == "sha256" else sha256_of(path)
        return Placed(status[0].st_size, status[0].st_mtime_ns, sha256, fetched.digest)

    @property
    def _size(self) -> int | None:
        return self.image.layer.size if isinstance(self.image, Artifact) else self.image.size

    def _fetch(self) -> Fetched:
        image, cache = self.image, self.session.cache
        what = f"the file of {image.reference}"
        origin = self.source or _source(self.session, image)
        with self.session.progress.fetching(image.reference.uri, self._size, origin) as source:
            if isinstance(image, Artifact):
                return Fetched(image.layer.digest, cache.obtain(image.layer, source, what))
            if image.digest:
                return Fetched(image.digest, cache.obtain(Descriptor(image.digest, image.size), source, what))
            return Fetched(*cache.discover(_version(image), image.size, source, what))


class _Damaged(Exception):
    """A cached file that is not what its digest says."""


def _source(session: Session, image: FinishedSif) -> Source:
    reference, registries = image.reference, session.registries
    if isinstance(image, Artifact):
        return source_of(registries.of(reference), reference.repository, image.layer, session.slots)
    return functools.partial(registries.web.content, image)


def _copy(fetched: Fetched, path: str, check: Callable[[str], None]) -> None:
    need_space(os.path.dirname(path), fetched.blob.size, f"the copy of {fetched.blob.path}")
    algorithm, _colon, encoded = fetched.digest.partition(":")
    with replacing(path, mode=0o777, prepare=check) as target:
        try:
            blob = open(fetched.blob.path, "rb")  # noqa: SIM115 (it is closed below)
        except FileNotFoundError as error:  # another run has emptied the cache meanwhile
            raise _Damaged from error
        with blob:
            if hash_of(blob, algorithm, target).hexdigest() != encoded:
                raise _Damaged


def _require_sif(path: str, image: FinishedSif, wanted: Platform) -> None:
    try:
        header = container.read_header(path)
    except InvalidSif as error:
        kind = (image.layer.media_type if isinstance(image, Artifact) else image.media_type) or "no type"
        told = str(error).replace(path, "what was sent")
        raise InvalidSif(
            f"{image.reference} is no sound SIF file: {told} ({in_words(os.path.getsize(path))} of {kind}); "
            "check the name, and whoever put it there"
        ) from error
    offered = Platform.of("linux", header.architecture or "unknown")
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        raise absent(wanted, [offered], image.reference)
