# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolve a name, whatever it points at, and make the document that tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

from ..errors import NotFound
from ..inventory.document import CLIENT, CLIENT_ORAS, CLIENT_WEB, SREGISTRY, Document, timestamp
from ..late import importing
from ..oci.reference import Reference
from .outcome import PullOutcome
from .session import Session

if TYPE_CHECKING:
    from ..registry.image import ResolvedImage
    from .sif_download import FinishedSif

Resolved = Union["ResolvedImage", "FinishedSif"]


def is_current(session: Session, reference: Reference, document: Document) -> bool:
    """Tell whether a name still points at what is recorded. One that is pinned points at what it is pinned to.

    :raises PlatformNotFound: if it is pinned for other platforms only.
    :raises RegistryError: as the registry raises it.
    """
    pinned = session.pins.of(reference, session.platform)
    if pinned:
        return pinned.fits(document.digest, document.manifest_digest)
    if reference.digest:
        return document.digest == reference.digest
    if reference.from_web:
        return session.registries.web.head(reference).documents == document.told
    return session.registries.of(reference).head(reference).digest == document.digest


def is_same(document: Document, image: Resolved) -> bool:
    """Tell whether a name points at what is recorded, by what was fetched of it: a HEAD may have told otherwise."""
    if not image.digest:
        return document.told == image.documents
    return (document.digest, document.manifest_digest) == (image.digest, image.manifest_digest)


def resolve(session: Session, reference: Reference, outcome: PullOutcome) -> Resolved:
    """Find out what a name points at, with all documents that tell of it, and count what that took.

    :raises PlatformNotFound, InvalidManifest: if there is none for the platform, or not the one that is pinned.
    :raises RegistryError, StorageError: as registry and cache raise them.
    """
    pinned = session.pins.of(reference, session.platform)
    if not pinned:
        return _find(session, reference, outcome)
    try:
        found = _find(session, reference, outcome, pinned.digest)
    except NotFound as error:
        raise NotFound(
            f"{reference} is pinned to {pinned.digest}, which {reference.registry} does not have any more; lock the "
            f"name again, or have that image pushed again: {error}"
        ) from error
    pinned.require(found.manifest_digest)
    return found


def _find(session: Session, reference: Reference, outcome: PullOutcome, digest: str | None = None) -> Resolved:
    with importing:
        from ..registry import image  # a name that points where it did is not resolved again
        from . import sif_download  # a name that points where it did is not resolved again

    if reference.is_sif:
        return sif_download.resolve_sif(session.registries, reference, session.platform, digest)
    found = image.resolve_image(session.registries.of(reference), session.cache, reference, session.platform, digest)
    outcome.obtained.extend(found.obtained)
    return found


def to_document(image: Resolved, session: Session, previous: Document | None) -> Document:
    """Return the inventory document of an image; files and creation time are those of the one before.

    So is the digest of what lies on a web server, while it lies there unchanged.
    """
    now = timestamp()
    known = previous if previous and image.reference.from_web and previous.told == image.documents else None
    return Document(
        reference=image.reference,
        platform=session.platform,
        digest=known.digest if known else image.digest,
        manifest_digest=known.manifest_digest if known else image.manifest_digest,
        media_type=image.media_type,
        layers=tuple(
            {"digest": layer.digest, "size": layer.size, "media_type": layer.media_type} for layer in image.layers
        ),
        size=image.size,
        metrics={**image.documents, **_history(previous)},
        created_at=previous.created_at if previous else now,
        updated_at=now,
        files=previous.files if previous else (),
        client=_client(image.reference),
    )


def _client(reference: Reference) -> str:
    return CLIENT_WEB if reference.from_web else CLIENT_ORAS if reference.is_sif else CLIENT


def _history(document: Document | None) -> dict[str, Any]:
    """Return what was taken over from sregistry, which no registry says again."""
    return {key: value for key, value in document.metrics.items() if key == SREGISTRY} if document else {}


def to_merged(document: Document, latest: Document | None) -> Document:
    """Return a document with the files that are recorded now."""
    for file in latest.files if latest else ():
        document = document.with_file(file)
    return document
