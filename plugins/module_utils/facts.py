# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``facts``: what the inventory knows, and whether its files are still so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import storage
from .engine import Engine
from .inventory import Document, Inventory
from .platform import Platform
from .reference import Reference


def query(
    inventory: Inventory,
    references: Sequence[Reference] | None,
    platform: Platform | None,
    manifests: bool = False,
    checksum: bool = False,
    engine: Engine | None = None,
) -> list[dict[str, Any]]:
    """The rows of some images, or of all, each with the ``state`` of its file.

    :param references: None for all.
    :param platform: None for every platform.
    :param manifests: add the documents of the registry as ``metrics``.
    :param engine: if given, add what ``inspect`` says of each file that is there.
    :raises InventoryError, StorageError, EngineError: as the parts raise them.
    """
    wanted = set(references) if references is not None else None
    rows = []
    for document in _documents(inventory, wanted, platform):
        for row in document.rows():
            file = document.file(row["image"]) if row["image"] else None
            row["state"] = storage.state(file, checksum) if file else "remote"
            if manifests:
                row["metrics"] = document.metrics
                row["layers"] = list(document.layers)
            if engine and file:
                row["inspect"] = engine.inspect(file.path) if row["state"] != storage.MISSING else None
            rows.append(row)
    return rows


def _documents(inventory: Inventory, wanted: set[Reference] | None, platform: Platform | None) -> list[Document]:
    if wanted is not None and platform is not None:
        found = (inventory.get(reference, platform) for reference in sorted(wanted, key=str))
        return [document for document in found if document]
    return [
        document
        for document in inventory.documents()
        if (wanted is None or document.reference in wanted) and platform in (None, document.platform)
    ]
