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
from typing import cast

from ..errors import InvalidImage, InvalidReference, SregistryError, StorageError
from ..fs import guard
from ..fs.digest import sha256_of
from ..fs.files import need_writable, storage_error
from ..inventory import scan, storage
from ..inventory.database import Inventory, taken
from ..inventory.document import Document, File, timestamp
from ..inventory.holding import hold_all
from ..inventory.links import Places, needed
from ..inventory.outcome import PRESENT
from ..inventory.paths import back_up, copy, discard, is_one_name, needs
from ..inventory.relocate import adopt
from ..inventory.replace_rules import ADD, NOTHING, Newcomer, Occupant, need_replaceable
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import SUFFIXES, Format, identify
from .outcome import ChangeOutcome
from .source_file import SourceFile, describe_source, store_path

COPY, MOVE, IN_PLACE = "copy", "move", "in_place"
METHODS = (COPY, MOVE, IN_PLACE)
ADDED, REPLACED, REPAIRED = "added", "replaced", "repaired"


@dataclass(frozen=True)
class NamedFile:
    """A file to add, and the name that it gets; ``name`` as it was written."""

    name: str
    reference: Reference
    path: str


@dataclass(frozen=True)
class AddRequest:
    """The way in which files are to be added.

    :ivar platform: of files that do not tell theirs.
    :ivar prepare: sets owner and mode of a file before it gets its name.
    :ivar backup: give another file that is replaced another name.
    """

    storage: str
    method: str
    force: bool
    checksum: bool
    check: bool
    prepare: Callable[[str], None]
    platform: Platform | None = None
    backup: bool = False

    def moves(self, source: SourceFile) -> bool:
        """Return whether a file is to be at its new path only."""
        return self.method == MOVE and not source.stays


def add(inventory: Inventory, request: AddRequest, items: Sequence[NamedFile]) -> list[ChangeOutcome]:
    """Make sure that each name has its file.

    :raises InvalidReference: if one name is to have two files, or one file, or place in the store, two names.
    """
    paths: dict[Reference, str] = {}
    for item in items:
        if item.reference.digest:
            raise InvalidReference(f"{item.name} is a name by digest, which only a registry can give; give it a tag")
        if paths.setdefault(item.reference, item.path) != item.path:
            raise InvalidReference(f"{item.reference} is to have two files, {paths[item.reference]} and {item.path}")
    _refuse_shared(request, items)
    done: dict[Reference, ChangeOutcome] = {}
    outcomes: list[ChangeOutcome] = []
    for item in items:
        twin = done.get(item.reference)
        outcome = _again(twin, item.name) if twin else _add(inventory, request, item)
        done.setdefault(item.reference, outcome)
        outcomes.append(outcome)
    return outcomes


def _refuse_shared(request: AddRequest, items: Sequence[NamedFile]) -> None:
    """Refuse names that would take a file from each other, which is known only when the first has it."""
    sources: dict[str, Reference] = {}
    targets: dict[str, Reference] = {}
    for item in items:
        path = os.path.realpath(item.path)
        other = sources.setdefault(path, item.reference)
        if request.method != COPY and other != item.reference:
            raise InvalidReference(
                f"{item.path} is to be the file of both {other} and {item.reference}, which method: {request.method} "
                f"cannot do; add it with method: {COPY}, or under one name"
            )
        if request.method == IN_PLACE:
            continue
        try:
            target = store_path(request.storage, item.reference, identify(path))
        except (OSError, SregistryError):
            continue  # it fails, or is there already, when its turn comes
        other = targets.setdefault(target, item.reference)
        if other != item.reference:
            raise InvalidReference(
                f"the file of both {other} and {item.reference} would be {target}; give one of them another name, or "
                f"another storage, or add it with method: {IN_PLACE}"
            )


def _again(twin: ChangeOutcome, name: str) -> ChangeOutcome:
    """Return the outcome for an image that is named once more: it is done already."""
    if twin.error:
        return dataclasses.replace(twin, name=name)
    return dataclasses.replace(
        twin, name=name, changed=False, action=PRESENT, before=twin.document, after=None, warnings=[]
    )


def _add(inventory: Inventory, request: AddRequest, item: NamedFile) -> ChangeOutcome:
    outcome = ChangeOutcome(item.reference, name=item.name)
    with outcome.catching():
        if not os.path.isabs(item.path):
            raise StorageError(f"{item.path!r} is no absolute path; write path with a leading '/'")
        path = os.path.normpath(item.path)
        store = None if request.method == IN_PLACE else request.storage
        try:
            source = describe_source(path, item.reference, store, request.platform)
        except FileNotFoundError as error:
            moved = _moved_before(inventory, request, item) if request.method == MOVE else None
            if moved is None:
                raise InvalidImage(f"there is no file {path} to add as {item.reference}") from error
            document, file = moved
            return dataclasses.replace(outcome, platform=document.platform, path=file.path, before=document)
        except OSError as error:
            raise storage_error(error, path) from error
        return _add_source(
            inventory, request, source, dataclasses.replace(outcome, platform=source.platform, path=source.target)
        )
    return outcome


def _moved_before(inventory: Inventory, request: AddRequest, item: NamedFile) -> tuple[Document, File] | None:
    """Return the file that the name has by now, where that was moved by the run before, and its document."""
    paths = {store_path(request.storage, item.reference, Format(name)) for name in SUFFIXES}
    for document in inventory.documents():
        if document.reference != item.reference or document.digest is not None:
            continue
        for file in document.files:
            if file.path in paths and file.state(request.checksum) == storage.PRESENT:
                return document, file
    return None


def _add_source(inventory: Inventory, request: AddRequest, source: SourceFile, outcome: ChangeOutcome) -> ChangeOutcome:
    """Add one file.

    :param outcome: names the image and the path of its file. In the case of an error it is what is returned.
    """
    reference, platform = cast("Reference", outcome.reference), source.platform
    held = nullcontext() if request.check else hold_all(inventory, [source.target], [(reference, platform)])
    with outcome.catching(), held:
        document = inventory.get(reference, platform)
        if document and document.digest is not None:
            raise StorageError(
                f"{reference} is the name of an image from a registry, {document.url or reference.url}; give the file "
                "another name, or remove that image first with sregistry_remove"
            )
        kept = _kept(document, request, source)
        if kept:
            return dataclasses.replace(outcome, path=kept.path, before=document)
        action, warnings = _decide(inventory, request, reference, document, source)
        file = File.at(source.path, source.sha256, {"format": source.format.name})
        file = dataclasses.replace(file, path=source.target)
        if not request.check:
            _place_file(request, source, outcome)
            file = dataclasses.replace(file, mtime_ns=os.stat(source.target).st_mtime_ns)
        known = document.without_file(source.path) if document and request.moves(source) else document
        after = _to_document(known, reference, platform, file)
        if not request.check:
            inventory.put(after)
            if request.moves(source):
                discard(source.path)
        return dataclasses.replace(
            outcome, action=action, changed=True, before=document, after=after, warnings=warnings
        )
    return outcome


def _kept(document: Document | None, request: AddRequest, source: SourceFile) -> File | None:
    """Return the file that serves already: it has the same content, and is where it is to be, or where it was moved
    to.
    """
    if document is None or request.moves(source):
        return None  # a file that is to be moved must not stay
    same = [file for file in document.files if file.sha256 == source.sha256]
    if request.method == IN_PLACE:
        same = [file for file in same if file.path == source.target]
    return next((file for file in same if file.state(request.checksum) == storage.PRESENT), None)


def _decide(
    inventory: Inventory, request: AddRequest, reference: Reference, document: Document | None, source: SourceFile
) -> tuple[str, list[str]]:
    """Return the action, and warnings about what is lost by it.

    :raises StorageError: if a file would be lost, and that is not asked for.
    """
    others = [file for file in document.files if file.sha256 != source.sha256] if document else []
    action = REPLACED if others else REPAIRED if document and document.files else ADDED
    warnings = _lost(request, reference, source, others)
    if not source.stays:
        guard.need_way(source.target, request.storage)
    occupant = _occupant(inventory, document, source)
    if occupant.owners or not source.stays:
        need_replaceable(Newcomer(ADD, request.force), occupant)
    if source.stays:
        other = scan.other_store(source.path, inventory.directory)
        if other:
            warnings.append(
                f"{source.path} lies in the store {other}, whose inventory does not know it, so that a pull there may "
                f"replace it; add it with storage: {other}"
            )
        return action, warnings
    need_writable(os.path.dirname(source.target))
    if request.method == MOVE:
        need_writable(os.path.dirname(source.path))
        warnings += _bereft(inventory, request, document, source)
    if not occupant.own and occupant.kind != NOTHING and not occupant.is_same():
        return REPLACED, [*warnings, f"{source.target}, which the inventory did not know, is replaced"]
    return action, warnings


def _lost(request: AddRequest, reference: Reference, source: SourceFile, others: Sequence[File]) -> list[str]:
    """Return warnings about the other files of the image, which are not in the inventory any more.

    :raises StorageError: if there is one, and to lose it is not asked for.
    """
    lost = [file for file in others if os.path.lexists(file.path)]
    if lost and not request.force:
        raise StorageError(
            f"{reference} has another file, {lost[0].path} (sha256 {lost[0].sha256}), than {source.path} (sha256 "
            f"{source.sha256}); give this one another name, or replace that one with force: true"
        )
    stays = "stays on disk, and is not in the inventory any more"
    return [
        f"{file.path} (sha256 {file.sha256}) {'is replaced' if file.path == source.target else stays}" for file in lost
    ]


def _occupant(inventory: Inventory, document: Document | None, source: SourceFile) -> Occupant:
    owners = inventory.owners(source.target, besides=document.key if document else None)
    is_same = functools.lru_cache(maxsize=None)(lambda: sha256_of(source.target) == source.sha256)
    return Occupant(source.target, document, tuple(owners), is_same=is_same)


def _bereft(inventory: Inventory, request: AddRequest, document: Document | None, source: SourceFile) -> list[str]:
    """Return warnings about images that have the file which is to be moved, and symlinks that lead to it.

    :raises StorageError: if there is one, and to move the file all the same is not asked for.
    """
    warnings = []
    for owner in inventory.documents():
        if document and owner.key == document.key:
            continue
        if not any(needs(file.path, source.path) or is_one_name(file.path, source.path) for file in owner.files):
            continue
        if not request.force:
            raise taken(
                source.path,
                owner,
                f"give that image another name or path with sregistry_rename, use method: {COPY}, or give "
                "force: true to move the file all the same",
            )
        warnings.append(f"{source.path} is moved away from {owner.reference} for {owner.platform}")
    link = needed(Places(request.storage, inventory.directory), [source.path]).by(source.path)
    if link and not request.force:
        raise StorageError(
            f"the symlink {link} leads to {source.path}, and would lead to nothing; let it lead elsewhere, remove "
            f"it, use method: {COPY}, or give force: true to move the file all the same"
        )
    return [*warnings, f"the symlink {link} leads to nothing any more"] if link else warnings


def _place_file(request: AddRequest, source: SourceFile, outcome: ChangeOutcome) -> None:
    """Bring a file to its path.

    :param outcome: gets the path of the backup, also where the rest fails.
    """

    def prepare(temporary: str) -> None:
        request.prepare(temporary)
        if request.backup and os.path.isfile(source.target) and sha256_of(source.target) != source.sha256:
            outcome.backup_file = back_up(source.target, outcome.backup_file)

    if source.stays:
        request.prepare(source.path)
    elif request.method == MOVE:
        adopt(source.path, source.target, prepare)
    elif copy(source.path, source.target, prepare) != source.sha256:
        raise StorageError(f"{source.path} was written to while it was copied; add it again when it is finished")


def _to_document(document: Document | None, reference: Reference, platform: Platform, file: File) -> Document:
    """Return the document with its new file. Files of other content are not this name's any more."""
    if document:
        same = tuple(other for other in document.files if other.sha256 == file.sha256)
        return dataclasses.replace(document, files=same, updated_at=timestamp()).with_file(file)
    return Document.local(reference, platform, file)
