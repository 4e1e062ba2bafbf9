# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``rename``: another name for an image, another path for its file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import nullcontext

from ..errors import InvalidReference, InventoryError, SregistryError
from ..fs.files import need_writable
from ..inventory import storage
from ..inventory.database import Inventory
from ..inventory.document import Document, timestamp
from ..inventory.holding import changed_meanwhile, hold_all, need_unchanged
from ..inventory.paths import discard
from ..inventory.relocate import leads_to
from ..inventory.trusted import need_trusted
from ..oci.platform import Platform
from .move import Move, RenameRequest, checked, moved, moves_of, need_no_link, need_nobodys
from .outcome import ChangeOutcome

RENAMED, MOVED = "renamed", "moved"


def rename(inventory: Inventory, request: RenameRequest) -> list[ChangeOutcome]:
    """Rename an image, of all platforms that it has, or move its file.

    :raises InvalidReference: if the new name is one by digest.
    :raises InventoryError: if there is no such image, or the new name is another image's.
    """
    if request.new != request.reference and request.new.digest:
        raise InvalidReference(f"{request.new} is a name by digest, which only a registry can give; give it a tag")
    known = [document for document in inventory.documents() if request.platform in (None, document.platform)]
    old = [document for document in known if document.reference == request.reference]
    new = [document for document in known if document.reference == request.new]
    begun = _begun(request, old, new)
    new = [document for document in new if document not in begun.values()]
    if request.new != request.reference:
        _need_names(request, old, new)
    elif not old:
        raise InventoryError(f"there is no image {request.reference}{_of(request)} in {inventory.directory}")
    documents = old or new
    if request.dest and len(documents) > 1:
        platforms = ", ".join(str(document.platform) for document in documents)
        raise InventoryError(
            f"{request.reference} is there for {platforms}; choose one with platform, to move its file"
        )
    return [
        _finish(inventory, request, document, begun[document.platform])
        if document.platform in begun
        else _rename(inventory, request, document)
        for document in documents
    ]


def _begun(request: RenameRequest, old: Sequence[Document], new: Sequence[Document]) -> dict[Platform, Document]:
    """Return the new documents of a run that was killed before it took the old ones away: they say what it would
    write.
    """
    written = {document.platform: document for document in new}
    if request.new == request.reference:
        return {}
    begun = {}
    for document in old:
        other = written.get(document.platform)
        if other is None:
            continue
        try:
            moves = moves_of(request, document)
            after = _after(request, document, moves)
            states = {file.state() for file in [*other.files, *(move.file for move in moves if move.there)]}
        except SregistryError:
            continue
        if any(leads_to(move.path, move.file.path) for move in moves):
            continue
        if dataclasses.replace(after, updated_at=other.updated_at) == other and states <= {storage.PRESENT}:
            begun[document.platform] = other
    return begun


def _of(request: RenameRequest) -> str:
    return f" for {request.platform}" if request.platform else ""


def _need_names(request: RenameRequest, old: Sequence[Document], new: Sequence[Document]) -> None:
    both = {document.platform for document in old} & {document.platform for document in new}
    if both:
        raise InventoryError(
            f"{request.new} is there already for {', '.join(sorted(map(str, both)))}; remove it first with "
            f"sregistry_remove, or give {request.reference} another name"
        )
    if not old and not new:
        raise InventoryError(f"there is neither an image {request.reference} nor {request.new}{_of(request)} to rename")


def _outcome(request: RenameRequest, document: Document) -> ChangeOutcome:
    """Return the outcome for an image that stays as it is."""
    path = document.files[-1].path if document.files else None
    name = document.reference.uri
    return ChangeOutcome(reference=request.new, platform=document.platform, name=name, path=path, before=document)


def _finish(inventory: Inventory, request: RenameRequest, document: Document, after: Document) -> ChangeOutcome:
    """Take the old name away, and the old names of files, as the run would have that wrote the new document."""
    outcome = _outcome(request, document)
    with outcome.catching():
        moves = [move for move in moves_of(request, document) if move.path != move.file.path]
        gone = [move for move in moves if move.there and not move.is_one_name]
        with nullcontext() if request.check else hold_all(inventory, _paths(moves), [document.key, after.key]):
            others = [one for one in inventory.documents() if one.key not in (document.key, after.key)]
            for move in gone:
                need_trusted(inventory, document, move.file.path, "remove the file yourself")
                need_nobodys(move.file.path, others)
                need_no_link(inventory, request, move)
                need_writable(os.path.dirname(move.file.path))
            if not request.check:
                for known in (document, after):
                    need_unchanged(inventory, known)
                inventory.remove(document.reference, document.platform)
                for move in gone:
                    discard(move.file.path)
        path = after.files[-1].path if after.files else None
        return dataclasses.replace(outcome, path=path, after=after, action=RENAMED, changed=True)
    return outcome


def _rename(inventory: Inventory, request: RenameRequest, document: Document) -> ChangeOutcome:
    outcome = _outcome(request, document)
    with outcome.catching():
        moves = moves_of(request, document)
        if moves:
            outcome.path = moves[0].file.path
        new = (request.new, document.platform)
        with nullcontext() if request.check else hold_all(inventory, _paths(moves), [document.key, new]):
            if not request.check:
                need_unchanged(inventory, document)
                if new != document.key and inventory.get(*new):
                    raise changed_meanwhile(document.reference)
            moves = [move for move in moves if move.path != move.file.path]
            after = _after(request, document, moves)
            if after == document:
                return outcome
            others = [one for one in inventory.documents() if one.key != document.key]
            moves = [checked(inventory, request, document, move, others) for move in moves]
            if not request.check:
                after = _carry_out(inventory, request, document, after, moves)
        action = RENAMED if request.new != document.reference else MOVED
        path = moves[-1].path if moves else outcome.path
        return dataclasses.replace(outcome, path=path, after=after, action=action, changed=True)
    return outcome


def _paths(moves: Sequence[Move]) -> list[str]:
    return [path for move in moves for path in (move.file.path, move.path)]


def _after(request: RenameRequest, document: Document, moves: Sequence[Move]) -> Document:
    """Return the document with its new name and paths. Where it is from does not change with its name."""
    paths = {move.file.path: move.path for move in moves}
    files = tuple(dataclasses.replace(file, path=paths.get(file.path, file.path)) for file in document.files)
    if document.reference == request.new:
        return dataclasses.replace(document, files=files)
    url = document.reference.url if document.url is None else document.url
    return dataclasses.replace(document, reference=request.new, files=files, url=url)


def _carry_out(
    inventory: Inventory, request: RenameRequest, document: Document, after: Document, moves: Sequence[Move]
) -> Document:
    """Give files their new names first and take the old ones last: whenever this is killed, no file is lost."""
    there = [move for move in moves if move.there and not move.is_one_name]
    with moved(request, after, there) as entered:
        entered = dataclasses.replace(entered, updated_at=timestamp())
        inventory.put(entered)
    if request.new != document.reference:
        inventory.remove(document.reference, document.platform)
    for move in there:
        discard(move.file.path)
    return entered
