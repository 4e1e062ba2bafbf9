# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an image that get another path, with a new name or as somebody asks for it."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..errors import InventoryError, SregistryError, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..fs.files import need_writable, storage_error
from ..inventory import storage
from ..inventory.database import Inventory, taken
from ..inventory.document import Document, File
from ..inventory.links import Places, needed
from ..inventory.paths import (
    copy,
    is_one_name,
    is_second_name,
    move_aside,
    needs,
)
from ..inventory.relocate import leads_to, move_back, need_movable
from ..inventory.replace_rules import RENAME, Newcomer, Occupant, need_replaceable
from ..inventory.trusted import need_trusted
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import SUFFIXES, is_sandbox


@dataclass(frozen=True)
class RenameRequest:
    """An image, and a new name, a new path for its file, or both.

    :ivar source: one of several files.
    :ivar prepare: sets owner and mode of a file that was moved.
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
class Move:
    """A file that gets another path: whether it exists, and whether it has that path already."""

    file: File
    path: str
    there: bool
    done: bool = False

    @property
    def is_one_name(self) -> bool:
        """True if both paths are one place in two spellings, so that only the inventory changes."""
        return is_one_name(self.file.path, self.path)


def moves_of(request: RenameRequest, document: Document) -> list[Move]:
    """Return the files that are to be at another path: the one that is asked for, or those whose path follows from the
    name.

    :raises InventoryError: if it is not clear which one is meant, or there is none.
    """
    if request.dest is None:
        return [
            Move(file, _renamed(request, file), os.path.lexists(file.path))
            for file in document.files
            if document.reference != request.new and file.path in _store_paths(request.storage, document.reference)
        ]
    files = document.files
    if request.source:
        files = tuple(file for file in files if file.path == os.path.normpath(request.source))
    targets = {file.path: _target(request, file) for file in document.files}
    there = [file for file in document.files if targets[file.path] == file.path]
    if there:
        return [Move(there[0], there[0].path, os.path.lexists(there[0].path))]
    if len(files) != 1:
        have = ", ".join(file.path for file in document.files) or "none"
        raise InventoryError(
            f"{document.reference} has {'no such file' if request.source else f'{len(files)} files'} ({have}); "
            f"{'choose one with path' if document.files else 'pull or add it first'}"
        )
    (file,) = files
    if not os.path.lexists(file.path):
        raise StorageError(f"{file.path}, the file of {document.reference}, is missing; pull or add it again first")
    return [Move(file, targets[file.path], True)]


def _target(request: RenameRequest, file: File) -> str:
    """Return where a file goes: into a directory under the name that it has, or to a path of its own. A sandbox is a
    file here: it may be where it is to be, and nothing is put into another one.
    """
    dest = request.dest or ""
    if not os.path.isabs(dest):
        raise StorageError(f"{dest!r} is no absolute path; write dest with a leading '/'")
    if os.path.normpath(dest) == file.path:
        return file.path
    if dest.endswith("/") or (os.path.isdir(dest) and not is_sandbox(dest)):
        dest = os.path.join(dest, os.path.basename(file.path))
    return os.path.normpath(dest)


def _store_paths(store: str, reference: Reference) -> list[str]:
    """Return the paths in the store that follow from a name, one for each format."""
    stem = os.path.splitext(storage.place(store, reference))[0]
    return [stem + suffix for suffix in SUFFIXES.values()]


def _renamed(request: RenameRequest, file: File) -> str:
    return os.path.splitext(storage.place(request.storage, request.new))[0] + os.path.splitext(file.path)[1]


def checked(
    inventory: Inventory, request: RenameRequest, document: Document, move: Move, others: Sequence[Document]
) -> Move:
    """Return a move that nothing is in the way of, and whether a run before this one has done it.

    :param others: the other documents of the inventory.
    :raises StorageError: if the path is another image's, or anybody's, or another image needs the file where it is.
    """
    old, new = move.file.path, move.path
    if not move.is_one_name:
        guard.need_way(new, request.storage if request.dest is None else "")
        if move.there:
            need_trusted(inventory, document, old, "move the file yourself, and give it its name with sregistry_add")
            need_nobodys(old, others)
            _need_no_symlink(document, old)
        if leads_to(new, old):
            raise StorageError(
                f"{new} is a symlink to {old}, and would lead to nothing; remove it, or choose another name or dest"
            )
    owners = tuple(other for other in others if other.file(new))
    need_replaceable(Newcomer(RENAME), Occupant(new, document, owners, is_same=lambda: _is_done(move)))
    if move.is_one_name:
        return move
    if move.there:
        need_no_link(inventory, request, move)
        need_writable(os.path.dirname(new))
        need_writable(os.path.dirname(old))
        need_movable(old, new)
    return dataclasses.replace(move, done=os.path.lexists(new))


def need_nobodys(path: str, others: Sequence[Document]) -> None:
    """Refuse to take a file away that is had by another image as well, maybe by a symlink.

    :raises StorageError: saying which.
    """
    for other in others:
        if any(needs(file.path, path) for file in other.files):
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


def need_no_link(inventory: Inventory, request: RenameRequest, move: Move) -> None:
    """Refuse to take a file away by which people use an image through a symlink of the store, or beside the file.

    :raises StorageError: naming the symlink.
    """
    link = needed(Places(request.storage, inventory.directory), [move.file.path]).by(move.file.path)
    if link:
        raise StorageError(
            f"the symlink {link} leads to {move.file.path}, and would lead to nothing; remove it first, and let "
            f"a new one lead to {move.path}"
        )


def _is_done(move: Move) -> bool:
    """Return whether a path leads to the file already, or has its content, as a run leaves it that was killed after it
    had copied it to another file system. The old file must not be worth more than the copy.
    """
    if move.is_one_name or not move.there:
        return move.is_one_name
    if is_second_name(move.file.path, move.path):
        return True
    if not move.file.sha256 or os.path.islink(move.path) or not os.path.isfile(move.path):
        return False
    if os.path.getsize(move.path) != move.file.size or move.file.state(checksum=True) != storage.PRESENT:
        return False
    return sha256_of(move.path) == move.file.sha256


@contextmanager
def moved(request: RenameRequest, after: Document, moves: Sequence[Move]) -> Iterator[Document]:
    """Give files their new paths, for a block that enters them there; the old paths stay. If the block or a move fails,
    what was moved goes back, as copies of large files where there is no room for the document.

    :returns: the document with the times that the files have at their new paths.
    """
    done: list[Move] = []
    try:
        for move in moves:
            if not move.done:
                move_aside(move.file.path, move.path)
                done.append(move)
            _prepare(request, move.path)
            after = _restamped(after, move)
        yield after
    except SregistryError:
        for move in done:
            with suppress(OSError):
                move_back(move.file.path, move.path)
        raise


def _prepare(request: RenameRequest, path: str) -> None:
    """Set owner and mode of a file at its new path. Of one that may have a name elsewhere, as in the cache, they are
    those of a copy.
    """
    try:
        request.prepare(path)
    except StorageError:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            raise

        def finish(temporary: str) -> None:
            request.prepare(temporary)
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

        try:
            with permit.reading(path, request.storage) as held:
                copy(held, path, finish)
        except OSError as error:
            raise storage_error(error, path) from error


def _restamped(document: Document, move: Move) -> Document:
    """Return a document with the time of a moved file. A copy's time may be a little coarser; a file that was modified
    before does not become a sound one by it.
    """
    file = document.file(move.path)
    if file is None or move.file.state() != storage.PRESENT:
        return document
    return document.with_changed(dataclasses.replace(file, mtime_ns=os.stat(move.path).st_mtime_ns))
