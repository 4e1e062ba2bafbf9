# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``sweep``: what no image of the inventory has, out of the store and out of the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidImage, InventoryError
from ..fs import guard
from ..inventory import scan
from ..inventory.database import LOCK_TIMEOUT, Inventory
from ..inventory.document import Document
from ..inventory.links import Places, needed
from ..inventory.paths import discard, entries, entry, need_removable
from ..oci.blobs import BlobCache
from ..oci.prune import Pruned, prune
from ..sif.formats import is_left_by_an_engine
from .remove import RemoveOutcome


@dataclass(frozen=True)
class Swept:
    """The files that were removed from a store, or would be, and those that stay.

    :ivar strangers: that stay, though they are named as images are.
    :ivar linked: that stay since a symlink leads to them, each with that symlink.
    """

    gone: list[str]
    strangers: list[str]
    linked: list[tuple[str, str]]


def sweep_store(inventory: Inventory, places: Places, removed: Sequence[RemoveOutcome], check: bool) -> Swept:
    """Remove the images below a store that no image of the inventory has, and what killed runs left there.

    A path may be spelled otherwise than in the inventory, as through a linked directory, or lead to the file by a
    symlink. What lies in a sandbox, or in another store, is the work of somebody; so is what is no image.

    :param places: the store, and where else symlinks are looked for that may lead to files in it, which stay then.
    :param removed: images that go with the same run; what becomes of their files is decided.
    :raises InventoryError: if there is no inventory, so that every file would go, or another one; or it cannot be read.
    :raises StorageError: if a file cannot be removed.
    """
    store = os.path.normpath(places.store)
    scan.need_no_other_inventory(store, inventory.directory)
    gone = {_key(outcome) for outcome in removed if outcome.changed and check}
    documents = [document for document in inventory.documents() if document.key not in gone]
    known = {need for document in documents for file in document.files for need in entries(file.path)}
    known |= {entry(file.path) for outcome in removed if outcome.before for file in outcome.before.files}
    unknown = [path for path in scan.image_files(store, inventory.directory) if entry(path) not in known]
    images = [path for path in unknown if _is_nobodys(path)]
    if images and not inventory.begun:
        raise InventoryError(
            f"there is no inventory in {inventory.directory}, so that every image below {store} would go; correct "
            "database or storage, or remove the files with ansible.builtin.file"
        )
    needs = needed(places, images, [path for outcome in removed for path in outcome.files or ()])
    linked = [(path, link) for path, link in ((path, needs.by(path)) for path in images) if link]
    images = [path for path in images if path not in dict(linked)]
    for path in images:
        need_removable(path)
    swept = images if check else [path for path in images if _sweep(inventory, path)]
    swept += scan.leftovers(store, inventory.directory, check)
    return Swept(swept, [path for path in unknown if path not in (*images, *dict(linked))], linked)


def _key(outcome: RemoveOutcome) -> object:
    """Return the key that the image of an outcome has in the inventory."""
    return outcome.reference, outcome.platform


def _is_nobodys(path: str) -> bool:
    try:
        return is_left_by_an_engine(path)
    except (FileNotFoundError, InvalidImage):
        return False


def _sweep(inventory: Inventory, path: str) -> bool:
    """Remove a file, unless a run that builds it has entered it meanwhile; such a run holds its lock."""
    with inventory.locked_path(path, LOCK_TIMEOUT):
        needed = (need for one in inventory.documents() for file in one.files for need in entries(file.path))
        if entry(path) in needed:
            return False
        guard.need_way(path, inventory.store)
        discard(path)
        return True


def prune_cache(inventory: Inventory, cache: BlobCache, removed: Sequence[RemoveOutcome], check: bool) -> list[Pruned]:
    """Remove from the cache what no image of the inventory needs.

    :param removed: images that go with the same run; in check mode they are still in the inventory.
    :raises InventoryError, StorageError: as inventory and cache raise them.
    """
    gone = {_key(outcome): outcome.document for outcome in removed if outcome.changed}
    needed: set[str] = set()
    for document in inventory.documents():
        rest = gone.get(document.key, document)
        if rest:
            needed |= _needs(rest)
    dropped = {digest for outcome in removed for digest in outcome.dropped}
    return [pruned for pruned in prune(cache, needed, check) if pruned.what not in dropped]


def _needs(document: Document) -> set[str]:
    """Return the blobs that another build of an image's file would fetch, and its files as they are kept."""
    if not document.files:
        return set()
    digests = {document.digest, document.manifest_digest, _config_digest(document.metrics)}
    digests |= {layer["digest"] for layer in document.layers}
    digests |= {file.digest for file in document.files}
    return {digest for digest in digests if digest}


def _config_digest(metrics: dict[str, Any]) -> str | None:
    config = metrics.get("manifest", {}).get("config")
    digest = config.get("digest") if isinstance(config, dict) else None
    return digest if isinstance(digest, str) else None  # a document may hold anything there
