# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of rules about what may be replaced at a path: by an image that is pulled, built, added or renamed.

A rule says what lies at the path, and for which operations that is refused: by all means, or unless ``force`` is given.
Where no rule applies, it may be replaced. ``backup`` changes nothing of that: it is about where the replaced file goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import StorageError
from ..sif.formats import is_image, is_sandbox
from . import storage
from .document import Document, File

PULL, BUILD, ADD, RENAME = "pull", "build", "add", "rename"

NOTHING, FILE, DIRECTORY, SPECIAL = "nothing", "file", "directory", "special"
LINK, LINK_TO_DIRECTORY = "link", "link to directory"

_NEVER, _BY_FORCE = "never", "by force"

_ELSEWHERE = {
    PULL: "give another dest or storage",
    BUILD: "give another name or path",
    ADD: "give another name, storage or method",
    RENAME: "choose another name or dest",
}


@dataclass(frozen=True)
class Newcomer:
    """The image that is to get a path.

    :ivar operation: ``PULL``, ``BUILD``, ``ADD`` or ``RENAME``.
    :ivar derived: the path follows from the name of the image; nobody wrote it.
    :ivar sandbox: it is a directory.
    """

    operation: str
    force: bool = False
    derived: bool = False
    sandbox: bool = False


@dataclass(frozen=True)
class Occupant:
    """The thing that lies at a path, and the images that it belongs to as the inventory says.

    :ivar document: of the newcomer itself, if it has one.
    :ivar owners: the other images that have a file at this path.
    :ivar intact: the recorded file is there and unchanged.
    :ivar is_same: tells whether this is the file of the newcomer already, by another name or as a copy.
    """

    path: str
    document: Document | None = None
    owners: tuple[Document, ...] = ()
    intact: bool = False
    is_same: Callable[[], bool] = lambda: False

    @property
    def kind(self) -> str:
        """The kind of what lies there."""
        if os.path.islink(self.path):
            return LINK_TO_DIRECTORY if os.path.isdir(self.path) else LINK
        if os.path.isdir(self.path):
            return DIRECTORY
        return FILE if os.path.isfile(self.path) else SPECIAL if os.path.lexists(self.path) else NOTHING

    @property
    def own(self) -> File | None:
        """The file that the newcomer has there already."""
        return self.document.file(self.path) if self.document else None

    @property
    def known(self) -> bool:
        """True if the inventory has a file at this path."""
        return bool(self.own or self.owners)


@dataclass(frozen=True)
class Rule:
    """One line of the table: what is refused, for which operations, and the words for it.

    :ivar applies: tells of a newcomer and an occupant whether this is such a case; a document is that of the owner.
    :ivar says: what lies at the path; ``{owner}`` is the image that it belongs to.
    :ivar ways_out: beside ``force``; ``{elsewhere}`` is the way out that each operation has.
    """

    applies: Callable[[Newcomer, Occupant], object]
    verdicts: Mapping[str, str]
    says: str
    ways_out: tuple[str, ...] = ("remove it", "{elsewhere}")

    def message(self, newcomer: Newcomer, occupant: Occupant, found: object) -> str:
        """Return the words for a case."""
        owner = f"{found.reference} for {found.platform}" if isinstance(found, Document) else ""
        by_force = ["give force: true to replace it"] if self.verdicts[newcomer.operation] == _BY_FORCE else []
        *others, last = [way.format(elsewhere=_ELSEWHERE[newcomer.operation]) for way in self.ways_out] + by_force
        ways = f"{', '.join(others)}, or {last}" if others else last
        return f"{occupant.path} {self.says.format(owner=owner)}; {ways}"


def need_replaceable(newcomer: Newcomer, occupant: Occupant) -> None:
    """Raise if what lies at a path must not be replaced.

    :raises StorageError: saying what lies there, whose it is, and the ways out.
    """
    for rule in RULES:
        verdict = rule.verdicts.get(newcomer.operation)
        if verdict == _NEVER or (verdict == _BY_FORCE and not newcomer.force):
            found = rule.applies(newcomer, occupant)
            if found:
                raise StorageError(rule.message(newcomer, occupant, found))


def _leads_elsewhere(newcomer: Newcomer, occupant: Occupant) -> bool:
    return occupant.kind == LINK_TO_DIRECTORY or (newcomer.sandbox and occupant.kind == LINK)


def _is_irregular(newcomer: Newcomer, occupant: Occupant) -> bool:
    if newcomer.operation == BUILD:
        return occupant.kind == SPECIAL
    links = {LINK, LINK_TO_DIRECTORY} if newcomer.operation == PULL else set()
    return not occupant.own and occupant.kind not in {NOTHING, FILE, *links}


def _is_handmade(newcomer: Newcomer, occupant: Occupant) -> Document | None:
    """Return the image whose file there nobody could get again: for a pull one that was added or built, for a build
    one that was added.
    """
    for owner in (*filter(None, [occupant.document]), *occupant.owners):
        file = owner.file(occupant.path)
        if not file or file.manifest_digest is not None or (newcomer.operation == BUILD and file.builder is not None):
            continue
        if (newcomer.operation == PULL and file is occupant.own) or file.state() != storage.MISSING:
            return owner
    return None


def _is_rivals(newcomer: Newcomer, occupant: Occupant) -> Document | None:
    """Return the other image that has the path which follows from this one's name: each run would undo the other's
    work.
    """
    if not newcomer.derived:
        return None
    if newcomer.operation == BUILD and occupant.own and occupant.own.manifest_digest is not None:
        return occupant.document
    return next(iter(occupant.owners), None)


def _is_others(_newcomer: Newcomer, occupant: Occupant) -> Document | None:
    return next(iter(occupant.owners), None)


def _is_full_directory(_newcomer: Newcomer, occupant: Occupant) -> bool:
    return occupant.kind == DIRECTORY and bool(os.listdir(occupant.path))


def _is_strange_directory(newcomer: Newcomer, occupant: Occupant) -> bool:
    return _is_full_directory(newcomer, occupant) and not occupant.known and not is_sandbox(occupant.path)


def _is_built_directory(newcomer: Newcomer, occupant: Occupant) -> bool:
    return occupant.intact and _is_full_directory(newcomer, occupant)


def _is_no_image(newcomer: Newcomer, occupant: Occupant) -> bool:
    if occupant.known or not os.path.isfile(occupant.path):
        return False
    return bool(newcomer.operation == BUILD or os.path.getsize(occupant.path)) and not is_image(occupant.path)


def _is_unknown(_newcomer: Newcomer, occupant: Occupant) -> bool:
    return occupant.kind == FILE and not occupant.known and not occupant.is_same()


def _is_file_for_directory(newcomer: Newcomer, occupant: Occupant) -> bool:
    return newcomer.sandbox and occupant.kind == FILE


def _is_there(_newcomer: Newcomer, occupant: Occupant) -> bool:
    return occupant.kind != NOTHING and not occupant.is_same()


_LOST = "and what was changed in it would be lost"
_ELSEWHERE_ONLY = ("{elsewhere}",)

RULES = (
    Rule(_is_others, {ADD: _NEVER, RENAME: _NEVER}, "is the file of {owner}", _ELSEWHERE_ONLY),
    Rule(_leads_elsewhere, {BUILD: _NEVER}, "is a symlink", ("give the path that it leads to", "remove it")),
    Rule(_is_irregular, {PULL: _NEVER, BUILD: _NEVER, ADD: _NEVER}, "is there and is no regular file"),
    Rule(
        _is_handmade,
        {PULL: _BY_FORCE, BUILD: _BY_FORCE},
        "is the file of {owner}, which was added or built here, so that nobody could fetch it again",
        ("rename that image", "{elsewhere}"),
    ),
    Rule(_is_rivals, {PULL: _BY_FORCE, BUILD: _BY_FORCE}, "is the file of {owner}", _ELSEWHERE_ONLY),
    Rule(_is_strange_directory, {BUILD: _NEVER}, "is a directory that no engine has built, and it is not empty"),
    Rule(
        _is_built_directory,
        {BUILD: _BY_FORCE},
        f"is a directory that was built from other inputs, {_LOST}",
        _ELSEWHERE_ONLY,
    ),
    Rule(
        _is_full_directory,
        {BUILD: _BY_FORCE},
        f"is a directory that was not built here, as far as the inventory knows, {_LOST}",
        _ELSEWHERE_ONLY,
    ),
    Rule(_is_no_image, {PULL: _BY_FORCE, BUILD: _NEVER}, "is a file, and no image"),
    Rule(
        _is_unknown,
        {ADD: _BY_FORCE},
        "is there, is not in the inventory, and is another file than the one to be added",
    ),
    Rule(_is_file_for_directory, {BUILD: _BY_FORCE}, "is an image file where a directory is to be", _ELSEWHERE_ONLY),
    Rule(_is_there, {RENAME: _NEVER}, "is there already"),
)
"""The table. The first rule that refuses gives the message."""
