# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A path that an image takes for its file: held against other runs meanwhile, and after it no other image's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..inventory.database import BUILD_TIMEOUT, LOCK_TIMEOUT
from ..inventory.document import Document
from .outcome import PullOutcome
from .session import Session


def other_owners(session: Session, outcome: PullOutcome, path: str) -> list[Document]:
    """The other images that have their file at a path."""
    return session.inventory.owners(path, besides=outcome.key)


@contextmanager
def claimed(session: Session, outcome: PullOutcome, path: str, taking: bool = True) -> Iterator[None]:
    """Hold a path and the document of its image, for a block. The step ``wait`` is until other runs let go of them.

    :param taking: a new file comes there: if the block changed something, what other images had there is theirs no
        longer.
    :raises StorageError: if another run does not let go of them in time.
    """
    inventory = session.inventory
    with ExitStack() as file:
        with ExitStack() as image:
            with outcome.clock("wait"):
                file.enter_context(inventory.locked_path(path, BUILD_TIMEOUT))
                image.enter_context(inventory.locked(outcome.reference, outcome.platform, BUILD_TIMEOUT))
            yield
        if taking and outcome.changed:  # with its own image let go of: two runs might wait for each other
            _dispossess(session, outcome, path)


def _dispossess(session: Session, outcome: PullOutcome, path: str) -> None:
    """Take a file that was just written out of the documents of other images that had it."""
    for owner in other_owners(session, outcome, path):
        with session.inventory.locked(owner.reference, owner.platform, LOCK_TIMEOUT):
            latest = session.inventory.get(owner.reference, owner.platform)
            file = latest.file(path) if latest else None
            if latest and file:
                if file.digest:
                    session.cache.forget(file.digest)
                session.inventory.put(latest.without_file(path))
