# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``pull``: images to SIF files in the store, built or fetched as they are, and into the inventory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..errors import SregistryError, StorageError
from ..fs import stale
from ..fs.files import make_directory
from ..inventory import storage
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT
from ..late import importing
from ..oci.reference import Reference
from .outcome import PullOutcome
from .plan import Plan, Wanted, found_elsewhere, is_kept, need_place, plan, serves
from .resolve import to_merged
from .session import Session

if TYPE_CHECKING:
    from .producer import Supply


def pull(session: Session, wanted: Wanted, references: Sequence[Reference]) -> dict[Reference, PullOutcome]:
    """Make sure that each image's file is there and is what its name points at.

    All names are resolved in parallel, all layers fetched in parallel and each once. Files are built one after the
    other, each by all processors, in the order of the names, while layers still arrive.

    :raises StorageError: if two images would share one file.
    """
    paths = _places(wanted, references)
    plans: dict[Reference, Plan] = {}

    def look(reference: Reference, outcome: PullOutcome) -> None:
        found = plan(session, wanted, reference, paths[reference], outcome)
        if found:
            plans[reference] = found
        if found is None or session.check:
            _fill_cache(session, wanted, found, outcome)

    outcomes = session.each(references, look)
    _refuse_what_does_not_fit(session, plans, outcomes)
    if session.check or not plans:
        return outcomes
    with importing:
        from .layer_download import threads_for  # most runs change nothing, and need not know how

    work = [
        (plans[reference], outcome, _supply(session, wanted, plans[reference], outcome))
        for reference, outcome in outcomes.items()
        if reference in plans and not outcome.error
    ]
    session.progress.images, session.progress.done = len(outcomes), len(outcomes) - len(work)
    filling: list[Future[None]] = []
    with threads_for(session) as pool:
        for _planned, outcome, supply in work:
            if supply:
                with outcome.catching():
                    supply.begin(pool)
        for planned, outcome, supply in work:
            if not outcome.error:
                with outcome.clock("total"), outcome.catching():
                    _carry_out(session, wanted, planned, supply, outcome)
                filling.append(pool.submit(_fill_cache, session, wanted, planned, outcome))
            session.progress.done += 1
        for filled in filling:
            filled.result()
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


def _refuse_what_does_not_fit(
    session: Session, plans: Mapping[Reference, Plan], outcomes: Mapping[Reference, PullOutcome]
) -> None:
    """Fail all images whose files have to be made, if there is no room for all of them: nothing is begun then."""
    making = [reference for reference in outcomes if reference in plans and plans[reference].make]
    if not making:
        return
    with importing:
        from .disk_space import need_room  # most runs make nothing, and need no code for it

    if not session.check:  # a killed run may have left more than there is room for now
        for reference in making:
            stale.remove_files(plans[reference].path)
    try:
        need_room(session, [plans[reference] for reference in making])
    except SregistryError as error:
        for reference in making:
            outcomes[reference].fail(error)


def _supply(session: Session, wanted: Wanted, planned: Plan, outcome: PullOutcome) -> Supply | None:
    """What makes a file; None where none has to be made, or this host has kept it."""
    if planned.make and not is_kept(session, planned.lost):
        return _supply_of(session, wanted, planned, outcome)
    return None


def _substitute(session: Session, wanted: Wanted, planned: Plan, outcome: PullOutcome) -> Supply:
    """What makes a file where the one that was kept turns out to be damaged."""
    entry = found_elsewhere(session, wanted, planned.image, None, outcome)
    return _supply_of(session, wanted, dataclasses.replace(planned, entry=entry), outcome)


def _supply_of(session: Session, wanted: Wanted, planned: Plan, outcome: PullOutcome) -> Supply:
    with importing:
        from .producer import FromCache, supply_of

    finish = wanted.finishing(outcome, planned.path)
    make = supply_of(session, planned.image, outcome, wanted.toolchain, wanted.trust, finish, planned.fresh)
    if wanted.sif_cache and planned.entry:
        return FromCache(session, wanted.sif_cache, planned.entry, outcome, finish, make)
    return make


def _carry_out(session: Session, wanted: Wanted, planned: Plan, supply: Supply | None, outcome: PullOutcome) -> None:
    with importing:
        from .destination import claimed  # most runs change nothing

    with claimed(session, outcome, planned.path, taking=planned.make):
        latest = session.inventory.get(*outcome.key)
        document = to_merged(planned.document, latest)
        if planned.make:
            if latest and _was_done_meanwhile(wanted, planned, latest, outcome):
                outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
                return
            need_place(session, wanted, planned, latest, outcome)
            file = _restored(session, wanted, planned, outcome)
            if file is None:
                file = (supply or _substitute(session, wanted, planned, outcome)).make(planned.path)
            _forget_replaced(session, outcome, file)
            document = _with_made(document, file)
        if outcome.changed or not latest:
            session.enter(outcome, document)
        else:  # the same came again: what the web server tells of it now may spare that the next time
            outcome.after = None
            session.inventory.put(dataclasses.replace(document, updated_at=latest.updated_at))


def _fill_cache(session: Session, wanted: Wanted, planned: Plan | None, outcome: PullOutcome) -> None:
    """Let others have what is there now; what was done here stays done if that fails."""
    cache = wanted.sif_cache
    if not cache or not cache.fills or outcome.reference.is_sif or outcome.error:
        return
    with importing:
        from . import sif_cache_policy

    if session.check and planned and planned.make:
        with outcome.clock("total"), outcome.catching():
            toolchain, force = wanted.toolchain, wanted.force
            sif_cache_policy.foresee(session, cache, toolchain, planned.image, planned.lost, outcome, force)
        outcome.changed = True
        return
    document = outcome.after or outcome.before
    file = document.file(outcome.path) if document and outcome.path else None
    if not document or not file:
        return
    changed = outcome.changed
    with outcome.clock("total"), outcome.catching():
        image = planned.image if planned else None
        sif_cache_policy.fill(session, cache, outcome, document, file, image, wanted.force)
        if outcome.sif_cache == sif_cache_policy.PUSHED:
            changed = True
            outcome.action = sif_cache_policy.PUSHED if outcome.action == PRESENT else outcome.action
    outcome.changed = changed


def _was_done_meanwhile(wanted: Wanted, planned: Plan, latest: Document, outcome: PullOutcome) -> bool:
    """Whether another run did the work while this one waited for the lock.

    :raises EngineError, InvalidSif: if the file is not signed as it has to be.
    """
    before = outcome.before.file(planned.path) if outcome.before else None
    file = latest.file(planned.path)
    if file is None or file == before or not serves(wanted, latest, file, planned.image):
        return False
    if wanted.trust:
        wanted.trust.verify(file.path, file.path)
    return True


def _restored(session: Session, wanted: Wanted, planned: Plan, outcome: PullOutcome) -> File | None:
    """The file that was lost, from the cache; None if it has to be made."""
    lost = planned.lost
    if lost is None or lost.digest is None:
        return None
    with outcome.clock("restore"):
        make_directory(os.path.dirname(planned.path))
        if not session.cache.give(lost.digest, planned.path, wanted.finishing(outcome, planned.path)):
            return None
    return dataclasses.replace(lost, mtime_ns=os.stat(planned.path).st_mtime_ns)


def _forget_replaced(session: Session, outcome: PullOutcome, file: File) -> None:
    """Keep a file no longer that another one has replaced."""
    before = outcome.before.file(file.path) if outcome.before else None
    if before and before.digest and before.digest != file.digest:
        session.cache.forget(before.digest)


def _with_made(document: Document, file: File) -> Document:
    """A document with a new file, whose digest is that of what lies on a web server: nothing told it before."""
    if document.reference.from_web:
        document = dataclasses.replace(document, digest=file.manifest_digest, manifest_digest=file.manifest_digest)
    return document.with_file(file)
