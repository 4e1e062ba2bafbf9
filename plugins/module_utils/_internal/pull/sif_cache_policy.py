# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy of the SIF cache for one image: it is searched before a build, and filled after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import NotFound, SregistryError
from ..fs.guard import ROOT
from ..inventory.document import Document, File
from ..registry.image import ResolvedImage, contents, restore
from .job import HIT, MISS, PUSHED, THERE, CacheResult, Job
from .sif_cache import CacheKey, SifCache

if TYPE_CHECKING:
    from .resolve import Resolved


def search(job: Job, cache: SifCache, manifest_digest: str) -> CacheResult:
    """Search for the finished file of an image that would be as good as one built here.

    A cache in trouble is as good as an empty one, with a warning, unless it is required.

    :raises NotFound: if it has none, and is required.
    :raises RegistryError, InvalidManifest: if it is required and does not say.
    """
    outcome, reference = job.outcome, job.outcome.reference
    acceptable = job.request.toolchain.acceptable_inputs
    keys = [CacheKey(reference, manifest_digest, outcome.platform, inputs) for inputs in acceptable]
    try:
        with outcome.clock("resolve"):
            entry = cache.get(keys)
    except SregistryError as error:
        if cache.required:
            raise
        outcome.warnings.append(f"the SIF cache {cache} could not be used: {error}")
        return CacheResult()
    outcome.warnings.extend(cache.warnings())
    if entry is None and cache.required:
        job.cached = CacheResult(MISS)  # the outcome tells of it beside the error
        inputs = ", ".join(f"{name}: {value}" for name, value in sorted(keys[0].inputs.items()))
        raise NotFound(
            f"the SIF cache {cache} has no file of {reference} ({manifest_digest}, {inputs}), and "
            "sif_cache_miss: fail forbids to build it here; pull it with sif_cache_push: true on the node that builds"
        )
    return CacheResult(HIT if entry else MISS, entry)


def search_pinned(job: Job, cache: SifCache) -> tuple[ResolvedImage | None, CacheResult]:
    """Search for a finished file, and the image that it is of, without a request to the image's own registry.

    That needs the digest of the platform's manifest to be pinned, and the documents of the image to be in the cache.

    :raises SregistryError: as ``search``.
    """
    session, outcome, reference = job.session, job.outcome, job.outcome.reference
    pinned = session.pins.of(reference, session.platform)
    if not pinned or not pinned.manifest_digest:
        return None, CacheResult()
    found = search(job, cache, pinned.manifest_digest)
    if not found.entry:
        return None, found
    try:
        with outcome.clock("resolve"):
            documents = cache.documents(found.entry, session.cache)
            return restore(reference, pinned.digest, pinned.manifest_digest, documents, session.platform), found
    except SregistryError as error:
        outcome.warnings.append(
            f"{reference.registry} was asked, since the SIF cache {cache} does not tell all: {error}"
        )
        return None, CacheResult(found.state)


def publish(job: Job, document: Document, file: File, image: Resolved | None) -> CacheResult:
    """Put a file into the cache that is not there yet; in check mode, tell whether it would be put there.

    :param document: of the image of the file.
    :param image: what the file was made from, if that was resolved in this run.
    :raises RegistryError, StorageError: if that fails.
    """
    cache, known, digest = job.request.sif_cache, job.cached, file.manifest_digest
    if not cache or known.state == HIT or not digest:
        return known
    key = CacheKey(document.reference, digest, document.platform, file.unmarked_inputs)
    with job.outcome.clock("push"):
        if known.state != MISS and not job.request.force and cache.has(key):
            return CacheResult(THERE)
        if _is_anothers_word(job.before, document, file):
            job.outcome.warnings.append(
                f"{file.path} was not put into the SIF cache {cache}, since another user could have written what the "
                "inventory says of it; build it anew with force: true"
            )
            return known
        if not job.session.check:
            cache.put(key, document, file, _contents(job, document, file, image))
    return CacheResult(PUSHED)


def foresee(job: Job, image: Resolved, lost: File | None) -> CacheResult:
    """Tell what ``publish`` would do with a file that is not made yet, for check mode.

    :param lost: the file as it was, if this host can have kept it.
    :raises RegistryError: if the registry does not say.
    """
    cache, known = job.request.sif_cache, job.cached
    if not cache or known.state == HIT or not image.manifest_digest:
        return known
    if known.state != MISS:  # by force as well: a registry that does not answer could not be pushed to
        inputs = lost.inputs if lost else job.request.toolchain.acceptable_inputs[0]
        there = cache.has(CacheKey(image.reference, image.manifest_digest, job.session.platform, inputs))
        if there and not job.request.force:
            return CacheResult(THERE)
    return CacheResult(PUSHED)


def _is_anothers_word(before: Document | None, document: Document, file: File) -> bool:
    """Tell whether root knows only from a document that another user could have written that a file is that of an
    image: it was not made by this run. Everybody would get it from the cache then.
    """
    told = {(one.path, one.sha256, one.created_at) for one in before.files} if before else set()
    words = [document.word, *([before.word] if before and (file.path, file.sha256, file.created_at) in told else [])]
    return os.geteuid() == ROOT and any(word != ROOT for word in words)


def _contents(job: Job, document: Document, file: File, image: Resolved | None) -> Mapping[str, bytes]:
    """Return the documents of a file's image; nothing, with a warning, if its registry does not give them any more."""
    if isinstance(image, ResolvedImage) and image.manifest_digest == file.manifest_digest:
        return image.contents
    if not document.digest or not file.manifest_digest or document.manifest_digest != file.manifest_digest:
        return {}
    reference, session = document.reference, job.session
    try:
        registry = session.registries.of(reference)
        return contents(registry, session.cache, reference, document.digest, file.manifest_digest)
    except SregistryError as error:
        warning = f"who fetches the file from the SIF cache has to ask {reference.registry}: {error}"
        job.outcome.warnings.append(warning)
        return {}
