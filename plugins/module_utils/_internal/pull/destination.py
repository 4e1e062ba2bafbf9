# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The path that an image takes for its file: what may be replaced there, and the locks that keep other runs away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..inventory.database import BUILD_TIMEOUT, LOCK_TIMEOUT
from ..inventory.replace_rules import NOTHING, PULL, Newcomer, Occupant, need_replaceable
from .job import Job, Replaced
from .outcome import PullOutcome
from .session import Session

if TYPE_CHECKING:
    from ..inventory.document import Document


@dataclass(frozen=True)
class Destination:
    """A path and the document of its image, both locked."""

    session: Session
    outcome: PullOutcome
    path: str
    image: ExitStack

    def take_from_others(self) -> None:
        """Take the file that was just written out of the documents of other images that had it.

        The document of the own image is released first: two runs might wait for each other.

        :raises StorageError: if another run does not release such a document in time.
        """
        self.image.close()
        inventory, path = self.session.inventory, self.path
        for owner in inventory.owners(path, besides=self.outcome.key):
            with inventory.locked(owner.reference, owner.platform, LOCK_TIMEOUT):
                latest = inventory.get(owner.reference, owner.platform)
                file = latest.file(path) if latest else None
                if latest and file:
                    if file.digest:
                        self.session.cache.forget(file.digest)
                    inventory.put(latest.without_file(path))


@contextmanager
def lock_destination(session: Session, outcome: PullOutcome, path: str) -> Iterator[Destination]:
    """Lock a path and the document of its image, for a block; waiting for other runs is the step ``wait``.

    :raises StorageError: if another run does not release them in time.
    """
    inventory = session.inventory
    with ExitStack() as file, ExitStack() as image:
        with outcome.clock("wait"):
            file.enter_context(inventory.locked_path(path, BUILD_TIMEOUT))
            image.enter_context(inventory.locked(outcome.reference, outcome.platform, BUILD_TIMEOUT))
        yield Destination(session, outcome, path, image)


def need_destination(job: Job, document: Document | None) -> Replaced:
    """Raise unless the file of an image may be put at a path; return what it replaces there.

    :param document: of the image.
    :raises StorageError: naming what is there; ``inventory/replace_rules.py`` has the rules.
    """
    path, outcome = job.path, job.outcome
    owners: list[Document] = []
    own = document.file(path) if document else None
    if not own and os.path.lexists(path):
        owners = job.session.inventory.owners(path, besides=outcome.key)
    there = Occupant(path, document, tuple(owners))
    need_replaceable(Newcomer(PULL, job.request.force, derived=job.request.dest is None), there)
    unknown = f"{path} was there and is replaced; the inventory does not know it"
    if there.kind != NOTHING and not there.known and unknown not in outcome.warnings:
        outcome.warnings.append(unknown)
    return Replaced(path if own or there.kind != NOTHING else None, owners[-1] if owners else None)
