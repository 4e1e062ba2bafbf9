# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``facts``: what the inventory knows, and whether its files are still so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import storage
from .engine import Engine
from .errors import EngineError
from .inventory import Inventory
from .platform import Platform
from .reference import Reference


@dataclass(frozen=True)
class Question:
    """What is asked: which images (None for all), of which platform (None for every), and how thoroughly.

    ``manifests`` adds the registry's documents, ``engine`` what its ``inspect`` says, ``checksum`` reads files whole.
    """

    references: Sequence[Reference] | None = None
    platform: Platform | None = None
    manifests: bool = False
    checksum: bool = False
    engine: Engine | None = None


def query(
    inventory: Inventory, rows: Sequence[dict[str, Any]], question: Question, warn: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The rows that a question is about, each with the ``state`` of its file: remote, present, missing or modified.

    :param rows: of the whole inventory.
    :param warn: told of an image that the engine cannot inspect.
    :raises InventoryError, StorageError: as the parts raise them.
    """
    uris = {reference.uri for reference in question.references} if question.references is not None else None
    platform = str(question.platform) if question.platform else None
    return [
        _answer(inventory, row, question, warn)
        for row in rows
        if (uris is None or row["uri"] in uris) and platform in (None, row["platform"])
    ]


def _answer(
    inventory: Inventory, row: dict[str, Any], question: Question, warn: Callable[[str], None]
) -> dict[str, Any]:
    answer = {**row, "state": "remote"}
    path = row["image"]
    if path:
        answer["state"] = storage.state(path, row["size"], row["mtime_ns"], row["version"], question.checksum)
    if question.manifests:
        document = inventory.get(Reference.parse(row["uri"]), Platform.parse(row["platform"]))
        answer["metrics"] = document.metrics if document else {}
        answer["layers"] = list(document.layers) if document else []
    if question.engine and path:
        answer["inspect"] = None
        if answer["state"] != storage.MISSING:
            try:
                answer["inspect"] = question.engine.inspect(path)
            except EngineError as error:  # one damaged file must not hide the others
                warn(f"{path}: {error}")
    return answer
