# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``pull``: images from a registry to SIF files in the store, and into the inventory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from . import squashfs, storage
from .blobs import Obtained
from .build import Built, DamagedBlob, build
from .engine import Engine
from .errors import EngineError, PackerError, StorageError
from .files import need_space, need_writable
from .image import ResolvedImage, blob_source
from .inventory import Document, File
from .manifest import Descriptor
from .record import PRESENT, RECORDED, is_current, resolve_image, timestamp, to_document, to_merged
from .reference import Reference
from .session import Outcome, Session

ALWAYS, NOT_PRESENT = "always", "not_present"
PULLED, REBUILT, REPAIRED = "pulled", "rebuilt", "repaired"

_BUILD_TIMEOUT = 4 * 3600.0  # seconds that one run waits for another that builds the same image


@dataclass(frozen=True)
class Wanted:
    """How images shall be pulled. ``engine`` and ``packer`` find the programs when a build needs them;
    ``engine_kind`` tells which engine a build now would use, None if there is none.
    """

    storage: str
    dest: str | None
    policy: str
    checksum: bool
    force: bool
    tmpdir: str
    engine: Callable[[], Engine]
    engine_kind: Callable[[], str | None]
    packer: Callable[[], squashfs.Packer]


@dataclass(frozen=True)
class _Job:
    """An image whose file has to be built, while its layers are on their way."""

    image: ResolvedImage
    outcome: Outcome
    blobs: list[Future[Obtained]]


def pull(session: Session, wanted: Wanted, references: Sequence[Reference]) -> dict[Reference, Outcome]:
    """Make sure that each image's file is there and is what its name points at.

    All names are resolved in parallel, all layers fetched in parallel and each once; files are built one after the other,
    each by all processors, in the order of the names.

    :raises StorageError: if two images would share one file.
    """
    paths = _places(wanted, references)
    images: dict[Reference, ResolvedImage] = {}
    lock = threading.Lock()

    def plan(reference: Reference, outcome: Outcome) -> None:
        image = _plan(session, wanted, reference, paths[reference], outcome)
        if image:
            with lock:
                images[reference] = image

    outcomes = session.each(references, plan)
    if session.check:
        return outcomes
    with ThreadPoolExecutor(max(1, session.threads)) as pool:
        jobs = [
            _Job(images[reference], outcome, _fetch(session, images[reference], pool, outcome))
            for reference, outcome in outcomes.items()
            if reference in images and not outcome.error
        ]
        for job in jobs:
            if job.outcome.error:
                continue
            with job.outcome.clock("total"), job.outcome.catching():
                _carry_out(session, wanted, job)
    return outcomes


def _places(wanted: Wanted, references: Sequence[Reference]) -> dict[Reference, str]:
    many = len(set(references)) > 1
    paths = {reference: storage.place(wanted.storage, reference, wanted.dest, many) for reference in references}
    owners: dict[str, Reference] = {}
    for reference, path in paths.items():
        other = owners.setdefault(path, reference)
        if other != reference:
            raise StorageError(f"{other} and {reference} would share the file {path}; pull one of them with another dest")
    return paths


def _plan(
    session: Session, wanted: Wanted, reference: Reference, path: str, outcome: Outcome
) -> ResolvedImage | None:
    """Decide what to do for one image; returns it if there is something to do."""
    document = outcome.before = session.inventory.get(reference, session.platform)
    file = document.file(path) if document else None
    outcome.path = path
    outcome.path_before = path if file else None
    state = storage.state(file, wanted.checksum) if file else storage.MISSING
    fresh = state == storage.PRESENT and not wanted.force and file is not None and _same_inputs(file, wanted)
    with outcome.clock("resolve"):
        if document and file and fresh:
            unmoved = wanted.policy == NOT_PRESENT or is_current(session, reference, document)
            if unmoved and (file.manifest_digest == document.manifest_digest or wanted.policy == NOT_PRESENT):
                outcome.action = PRESENT
                return None
        image = resolve_image(session, reference, outcome)
    outcome.after = to_document(image, session, document)
    outcome.changed = True
    if fresh and file and file.manifest_digest == image.manifest_digest:
        outcome.action = RECORDED  # the index moved, this platform's image in it did not
    elif file is None:
        outcome.action = PULLED
        _refuse_foreign(session, wanted, path, outcome)
    else:
        outcome.action = REBUILT if state == storage.PRESENT else REPAIRED
    if outcome.action != RECORDED:
        _refuse_hopeless(session, wanted, path, outcome)
    return image


def _same_inputs(file: File, wanted: Wanted) -> bool:
    """Whether a build now would have the inputs of the one before. Where there is no engine now, any was right."""
    kind = wanted.engine_kind()
    return kind is None or file.inputs["engine"] == kind


def _refuse_hopeless(session: Session, wanted: Wanted, path: str, outcome: Outcome) -> None:
    """Find out before anything is downloaded that nothing could be built.

    In check mode a missing program is only a warning: an earlier task of the play may be what installs it.
    """
    need_writable(os.path.dirname(path))
    need_writable(wanted.tmpdir)
    try:
        wanted.engine()
        wanted.packer()
    except (EngineError, PackerError) as error:
        if not session.check:
            raise
        outcome.warnings.append(str(error))


def _refuse_foreign(session: Session, wanted: Wanted, path: str, outcome: Outcome) -> None:
    """A file that is there and recorded for another image is not overwritten: the next run would flip it back."""
    if wanted.force or not os.path.lexists(path):
        return
    owner = session.inventory.owner(path)
    if owner and (owner.reference, owner.platform) != (outcome.reference, outcome.platform):
        raise StorageError(
            f"{path} is the file of {owner.reference} for {owner.platform}; give {outcome.reference} for {outcome.platform} "
            "another dest or storage, or force: true to take it over"
        )


def _fetch(
    session: Session, image: ResolvedImage, pool: ThreadPoolExecutor, outcome: Outcome
) -> list[Future[Obtained]]:
    if outcome.action == RECORDED:
        return []
    missing = sum(layer.size or 0 for layer in _distinct(image) if not session.cache.holds(layer))
    with outcome.catching():
        need_space(session.cache.directory, missing, f"fetching {image.reference}")
        return [pool.submit(_obtain, session, image, layer) for layer in _distinct(image)]
    return []


def _obtain(session: Session, image: ResolvedImage, layer: Descriptor) -> Obtained:
    source = blob_source(session.registries.of(image.reference), image.reference.repository, layer.digest)
    return session.cache.obtain(layer, source, f"the layer {layer.digest} of {image.reference}")


def _distinct(image: ResolvedImage) -> list[Descriptor]:
    return list({layer.digest: layer for layer in image.layers}.values())


def _carry_out(session: Session, wanted: Wanted, job: _Job) -> None:
    outcome, image = job.outcome, job.image
    assert outcome.after is not None and outcome.path is not None
    with outcome.clock("fetch"):
        for blob in job.blobs:
            outcome.obtained.append(blob.result())
    with session.inventory.locked(image.reference, session.platform, _BUILD_TIMEOUT):
        latest = session.inventory.get(image.reference, session.platform)
        document = to_merged(outcome.after, latest)
        if outcome.action != RECORDED:
            other = latest.file(outcome.path) if latest else None
            if other and other != _file_before(outcome) and _serves(other, image, wanted):
                # Another run did the work while this one waited for the lock.
                outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
                return
            document = document.with_file(_build(session, wanted, image, outcome))
        session.inventory.put(document)
        outcome.after = document


def _file_before(outcome: Outcome) -> File | None:
    return outcome.before.file(outcome.path) if outcome.before and outcome.path else None


def _serves(file: File, image: ResolvedImage, wanted: Wanted) -> bool:
    return (
        file.manifest_digest == image.manifest_digest
        and _same_inputs(file, wanted)
        and storage.state(file, wanted.checksum) == storage.PRESENT
    )


def _build(session: Session, wanted: Wanted, image: ResolvedImage, outcome: Outcome) -> File:
    assert outcome.path is not None
    engine = wanted.engine()
    packer = wanted.packer()
    try:
        built = build(image, session.cache, engine, packer, outcome.path, wanted.tmpdir)
    except DamagedBlob as damage:
        session.cache.drop(damage.descriptor.digest)
        with outcome.clock("fetch"):
            outcome.obtained.append(_obtain(session, image, damage.descriptor))
        built = build(image, session.cache, engine, packer, outcome.path, wanted.tmpdir)
    outcome.seconds.update(built.seconds)
    outcome.warnings.extend(built.warnings)
    return _to_file(built, image, engine, packer)


def _to_file(built: Built, image: ResolvedImage, engine: Engine, packer: squashfs.Packer) -> File:
    return File(
        path=built.path,
        size=built.size,
        mtime_ns=os.stat(built.path).st_mtime_ns,
        sha256=built.sha256,
        manifest_digest=image.manifest_digest,
        inputs={"format": "sif", "command": "entrypoint", "compression": packer.compression, "engine": engine.kind},
        engine_version=engine.version,
        packer=f"mksquashfs {packer.version}",
        created_at=timestamp(),
    )
