# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that documents name, where others may have written these: root reads, moves and removes only what they could
read, move and remove themselves.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress

from ..fs import permit
from .database import Inventory
from .document import Document


def need_trusted(inventory: Inventory, document: Document, path: str, way_out: str) -> None:
    """Refuse to take away or move a file that a document names, if whoever could have written the document could
    not do that himself; as ``permit.need_meant``.

    :param way_out: for the error.
    :raises StorageError: naming the document and the path.
    """
    what = f"{inventory.path_of(*document.key)}, the inventory document of {document.reference}; {way_out}"
    permit.need_meant(path, inventory.store, document.word, what)


def reading_trusted(inventory: Inventory, document: Document, path: str) -> AbstractContextManager[str]:
    """Hold a file that a document names, to be read out; as ``permit.reading``."""
    return permit.reading(path, inventory.store, document.word)


def need_readable(inventory: Inventory, document: Document, path: str) -> None:
    """Refuse a file that is not to be read out for who could have written a document; one need not be there.

    :raises StorageError: as ``permit.reading``.
    """
    with suppress(OSError), reading_trusted(inventory, document, path):
        pass
