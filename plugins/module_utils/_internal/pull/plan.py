# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide what has to be done for an image to be pulled: looked up, compared, and decided before anything is fetched."""

from __future__ import annotations

import dataclasses
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ..errors import EngineError, PackerError, StorageError, Unsigned
from ..fs.files import need_writable
from ..fs.guard import intruders
from ..inventory import storage
from ..inventory.database import LOCK_TIMEOUT
from ..inventory.document import VERIFIED, Document, File
from ..inventory.outcome import PRESENT, RECORDED
from ..late import importing
from ..oci.reference import Reference
from .job import MISS, CacheResult, Job, Replaced
from .request import NOT_PRESENT, PullRequest
from .resolve import is_current, is_same, resolve, to_document
from .session import Session

if TYPE_CHECKING:
    from .resolve import Resolved
    from .sif_cache import CacheEntry

PULLED, REBUILT, REPAIRED = "pulled", "rebuilt", "repaired"
"""Actions: there was no file; its image, or the way it is built, is another one now; it was missing or damaged."""


@dataclass(frozen=True)
class Plan:
    """The work for one image.

    :ivar image: what the name points at.
    :ivar after: the new document of the image, with the files that it had.
    :ivar path: of the file.
    :ivar make: whether the file has to be made; otherwise only the document is new.
    :ivar lost: the file that was there before, if a build now would give the same.
    :ivar fresh: the file that is there and whole, and made as it would be now.
    :ivar entry: the file in the SIF cache that is fetched in the place of a build.
    """

    image: Resolved
    after: Document
    path: str
    make: bool
    lost: File | None
    fresh: File | None
    entry: CacheEntry | None = None


@dataclass(frozen=True)
class Decision:
    """The decision about one image: its action, what its file replaces, what the SIF cache told of it, and the work;
    None if nothing is to be done.
    """

    action: str
    replaced: Replaced
    cached: CacheResult = field(default_factory=CacheResult)
    plan: Plan | None = None


def decide(job: Job) -> Decision:
    """Decide what to do for one image. The job stays as it is; its outcome gets warnings and times.

    :raises SregistryError: if it could not end well.
    """
    session, request, before, path = job.session, job.request, job.before, job.path
    file = before.file(path) if before else None
    if file and file.manifest_digest is None:
        _need_replaceable(job, before)
    state = file.state(request.checksum) if file else storage.MISSING
    alike = not request.force and has_inputs(request, job.outcome.reference, file)
    fresh = file if state == storage.PRESENT and alike else None
    replaced = Replaced(path if file else None)
    with job.outcome.clock("resolve"):
        if before and fresh and _needs_nothing(job, before, fresh):
            _need_verified(job, before, fresh)
            return Decision(PRESENT, replaced)
    session.inventory.need_way()
    image, cached = _resolve(job)
    same = before is not None and file is not None and comes_from(before, file, image)
    if before and fresh and (same or _comes_again(session, image, fresh)):
        _need_verified(job, before, fresh)
        if not same or is_same(before, image):  # a HEAD told otherwise
            return Decision(PRESENT, replaced, cached)
        action = RECORDED  # the index moved, this platform's image in it did not
    elif file is None:
        action, replaced = PULLED, _need_replaceable(job, before)
    else:
        action = REBUILT if state == storage.PRESENT else REPAIRED
    lost, make = file if same and alike else None, not (fresh and same)
    if make:
        cached = search_cache(job, image, lost, cached)
        _need_means(job, cached)
    _warn_of_doubt(job, image)
    plan = Plan(image, to_document(image, session, before), path, make, lost, fresh, cached.entry)
    return Decision(action, replaced, cached, plan)


def need_signable(request: PullRequest, reference: Reference) -> None:
    """Raise if a signature is asked for of an image that nobody can have signed.

    :raises Unsigned: naming it.
    """
    if request.trust and not reference.is_sif:
        raise Unsigned(
            f"{reference} is built here from layers, so nobody has signed it; sign its file with sregistry_sign after "
            "the pull, name one that was signed and pushed to oras://, or pull it without verify"
        )


def search_cache(job: Job, image: Resolved, lost: File | None, known: CacheResult) -> CacheResult:
    """Search the SIF cache for the file of an image, unless this host has kept its own, or must build anew.

    :param known: the result of a search before.
    :raises SregistryError: as ``sif_cache_policy.search``.
    """
    cache = job.request.searched_cache
    if not cache or known.entry:
        return known
    with importing:
        from ..registry.image import ResolvedImage
        from . import sif_cache_policy

    if not isinstance(image, ResolvedImage) or known.state == MISS or is_kept(job.session, lost):
        return known
    found = sif_cache_policy.search(job, cache, image.manifest_digest)
    return found if found.state else known


def is_kept(session: Session, lost: File | None) -> bool:
    """Tell whether a file that was lost is still in the cache of this host."""
    return lost is not None and lost.digest is not None and session.stock.keeps(lost.digest)


def serves(request: PullRequest, document: Document, file: File, image: Resolved) -> bool:
    """Tell whether a file is there, and equal to what a build of the image would give."""
    return (
        comes_from(document, file, image)
        and has_inputs(request, image.reference, file)
        and file.state(request.checksum) == storage.PRESENT
    )


def comes_from(document: Document, file: File, image: Resolved) -> bool:
    """Tell whether a file was made from what an image is now."""
    if image.reference.from_web and not image.digest:
        return document.told == image.documents and file.manifest_digest == document.manifest_digest
    return file.manifest_digest == image.manifest_digest


def has_inputs(request: PullRequest, reference: Reference, file: File | None) -> bool:
    """Tell whether a file was made as it would be now."""
    return file is not None and (reference.is_sif or request.toolchain.agrees(file.inputs))


def _comes_again(session: Session, image: Resolved, file: File) -> bool:
    """Tell whether a file of a web server, of which only the validators are others, is the one that is there.

    The validators of some servers are others each time. A real run finds that out when it has fetched the file, so
    that check mode has to read it, too.
    """
    if not session.check or not image.reference.from_web or image.digest or not file.manifest_digest:
        return False
    if image.size not in (None, file.size):
        return False
    with importing:
        from . import sif_download

    return sif_download.comes_again(session, cast("sif_download.FinishedSif", image), file.manifest_digest)


def _resolve(job: Job) -> tuple[Resolved, CacheResult]:
    """Resolve a name. The SIF cache may know a pinned one, and have its file."""
    cache, cached, reference = job.request.searched_cache, CacheResult(), job.outcome.reference
    if cache and not reference.is_sif:
        with importing:
            from . import sif_cache_policy

        known, cached = sif_cache_policy.search_pinned(job, cache)
        if known:
            return known, cached
    with job.outcome.clock("resolve"):
        return resolve(job.session, reference, job.outcome), cached


def _needs_nothing(job: Job, document: Document, file: File) -> bool:
    """Tell whether an unchanged file is also the right one. Only a name by tag has to be asked about.

    ``NOT_PRESENT`` spares that request. Nobody is asked about a name that is pinned, so that its pin always counts.
    """
    session, reference = job.session, job.outcome.reference
    if job.request.policy == NOT_PRESENT and not session.pins.of(reference, session.platform):
        return True
    return file.manifest_digest == document.manifest_digest and is_current(session, reference, document)


def _need_verified(job: Job, document: Document, file: File) -> None:
    """Raise unless an unchanged file is signed as it has to be. Once verified, it need not be again.

    :raises EngineError, InvalidSif: as ``Trust.verify``.
    """
    trust, inventory = job.request.trust, job.session.inventory
    if trust is None or (trust.mark and file.inputs.get(VERIFIED) == trust.mark and _is_guarded(file.path)):
        return
    trust.verify(file.path, file.path)
    if job.session.check or not trust.mark:
        return
    with inventory.locked(document.reference, document.platform, LOCK_TIMEOUT):
        latest = inventory.get(document.reference, document.platform)
        if latest and latest.file(file.path) == file:
            verified = dataclasses.replace(file, inputs={**file.inputs, VERIFIED: trust.mark})
            inventory.put(latest.with_changed(verified))


def _is_guarded(path: str) -> bool:
    """Tell whether nobody but root and this user can have changed a file, and made its size and time look as before."""
    status = os.stat(path)
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, os.geteuid()) and not writable and not intruders(os.path.dirname(path))


def _need_replaceable(job: Job, document: Document | None) -> Replaced:
    with importing:
        from .destination import need_destination  # most runs replace nothing

    return need_destination(job, document)


def _need_means(job: Job, cached: CacheResult) -> None:
    """Raise before anything is downloaded if nothing could be built, or verified. What others built, need not be.

    In check mode a missing program is only a warning: an earlier task of the play may be what installs it.
    """
    path, trust = job.path, job.request.trust
    need_writable(os.path.dirname(path))
    why = intruders(os.path.dirname(path)) if trust else ""
    if why:
        raise StorageError(
            f"{path} cannot be verified where another user can put another file in its place meanwhile: {why}; give a "
            "dest or storage that belongs to this user or root, in directories that do"
        )
    reference, toolchain = job.outcome.reference, job.request.toolchain
    if (reference.is_sif and not trust) or cached.entry:
        return
    need_writable(toolchain.tmpdir)
    try:
        toolchain.need_programs(packer=not reference.is_sif)
    except (EngineError, PackerError) as error:
        if not job.session.check:
            raise
        job.outcome.warnings.append(str(error))


def _warn_of_doubt(job: Job, image: Resolved) -> None:
    with importing:
        from ..registry.web import Download  # only an image that has to be done

    if isinstance(image, Download) and image.doubtful and not image.digest:
        job.outcome.warnings.append(
            "the web server tells neither ETag nor Last-Modified, so that only another size shows that the file "
            "changed; give its digest after the name, or force: true"
        )
