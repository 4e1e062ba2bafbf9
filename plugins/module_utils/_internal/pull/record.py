# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``record``: manifests and config of images into the inventory, no layers."""

from __future__ import annotations

from collections.abc import Sequence
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
    return session.each(references, lambda reference, outcome: _record(session, reference, outcome))


def _record(session: Session, reference: Reference, outcome: PullOutcome) -> None:
    outcome.before = session.inventory.get(reference, session.platform)
    if outcome.before and outcome.before.files:
        outcome.path = outcome.path_before = outcome.before.files[-1].path
    with outcome.clock("resolve"):
        if outcome.before and is_current(session, reference, outcome.before):
            outcome.action = PRESENT
            return
        image = resolve(session, reference, outcome)
        same = outcome.before and (is_same(outcome.before, image) or _tells_nothing(session, outcome.before, image))
    if same:
        outcome.action = PRESENT
        return
    document = to_document(image, session, outcome.before)
    if not session.check:
        document = _store(session, document)
    outcome.after, outcome.changed, outcome.action = document, True, RECORDED


def _tells_nothing(session: Session, document: Document, image: Resolved) -> bool:
    """Whether all that differs of a file on a web server differs at each request, so that it tells nothing."""
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
