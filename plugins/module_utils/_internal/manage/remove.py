# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``remove``: images out of the inventory, with their files, and what the cache keeps of these."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import InvalidImage, StorageError
from ..fs.guard import intruders
from ..inventory import storage
from ..inventory.database import Inventory
from ..inventory.document import Document, File
from ..inventory.holding import hold_all, need_unchanged
from ..inventory.links import Places, needed
from ..inventory.outcome import PRESENT, RECORDED
from ..inventory.paths import discard, entries, entry, need_removable
from ..inventory.selector import Selector
from ..inventory.trusted import need_trusted
from ..oci.blobs import BlobCache
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import begins_as_image
from .outcome import ABSENT, ChangeOutcome

FORGOTTEN = "forgotten"
STATES = (ABSENT, FORGOTTEN, RECORDED)
REMOVED, UNBUILT, KEPT = "removed", "unbuilt", "kept"
_ACTIONS = {ABSENT: REMOVED, FORGOTTEN: FORGOTTEN, RECORDED: UNBUILT}


@dataclass(frozen=True)
class RemoveRequest:
    """The images that are to go: ``names`` or, where that is None, all but ``keep``; of one platform, or of every.

    :ivar state: what is to be left: nothing (``absent``), the files (``forgotten``), or the entry (``recorded``).
    :ivar places: where symlinks are looked for that lead to files; what these need stays, unless an image is named
        itself and ``force`` takes it away.
    """

    names: Sequence[Selector] | None
    keep: Sequence[Selector]
    platform: Platform | None
    state: str
    force: bool
    check: bool
    places: Places


@dataclass
class RemoveOutcome(ChangeOutcome):
    """The outcome of a removal: ``after`` is None where the image is gone.

    :ivar files: the paths that are gone; None where there was no such image.
    :ivar dropped: the digests of files that the cache keeps no longer.
    """

    files: list[str] | None = None
    dropped: set[str] = field(default_factory=set)

    @property
    def document(self) -> Document | None:
        """The document that the inventory has in the end."""
        return self.after

    def _details(self) -> dict[str, Any]:
        return {} if self.files is None else {"files": self.files}


def remove(inventory: Inventory, cache: BlobCache, request: RemoveRequest) -> list[RemoveOutcome]:
    """Remove images. An error of one ends only its own removal.

    :returns: the outcome for each, and for each name that there is nothing of.
    :raises InventoryError: if the inventory cannot be read.
    """
    documents = list(inventory.documents())
    chosen, outcomes = _choose(request, documents)
    linked = _linked(request, documents, [document for _name, document in chosen])
    going = [document for _name, document in chosen if document.key not in linked]
    staying = [document for document in documents if document not in going]
    gone: set[str] = set()
    for name, document in chosen:
        if document.key in linked:
            outcome = _keep(request, name, document, *linked[document.key])
        else:
            outcome = _remove(inventory, cache, request, name, document, staying)
        if not outcome.error:  # two images may have had one file
            outcome = dataclasses.replace(outcome, files=[path for path in outcome.files or () if path not in gone])
            gone.update(outcome.files or ())
        outcomes.append(outcome)
    return outcomes


def _choose(
    request: RemoveRequest, documents: Sequence[Document]
) -> tuple[list[tuple[str, Document]], list[RemoveOutcome]]:
    """Return the images that are meant, each once and with the name that means it; and the outcomes of names that mean
    no image.
    """
    if request.names is None:
        _need_meaning(request, documents)
        kept = [document for document in documents if any(_is_meant(document, one, None) for one in request.keep)]
        gone = [document for document in documents if document not in kept and _is_of(document, request.platform)]
        return [(document.reference.uri, document) for document in gone], []
    chosen: dict[tuple[Reference, Platform], tuple[str, Document]] = {}
    absent = []
    for selector in request.names:
        found = [document for document in documents if _is_meant(document, selector, request.platform)]
        for document in found:
            chosen.setdefault(document.key, (selector.text, document))
        if not found:
            absent.append(RemoveOutcome(reference=selector.reference, action=ABSENT, name=selector.text))
    return list(chosen.values()), absent


def _linked(
    request: RemoveRequest, documents: Sequence[Document], going: Sequence[Document]
) -> dict[tuple[Reference, Platform], tuple[str, str]]:
    """Return the images that stay since a symlink leads to a file of theirs: that file, and that symlink.

    A file that stays anyway, since another image needs it, is nothing that a symlink could lose.
    """
    if request.state == FORGOTTEN:
        return {}
    staying = {need for one in documents if one not in going for file in one.files for need in entries(file.path)}
    going = [document for document in going if not (request.force and _is_named(request, document))]
    doomed = {
        document.key: [file.path for file in document.files if entry(file.path) not in staying] for document in going
    }
    needs = needed(request.places, [path for paths in doomed.values() for path in paths if os.path.lexists(path)])
    found = ((key, path, needs.by(path)) for key, paths in doomed.items() for path in paths)
    return {key: (path, link) for key, path, link in found if link}


def _is_named(request: RemoveRequest, document: Document) -> bool:
    """Return whether an image goes by its own name, and not by a pattern, or since it is not among what is kept."""
    return any(selector.reference == document.reference for selector in request.names or ())


def _keep(request: RemoveRequest, name: str, document: Document, path: str, link: str) -> RemoveOutcome:
    """Return the outcome for an image that stays as it is, since a symlink leads to a file of it: an error, if the
    image was to go by its own name.
    """
    outcome = RemoveOutcome(
        reference=document.reference,
        platform=document.platform,
        name=name,
        action=KEPT,
        path=document.files[-1].path,
        before=document,
        after=document,
        files=[],
    )
    if not _is_named(request, document):
        outcome.warnings.append(
            f"{path} stays, since the symlink {link} leads to it; when nobody needs that any more, remove the symlink "
            "first"
        )
    else:
        outcome.fail(
            StorageError(
                f"the symlink {link} leads to {path}, and would lead to nothing then; let it lead elsewhere, remove "
                "it, or give force: true"
            )
        )
    return outcome


def meaningless(documents: Sequence[Document], selectors: Sequence[Selector]) -> list[str]:
    """Return those names and patterns that mean no image of the inventory, as they were written."""
    return [one.text for one in selectors if not any(_is_meant(document, one, None) for document in documents)]


def _need_meaning(request: RemoveRequest, documents: Sequence[Document]) -> None:
    """Refuse to remove all but what is not there: most likely it is misspelt.

    :raises StorageError: naming it.
    """
    strange = meaningless(documents, request.keep)
    if documents and len(strange) == len(request.keep) and not request.force:
        raise StorageError(
            f"keep holds {', '.join(strange)}, and the inventory has none of that, so every image would go; correct "
            "it, or give force: true"
        )


def _is_of(document: Document, platform: Platform | None) -> bool:
    return platform in (None, document.platform)


def _is_meant(document: Document, selector: Selector, platform: Platform | None) -> bool:
    return selector.includes(document.reference.uri) and _is_of(document, platform)


def _remove(
    inventory: Inventory,
    cache: BlobCache,
    request: RemoveRequest,
    name: str,
    document: Document,
    staying: Sequence[Document],
) -> RemoveOutcome:
    """Remove one image: its files first, so that what a killed run leaves is known and removed by the next one."""
    paths = [file.path for file in document.files]
    outcome = RemoveOutcome(reference=document.reference, platform=document.platform, name=name, files=[])
    with outcome.catching():
        inventory.need_writable()
        with nullcontext() if request.check else hold_all(inventory, paths, [document.key]):
            if not request.check:
                if inventory.get(*document.key) is None:  # another run has done it while this one waited
                    return dataclasses.replace(outcome, action=ABSENT)
                need_unchanged(inventory, document)
            outcome = dataclasses.replace(outcome, path=paths[-1] if paths else None, before=document)
            return _remove_held(inventory, cache, request, outcome, staying)
    return outcome


def _remove_held(
    inventory: Inventory, cache: BlobCache, request: RemoveRequest, outcome: RemoveOutcome, staying: Sequence[Document]
) -> RemoveOutcome:
    """Remove an image that is held against other runs.

    :param outcome: has its document.
    """
    document = cast("Document", outcome.before)
    with outcome.catching():
        after = dataclasses.replace(document, files=()) if request.state == RECORDED else None
        doomed = [] if request.state == FORGOTTEN else _doomed(inventory, request, document, staying)
        outcome.files = [file.path for file in doomed if os.path.lexists(file.path)]
        used = {other.digest for one in staying for other in one.files}
        dropped = {file.digest for file in doomed if file.digest and file.digest not in used}
        if not request.check:
            _carry_out(inventory, cache, document, after, [file.path for file in doomed], dropped)
        changed = after != document
        action = _ACTIONS[request.state] if changed else PRESENT
        return dataclasses.replace(outcome, changed=changed, action=action, after=after, dropped=dropped)
    return outcome


def _carry_out(
    inventory: Inventory,
    cache: BlobCache,
    document: Document,
    after: Document | None,
    doomed: Collection[str],
    dropped: Collection[str],
) -> None:
    for path in doomed:
        discard(path)
    for digest in dropped:
        cache.forget(digest)
    if after is None:
        inventory.remove(document.reference, document.platform)
    elif after != document:
        inventory.put(after)


def _doomed(
    inventory: Inventory, request: RemoveRequest, document: Document, staying: Sequence[Document]
) -> list[File]:
    """Return the files of an image that go with it: not those that another image needs as well.

    :raises StorageError: if one cannot be removed, or is not what was built or added here.
    """
    needed_entries = {need for other in staying for file in other.files for need in entries(file.path)}
    files = [file for file in document.files if entry(file.path) not in needed_entries]
    for file in files:
        need_trusted(inventory, document, file.path, f"only forget it with state: {FORGOTTEN}")
        need_removable(file.path)
        if not request.force:
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
            f"another one there, or wrote to it; save it if somebody needs it, {way_out}"
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
