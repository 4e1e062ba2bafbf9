# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cache of finished files does for one image: looked at before a build, and filled after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import NotFound, SregistryError
from ..fs.guard import ROOT
from ..inventory.document import Document, File
from ..oci.reference import Reference
from ..registry.image import ResolvedImage, contents, restore
from ..sif.toolchain import Toolchain
from .outcome import PullOutcome
from .session import Session
from .sif_cache import Entry, Key, SifCache

if TYPE_CHECKING:
    from .resolve import Resolved

HIT, MISS, PUSHED, THERE = "hit", "miss", "pushed", "present"
"""What became of an image there, for the result."""


def look(
    session: Session,
    cache: SifCache,
    toolchain: Toolchain,
    reference: Reference,
    manifest_digest: str,
    outcome: PullOutcome,
) -> Entry | None:
    """The finished file of an image that would be as good as one built here, if there is one.

    A cache in trouble is as good as an empty one, with a warning, unless it is required.

    :raises NotFound: if it has none, and is required.
    :raises RegistryError, InvalidManifest: if it is required and does not say.
    """
    keys = [Key(reference, manifest_digest, session.platform, inputs) for inputs in toolchain.acceptable_inputs]
    try:
        with outcome.clock("resolve"):
            entry = cache.find(keys)
    except SregistryError as error:
        if cache.required:
            raise
        outcome.warnings.append(f"the SIF cache {cache} could not be used: {error}")
        return None
    outcome.warnings.extend(cache.warnings())
    outcome.sif_cache = HIT if entry else MISS
    if entry is None and cache.required:
        raise NotFound(
            f"the SIF cache {cache} has no file of {reference} ({manifest_digest}, {_in_words(keys[0].inputs)}), and "
            "sif_cache_miss: fail forbids to build it here; pull it with sif_cache_push: true on the node that builds"
        )
    return entry


def look_for_pinned(
    session: Session, cache: SifCache, toolchain: Toolchain, reference: Reference, outcome: PullOutcome
) -> tuple[ResolvedImage, Entry] | None:
    """A finished file, and the image that it is of, without a request to the image's own registry.

    That needs the digest of the platform's manifest to be pinned, and the documents of the image to be in the cache.

    :raises SregistryError: as ``look``.
    """
    pinned = session.pins.of(reference, session.platform)
    if not pinned or not pinned.manifest_digest:
        return None
    entry = look(session, cache, toolchain, reference, pinned.manifest_digest, outcome)
    if not entry:
        return None
    try:
        with outcome.clock("resolve"):
            documents = cache.documents(entry, session.cache)
            return restore(reference, pinned.digest, pinned.manifest_digest, documents, session.platform), entry
    except SregistryError as error:
        outcome.warnings.append(
            f"{reference.registry} was asked, since the SIF cache {cache} does not tell all: {error}"
        )
        return None


def fill(
    session: Session,
    cache: SifCache,
    outcome: PullOutcome,
    document: Document,
    file: File,
    image: Resolved | None,
    force: bool = False,
) -> None:
    """Put a file there that is not there yet.

    :param image: what it was made from, if that was looked at in this run.
    :param force: replace what is there.
    :raises RegistryError, StorageError: if that fails.
    """
    if outcome.sif_cache == HIT or not file.manifest_digest:
        return
    key = Key(document.reference, file.manifest_digest, document.platform, file.unmarked_inputs)
    with outcome.clock("push"):
        if outcome.sif_cache != MISS and not force and cache.has(key):
            outcome.sif_cache = THERE
            return
        if _is_anothers_word(outcome, document, file):
            outcome.warnings.append(
                f"{file.path} was not put into the SIF cache {cache}, since another user could have written what the "
                "inventory says of it; build it anew with force: true"
            )
            return
        if not session.check:
            cache.put(key, document, file, _contents(session, document, file, image, outcome))
    outcome.sif_cache = PUSHED


def _is_anothers_word(outcome: PullOutcome, document: Document, file: File) -> bool:
    """Whether root knows only from who could have written a document that a file is that of an image: it was not made
    by this run. Everybody would get it from the cache then.
    """
    before = outcome.before
    told = {(one.path, one.sha256, one.created_at) for one in before.files} if before else set()
    words = [document.word, *([before.word] if before and (file.path, file.sha256, file.created_at) in told else [])]
    return os.geteuid() == ROOT and any(word != ROOT for word in words)


def _contents(
    session: Session, document: Document, file: File, image: Resolved | None, outcome: PullOutcome
) -> Mapping[str, bytes]:
    """The documents of a file's image; nothing, with a warning, if its registry does not give them any more."""
    if isinstance(image, ResolvedImage) and image.manifest_digest == file.manifest_digest:
        return image.contents
    if not document.digest or not file.manifest_digest or document.manifest_digest != file.manifest_digest:
        return {}
    reference = document.reference
    try:
        registry = session.registries.of(reference)
        return contents(registry, session.cache, reference, document.digest, file.manifest_digest)
    except SregistryError as error:
        outcome.warnings.append(f"who fetches the file from the SIF cache has to ask {reference.registry}: {error}")
        return {}


def foresee(
    session: Session,
    cache: SifCache,
    toolchain: Toolchain,
    image: Resolved,
    lost: File | None,
    outcome: PullOutcome,
    force: bool = False,
) -> None:
    """What ``fill`` would do with a file that is not made yet, for check mode.

    :param lost: the file as it was, if this host can have kept it.
    :raises RegistryError: if the registry does not say.
    """
    if outcome.sif_cache == HIT or not image.manifest_digest:
        return
    if outcome.sif_cache != MISS:
        inputs = lost.inputs if lost else toolchain.acceptable_inputs[0]
        there = cache.has(Key(image.reference, image.manifest_digest, session.platform, inputs))
        if there and not force:
            outcome.sif_cache = THERE
            return
    outcome.sif_cache = PUSHED


def _in_words(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in sorted(inputs.items()))
