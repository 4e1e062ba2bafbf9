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

from ..errors import StorageError
from ..inventory import storage
from ..inventory.database import BUILD_TIMEOUT, LOCK_TIMEOUT, taken
from ..sif.formats import is_image
from .job import Job, Replaced
from .outcome import PullOutcome
from .session import Session

if TYPE_CHECKING:
    from ..inventory.document import File


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


def need_destination(job: Job, file: File | None) -> Replaced:
    """Raise unless the file of an image may be put at a path; return what it replaces there.

    Who writes the path in ``dest`` means to replace it, as a new version under a fixed name. A path that follows from
    the name alone is not taken from another image: with two such images each run would undo the other. What nobody
    could fetch again, a file that was added or built here or is not an image, is only replaced by force.

    :param file: what the inventory says the image has at the path.
    :raises StorageError: naming what is there.
    """
    path, outcome, force = job.path, job.outcome, job.request.force
    if file:
        if file.manifest_digest is None and not force:
            raise StorageError(
                f"{path} is the file of {outcome.reference} that was not pulled but added or built here; rename that "
                "one, give another dest, or replace it with force: true"
            )
        return Replaced(path)
    if not os.path.lexists(path):
        return Replaced()
    if not os.path.isfile(path) and not os.path.islink(path):
        raise StorageError(f"{path} is there and is no regular file; remove it, or give another dest")
    owners = job.session.inventory.owners(path, besides=outcome.key)
    if not owners:
        if not force and os.path.isfile(path) and os.path.getsize(path) and not is_image(path):
            raise StorageError(
                f"{path} is a file, and no image; remove it, give another dest, or force: true to replace it"
            )
        unknown = f"{path} was there and is replaced; the inventory does not know it"
        if unknown not in outcome.warnings:
            outcome.warnings.append(unknown)
        return Replaced(path)
    for owner in owners:
        known = owner.file(path)
        if known and known.manifest_digest is None and not force and known.state() != storage.MISSING:
            raise taken(path, owner, "it was added or built here; give another dest, or force: true to replace it")
        if job.request.dest is None and not force:
            raise taken(
                path,
                owner,
                f"give {outcome.reference} for {outcome.platform} another dest or storage, or force: true to take it "
                "over",
            )
    return Replaced(path, owners[-1])
