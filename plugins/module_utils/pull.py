# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``pull``: images to SIF files in the store, built or fetched as they are, and into the inventory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import ready, storage
from .delivery import Delivery, threads_for
from .document import Document, File
from .errors import EngineError, PackerError, StorageError, Unsigned
from .files import make_directory, need_writable
from .image import ResolvedImage
from .means import Choice
from .ready import Shipment
from .record import (
    LOCK_TIMEOUT,
    PRESENT,
    RECORDED,
    Resolved,
    is_current,
    resolve_image,
    timestamp,
    to_document,
    to_merged,
)
from .reference import Reference
from .session import Outcome, Session
from .verify import VERIFIED, Trust
from .web import Download

if TYPE_CHECKING:
    from .build import Built
    from .means import Means

ALWAYS, NOT_PRESENT = "always", "not_present"
PULLED, REBUILT, REPAIRED = "pulled", "rebuilt", "repaired"

_BUILD_TIMEOUT = 4 * 3600.0  # seconds that one run waits for another that builds the same image


@dataclass(frozen=True)
class Wanted:
    """How images shall be pulled. ``choice`` is how their files are built; ``prepare`` sets owner and mode of a
    finished file before it gets its name; ``trust``, whose signature a file needs, if any.
    """

    storage: str
    dest: str | None
    policy: str
    checksum: bool
    force: bool
    choice: Choice
    prepare: Callable[[str], None]
    trust: Trust | None = None


@dataclass(frozen=True)
class _Job:
    """An image with something to do: its new document, whether its file has to be made, the file that was there
    before, if a build now would give the same, and the file that is there and whole.
    """

    image: Resolved
    document: Document
    path: str
    build: bool
    lost: File | None
    fresh: File | None


def pull(session: Session, wanted: Wanted, references: Sequence[Reference]) -> dict[Reference, Outcome]:
    """Make sure that each image's file is there and is what its name points at.

    All names are resolved in parallel, all layers fetched in parallel and each once. Files are built one after the
    other, each by all processors, in the order of the names, while layers still arrive.

    :raises StorageError: if two images would share one file.
    """
    paths = _places(wanted, references)
    jobs: dict[Reference, _Job] = {}

    def plan(reference: Reference, outcome: Outcome) -> None:
        job = _plan(session, wanted, reference, paths[reference], outcome)
        if job:
            jobs[reference] = job

    outcomes = session.each(references, plan)
    if session.check:
        return outcomes
    with threads_for(session) as pool:
        deliveries = {reference: _delivery(session, job.image, outcomes[reference]) for reference, job in jobs.items()}
        for reference, outcome in outcomes.items():
            if reference in jobs and jobs[reference].build and not _is_kept(session, jobs[reference].lost):
                with outcome.catching():
                    deliveries[reference].begin(pool)
        for reference, outcome in outcomes.items():
            if reference in jobs and not outcome.error:
                with outcome.clock("total"), outcome.catching():
                    _carry_out(session, wanted, jobs[reference], deliveries[reference], outcome)
    return outcomes


def _delivery(session: Session, image: Resolved, outcome: Outcome) -> Delivery | Shipment:
    if isinstance(image, ResolvedImage):
        return Delivery(session, image, outcome)
    return Shipment(session, image, outcome)


def _places(wanted: Wanted, references: Sequence[Reference]) -> dict[Reference, str]:
    many = len(set(references)) > 1
    paths = {reference: storage.place(wanted.storage, reference, wanted.dest, many) for reference in references}
    owners: dict[str, Reference] = {}
    for reference, path in paths.items():
        other = owners.setdefault(path, reference)
        if other != reference:
            raise StorageError(
                f"{other} and {reference} would share the file {path}; pull one of them with another dest"
            )
    return paths


def _plan(session: Session, wanted: Wanted, reference: Reference, path: str, outcome: Outcome) -> _Job | None:
    """Decide what to do for one image; None if nothing."""
    if wanted.trust and not reference.ready:
        raise Unsigned(
            f"{reference} is built here from layers, so nobody has signed it; sign its file with sregistry_sign after "
            "the pull, name one that was signed and pushed to oras://, or pull it without verify"
        )
    document = outcome.before = session.inventory.get(reference, session.platform)
    file = document.file(path) if document else None
    outcome.path = path
    outcome.path_before = path if file else None
    if file and file.manifest_digest is None and not wanted.force:
        raise StorageError(
            f"{path} is the file of {reference} that was not pulled but added or built here; rename that one, give "
            "another dest, or replace it with force: true"
        )
    state = _state(file, wanted) if file else storage.MISSING
    fresh = state == storage.PRESENT and not wanted.force and _same_inputs(reference, file, wanted)
    with outcome.clock("resolve"):
        if document and file and fresh and _needs_nothing(session, wanted, document, file):
            _require_verified(session, wanted, document, file)
            outcome.action = PRESENT
            return None
        image = resolve_image(session, reference, outcome)
    same = document is not None and file is not None and _comes_from(document, file, image)
    build = not fresh or not same
    if document and file and not build:
        _require_verified(session, wanted, document, file)
        outcome.action = RECORDED  # the index moved, this platform's image in it did not
    elif file is None:
        outcome.action = PULLED
        _look_at_place(session, wanted, path, outcome)
    else:
        outcome.action = REBUILT if state == storage.PRESENT else REPAIRED
    if build:
        _refuse_hopeless(session, wanted, reference, path, outcome)
    if isinstance(image, Download) and image.doubtful and not image.digest:
        outcome.warnings.append(
            "the web server tells neither ETag nor Last-Modified, so that only another size shows that the file "
            "changed; give its digest after the name, or force: true"
        )
    outcome.after = to_document(image, session, document)
    outcome.changed = True
    lost = file if same and not wanted.force and _same_inputs(reference, file, wanted) else None
    return _Job(image, outcome.after, path, build, lost, file if fresh else None)


def _comes_from(document: Document, file: File, image: Resolved) -> bool:
    """Whether a file was made from what an image is now."""
    if isinstance(image, Download) and not image.digest:
        return document.told == image.documents and file.manifest_digest == document.manifest_digest
    return file.manifest_digest == image.manifest_digest


def _needs_nothing(session: Session, wanted: Wanted, document: Document, file: File) -> bool:
    """Whether an unchanged file is also the right one. Only a name by tag has to be asked about."""
    if wanted.policy == NOT_PRESENT:
        return True
    return file.manifest_digest == document.manifest_digest and is_current(session, document.reference, document)


def _same_inputs(reference: Reference, file: File | None, wanted: Wanted) -> bool:
    return file is not None and (reference.ready or wanted.choice.agrees(file.inputs))


def _require_verified(session: Session, wanted: Wanted, document: Document, file: File) -> None:
    """Refuse a file that is there and unchanged, but not signed as it has to be. Once verified, it need not be again.

    :raises EngineError, InvalidSif: as ``Trust.verify``.
    """
    trust = wanted.trust
    if trust is None or (trust.mark and file.inputs.get(VERIFIED) == trust.mark):
        return
    trust.verify(file.path, file.path)
    if session.check or not trust.mark:
        return
    with session.inventory.locked(document.reference, document.platform, LOCK_TIMEOUT):
        latest = session.inventory.get(document.reference, document.platform)
        if latest and latest.file(file.path) == file:
            verified = dataclasses.replace(file, inputs={**file.inputs, VERIFIED: trust.mark})
            session.inventory.put(latest.with_file(verified))


def _prepare(wanted: Wanted, reference: Reference) -> Callable[[str], None]:
    """What a finished file goes through before it gets its name."""

    def prepare(temporary: str) -> None:
        if wanted.trust:
            wanted.trust.verify(temporary, reference)
        wanted.prepare(temporary)

    return prepare


def _refuse_hopeless(session: Session, wanted: Wanted, reference: Reference, path: str, outcome: Outcome) -> None:
    """Find out before anything is downloaded that nothing could be built, or verified.

    In check mode a missing program is only a warning: an earlier task of the play may be what installs it.
    """
    need_writable(os.path.dirname(path))
    need_writable(wanted.choice.tmpdir)
    try:
        if wanted.trust or not reference.ready:
            wanted.choice.engine()
        if not reference.ready:
            wanted.choice.packer()
    except (EngineError, PackerError) as error:
        if not session.check:
            raise
        outcome.warnings.append(str(error))


def _look_at_place(session: Session, wanted: Wanted, path: str, outcome: Outcome) -> None:
    """See what is at the path of a new file, and refuse what must not be replaced.

    Who writes the path in ``dest`` means to replace it, as a new version under a fixed name. A path that follows from
    the name alone is not taken from another image: with two such images each run would undo the other.
    """
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path) and not os.path.islink(path):
        raise StorageError(f"{path} is there and is no regular file; remove it, or give another dest")
    outcome.path_before = path
    for owner in _other_owners(session, outcome, path):
        if wanted.dest is None and not wanted.force:
            raise StorageError(
                f"{path} is the file of {owner.reference} for {owner.platform}; give {outcome.reference} for "
                f"{outcome.platform} another dest or storage, or force: true to take it over"
            )
        outcome.displaced = owner


def _carry_out(session: Session, wanted: Wanted, job: _Job, delivery: Delivery | Shipment, outcome: Outcome) -> None:
    inventory = session.inventory
    with inventory.locked_path(job.path, _BUILD_TIMEOUT):
        with inventory.locked(outcome.reference, session.platform, _BUILD_TIMEOUT):
            latest = inventory.get(outcome.reference, session.platform)
            document = to_merged(job.document, latest)
            if job.build:
                before = outcome.before.file(job.path) if outcome.before else None
                other = latest.file(job.path) if latest else None
                if latest and other and other != before and _serves(latest, other, job.image, wanted):
                    # Another run did the work while this one waited for the lock.
                    if wanted.trust:
                        wanted.trust.verify(other.path, other.path)
                    outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
                    return
                file = _restored(session, wanted, job, outcome) or _made(session, wanted, job, delivery, outcome)
                document = document.with_file(file)
                if job.image.reference.from_web:  # its digest is known by now
                    digest = file.manifest_digest
                    document = dataclasses.replace(document, digest=digest, manifest_digest=digest)
            outcome.after = dataclasses.replace(document, updated_at=timestamp())
            inventory.put(outcome.after)
        if job.build:
            forget_others(session, outcome, job.path)


def forget_others(session: Session, outcome: Outcome, path: str) -> None:
    """Take a file that was just written out of the documents of other images that had it."""
    for owner in _other_owners(session, outcome, path):
        with session.inventory.locked(owner.reference, owner.platform, LOCK_TIMEOUT):
            latest = session.inventory.get(owner.reference, owner.platform)
            file = latest.file(path) if latest else None
            if latest and file:
                session.cache.forget(_digest(file))
                session.inventory.put(latest.without_file(path))


def _other_owners(session: Session, outcome: Outcome, path: str) -> list[Document]:
    """The other images that have their file at a path."""
    own = (outcome.reference, outcome.platform)
    return [owner for owner in session.inventory.owners(path) if (owner.reference, owner.platform) != own]


def _state(file: File, wanted: Wanted) -> str:
    return storage.state(file.path, file.size, file.mtime_ns, file.sha256, wanted.checksum)


def _serves(document: Document, file: File, image: Resolved, wanted: Wanted) -> bool:
    return (
        _comes_from(document, file, image)
        and _same_inputs(image.reference, file, wanted)
        and _state(file, wanted) == storage.PRESENT
    )


def _is_kept(session: Session, lost: File | None) -> bool:
    return lost is not None and session.cache.keeps(_digest(lost))


def _restored(session: Session, wanted: Wanted, job: _Job, outcome: Outcome) -> File | None:
    """The file that was lost, from the cache; None if it has to be built."""
    lost = job.lost
    if lost is None:
        return None
    with outcome.clock("restore"):
        make_directory(os.path.dirname(job.path))
        if not session.cache.give(_digest(lost), job.path, _prepare(wanted, outcome.reference)):
            return None
    return dataclasses.replace(lost, mtime_ns=os.stat(job.path).st_mtime_ns)


def _keep(session: Session, built: Built, before: File | None) -> None:
    """Remember a new file in place of the one before: who deletes it by mistake gets it back at once."""
    if before and before.sha256 != built.sha256:
        session.cache.forget(_digest(before))
    session.cache.keep(built.path, f"sha256:{built.sha256}")


def _digest(file: File) -> str:
    return f"sha256:{file.sha256 or '0' * 64}"  # a directory has none


def _made(session: Session, wanted: Wanted, job: _Job, delivery: Delivery | Shipment, outcome: Outcome) -> File:
    if isinstance(delivery, Shipment):
        return _placed(session, wanted, job, delivery, outcome)
    if isinstance(job.image, ResolvedImage):
        return _build(session, wanted, job, job.image, delivery, outcome)
    raise TypeError("a finished file comes in a shipment")


def _placed(session: Session, wanted: Wanted, job: _Job, shipment: Shipment, outcome: Outcome) -> File:
    """The file, fetched as it is. What came again as it came before leaves the one that is there in its place."""
    fetched = shipment.arrive()
    if job.fresh and job.fresh.manifest_digest == fetched.digest:
        if wanted.trust:
            wanted.trust.verify(job.path, job.path)
        outcome.action = RECORDED
        return job.fresh
    with outcome.clock("place"):
        placed = shipment.place(fetched, job.path, _prepare(wanted, outcome.reference))
    before = outcome.before.file(job.path) if outcome.before else None
    if before and before.sha256 != placed.sha256:
        session.cache.forget(_digest(before))
    inputs = ready.inputs(job.image.reference)
    return File(
        path=job.path,
        size=placed.size,
        mtime_ns=os.stat(job.path).st_mtime_ns,
        sha256=placed.sha256,
        manifest_digest=job.image.manifest_digest or placed.digest,
        inputs={**inputs, VERIFIED: wanted.trust.mark} if wanted.trust and wanted.trust.mark else inputs,
        engine_version=None,
        packer=None,
        builder=None,
        created_at=timestamp(),
    )


def _build(
    session: Session, wanted: Wanted, job: _Job, image: ResolvedImage, delivery: Delivery, outcome: Outcome
) -> File:
    # Ansible compiles a module's code each time it runs: most runs build nothing, and need not know how.
    from .build import build

    means = wanted.choice.means(session.threads)
    built = delivery.serve(
        lambda arrival: build(image, session.cache, means, job.path, arrival, outcome.clock, wanted.prepare)
    )
    _keep(session, built, outcome.before.file(job.path) if outcome.before else None)
    outcome.warnings.extend(built.warnings)
    outcome.builder = {"name": built.builder, "reason": built.reason}
    return _to_file(built, image, means)


def _to_file(built: Built, image: ResolvedImage, means: Means) -> File:
    packer = means.packer
    return File(
        path=built.path,
        size=built.size,
        mtime_ns=os.stat(built.path).st_mtime_ns,
        sha256=built.sha256,
        manifest_digest=image.manifest_digest,
        inputs=means.inputs,
        engine_version=means.engine.version,
        packer=f"mksquashfs {packer.version}",
        builder=built.builder,
        created_at=timestamp(),
    )
