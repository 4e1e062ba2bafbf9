# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several files and images of an inventory, held at once against other runs, and unchanged since they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from ..errors import StorageError
from ..oci.platform import Platform
from ..oci.reference import Reference
from .database import LOCK_TIMEOUT, Inventory
from .document import Document


@contextmanager
def hold_all(
    inventory: Inventory,
    paths: Iterable[str],
    images: Iterable[tuple[Reference, Platform]],
    timeout: float = LOCK_TIMEOUT,
) -> Iterator[None]:
    """Hold files and images against other runs, for a block: paths before names, and each in one order for all
    runs, so that no two wait for each other.

    :param timeout: seconds for each.
    :raises StorageError: if a lock cannot be had.
    """
    with ExitStack() as stack:
        for path in sorted(set(paths)):
            stack.enter_context(inventory.locked_path(path, timeout))
        for reference, platform in sorted(set(images), key=lambda image: (image[0].uri, str(image[1]))):
            stack.enter_context(inventory.locked(reference, platform, timeout))
        yield


def need_unchanged(inventory: Inventory, document: Document) -> None:
    """Refuse to go on from a document that was read before its image was held, if it is another one now.

    :raises StorageError: if it is.
    """
    if inventory.get(*document.key) != document:
        raise changed_meanwhile(document.reference)


def changed_meanwhile(reference: Reference) -> StorageError:
    """Return the error of a run that had to wait for another one, and finds another image than it looked at."""
    return StorageError(f"another run has changed {reference} meanwhile; run this again when it has ended")
