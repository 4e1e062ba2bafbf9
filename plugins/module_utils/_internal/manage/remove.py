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

from ..errors import InvalidImage, InventoryError, StorageError
from ..fs import guard
from ..fs.guard import intruders
from ..inventory import scan, storage
from ..inventory.database import LOCK_TIMEOUT, Inventory
from ..inventory.document import Document, File
from ..inventory.holding import hold, need_unchanged
from ..inventory.links import Places, needed
from ..inventory.paths import discard, entries, entry, need_removable
from ..inventory.selector import Choice
from ..inventory.trusted import need_trusted
from ..oci.blobs import BlobCache, Pruned
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import begins_as_image, is_left_by_an_engine
from .outcome import ABSENT, PRESENT, Change, facet

FORGOTTEN, RECORDED = "forgotten", "recorded"
STATES = (ABSENT, FORGOTTEN, RECORDED)
REMOVED, UNBUILT, KEPT = "removed", "unbuilt", "kept"
_ACTIONS = {ABSENT: REMOVED, FORGOTTEN: FORGOTTEN, RECORDED: UNBUILT}


@dataclass(frozen=True)
class Wanted:
    """What shall go. ``names`` or, where that is None, all but ``keep``; of one platform, or of every.

    ``state`` is what shall be left: nothing (``absent``), the files (``forgotten``), or the entry (``recorded``).
    ``places`` is where symlinks are looked for that lead to files; what these need stays, unless an image is named
    itself and ``force`` takes it away.
    """

    names: Sequence[Choice] | None
    keep: Sequence[Choice]
    platform: Platform | None
    state: str
    force: bool
    check: bool
    places: Places


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
    linked = _linked(wanted, documents, [document for _name, document in chosen])
    going = [document for _name, document in chosen if document.key not in linked]
    staying = [document for document in documents if document not in going]
    gone_paths: set[str] = set()
    for name, document in chosen:
        change = Change(name, document.reference.uri, str(document.platform))
        with change.catching():
            if document.key in linked:
                _keep(wanted, document, *linked[document.key], change)
            else:
                _remove(inventory, cache, wanted, document, staying, change)
            change.more["files"] = [path for path in change.more["files"] if path not in gone_paths]
            gone_paths.update(change.more["files"])
        changes.append(change)
    return changes


def _linked(
    wanted: Wanted, documents: Sequence[Document], going: Sequence[Document]
) -> dict[tuple[Reference, Platform], tuple[str, str]]:
    """The images that stay since a symlink leads to a file of theirs: that file, and that symlink.

    A file that stays anyway, since another image needs it, is nothing that a symlink could lose.
    """
    if wanted.state == FORGOTTEN:
        return {}
    staying = {need for one in documents if one not in going for file in one.files for need in entries(file.path)}
    going = [document for document in going if not (wanted.force and _is_named(wanted, document))]
    doomed = {
        document.key: [file.path for file in document.files if entry(file.path) not in staying] for document in going
    }
    needs = needed(wanted.places, [path for paths in doomed.values() for path in paths if os.path.lexists(path)])
    found = ((key, path, needs.by(path)) for key, paths in doomed.items() for path in paths)
    return {key: (path, link) for key, path, link in found if link}


def _is_named(wanted: Wanted, document: Document) -> bool:
    """Whether an image goes by its own name, and not by a pattern, or since it is not among what is kept."""
    return any(choice.reference == document.reference for choice in wanted.names or ())


def _keep(wanted: Wanted, document: Document, path: str, link: str, change: Change) -> None:
    """Leave an image as it is, since a symlink leads to a file of it.

    :raises StorageError: if it was to go by its own name.
    """
    change.before = change.after = facet(document)
    change.document, change.file, change.path = document, document.files[-1], document.files[-1].path
    change.more["files"] = []
    if _is_named(wanted, document):
        raise StorageError(
            f"the symlink {link} leads to {path}, and would lead to nothing then; let it lead elsewhere, remove it, or "
            "give force: true"
        )
    change.action = KEPT
    change.warnings.append(
        f"{path} stays, since the symlink {link} leads to it; when nobody needs that any more, remove the symlink first"
    )


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
    with nullcontext() if wanted.check else hold(inventory, paths, [document.key]):
        if not wanted.check:
            if inventory.get(*document.key) is None:  # another run has done it while this one waited
                change.action, change.more["files"] = ABSENT, []
                return
            need_unchanged(inventory, document)
        change.before = facet(document)
        change.file = document.files[-1] if document.files else None
        change.path = change.file.path if change.file else None
        bare = dataclasses.replace(document, files=()) if wanted.state == RECORDED else None
        change.after, change.document = facet(bare), bare
        doomed = [] if wanted.state == FORGOTTEN else _doomed(inventory, wanted, document, staying)
        change.more["files"] = [file.path for file in doomed if os.path.lexists(file.path)]
        change.changed = bare != document
        change.action = _ACTIONS[wanted.state] if change.changed else PRESENT
        used = {other.digest for one in staying for other in one.files}
        change.dropped = {file.digest for file in doomed if file.digest and file.digest not in used}
        if wanted.check:
            return
        for file in doomed:
            discard(file.path)
        for digest in change.dropped:
            cache.forget(digest)
        if bare is None:
            inventory.remove(document.reference, document.platform)
        elif change.changed:
            inventory.put(bare)


def _doomed(inventory: Inventory, wanted: Wanted, document: Document, staying: Sequence[Document]) -> list[File]:
    """The files of an image that go with it: not those that another image needs as well.

    :raises StorageError: if one cannot be removed, or is not what was built or added here.
    """
    needed = {need for other in staying for file in other.files for need in entries(file.path)}
    files = [file for file in document.files if entry(file.path) not in needed]
    for file in files:
        need_trusted(inventory, document, file.path, f"only forget it with state: {FORGOTTEN}")
        need_removable(file.path)
        if not wanted.force:
            _need_ours(inventory, document, file)
    return files


def _need_ours(inventory: Inventory, document: Document, file: File) -> None:
    """Refuse to remove what is not the image that was built or added.

    Who may write the inventory could have entered any file of this host, with its size and time, for this user to
    remove. Then only the content counts; and a directory, which has no checksum, has to lie where others may write.

    :raises StorageError: saying what it is.
    """
    way_out = f"remove it with force: true, or only forget it with state: {FORGOTTEN}"
    others = intruders(inventory.images, strict=True)
    state = file.state(checksum=bool(others))
    if state == storage.MODIFIED and not others:  # it may have been touched, and no more
        state = file.state(checksum=True)
    if state == storage.MODIFIED:
        raise StorageError(
            f"{file.path} is not the file any more that was built or added as {document.reference}: somebody put "
            f"another one there, or wrote to it; save it if it is of use, {way_out}"
        )
    if state == storage.MISSING:
        return
    if not file.sha256:
        if others and not intruders(os.path.dirname(file.path), strict=True):
            raise StorageError(
                f"{file.path}, the directory of {document.reference}, may be anybody's: others can write the inventory "
                f"({others}), and not there; look what it is, {way_out}"
            )
    elif not _is_image(file.path):
        raise StorageError(f"{file.path}, the file of {document.reference}, is no image; look what it is, {way_out}")


def _is_image(path: str) -> bool:
    try:
        return begins_as_image(path)
    except (FileNotFoundError, InvalidImage):
        if os.path.isfile(path) and not os.access(path, os.R_OK):
            raise
        return False


@dataclass(frozen=True)
class Swept:
    """What was removed from a store, or would be; what stays there, though it is named as images are; and what stays
    since a symlink leads to it, with that symlink.
    """

    gone: list[str]
    strangers: list[str]
    linked: list[tuple[str, str]]


def sweep(inventory: Inventory, places: Places, removed: Sequence[Change], check: bool) -> Swept:
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
    gone = {(change.uri, change.platform) for change in removed if change.changed and not change.error and check}
    documents = [one for one in inventory.documents() if (one.reference.uri, str(one.platform)) not in gone]
    known = {need for document in documents for file in document.files for need in entries(file.path)}
    known |= {entry(path) for change in removed for path in change.before.get("files", {})}
    unknown = [path for path in scan.image_files(store, inventory.directory) if entry(path) not in known]
    images = [path for path in unknown if _is_nobodys(path)]
    if images and not inventory.begun:
        raise InventoryError(
            f"there is no inventory in {inventory.directory}, so that every image below {store} would go; correct "
            "database or storage, or remove the files with ansible.builtin.file"
        )
    needs = needed(places, images, [path for change in removed for path in change.more.get("files", ())])
    linked = [(path, link) for path, link in ((path, needs.by(path)) for path in images) if link]
    images = [path for path in images if path not in dict(linked)]
    for path in images:
        need_removable(path)
    swept = images if check else [path for path in images if _sweep(inventory, path)]
    swept += scan.leftovers(store, inventory.directory, check)
    return Swept(swept, [path for path in unknown if path not in (*images, *dict(linked))], linked)


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
    digest = config.get("digest") if isinstance(config, dict) else None
    return digest if isinstance(digest, str) else None  # a document may hold anything there
