# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be done for an image to be pulled: looked at, compared, and decided before anything is fetched."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..errors import EngineError, PackerError, StorageError, Unsigned
from ..fs import guard
from ..fs.files import need_writable
from ..fs.guard import intruders
from ..inventory import storage
from ..inventory.database import LOCK_TIMEOUT, taken
from ..inventory.document import VERIFIED, Document, File
from ..inventory.outcome import PRESENT, RECORDED
from ..late import importing
from ..oci.reference import Reference
from ..sif.formats import is_image
from ..sif.toolchain import Toolchain
from .outcome import PullOutcome
from .resolve import is_current, is_same, resolve, to_document
from .session import Session

if TYPE_CHECKING:
    from ..sif.trust import Trust
    from .resolve import Resolved
    from .sif_cache import Entry, SifCache

ALWAYS, NOT_PRESENT = "always", "not_present"
PULLED, REBUILT, REPAIRED = "pulled", "rebuilt", "repaired"


@dataclass(frozen=True)
class Wanted:
    """How images shall be pulled. ``toolchain`` is what their files are built with; ``prepare`` sets owner and mode of
    a finished file before it gets its name; ``trust``, whose signature a file needs, if any; ``sif_cache``, where files
    are looked for that others have built; ``backup``, whether what is replaced gets another name.
    """

    storage: str
    dest: str | None
    policy: str
    checksum: bool
    force: bool
    toolchain: Toolchain
    prepare: Callable[[str], None]
    trust: Trust | None = None
    sif_cache: SifCache | None = None
    backup: bool = False

    @property
    def lender(self) -> SifCache | None:
        """Where files are looked for before they are built: nowhere by force, unless nothing may be built here."""
        cache = self.sif_cache
        return cache if cache and (cache.required or not self.force) else None

    def finishing(self, outcome: PullOutcome, path: str) -> Callable[[str], None]:
        """What a finished file of an image goes through before it gets its name, a path."""

        def finish(temporary: str) -> None:
            if self.trust:
                self.trust.verify(temporary, outcome.reference)
            self.prepare(temporary)
            if self.backup:
                with importing:
                    from ..inventory.paths import back_up  # most runs replace nothing

                outcome.backup_file = back_up(path, outcome.backup_file)

        return finish


@dataclass(frozen=True)
class Plan:
    """An image with something to do: its new document, whether its file has to be made, the file that was there
    before, if a build now would give the same, the file that is there and whole, and what the cache of finished files
    has in the place of a build.
    """

    image: Resolved
    document: Document
    path: str
    make: bool
    lost: File | None
    fresh: File | None
    entry: Entry | None = None


def plan(session: Session, wanted: Wanted, reference: Reference, path: str, outcome: PullOutcome) -> Plan | None:
    """Decide what to do for one image; None if nothing.

    :raises SregistryError: if it could not end well.
    """
    _refuse_unsigned(wanted, reference)
    guard.need_way(path, wanted.storage if wanted.dest is None else "")
    document = outcome.before = session.inventory.get(reference, session.platform)
    file = document.file(path) if document else None
    outcome.path, outcome.path_before = path, path if file else None
    _refuse_own_work(wanted, reference, file)
    state = file.state(wanted.checksum) if file else storage.MISSING
    alike = not wanted.force and has_inputs(wanted, reference, file)
    fresh = state == storage.PRESENT and alike
    with outcome.clock("resolve"):
        if document and file and fresh and _needs_nothing(session, wanted, reference, document, file):
            _require_verified(session, wanted, document, file)
            outcome.action = PRESENT
            return None
    session.inventory.need_way()
    image, entry = _resolved(session, wanted, reference, outcome)
    same = document is not None and file is not None and comes_from(document, file, image)
    make = not fresh or not same
    if document and file and fresh and (same or _comes_again(session, image, file)):
        _require_verified(session, wanted, document, file)
        if not same or is_same(document, image):  # a HEAD told otherwise
            outcome.action = PRESENT
            return None
        outcome.action = RECORDED  # the index moved, this platform's image in it did not
    elif file is None:
        outcome.action = PULLED
        _look_at_place(session, wanted, path, outcome)
    else:
        outcome.action = REBUILT if state == storage.PRESENT else REPAIRED
    lost = file if same and alike else None
    if make:
        entry = entry or found_elsewhere(session, wanted, image, lost, outcome)
        _refuse_hopeless(session, wanted, reference, path, entry, outcome)
    _warn_of_doubt(image, outcome)
    outcome.after, outcome.changed = to_document(image, session, document), True
    return Plan(image, outcome.after, path, make, lost, file if fresh else None, entry)


def _comes_again(session: Session, image: Resolved, file: File) -> bool:
    """Whether a file of a web server, of which only the validators are others, is what the one that is there was.

    The validators of some servers are others each time. A real run finds that out when it has fetched the file, so
    that check mode has to read it, too.
    """
    if not session.check or not image.reference.from_web or image.digest or not file.manifest_digest:
        return False
    if image.size not in (None, file.size):
        return False
    with importing:
        from . import sif_download

    return sif_download.comes_again(session, cast("sif_download.Ready", image), file.manifest_digest)


def _resolved(
    session: Session, wanted: Wanted, reference: Reference, outcome: PullOutcome
) -> tuple[Resolved, Entry | None]:
    """What a name points at; of a pinned one, the cache of finished files may know that, and have the file."""
    cache = wanted.lender
    if cache and not reference.is_sif:
        with importing:
            from . import sif_cache_policy

        known = sif_cache_policy.look_for_pinned(session, cache, wanted.toolchain, reference, outcome)
        if known:
            return known
    with outcome.clock("resolve"):
        return resolve(session, reference, outcome), None


def found_elsewhere(
    session: Session, wanted: Wanted, image: Resolved, lost: File | None, outcome: PullOutcome
) -> Entry | None:
    """The file that somebody else has built of an image, unless this host has kept its own, or shall build anew.

    :raises SregistryError: as ``cached.look``.
    """
    cache = wanted.lender
    if not cache:
        return None
    with importing:
        from ..registry.image import ResolvedImage
        from . import sif_cache_policy

    if not isinstance(image, ResolvedImage) or outcome.sif_cache == sif_cache_policy.MISS or is_kept(session, lost):
        return None
    return sif_cache_policy.look(session, cache, wanted.toolchain, image.reference, image.manifest_digest, outcome)


def is_kept(session: Session, lost: File | None) -> bool:
    """Whether a file that was lost is still in the cache of this host."""
    return lost is not None and lost.digest is not None and session.stock.keeps(lost.digest)


def serves(wanted: Wanted, document: Document, file: File, image: Resolved) -> bool:
    """Whether a file is there, and what a build of the image would give."""
    return (
        comes_from(document, file, image)
        and has_inputs(wanted, image.reference, file)
        and file.state(wanted.checksum) == storage.PRESENT
    )


def comes_from(document: Document, file: File, image: Resolved) -> bool:
    """Whether a file was made from what an image is now."""
    if image.reference.from_web and not image.digest:
        return document.told == image.documents and file.manifest_digest == document.manifest_digest
    return file.manifest_digest == image.manifest_digest


def has_inputs(wanted: Wanted, reference: Reference, file: File | None) -> bool:
    """Whether a file was made as it would be now."""
    return file is not None and (reference.is_sif or wanted.toolchain.agrees(file.inputs))


def _refuse_unsigned(wanted: Wanted, reference: Reference) -> None:
    if wanted.trust and not reference.is_sif:
        raise Unsigned(
            f"{reference} is built here from layers, so nobody has signed it; sign its file with sregistry_sign after "
            "the pull, name one that was signed and pushed to oras://, or pull it without verify"
        )


def _refuse_own_work(wanted: Wanted, reference: Reference, file: File | None) -> None:
    if file and file.manifest_digest is None and not wanted.force:
        raise StorageError(
            f"{file.path} is the file of {reference} that was not pulled but added or built here; rename that one, "
            "give another dest, or replace it with force: true"
        )


def _needs_nothing(session: Session, wanted: Wanted, reference: Reference, document: Document, file: File) -> bool:
    """Whether an unchanged file is also the right one. Only a name by tag has to be asked about.

    ``NOT_PRESENT`` spares that request. Nobody is asked about a name that is pinned, so that its pin always counts.
    """
    if wanted.policy == NOT_PRESENT and not session.pins.of(reference, session.platform):
        return True
    return file.manifest_digest == document.manifest_digest and is_current(session, reference, document)


def _require_verified(session: Session, wanted: Wanted, document: Document, file: File) -> None:
    """Refuse a file that is there and unchanged, but not signed as it has to be. Once verified, it need not be again.

    :raises EngineError, InvalidSif: as ``Trust.verify``.
    """
    trust = wanted.trust
    if trust is None or (trust.mark and file.inputs.get(VERIFIED) == trust.mark and _is_guarded(file.path)):
        return
    trust.verify(file.path, file.path)
    if session.check or not trust.mark:
        return
    with session.inventory.locked(document.reference, document.platform, LOCK_TIMEOUT):
        latest = session.inventory.get(document.reference, document.platform)
        if latest and latest.file(file.path) == file:
            verified = dataclasses.replace(file, inputs={**file.inputs, VERIFIED: trust.mark})
            session.inventory.put(latest.with_changed(verified))


def _is_guarded(path: str) -> bool:
    """Whether nobody but root and this user can have changed a file, and made its size and time look as before."""
    status = os.stat(path)
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, os.geteuid()) and not writable and not intruders(os.path.dirname(path))


def need_place(session: Session, wanted: Wanted, planned: Plan, latest: Document | None, outcome: PullOutcome) -> None:
    """Refuse once more what must not be replaced, with the path in hand: others had it since it was planned.

    :param latest: what the inventory has of the image by now.
    :raises StorageError: naming what is there.
    """
    file = latest.file(planned.path) if latest else None
    _refuse_own_work(wanted, outcome.reference, file)
    if file is None:
        _look_at_place(session, wanted, planned.path, outcome)


def _look_at_place(session: Session, wanted: Wanted, path: str, outcome: PullOutcome) -> None:
    """See what is at the path of a new file, and refuse what must not be replaced.

    Who writes the path in ``dest`` means to replace it, as a new version under a fixed name. A path that follows from
    the name alone is not taken from another image: with two such images each run would undo the other. What nobody
    could fetch again, a file that was added or built here or is no image at all, is only replaced by force.
    """
    outcome.displaced = None
    if not os.path.lexists(path):
        return
    with importing:
        from .destination import other_owners  # most runs replace nothing

    if not os.path.isfile(path) and not os.path.islink(path):
        raise StorageError(f"{path} is there and is no regular file; remove it, or give another dest")
    outcome.path_before = path
    owners = other_owners(session, outcome, path)
    if not owners and not wanted.force and os.path.isfile(path) and os.path.getsize(path) and not is_image(path):
        raise StorageError(
            f"{path} is a file, and no image; remove it, give another dest, or force: true to replace it"
        )
    unknown = f"{path} was there and is replaced; the inventory does not know it"
    if not owners and unknown not in outcome.warnings:
        outcome.warnings.append(unknown)
    for owner in owners:
        file = owner.file(path)
        if file and file.manifest_digest is None and not wanted.force and file.state() != storage.MISSING:
            raise taken(path, owner, "it was added or built here; give another dest, or force: true to replace it")
        if wanted.dest is None and not wanted.force:
            raise taken(
                path,
                owner,
                f"give {outcome.reference} for {outcome.platform} another dest or storage, or force: true to take it "
                "over",
            )
        outcome.displaced = owner


def _refuse_hopeless(
    session: Session, wanted: Wanted, reference: Reference, path: str, entry: Entry | None, outcome: PullOutcome
) -> None:
    """Find out before anything is downloaded that nothing could be built, or verified. What others built, need not be.

    In check mode a missing program is only a warning: an earlier task of the play may be what installs it.
    """
    need_writable(os.path.dirname(path))
    why = intruders(os.path.dirname(path)) if wanted.trust else ""
    if why:
        raise StorageError(
            f"{path} cannot be verified where another user can put another file in its place meanwhile: {why}; give a "
            "dest or storage that belongs to this user or root, in directories that do"
        )
    if (reference.is_sif and not wanted.trust) or entry:
        return
    need_writable(wanted.toolchain.tmpdir)
    try:
        wanted.toolchain.need_programs(packer=not reference.is_sif)
    except (EngineError, PackerError) as error:
        if not session.check:
            raise
        outcome.warnings.append(str(error))


def _warn_of_doubt(image: Resolved, outcome: PullOutcome) -> None:
    with importing:
        from ..registry.web import Download  # only an image that has to be done

    if isinstance(image, Download) and image.doubtful and not image.digest:
        outcome.warnings.append(
            "the web server tells neither ETag nor Last-Modified, so that only another size shows that the file "
            "changed; give its digest after the name, or force: true"
        )
