# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``facts``: what the inventory knows, and whether its files are still so."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SregistryError, StorageError
from ..fs import guard, permit
from ..inventory import storage
from ..inventory.database import Inventory
from ..inventory.document import reference_of
from ..inventory.selector import WordSearch
from ..inventory.trusted import need_readable
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.inspection import inspect


@dataclass(frozen=True)
class Query:
    """A query for images: which (None for all), of which platform (None for every), and how thoroughly.

    :ivar manifests: add the documents of the registry.
    :ivar checksum: read files whole.
    :ivar inspect: add what a file tells of itself.
    :ivar command: add the argument vector that runs a file.
    """

    references: Sequence[Reference] | None = None
    platform: Platform | None = None
    search: WordSearch | None = None
    manifests: bool = False
    checksum: bool = False
    inspect: bool = False
    command: Callable[[str], list[str] | None] | None = None


def find_images(
    inventory: Inventory, rows: Sequence[dict[str, Any]], query: Query, warn: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return the rows that a query is about, each with the ``state`` of its file: remote, present, missing or modified.

    :param rows: of the whole inventory.
    :param warn: told of a file that cannot be inspected.
    :raises InventoryError, StorageError: as the parts raise them.
    """
    uris = {reference.uri for reference in query.references} if query.references is not None else None
    platform = str(query.platform) if query.platform else None
    return [
        _answer(inventory, row, query, warn)
        for row in rows
        if (uris is None or row["reference"] in uris)
        and (query.search is None or query.search.finds(row["reference"]))
        and platform in (None, row["platform"])
    ]


def path_of(rows: Sequence[dict[str, Any]], reference: Reference, wanted: Platform) -> str | None:
    """Return the file of an image that a platform can run: present, unchanged, and the newest of the best platform.

    :param rows: as ``query`` gives them.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for row in rows:
        rank = wanted.rank(Platform.parse(row["platform"]))
        if row["reference"] == reference.uri and row["state"] == storage.PRESENT and rank is not None:
            found.append((rank, row))
    best = min((rank for rank, _row in found), default=None)
    newest = max((row for rank, row in found if rank == best), key=lambda row: str(row["created_at"]), default=None)
    return newest["path"] if newest else None


def _answer(inventory: Inventory, row: dict[str, Any], query: Query, warn: Callable[[str], None]) -> dict[str, Any]:
    answer = {**row, "state": "remote"}
    path = row["path"]
    refusal = _refusal(inventory, row, query)
    if path:
        checksum = query.checksum and not refusal
        answer["state"] = storage.state(path, row["size"], row["mtime_ns"], row["sha256"], checksum)
    if refusal:
        warn(f"{row['reference']}: {refusal}")
        answer["state"] = storage.MODIFIED
    if query.manifests:
        document = inventory.get(reference_of(row), Platform.parse(row["platform"]))
        answer["metrics"] = document.metrics if document else {}
        answer["layers"] = list(document.layers) if document else []
        answer["url"] = document.to_json()["url"] if document else ""
    if query.command:
        answer["command"] = query.command(path) if path else None
    if query.inspect and path:
        answer["inspect"] = None
        if answer["state"] != storage.MISSING and not refusal:
            try:
                with permit.reading(path) as held:
                    answer["inspect"] = inspect(held)
            except (SregistryError, OSError) as error:  # one damaged file must not hide the others
                warn(f"{row['reference']}: cannot inspect {path}: {error}")
    return answer


def _refusal(inventory: Inventory, row: dict[str, Any], query: Query) -> str:
    """Return why root does not read out a file for whoever could have written its document; empty if it may be read."""
    if os.geteuid() != guard.ROOT or not row["path"] or not (query.checksum or query.inspect):
        return ""
    document = inventory.get(reference_of(row), Platform.parse(row["platform"]))
    try:
        if document:
            need_readable(inventory, document, row["path"])
    except StorageError as error:
        return str(error)
    return ""
