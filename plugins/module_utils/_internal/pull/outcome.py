# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a pull for one image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..inventory.document import Document
from ..inventory.outcome import Outcome
from ..oci.blobs import Obtained, tally
from ..oci.platform import Platform
from ..oci.reference import Reference
from .progress import Progress


@dataclass
class PullOutcome(Outcome):
    """The outcome of a pull for one image.

    :ivar path_before: of what was at the path, or of the file before; None if there was nothing.
    :ivar obtained: the blobs that were fetched, or were there.
    :ivar displaced: the document of another image that had the path.
    :ivar builder: the name of the builder that was used, the reason for it, and what decompressed the layers.
    :ivar sif_cache: what the cache of finished files had, or got.
    """

    reference: Reference
    platform: Platform
    path_before: str | None = None
    obtained: list[Obtained] = field(default_factory=list)
    displaced: Document | None = None
    builder: dict[str, Any] | None = None
    sif_cache: str | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def key(self) -> tuple[Reference, Platform]:
        """The key of the image in the inventory."""
        return self.reference, self.platform

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Add the time that a block takes to a step's seconds."""
        begin = time.monotonic()
        try:
            with self.progress.step(self.reference.uri, step):
                yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - begin, 3)

    def _details(self) -> dict[str, Any]:
        document, file = self.document, self.file
        digest, manifest_digest = (document.digest, document.manifest_digest) if document else (None, None)
        if not self.after and file and file.manifest_digest != manifest_digest:
            # nothing was done, and the inventory knows that the name points elsewhere by now: this tells of the file
            digest = manifest_digest = file.manifest_digest
        return {
            "digest": digest,
            "manifest_digest": manifest_digest,
            **tally(self.obtained),
            "seconds": self.seconds,
            **({"builder": self.builder} if self.builder else {}),
            **({"sif_cache": self.sif_cache} if self.sif_cache else {}),
        }

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._facet_before(), _facet(self.document, self.path)

    def _facet_before(self) -> dict[str, Any]:
        """Return what was there: this image, another one at the same path, or a file that nobody knows."""
        file = self.before.file(self.path) if self.before and self.path else None
        if self.before and file and file.manifest_digest != self.before.manifest_digest:
            # a record found out meanwhile that the name points elsewhere; the file is of the image before
            return {**_facet(self.before, self.path_before), "digest": None, "manifest_digest": file.manifest_digest}
        if self.displaced:
            return {"reference": self.displaced.reference.uri, **_facet(self.displaced, self.path_before)}
        if self.path_before and self.path_before == self.path and not file:
            return {**_facet(self.before, self.path_before), "path": f"{self.path_before} (not in the inventory)"}
        return _facet(self.before, self.path_before)


def _facet(document: Document | None, path: str | None) -> dict[str, Any]:
    """Return what a difference is about. The size is that of the layers as downloaded, which check mode knows as
    well.
    """
    if document is None:
        return {}
    if document.reference.from_web:  # its digest is not known before it was fetched
        return {**document.metrics.get("web", {}), "path": path}
    return {
        "digest": document.digest,
        "manifest_digest": document.manifest_digest,
        "path": path,
        "size": document.size,
    }
