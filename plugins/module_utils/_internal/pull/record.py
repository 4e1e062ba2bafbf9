# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``record``: manifests and config of images into the inventory, no layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..inventory.database import LOCK_TIMEOUT
from ..inventory.document import Document
from ..inventory.outcome import PRESENT, RECORDED
from ..oci.reference import Reference
from .outcome import PullOutcome
from .resolve import is_current, is_same, resolve, to_document, to_merged
from .session import Session

if TYPE_CHECKING:
    from .resolve import Resolved


def record(session: Session, references: Sequence[Reference]) -> dict[Reference, PullOutcome]:
    """Bring the inventory up to date with what names point at.

    One HEAD tells whether anything is new; a name by digest that is recorded needs not even that.
    """
    return each(session, references, lambda outcome: _record(session, outcome))


def each(
    session: Session, references: Sequence[Reference], work: Callable[[PullOutcome], None]
) -> dict[Reference, PullOutcome]:
    """Do something with each image, in parallel, the same image once; an error ends only its own image's work."""

    def guarded(reference: Reference) -> PullOutcome:
        outcome = PullOutcome(reference, session.platform, progress=session.progress)
        with outcome.clock("total"), outcome.catching():
            work(outcome)
        return outcome

    once = list(dict.fromkeys(references))
    return dict(zip(once, session.in_parallel(guarded, once)))


def _record(session: Session, outcome: PullOutcome) -> None:
    before = session.inventory.get(*outcome.key)
    path = before.files[-1].path if before and before.files else None
    outcome.before, outcome.path, outcome.path_before = before, path, path
    with outcome.clock("resolve"):
        document = _new_document(session, outcome, before)
    if document and not session.check:
        document = _store(session, document)
    outcome.action, outcome.changed, outcome.after = RECORDED if document else PRESENT, document is not None, document


def _new_document(session: Session, outcome: PullOutcome, before: Document | None) -> Document | None:
    """Return the document of what a name points at now; None if it is recorded already."""
    reference = outcome.reference
    if before and is_current(session, reference, before):
        return None
    image = resolve(session, reference, outcome)
    if before and (is_same(before, image) or _tells_nothing(session, before, image)):
        return None
    return to_document(image, session, before)


def _tells_nothing(session: Session, document: Document, image: Resolved) -> bool:
    """Tell whether all that differs of a file on a web server differs at each request, so that it tells nothing."""
    if not image.reference.from_web or image.digest:
        return False
    told = document.told.get("web", {})
    once, again = image.documents["web"], session.registries.web.probe(image.reference).documents["web"]
    steady = {name for name in {*told, *once, *again} if once.get(name) == again.get(name)}
    return len(steady) < len({*once, *again}) and all(told.get(name) == once.get(name) for name in steady)


def _store(session: Session, document: Document) -> Document:
    """Write a document; files that another run added meanwhile stay."""
    with session.inventory.locked(document.reference, document.platform, LOCK_TIMEOUT):
        document = to_merged(document, session.inventory.get(document.reference, document.platform))
        session.inventory.put(document)
    return document
