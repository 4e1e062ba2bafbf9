# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``takeover``: what sregistry has on a host, its database and its storage, into the inventory.

Files stay where they are, and nothing of sregistry's is written to.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from ..errors import InvalidImage, InvalidReference, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..inventory import legacy, scan
from ..inventory.database import Inventory
from ..inventory.document import CLIENT_LOCAL, SREGISTRY, Document, File, timestamp
from ..inventory.holding import hold_all
from ..inventory.legacy import Container
from ..inventory.outcome import RECORDED
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import Format, identify
from .add import ADDED
from .outcome import ChangeOutcome
from .source_file import file_platform


@dataclass(frozen=True)
class Estate:
    """The parts of sregistry that are taken over.

    ``database`` may be None for no database, ``directory`` None to look for no more files.

    ``platform`` is that of images that do not tell theirs.
    """

    database: str | None
    directory: str | None
    platform: Platform | None
    check: bool
    prepare: Callable[[str], None]


@dataclass(frozen=True)
class Left:
    """A thing that could not be taken over, and the reason."""

    what: str
    reason: str

    def to_result(self) -> dict[str, str]:
        """Return it as a module returns it."""
        return {"what": self.what, "reason": self.reason}


@dataclass(frozen=True)
class _Find:
    """A file of an image, and what sregistry says of it: nothing for one that its database does not know."""

    path: str
    format: str
    created_at: str


@dataclass
class _Heir:
    """An image to be: its containers and its files, the oldest first."""

    reference: Reference
    platform: Platform
    containers: list[Container]
    finds: list[_Find]


def take_over(inventory: Inventory, estate: Estate) -> tuple[list[ChangeOutcome], list[Left]]:
    """Enter all containers and files of sregistry. What is in the inventory already stays as it is.

    :returns: what became of each image, and what could not be entered.
    :raises InvalidDatabase, StorageError: if database or storage cannot be read.
    """
    containers = legacy.read_containers(estate.database) if estate.database else []
    known = {file.path for document in inventory.documents() for file in document.files}
    heirs, left = _heirs(inventory, estate, containers, known)
    if estate.directory and not os.path.isdir(estate.directory):
        reason = "there is no such directory, so no files were looked for; correct directory, or give it empty"
        left.append(Left(estate.directory, reason))
    outcomes = []
    for heir in heirs:
        outcome = _inherit(inventory, estate, heir, known)
        known.update(file.path for file in (outcome.document.files if outcome.document else ()))
        outcomes.append(outcome)
    return outcomes, left


def _heirs(
    inventory: Inventory, estate: Estate, containers: Sequence[Container], known: set[str]
) -> tuple[list[_Heir], list[Left]]:
    """Return the images that containers and files make, by name and platform.

    :param known: the paths that the inventory has.
    """
    heirs: dict[tuple[Reference, Platform], _Heir] = {}
    left: list[Left] = []
    for container in containers:
        try:
            reference = Reference.parse(container.uri)
            find, platform = _look(estate, container.image, container.created_at)
        except (InvalidReference, InvalidImage, StorageError) as error:
            left.append(Left(container.image or container.uri, str(error)))
            continue
        heir = heirs.setdefault((reference, platform), _Heir(reference, platform, [], []))
        heir.containers.append(container)
        heir.finds += [find] if find else []
    mentioned = {os.path.normpath(container.image) for container in containers if container.image} | known
    collections = {container.collection for container in containers if container.collection}
    for path in _strangers(inventory, estate, mentioned):
        name = legacy.name_of(os.path.relpath(path, estate.directory), collections)
        if name is None:
            left.append(Left(path, "its name cannot be told from its path; add it with images, which gives it one"))
            continue
        try:
            reference = Reference.parse(name)
            find, platform = _look(estate, path, None)
        except (InvalidReference, InvalidImage, StorageError) as error:
            left.append(Left(path, str(error)))
            continue
        heir = heirs.setdefault((reference, platform), _Heir(reference, platform, [], []))
        heir.finds += [find] if find else []
    return list(heirs.values()), left


def _strangers(inventory: Inventory, estate: Estate, mentioned: set[str]) -> Iterable[str]:
    """Return the files of the storage that neither the database nor the inventory mentions."""
    if not estate.directory:
        return []
    return [path for path in scan.image_files(estate.directory, inventory.directory) if path not in mentioned]


def _look(estate: Estate, path: str | None, created_at: str | None) -> tuple[_Find | None, Platform]:
    """Return the file at a path and its platform; no file where there is none, or the path is none.

    :raises InvalidImage: if what is there is no image.
    """
    if path and "\0" in path:
        raise InvalidImage(f"{path!r} is no path; add the file with images")
    if path and os.path.isabs(path):
        path = os.path.normpath(path)
        try:
            kind = _identified(estate, path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        else:
            platform = file_platform(kind, None, path) if kind.architecture else estate.platform
            return _Find(path, kind.name, created_at or timestamp()), platform or Platform.host()
    return None, estate.platform or Platform.host()


def _identified(estate: Estate, path: str) -> Format:
    """Return the format of a file. Whoever could write the database could have entered any file of this host.

    :raises InvalidImage, FileNotFoundError: as ``identify``.
    :raises StorageError: if it is not one that whoever could write the database could have read and changed himself.
    """
    word = guard.word_of(os.stat(estate.database)) if estate.database else guard.ROOT
    store = estate.directory or ""
    permit.need_meant(path, store, word, f"the database {estate.database}; add it with images if it is meant")
    with permit.reading(path, store, word) as held:
        return identify(held)


def _inherit(inventory: Inventory, estate: Estate, heir: _Heir, known: set[str]) -> ChangeOutcome:
    outcome = ChangeOutcome(reference=heir.reference, platform=heir.platform, name=heir.reference.uri)
    held = nullcontext() if estate.check else hold_all(inventory, [], [(heir.reference, heir.platform)])
    with outcome.catching(), held:
        before = inventory.get(heir.reference, heir.platform)
        after = _merged(before, heir, known)
        path = after.files[-1].path if after.files else None
        if after == before:
            return dataclasses.replace(outcome, path=path, before=before)
        had = {file.path for file in before.files} if before else set()
        new = [file.path for file in after.files if file.path not in had]
        if not estate.check:
            for one in new:
                estate.prepare(one)
            inventory.put(after)
        action = ADDED if new else RECORDED
        return dataclasses.replace(outcome, path=path, before=before, after=after, action=action, changed=True)
    return outcome


def _merged(document: Document | None, heir: _Heir, known: set[str]) -> Document:
    """Return the document of an image after the takeover: what is newer than sregistry, from a registry or added, wins.

    :param known: paths that this or another image has by now; such a file may have been renamed since.
    """
    rows = [container.row for container in heir.containers]
    if document is None:
        last = heir.containers[-1] if heir.containers else None
        times = [container.created_at for container in heir.containers] or [heir.finds[-1].created_at]
        document = Document.local(
            heir.reference, heir.platform, url=last.url if last else "", client=last.client if last else CLIENT_LOCAL
        )
        document = dataclasses.replace(document, created_at=min(times), updated_at=max(times))
    if rows and document.metrics.get(SREGISTRY) != rows:
        document = dataclasses.replace(document, metrics={**document.metrics, SREGISTRY: rows})
    finds = {find.path: find for find in heir.finds if find.path not in known}
    older = tuple(_to_file(find) for find in finds.values())
    return dataclasses.replace(document, files=(*older, *document.files))


def _to_file(find: _Find) -> File:
    return dataclasses.replace(
        File.at(find.path, sha256_of(find.path), {"format": find.format}),
        created_at=find.created_at,
    )
