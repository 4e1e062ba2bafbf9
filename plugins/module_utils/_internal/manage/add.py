# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``add``: image files that are on the host into the store and the inventory."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from ..errors import InvalidImage, InvalidReference, SregistryError, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..fs.files import need_writable, storage_error
from ..inventory import scan, storage
from ..inventory.database import Inventory, taken
from ..inventory.document import Document, File, timestamp
from ..inventory.holding import hold
from ..inventory.links import Places, needed
from ..inventory.paths import adopt, back_up, copy, discard, is_one_name, needs
from ..inventory.replace import ADD, NOTHING, Newcomer, Occupant, need_replaceable
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import SUFFIXES, Format, identify
from .outcome import PRESENT, Change, facet

COPY, MOVE, IN_PLACE = "copy", "move", "in_place"
METHODS = (COPY, MOVE, IN_PLACE)
ADDED, REPLACED, REPAIRED = "added", "replaced", "repaired"


@dataclass(frozen=True)
class Item:
    """A file to add, and the name that it shall have; ``name`` as it was written."""

    name: str
    reference: Reference
    path: str


@dataclass(frozen=True)
class Wanted:
    """How files shall be added. ``platform`` is that of files that do not tell theirs; ``prepare`` sets owner and mode
    of a file before it gets its name; ``backup`` gives another file that it replaces another name.
    """

    storage: str
    method: str
    force: bool
    checksum: bool
    check: bool
    prepare: Callable[[str], None]
    platform: Platform | None = None
    backup: bool = False


@dataclass(frozen=True)
class _Source:
    """A file that is there: what it is, and where it shall lie."""

    path: str
    format: Format
    platform: Platform
    sha256: str
    target: str


def add(inventory: Inventory, wanted: Wanted, items: Sequence[Item]) -> list[Change]:
    """Make sure that each name has its file.

    :raises InvalidReference: if one name is to have two files, or one file, or place in the store, two names.
    """
    paths: dict[Reference, str] = {}
    for item in items:
        if item.reference.digest:
            raise InvalidReference(f"{item.name} is a name by digest, which only a registry can give; give it a tag")
        if paths.setdefault(item.reference, item.path) != item.path:
            raise InvalidReference(f"{item.reference} is to have two files, {paths[item.reference]} and {item.path}")
    _refuse_shared(wanted, items)
    changes: list[Change] = []
    done: dict[Reference, Change] = {}
    for item in items:
        twin = done.get(item.reference)
        change = _again(twin, item.name) if twin else Change(item.name, item.reference.uri)
        if twin is None:
            with change.catching():
                _add(inventory, wanted, item, change)
            done[item.reference] = change
        changes.append(change)
    return changes


def _refuse_shared(wanted: Wanted, items: Sequence[Item]) -> None:
    """Refuse names that would take a file from each other, which is known only when the first has it."""
    sources: dict[str, Reference] = {}
    places: dict[str, Reference] = {}
    for item in items:
        path = os.path.realpath(item.path)
        other = sources.setdefault(path, item.reference)
        if wanted.method != COPY and other != item.reference:
            raise InvalidReference(
                f"{item.path} is to be the file of both {other} and {item.reference}, which method: {wanted.method} "
                f"cannot do; add it with method: {COPY}, or under one name"
            )
        if wanted.method == IN_PLACE:
            continue
        try:
            place = _place(wanted.storage, item.reference, identify(path))
        except (OSError, SregistryError):
            continue  # it fails, or is there already, when its turn comes
        other = places.setdefault(place, item.reference)
        if other != item.reference:
            raise InvalidReference(
                f"the file of both {other} and {item.reference} would be {place}; give one of them another name, or "
                f"another storage, or add it with method: {IN_PLACE}"
            )


def _again(twin: Change, name: str) -> Change:
    """What becomes of an image that is named once more: nothing, since it is done."""
    if twin.error:
        return dataclasses.replace(twin, name=name)
    return dataclasses.replace(twin, name=name, changed=False, action=PRESENT, before=twin.after, warnings=[])


def _add(inventory: Inventory, wanted: Wanted, item: Item, change: Change) -> None:
    if not os.path.isabs(item.path):
        raise StorageError(f"{item.path!r} is no absolute path; write path with a leading '/'")
    path = os.path.normpath(item.path)
    try:
        with permit.reading(path) as held:
            kind, sha256 = identify(held), sha256_of(held)
    except FileNotFoundError as error:
        if wanted.method != MOVE or not _was_moved(inventory, wanted, item, change):
            raise InvalidImage(f"there is no file {path} to add as {item.reference}") from error
        return
    except OSError as error:
        raise storage_error(error, path) from error
    target = path if wanted.method == IN_PLACE else _place(wanted.storage, item.reference, kind)
    if is_one_name(path, target):  # to move it onto itself would be to remove it
        path = target
    source = _Source(path, kind, platform_of(kind, wanted.platform, path), sha256, target)
    change.platform, change.path = str(source.platform), target
    with nullcontext() if wanted.check else hold(inventory, [target], [(item.reference, source.platform)]):
        _carry_out(inventory, wanted, item.reference, source, change)


def _was_moved(inventory: Inventory, wanted: Wanted, item: Item, change: Change) -> bool:
    """Whether a file that is not there any more is the one that the name has: it was moved by the run before."""
    places = {_place(wanted.storage, item.reference, Format(name)) for name in SUFFIXES}
    for document in inventory.documents():
        if document.reference != item.reference or document.digest is not None:
            continue
        for file in document.files:
            if file.path in places and file.state(wanted.checksum) == storage.PRESENT:
                change.platform, change.path = str(document.platform), file.path
                change.document, change.file = document, file
                change.before = change.after = facet(document)
                return True
    return False


def _carry_out(inventory: Inventory, wanted: Wanted, reference: Reference, source: _Source, change: Change) -> None:
    document = change.document = inventory.get(reference, source.platform)
    change.before = change.after = facet(document)
    if document and document.digest is not None:
        raise StorageError(
            f"{reference} is the name of an image from a registry, {document.url or reference.url}; give the file "
            "another name, or remove that image first with sregistry_remove"
        )
    kept = _kept(document, wanted, source)
    if kept:
        change.file, change.path = kept, kept.path
        return
    _decide(inventory, wanted, document, source, change)
    file = dataclasses.replace(File.at(source.path, source.sha256, {"format": source.format.name}), path=source.target)
    if not wanted.check:
        _place_file(wanted, source, change)
        file = dataclasses.replace(file, mtime_ns=os.stat(source.target).st_mtime_ns)
    if document and wanted.method == MOVE and source.path != source.target:
        document = document.without_file(source.path)
    change.document = _to_document(document, reference, source.platform, file)
    change.file, change.after, change.changed = file, facet(change.document), True
    if not wanted.check:
        inventory.put(change.document)
        if wanted.method == MOVE and source.path != source.target:
            discard(source.path)


def _kept(document: Document | None, wanted: Wanted, source: _Source) -> File | None:
    """The file that serves already: it has the same content, and is where it shall be, or where it was moved to."""
    if document is None or (wanted.method == MOVE and source.path != source.target):
        return None  # a file that is to be moved must not stay
    same = [file for file in document.files if file.sha256 == source.sha256]
    if wanted.method == IN_PLACE:
        same = [file for file in same if file.path == source.target]
    return next((file for file in same if file.state(wanted.checksum) == storage.PRESENT), None)


def _decide(inventory: Inventory, wanted: Wanted, document: Document | None, source: _Source, change: Change) -> None:
    """Name what will be done, and refuse what would lose a file."""
    others = [file for file in document.files if file.sha256 != source.sha256] if document else []
    change.action = REPLACED if others else REPAIRED if document and document.files else ADDED
    lost = [file for file in others if os.path.lexists(file.path)]
    if lost and not wanted.force:
        raise StorageError(
            f"{change.uri} has another file, {lost[0].path} (sha256 {lost[0].sha256}), than {source.path} (sha256 "
            f"{source.sha256}); give this one another name, or replace that one with force: true"
        )
    if source.path != source.target:
        guard.need_way(source.target, wanted.storage)
    occupant = _occupant(inventory, document, source)
    if occupant.owners or source.path != source.target:
        need_replaceable(Newcomer(ADD, wanted.force), occupant)
    for file in lost:
        what = "is replaced" if file.path == source.target else "stays on disk, and is not in the inventory any more"
        change.warnings.append(f"{file.path} (sha256 {file.sha256}) {what}")
    if source.path == source.target:
        other = scan.other_store(source.path, inventory.directory)
        if other:
            change.warnings.append(
                f"{source.path} lies in the store {other}, whose inventory does not know it, so that a pull there may "
                f"replace it; add it with storage: {other}"
            )
        return
    need_writable(os.path.dirname(source.target))
    if wanted.method == MOVE:
        need_writable(os.path.dirname(source.path))
        _look_at_bereft(inventory, wanted, document, source, change)
    if not occupant.own and occupant.kind != NOTHING and not occupant.is_same():
        change.action = REPLACED
        change.warnings.append(f"{source.target}, which the inventory did not know, is replaced")


def _occupant(inventory: Inventory, document: Document | None, source: _Source) -> Occupant:
    owners = inventory.owners(source.target, besides=document.key if document else None)
    is_same = functools.lru_cache(maxsize=None)(lambda: sha256_of(source.target) == source.sha256)
    return Occupant(source.target, document, tuple(owners), is_same=is_same)


def _look_at_bereft(
    inventory: Inventory, wanted: Wanted, document: Document | None, source: _Source, change: Change
) -> None:
    """Images that have the file which is to be moved, and symlinks that lead to it: they would have none any more."""
    for owner in inventory.documents():
        if document and owner.key == document.key:
            continue
        if not any(needs(file.path, source.path) or is_one_name(file.path, source.path) for file in owner.files):
            continue
        if not wanted.force:
            raise taken(
                source.path,
                owner,
                f"give that image another name or path with sregistry_rename, use method: {COPY}, or give "
                "force: true to move the file all the same",
            )
        change.warnings.append(f"{source.path} is moved away from {owner.reference} for {owner.platform}")
    link = needed(Places(wanted.storage, inventory.directory), [source.path]).by(source.path)
    if link and not wanted.force:
        raise StorageError(
            f"the symlink {link} leads to {source.path}, and would lead to nothing; let it lead elsewhere, remove "
            f"it, use method: {COPY}, or give force: true to move the file all the same"
        )
    if link:
        change.warnings.append(f"the symlink {link} leads to nothing any more")


def _place_file(wanted: Wanted, source: _Source, change: Change) -> None:
    def prepare(temporary: str) -> None:
        wanted.prepare(temporary)
        if wanted.backup and os.path.isfile(source.target) and sha256_of(source.target) != source.sha256:
            change.more["backup_file"] = back_up(source.target, change.more.get("backup_file"))

    if source.path == source.target:
        wanted.prepare(source.path)
    elif wanted.method == MOVE:
        adopt(source.path, source.target, prepare)
    elif copy(source.path, source.target, prepare) != source.sha256:
        raise StorageError(f"{source.path} was written to while it was copied; add it again when it is finished")


def _to_document(document: Document | None, reference: Reference, platform: Platform, file: File) -> Document:
    """The document with its new file. Files of other content are not this name's any more."""
    if document:
        same = tuple(other for other in document.files if other.sha256 == file.sha256)
        return dataclasses.replace(document, files=same, updated_at=timestamp()).with_file(file)
    return Document.local(reference, platform, file)


def platform_of(format: Format, wanted: Platform | None, path: str) -> Platform:
    """The platform of a file. Those of Singularity 2 do not tell theirs.

    :raises InvalidImage: if the file is of another one than is wanted.
    """
    if format.architecture is None:
        return wanted or Platform.host()
    told = Platform.of("linux", format.architecture)
    if wanted and (wanted.os, wanted.architecture) != (told.os, told.architecture):
        raise InvalidImage(f"{path} is an image for {told}, not for {wanted}; give the platform that it has")
    return wanted or told


def _place(store: str, reference: Reference, format: Format) -> str:
    """The path of an image in the store, with the ending that its format has."""
    return os.path.splitext(storage.place(store, reference))[0] + format.suffix
