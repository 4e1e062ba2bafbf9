# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``rename``: another name for an image, another path for its file."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from ..errors import InvalidReference, InventoryError, SregistryError, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..fs.files import need_writable, storage_error
from ..inventory import storage
from ..inventory.database import Inventory, taken
from ..inventory.document import Document, File, timestamp
from ..inventory.holding import changed_meanwhile, hold, need_unchanged
from ..inventory.links import Places, needed
from ..inventory.paths import (
    copy,
    discard,
    is_one_name,
    is_second_name,
    leads_to,
    move_aside,
    move_back,
    need_movable,
    needs,
)
from ..inventory.replace import RENAME, Newcomer, Occupant, need_replaceable
from ..inventory.trusted import need_trusted
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import SUFFIXES, is_sandbox
from .outcome import Change, facet

RENAMED, MOVED = "renamed", "moved"


@dataclass(frozen=True)
class Wanted:
    """Which image, and what shall become of it: a new name, a new path for its file, or both.

    ``source`` names one of several files. ``prepare`` sets owner and mode of a file that was moved.
    """

    reference: Reference
    platform: Platform | None
    new: Reference
    dest: str | None
    source: str | None
    storage: str
    check: bool
    prepare: Callable[[str], None]


@dataclass(frozen=True)
class _Move:
    """A file that gets another path: whether it exists, and whether that path has it already."""

    file: File
    path: str
    there: bool
    done: bool = False


def rename(inventory: Inventory, wanted: Wanted) -> list[Change]:
    """Rename an image, of all platforms that it has, or move its file.

    :raises InvalidReference: if the new name is one by digest.
    :raises InventoryError: if there is no such image, or the new name is another image's.
    """
    if wanted.new != wanted.reference and wanted.new.digest:
        raise InvalidReference(f"{wanted.new} is a name by digest, which only a registry can give; give it a tag")
    known = [document for document in inventory.documents() if wanted.platform in (None, document.platform)]
    old = [document for document in known if document.reference == wanted.reference]
    new = [document for document in known if document.reference == wanted.new]
    begun = _begun(wanted, old, new)
    new = [document for document in new if document not in begun.values()]
    if wanted.new != wanted.reference:
        _check_names(wanted, old, new)
    elif not old:
        raise InventoryError(f"there is no image {wanted.reference}{_of(wanted)} in {inventory.directory}")
    documents = old or new
    if wanted.dest and len(documents) > 1:
        platforms = ", ".join(str(document.platform) for document in documents)
        raise InventoryError(f"{wanted.reference} is there for {platforms}; choose one with platform, to move its file")
    changes = []
    for document in documents:
        change = Change(document.reference.uri, wanted.new.uri, str(document.platform), document=document)
        with change.catching():
            if document.platform in begun:
                _finish(inventory, wanted, document, begun[document.platform], change)
            else:
                _rename(inventory, wanted, document, change)
        changes.append(change)
    return changes


def _begun(wanted: Wanted, old: Sequence[Document], new: Sequence[Document]) -> dict[Platform, Document]:
    """The new documents of a run that was killed before it took the old ones away: they say what it would write."""
    written = {document.platform: document for document in new}
    if wanted.new == wanted.reference:
        return {}
    begun = {}
    for document in old:
        other = written.get(document.platform)
        if other is None:
            continue
        try:
            moves = _moves(wanted, document)
            after = _after(wanted, document, moves)
            states = {file.state() for file in [*other.files, *(move.file for move in moves if move.there)]}
        except SregistryError:
            continue
        if any(leads_to(move.path, move.file.path) for move in moves):
            continue
        if dataclasses.replace(after, updated_at=other.updated_at) == other and states <= {storage.PRESENT}:
            begun[document.platform] = other
    return begun


def _finish(inventory: Inventory, wanted: Wanted, document: Document, after: Document, change: Change) -> None:
    """Take the old name away, and the old names of files, as the run would have that wrote the new document."""
    moves = [move for move in _moves(wanted, document) if move.path != move.file.path]
    gone = [move for move in moves if move.there and not is_one_name(move.file.path, move.path)]
    paths = [path for move in moves for path in (move.file.path, move.path)]
    with nullcontext() if wanted.check else hold(inventory, paths, [document.key, after.key]):
        change.before, change.after = facet(document), facet(after)
        change.file = after.files[-1] if after.files else None
        change.path = change.file.path if change.file else None
        change.action, change.changed, change.document = RENAMED, True, after
        for move in gone:
            need_trusted(inventory, document, move.file.path, "remove the file yourself")
            _need_nobodys(inventory, move.file.path, document, after)
            _need_no_link(inventory, wanted, move)
            need_writable(os.path.dirname(move.file.path))
        if wanted.check:
            return
        for known in (document, after):
            need_unchanged(inventory, known)
        inventory.remove(document.reference, document.platform)
        for move in gone:
            discard(move.file.path)


def _of(wanted: Wanted) -> str:
    return f" for {wanted.platform}" if wanted.platform else ""


def _check_names(wanted: Wanted, old: Sequence[Document], new: Sequence[Document]) -> None:
    both = {document.platform for document in old} & {document.platform for document in new}
    if both:
        raise InventoryError(
            f"{wanted.new} is there already for {', '.join(sorted(map(str, both)))}; remove it first with "
            f"sregistry_remove, or give {wanted.reference} another name"
        )
    if not old and not new:
        raise InventoryError(f"there is neither an image {wanted.reference} nor {wanted.new}{_of(wanted)} to rename")


def _rename(inventory: Inventory, wanted: Wanted, document: Document, change: Change) -> None:
    moves = _moves(wanted, document)
    with nullcontext() if wanted.check else _held(inventory, wanted, document, moves):
        change.before = change.after = facet(document)
        change.file = next((move.file for move in moves), document.files[-1] if document.files else None)
        change.path = change.file.path if change.file else None
        moves = [move for move in moves if move.path != move.file.path]
        after = _after(wanted, document, moves)
        if after == document:
            return
        moves = [_looked_at(inventory, wanted, document, move) for move in moves]
        change.action = RENAMED if wanted.new != document.reference else MOVED
        change.after, change.changed = facet(after), True
        change.path = moves[-1].path if moves else change.path
        change.document = after
        if not wanted.check:
            change.document = _carry_out(inventory, wanted, document, after, moves)


def _moves(wanted: Wanted, document: Document) -> list[_Move]:
    """The files that shall be at another path: the one that is asked for, or those whose path follows from the name.

    :raises InventoryError: if it is not clear which one is meant, or there is none.
    """
    if wanted.dest is None:
        return [
            _Move(file, _renamed(wanted, file), os.path.lexists(file.path))
            for file in document.files
            if document.reference != wanted.new and file.path in _places(wanted.storage, document.reference)
        ]
    files = document.files
    if wanted.source:
        files = tuple(file for file in files if file.path == os.path.normpath(wanted.source))
    targets = {file.path: _target(wanted, file) for file in document.files}
    there = [file for file in document.files if targets[file.path] == file.path]
    if there:
        return [_Move(there[0], there[0].path, os.path.lexists(there[0].path))]
    if len(files) != 1:
        have = ", ".join(file.path for file in document.files) or "none"
        raise InventoryError(
            f"{document.reference} has {'no such file' if wanted.source else f'{len(files)} files'} ({have}); "
            f"{'choose one with path' if document.files else 'pull or add it first'}"
        )
    (file,) = files
    if not os.path.lexists(file.path):
        raise StorageError(f"{file.path}, the file of {document.reference}, is missing; pull or add it again first")
    return [_Move(file, targets[file.path], True)]


def _target(wanted: Wanted, file: File) -> str:
    """Where a file goes: into a directory under the name that it has, or to a path of its own. A sandbox is a file
    here: it may be where it shall be, and nothing is put into another one.
    """
    dest = wanted.dest or ""
    if not os.path.isabs(dest):
        raise StorageError(f"{dest!r} is no absolute path; write dest with a leading '/'")
    if os.path.normpath(dest) == file.path:
        return file.path
    if dest.endswith("/") or (os.path.isdir(dest) and not is_sandbox(dest)):
        dest = os.path.join(dest, os.path.basename(file.path))
    return os.path.normpath(dest)


def _places(store: str, reference: Reference) -> list[str]:
    """The paths in the store that follow from a name, one for each format."""
    stem = os.path.splitext(storage.place(store, reference))[0]
    return [stem + suffix for suffix in SUFFIXES.values()]


def _renamed(wanted: Wanted, file: File) -> str:
    return os.path.splitext(storage.place(wanted.storage, wanted.new))[0] + os.path.splitext(file.path)[1]


@contextmanager
def _held(inventory: Inventory, wanted: Wanted, document: Document, moves: Sequence[_Move]) -> Iterator[None]:
    """Hold all that is touched: the old and the new paths, the old and the new name."""
    paths = [path for move in moves for path in (move.file.path, move.path)]
    new = (wanted.new, document.platform)
    with hold(inventory, paths, [document.key, new]):
        need_unchanged(inventory, document)
        if new != document.key and inventory.get(*new):
            raise changed_meanwhile(document.reference)
        yield


def _looked_at(inventory: Inventory, wanted: Wanted, document: Document, move: _Move) -> _Move:
    """A move that nothing is in the way of; what a run before this one has done of it is told.

    :raises StorageError: if the path is another image's, or anybody's, or another image needs the file where it is.
    """
    old, new = move.file.path, move.path
    moves = not is_one_name(old, new)  # by another spelling it is the same place: only the inventory changes
    if moves:
        guard.need_way(new, wanted.storage if wanted.dest is None else "")
        if move.there:
            need_trusted(inventory, document, old, "move the file yourself, and give it its name with sregistry_add")
            _need_nobodys(inventory, old, document)
            _need_no_symlink(document, old)
        if leads_to(new, old):
            raise StorageError(
                f"{new} is a symlink to {old}, and would lead to nothing; remove it, or choose another name or dest"
            )
    owners = tuple(inventory.owners(new, besides=document.key))
    need_replaceable(Newcomer(RENAME), Occupant(new, document, owners, is_same=lambda: not moves or _is_done(move)))
    if not moves:
        return move
    move = dataclasses.replace(move, done=os.path.lexists(new))
    if move.there:
        _need_no_link(inventory, wanted, move)
        need_writable(os.path.dirname(new))
        need_writable(os.path.dirname(old))
        need_movable(old, new)
    return move


def _need_nobodys(inventory: Inventory, path: str, *own: Document) -> None:
    """Refuse to take a file away that is had by another image as well, maybe by a symlink.

    :param own: the documents of the image itself.
    :raises StorageError: saying which.
    """
    keys = {document.key for document in own}
    for other in inventory.documents():
        if other.key not in keys and any(needs(file.path, path) for file in other.files):
            raise taken(path, other, "forget that image first, with sregistry_remove and state: forgotten")


def _need_no_symlink(document: Document, path: str) -> None:
    """Refuse to take a file away that another path of the same image leads to.

    :raises StorageError: saying which.
    """
    for file in document.files:
        if leads_to(file.path, path):
            raise StorageError(
                f"{file.path} is a symlink to {path} and another path of the same image, and would lead to nothing; "
                "move that one first, with source and dest, or put a copy there"
            )


def _need_no_link(inventory: Inventory, wanted: Wanted, move: _Move) -> None:
    """Refuse to take a file away by which people use an image through a symlink of the store, or beside the file.

    :raises StorageError: naming the symlink.
    """
    link = needed(Places(wanted.storage, inventory.directory), [move.file.path]).by(move.file.path)
    if link:
        raise StorageError(
            f"the symlink {link} leads to {move.file.path}, and would lead to nothing; remove it first, and let "
            f"a new one lead to {move.path}"
        )


def _is_done(move: _Move) -> bool:
    """Return whether a path leads to the file already, or has its content, as a run leaves it that was killed after it
    had copied it to another file system. The old file must not be worth more than the copy.
    """
    if not move.there:
        return False
    if is_second_name(move.file.path, move.path):
        return True
    if not move.file.sha256 or os.path.islink(move.path) or not os.path.isfile(move.path):
        return False
    if os.path.getsize(move.path) != move.file.size or move.file.state(checksum=True) != storage.PRESENT:
        return False
    return sha256_of(move.path) == move.file.sha256


def _after(wanted: Wanted, document: Document, moves: Sequence[_Move]) -> Document:
    """The document with its new name and paths. Where it is from does not change with its name."""
    paths = {move.file.path: move.path for move in moves}
    files = tuple(dataclasses.replace(file, path=paths.get(file.path, file.path)) for file in document.files)
    if document.reference == wanted.new:
        return dataclasses.replace(document, files=files)
    url = document.reference.url if document.url is None else document.url
    return dataclasses.replace(document, reference=wanted.new, files=files, url=url)


def _carry_out(
    inventory: Inventory, wanted: Wanted, document: Document, after: Document, moves: Sequence[_Move]
) -> Document:
    """Give files their new names first and take the old ones last: whenever this is killed, no file is lost."""
    there = [move for move in moves if move.there and not is_one_name(move.file.path, move.path)]
    with _undone_if_it_fails() as moved:
        for move in there:
            if not move.done:
                move_aside(move.file.path, move.path)
                moved.append(move)
            _prepare(wanted, move.path)
            after = _restamped(after, move)
        after = dataclasses.replace(after, updated_at=timestamp())
        inventory.put(after)
    if wanted.new != document.reference:
        inventory.remove(document.reference, document.platform)
    for move in there:
        discard(move.file.path)
    return after


def _prepare(wanted: Wanted, path: str) -> None:
    """Set owner and mode of a file at its new path. Of one that may have a name elsewhere, as in the cache, they are
    those of a copy.
    """
    try:
        wanted.prepare(path)
    except StorageError:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            raise

        def finish(temporary: str) -> None:
            wanted.prepare(temporary)
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

        try:
            with permit.reading(path, wanted.storage) as held:
                copy(held, path, finish)
        except OSError as error:
            raise storage_error(error, path) from error


@contextmanager
def _undone_if_it_fails() -> Iterator[list[_Move]]:
    """Take moves back that were made in a block, as copies of large files where there is no room for the document."""
    moved: list[_Move] = []
    try:
        yield moved
    except SregistryError:
        for move in moved:
            with suppress(OSError):
                move_back(move.file.path, move.path)
        raise


def _restamped(document: Document, move: _Move) -> Document:
    """A copy's time may be a little coarser; a file that was modified before does not become a sound one by it."""
    file = document.file(move.path)
    if file is None or move.file.state() != storage.PRESENT:
        return document
    return document.with_changed(dataclasses.replace(file, mtime_ns=os.stat(move.path).st_mtime_ns))
