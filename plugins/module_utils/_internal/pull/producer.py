# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Producers: each makes the file of one image. It is built from layers, or downloaded as it is."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ..inventory.document import VERIFIED, File
from ..inventory.paths import back_up
from ..inventory.provenance import Provenance
from ..late import importing
from ..registry.image import ResolvedImage
from . import sif_download
from .job import Job
from .layer_download import LayerDownloads
from .plan import Plan
from .sif_cache import SifCache
from .sif_download import SifDownload


class Producer(Protocol):
    """The means to make the file of one image; an outcome counts what that takes."""

    def prefetch(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch what is needed.

        :raises NoSpace: if it does not fit into the cache.
        """

    def produce(self) -> File:
        """Put the file in its place, in the place of what is there; return that of the plan which is fresh, if the same
        came again and was left in its place.

        :raises SregistryError: if that fails; what was there is then as before.
        """


def producer_of(job: Job, plan: Plan) -> Producer:
    """Return the producer that suits an image: a download, if it is a finished file or the SIF cache has one."""
    session, image, cache, entry = job.session, plan.image, job.request.sif_cache, job.cached.entry
    if cache and entry:
        download, key = SifDownload(session, entry.artifact, job.outcome, cache.source(entry)), entry.key
        return CacheProducer(job, download, dict(key.inputs), key.manifest_digest, None, cache, entry.provenance)
    if isinstance(image, ResolvedImage):
        return _LayerProducer(job, image, LayerDownloads(session, image, job.outcome))
    trust = job.request.trust
    mark = {VERIFIED: trust.mark} if trust and trust.mark else {}
    inputs = {**sif_download.inputs(image.reference), **mark}
    return _SifProducer(job, SifDownload(session, image, job.outcome), inputs, image.manifest_digest, plan.fresh)


def finish_file(job: Job, temporary: str) -> None:
    """Do the last for a finished file, before it gets its name: verify it, set owner and mode, back up the old one.

    :raises SregistryError: if the file is not signed as it has to be, or something cannot be written.
    """
    request = job.request
    if request.trust:
        request.trust.verify(temporary, job.outcome.reference)
    request.prepare(temporary)
    if request.backup:
        job.backup_file = back_up(job.path, job.backup_file)


@dataclass
class _LayerProducer:
    """A build, while the layers arrive."""

    job: Job
    image: ResolvedImage
    downloads: LayerDownloads

    def prefetch(self, pool: ThreadPoolExecutor) -> None:
        self.downloads.begin(pool)

    def produce(self) -> File:
        # Ansible compiles a module's code each time it runs: most runs build nothing, and need not know how.
        with importing:
            from ..layers.decompressed_stream import totals
            from ..sif.builder import ImageBuild

        job, image, cache, outcome = self.job, self.image, self.job.session.cache, self.job.outcome
        toolchain, workers, last = job.request.toolchain, job.session.threads, partial(finish_file, job)
        inputs = toolchain.inputs  # what misses a program ends here
        built = self.downloads.serve(
            lambda: ImageBuild(image, cache, toolchain, self.downloads, outcome.clock, workers).write_sif(
                job.path, last
            )
        )
        outcome.warnings.extend(built.warnings)
        job.builder = {"name": built.builder, "reason": built.reason, "decoders": totals(built.decompressed)}
        cache.keep(built.path, f"sha256:{built.sha256}")  # who deletes it by mistake gets it back at once
        return dataclasses.replace(
            File.at(built.path, built.sha256, inputs),
            size=built.size,
            mtime_ns=built.mtime_ns,
            manifest_digest=image.manifest_digest,
            engine_version=toolchain.engine.version,
            packer=f"mksquashfs {toolchain.packer.version}",
            builder=built.builder,
        )


@dataclass
class _SifProducer:
    """A download of a finished file. What comes again as it came before leaves the file that is there in its place."""

    job: Job
    download: SifDownload
    inputs: dict[str, str]
    manifest_digest: str | None
    there: File | None

    def prefetch(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch it."""
        self.download.begin(pool)

    def produce(self) -> File:
        """Put the file in its place.

        :raises SregistryError: as ``Producer.produce``.
        """
        job, there, trust = self.job, self.there, self.job.request.trust
        fetched = self.download.arrive()
        if there and there.manifest_digest == fetched.digest:
            if trust:
                trust.verify(there.path, there.path)
            job.session.cache.keep(there.path, fetched.digest)  # so that it is there once
            return there
        with job.outcome.clock("place"):
            placed = self.download.place(fetched, job.path, partial(finish_file, job))
        return dataclasses.replace(
            File.at(job.path, placed.sha256, self.inputs),
            size=placed.size,
            mtime_ns=placed.mtime_ns,
            manifest_digest=self.manifest_digest or placed.digest,
        )


@dataclass
class CacheProducer(_SifProducer):
    """A download of a file that somebody else has built. It may not come: then the image is built, if that is
    allowed.
    """

    cache: SifCache
    provenance: Provenance | None

    def produce(self) -> File:
        """Put the file in its place.

        :raises RegistryError, InvalidSif, PlatformNotFound: if it does not come, or is not what it has to be.
        :raises SregistryError: as ``Producer.produce``.
        """
        file, known = super().produce(), self.provenance
        self.job.outcome.warnings.extend(self.cache.warnings())
        if known:
            file = dataclasses.replace(
                file, engine_version=known.engine_version, packer=known.packer, builder=known.builder
            )
        return file
