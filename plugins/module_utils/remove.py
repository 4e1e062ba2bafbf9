# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``remove``: images out of the inventory, their files, and what the cache keeps for nobody."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from . import storage
from .blobs import BlobCache, Pruned
from .change import ABSENT, PRESENT, Change, facet
from .document import Document, File
from .errors import InventoryError, StorageError
from .format import SUFFIXES
from .inventory import LOCK_TIMEOUT, Inventory
from .platform import Platform
from .selection import Choice

FORGOTTEN, RECORDED = "forgotten", "recorded"
STATES = (ABSENT, FORGOTTEN, RECORDED)
REMOVED, UNBUILT = "removed", "unbuilt"
_ACTIONS = {ABSENT: REMOVED, FORGOTTEN: FORGOTTEN, RECORDED: UNBUILT}


@dataclass(frozen=True)
class Wanted:
    """What shall go. ``names`` or, where that is None, all but ``keep``; of one platform, or of every.

    ``state`` is what shall be left: nothing (``absent``), the files (``forgotten``), or the entry (``recorded``).
    """

    names: Sequence[Choice] | None
    keep: Sequence[Choice]
    platform: Platform | None
    state: str
    force: bool
    check: bool


def remove(inventory: Inventory, cache: BlobCache, wanted: Wanted) -> list[Change]:
    """Remove images. An error of one ends only its own removal.

    :returns: what became of each, and of each name that there is nothing of.
    :raises InventoryError: if the inventory cannot be read.
    """
    documents = list(inventory.documents())
    changes: list[Change] = []
    chosen: list[tuple[str, Document]] = []
    if wanted.names is None:
        _need_meaning(wanted, documents)
        kept = [document for document in documents if any(_meant(document, choice, None) for choice in wanted.keep)]
        gone = [document for document in documents if document not in kept and _is_of(document, wanted.platform)]
        chosen = [(document.reference.uri, document) for document in gone]
    else:
        for choice in wanted.names:
            found = [document for document in documents if _meant(document, choice, wanted.platform)]
            chosen += [(choice.text, document) for document in found if document not in [other for _n, other in chosen]]
            if not found:
                uri = choice.reference.uri if choice.reference else None
                changes.append(Change(choice.text, uri, action=ABSENT))
    going = [document for _name, document in chosen]
    staying = [document for document in documents if document not in going]
    gone_paths: set[str] = set()
    for name, document in chosen:
        change = Change(name, document.reference.uri, str(document.platform))
        with change.catching():
            _remove(inventory, cache, wanted, document, staying, change)
            change.more["files"] = [path for path in change.more["files"] if path not in gone_paths]
            gone_paths.update(change.more["files"])
        changes.append(change)
    return changes


def meaningless(documents: Sequence[Document], choices: Sequence[Choice]) -> list[str]:
    """Those names and patterns that mean no image of the inventory, as they were written."""
    return [choice.text for choice in choices if not any(_meant(each, choice, None) for each in documents)]


def _need_meaning(wanted: Wanted, documents: Sequence[Document]) -> None:
    """Refuse to remove all but what is not there: most likely it is misspelt.

    :raises StorageError: naming it.
    """
    strange = meaningless(documents, wanted.keep)
    if documents and len(strange) == len(wanted.keep) and not wanted.force:
        raise StorageError(
            f"keep holds {', '.join(strange)}, and the inventory has none of that, so every image would go; correct "
            "it, or give force: true"
        )


def _is_of(document: Document, platform: Platform | None) -> bool:
    return platform in (None, document.platform)


def _meant(document: Document, choice: Choice, platform: Platform | None) -> bool:
    return choice.includes(document.reference.uri) and _is_of(document, platform)


def _remove(
    inventory: Inventory,
    cache: BlobCache,
    wanted: Wanted,
    document: Document,
    staying: Sequence[Document],
    change: Change,
) -> None:
    """Remove one image: its files first, so that what a killed run leaves is known and removed by the next one."""
    paths = [file.path for file in document.files]
    inventory.need_writable()
    with nullcontext() if wanted.check else inventory.held(paths, [document.key]):
        if not wanted.check:
            inventory.need_unchanged(document)
        change.before = facet(document)
        change.file = document.files[-1] if document.files else None
        change.path = change.file.path if change.file else None
        bare = dataclasses.replace(document, files=()) if wanted.state == RECORDED else None
        change.after, change.document = facet(bare), bare
        doomed = [] if wanted.state == FORGOTTEN else _doomed(wanted, document, staying)
        change.more["files"] = [file.path for file in doomed if os.path.lexists(file.path)]
        change.changed = bare != document
        change.action = _ACTIONS[wanted.state] if change.changed else PRESENT
        used = {other.digest for one in staying for other in one.files}
        change.dropped = {file.digest for file in doomed if file.digest and file.digest not in used}
        if wanted.check:
            return
        for file in doomed:
            storage.discard(file.path)
        for digest in change.dropped:
            cache.forget(digest)
        if bare is None:
            inventory.remove(document.reference, document.platform)
        elif change.changed:
            inventory.put(bare)


def _doomed(wanted: Wanted, document: Document, staying: Sequence[Document]) -> list[File]:
    """The files of an image that go with it: not those that are another image's as well.

    :raises StorageError: if one cannot be removed, or is not what was built or added here.
    """
    needed = {_place(file.path) for other in staying for file in other.files}
    files = [file for file in document.files if _place(file.path) not in needed]
    for file in files:
        storage.need_removable(file.path)
        if not wanted.force and _is_modified(file):
            raise StorageError(
                f"{file.path} is not the file any more that was built or added as {document.reference}: somebody put "
                f"another one there, or wrote to it; save it if it is of use, remove it with force: true, or only "
                f"forget it with state: {FORGOTTEN}"
            )
    return files


def _is_modified(file: File) -> bool:
    """Whether a file has another content. One that was only touched has not."""
    return file.state() == storage.MODIFIED and file.state(checksum=True) == storage.MODIFIED


def sweep(inventory: Inventory, store: str, removed: Sequence[Change], check: bool) -> list[str]:
    """Remove the image files below a store, told by their endings, that no image of the inventory has.

    :param removed: images that go with the same run; what becomes of their files is decided.
    A path may be spelled otherwise than in the inventory, as through a linked directory. What lies in a sandbox is the
    work of somebody.

    :returns: their paths.
    :raises InventoryError: if there is no inventory, so that every file would go, or it cannot be read.
    :raises StorageError: if a file cannot be removed.
    """
    known = {_place(file.path) for document in inventory.documents() for file in document.files}
    known |= {_place(path) for change in removed for path in change.before.get("files", {})}
    found = storage.image_files(os.path.normpath(store), tuple(SUFFIXES.values()))
    swept = [path for path in found if _place(path) not in known]
    if swept and not inventory.begun:
        raise InventoryError(
            f"there is no inventory in {inventory.directory}, so that every image below {store} would go; correct "
            "database or storage, or remove the files with ansible.builtin.file"
        )
    return swept if check else [path for path in swept if _sweep(inventory, path)]


def _place(path: str) -> tuple[object, str]:
    """What two spellings of a path have in common: the directory itself, and the name in it."""
    directory, name = os.path.split(path)
    try:
        status = os.stat(directory)
    except OSError:
        return directory, name
    return (status.st_dev, status.st_ino), name


def _sweep(inventory: Inventory, path: str) -> bool:
    """Remove a file, unless a run that builds it has entered it meanwhile; such a run holds its lock."""
    with inventory.locked_path(path, LOCK_TIMEOUT):
        known = (file.path for document in inventory.documents() for file in document.files)
        if _place(path) in map(_place, known):
            return False
        storage.discard(path)
        return True


def prune(inventory: Inventory, cache: BlobCache, removed: Sequence[Change], check: bool) -> list[Pruned]:
    """Remove from the cache what no image of the inventory needs.

    :param removed: images that go with the same run; in check mode they are still in the inventory.
    :raises InventoryError, StorageError: as inventory and cache raise them.
    """
    gone = {(change.uri, change.platform): change.document for change in removed if change.changed}
    needed: set[str] = set()
    for document in inventory.documents():
        rest = gone.get((document.reference.uri, str(document.platform)), document)
        if rest:
            needed |= _needs(rest)
    dropped = {digest for change in removed for digest in change.dropped}
    return [pruned for pruned in cache.prune(needed, check) if pruned.what not in dropped]


def _needs(document: Document) -> set[str]:
    """The blobs that another build of an image's file would fetch, and its files as they are kept."""
    if not document.files:
        return set()
    digests = {document.digest, document.manifest_digest, _config_digest(document.metrics)}
    digests |= {layer["digest"] for layer in document.layers}
    digests |= {file.digest for file in document.files}
    return {digest for digest in digests if digest}


def _config_digest(metrics: dict[str, Any]) -> str | None:
    config = metrics.get("manifest", {}).get("config")
    return config.get("digest") if isinstance(config, dict) else None
