# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``pull``: images from a registry to SIF files in the store, and into the inventory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import storage
from .delivery import Delivery, threads_for
from .errors import EngineError, PackerError, StorageError
from .files import make_directory, need_writable
from .image import ResolvedImage
from .inventory import Document, File
from .means import Choice
from .record import LOCK_TIMEOUT, PRESENT, RECORDED, is_current, resolve_image, timestamp, to_document, to_merged
from .reference import Reference
from .session import Outcome, Session

if TYPE_CHECKING:
    from .build import Built
    from .means import Means

ALWAYS, NOT_PRESENT = "always", "not_present"
PULLED, REBUILT, REPAIRED = "pulled", "rebuilt", "repaired"

_BUILD_TIMEOUT = 4 * 3600.0  # seconds that one run waits for another that builds the same image


@dataclass(frozen=True)
class Wanted:
    """How images shall be pulled. ``choice`` is how their files are built; ``prepare`` sets owner and mode of a
    finished file before it gets its name.
    """

    storage: str
    dest: str | None
    policy: str
    checksum: bool
    force: bool
    choice: Choice
    prepare: Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    """An image with something to do: its new document, whether its file has to be made, and the file that was there
    before, if a build now would give the same.
    """

    image: ResolvedImage
    document: Document
    path: str
    build: bool
    lost: File | None


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
        deliveries = {
            reference: Delivery(session, job.image, outcomes[reference]) for reference, job in jobs.items()
        }
        for reference, outcome in outcomes.items():
            if reference in jobs and jobs[reference].build and not _is_kept(session, jobs[reference].lost):
                with outcome.catching():
                    deliveries[reference].begin(pool)
        for reference, outcome in outcomes.items():
            if reference in jobs and not outcome.error:
                with outcome.clock("total"), outcome.catching():
                    _carry_out(session, wanted, jobs[reference], deliveries[reference], outcome)
    return outcomes


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
    fresh = state == storage.PRESENT and not wanted.force and _same_inputs(file, wanted)
    with outcome.clock("resolve"):
        if document and file and fresh and _needs_nothing(session, wanted, document, file):
            outcome.action = PRESENT
            return None
        image = resolve_image(session, reference, outcome)
    build = not fresh or file is None or file.manifest_digest != image.manifest_digest
    if not build:
        outcome.action = RECORDED  # the index moved, this platform's image in it did not
    elif file is None:
        outcome.action = PULLED
        _look_at_place(session, wanted, path, outcome)
    else:
        outcome.action = REBUILT if state == storage.PRESENT else REPAIRED
    if build:
        _refuse_hopeless(session, wanted, path, outcome)
    outcome.after = to_document(image, session, document)
    outcome.changed = True
    same = file is not None and file.manifest_digest == image.manifest_digest and _same_inputs(file, wanted)
    return _Job(image, outcome.after, path, build, file if same and not wanted.force else None)


def _needs_nothing(session: Session, wanted: Wanted, document: Document, file: File) -> bool:
    """Whether an unchanged file is also the right one. Only a name by tag has to be asked about."""
    if wanted.policy == NOT_PRESENT:
        return True
    return file.manifest_digest == document.manifest_digest and is_current(session, document.reference, document)


def _same_inputs(file: File | None, wanted: Wanted) -> bool:
    return file is not None and wanted.choice.agrees(file.inputs)


def _refuse_hopeless(session: Session, wanted: Wanted, path: str, outcome: Outcome) -> None:
    """Find out before anything is downloaded that nothing could be built.

    In check mode a missing program is only a warning: an earlier task of the play may be what installs it.
    """
    need_writable(os.path.dirname(path))
    need_writable(wanted.choice.tmpdir)
    try:
        wanted.choice.engine()
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


def _carry_out(session: Session, wanted: Wanted, job: _Job, delivery: Delivery, outcome: Outcome) -> None:
    inventory = session.inventory
    with inventory.locked_path(job.path, _BUILD_TIMEOUT):
        with inventory.locked(outcome.reference, session.platform, _BUILD_TIMEOUT):
            latest = inventory.get(outcome.reference, session.platform)
            document = to_merged(job.document, latest)
            if job.build:
                before = outcome.before.file(job.path) if outcome.before else None
                other = latest.file(job.path) if latest else None
                if other and other != before and _serves(other, job.image, wanted):
                    # Another run did the work while this one waited for the lock.
                    outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
                    return
                file = _restored(session, wanted, job, outcome) or _build(session, wanted, job, delivery, outcome)
                document = document.with_file(file)
            outcome.after = dataclasses.replace(document, updated_at=timestamp())
            inventory.put(outcome.after)
        if job.build:
            _forget_others(session, outcome, job.path)


def _forget_others(session: Session, outcome: Outcome, path: str) -> None:
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


def _serves(file: File, image: ResolvedImage, wanted: Wanted) -> bool:
    return (
        file.manifest_digest == image.manifest_digest
        and _same_inputs(file, wanted)
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
        if not session.cache.give(_digest(lost), job.path, wanted.prepare):
            return None
    return dataclasses.replace(lost, mtime_ns=os.stat(job.path).st_mtime_ns)


def _keep(session: Session, built: Built, before: File | None) -> None:
    """Remember a new file in place of the one before: who deletes it by mistake gets it back at once."""
    if before and before.sha256 != built.sha256:
        session.cache.forget(_digest(before))
    session.cache.keep(built.path, f"sha256:{built.sha256}")


def _digest(file: File) -> str:
    return f"sha256:{file.sha256}"


def _build(session: Session, wanted: Wanted, job: _Job, delivery: Delivery, outcome: Outcome) -> File:
    # Ansible compiles a module's code each time it runs: most runs build nothing, and need not know how.
    from .build import build

    means = wanted.choice.means(session.threads)
    built = delivery.serve(
        lambda arrival: build(job.image, session.cache, means, job.path, arrival, outcome.clock, wanted.prepare)
    )
    _keep(session, built, outcome.before.file(job.path) if outcome.before else None)
    outcome.warnings.extend(built.warnings)
    outcome.builder = {"name": built.builder, "reason": built.reason}
    return _to_file(built, job.image, means)


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
