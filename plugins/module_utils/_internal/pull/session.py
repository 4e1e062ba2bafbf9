# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the images of one run share, and what becomes of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import SregistryError
from ..inventory.database import Inventory
from ..inventory.document import Document, timestamp
from ..oci.blobs import BlobCache, Obtained, tally
from ..oci.pins import Pins
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..registry.pool import Registries
from .attempt import Attempt
from .progress import Progress

PRESENT, RECORDED = "present", "recorded"
"""Actions: nothing was to be done; only the inventory changed."""


@dataclass(frozen=True)
class Session:
    """The means of one run. With ``check``, nothing outside a temporary cache may be written. What ``pins`` hold, no
    registry is asked about. ``real_cache`` is the one that is used without ``check``.
    """

    registries: Registries
    cache: BlobCache
    inventory: Inventory
    platform: Platform
    threads: int
    check: bool = False
    pins: Pins = field(default_factory=Pins)
    real_cache: BlobCache | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def stock(self) -> BlobCache:
        """The cache of a run without ``check``, to be looked into."""
        return self.real_cache or self.cache

    def kept(self, outcome: Outcome) -> str:
        """Another name that the file of an image may have, in the cache; empty if it has no digest."""
        document = outcome.after or outcome.before
        file = document.file(outcome.path) if document and outcome.path else None
        return self.cache.path(file.digest) if file and file.digest else ""

    def each(
        self, references: Sequence[Reference], work: Callable[[Reference, Outcome], None]
    ) -> dict[Reference, Outcome]:
        """Do something with each image, in parallel, the same image once; an error ends only its own image's work."""

        def guarded(reference: Reference) -> Outcome:
            outcome = Outcome(reference, self.platform, progress=self.progress)
            with outcome.clock("total"), outcome.catching():
                work(reference, outcome)
            return outcome

        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            futures: dict[Reference, Future[Outcome]] = {
                reference: pool.submit(guarded, reference) for reference in dict.fromkeys(references)
            }
            return {reference: future.result() for reference, future in futures.items()}

    def enter(self, outcome: Outcome, document: Document) -> None:
        """Write the document that an image has in the end.

        :raises StorageError, NoSpace, InventoryError: if it cannot be written.
        """
        outcome.after = dataclasses.replace(document, updated_at=timestamp())
        self.inventory.put(outcome.after)


@dataclass
class Outcome(Attempt):
    """What became of one image.

    ``before`` and ``after`` are its documents, ``attributes`` the owner, group and mode of its file where they change,
    ``seconds`` the time of each step, ``builder`` the name of the builder that was used and the reason for it,
    ``sif_cache`` what the cache of finished files had, or got, ``backup_file`` where what was replaced lies now.
    """

    reference: Reference
    platform: Platform
    changed: bool = False
    action: str = "none"
    before: Document | None = None
    after: Document | None = None
    path: str | None = None
    path_before: str | None = None
    obtained: list[Obtained] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: SregistryError | None = None
    traceback: str | None = None
    displaced: Document | None = None
    builder: dict[str, str] | None = None
    sif_cache: str | None = None
    backup_file: str | None = None
    attributes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"before": {}, "after": {}})
    progress: Progress = field(default_factory=Progress)

    @property
    def key(self) -> tuple[Reference, Platform]:
        """What the inventory knows it by."""
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

    def to_result(self, name: str) -> dict[str, Any]:
        """The image as a module returns it.

        :param name: as the user wrote it.
        """
        document = self.after or self.before
        file = document.file(self.path) if document and self.path else None
        digest, manifest_digest = (document.digest, document.manifest_digest) if document else (None, None)
        if not self.after and file and file.manifest_digest != manifest_digest:
            # nothing was done, and the inventory knows that the name points elsewhere by now: this tells of the file
            digest = manifest_digest = file.manifest_digest
        result: dict[str, Any] = {
            "name": name,
            "uri": self.reference.uri,
            "changed": self.changed,
            "action": self.action,
            "platform": str(self.platform),
            "digest": digest,
            "manifest_digest": manifest_digest,
            "path": self.path,
            "size": file.size if file else None,
            "sha256": file.sha256 if file else None,
            **tally(self.obtained),
            "seconds": self.seconds,
        }
        if self.builder:
            result["builder"] = self.builder
        if self.sif_cache:
            result["sif_cache"] = self.sif_cache
        if self.backup_file:
            result["backup_file"] = self.backup_file
        return {**result, **self.failure}

    def to_diff(self) -> dict[str, Any]:
        """The image before and after, in the form that Ansible shows with ``--diff``."""
        return {
            "before_header": self.reference.uri,
            "after_header": self.reference.uri,
            "before": {**self._facet_before(), **self.attributes["before"]},
            "after": {**_facet(self.after or self.before, self.path), **self.attributes["after"]},
        }

    def _facet_before(self) -> dict[str, Any]:
        """What was there: this image, another one at the same path, or a file that nobody knows."""
        file = self.before.file(self.path) if self.before and self.path else None
        if self.before and file and file.manifest_digest != self.before.manifest_digest:
            # a record found out meanwhile that the name points elsewhere; the file is of the image before
            return {**_facet(self.before, self.path_before), "digest": None, "manifest_digest": file.manifest_digest}
        if self.displaced:
            return {"uri": self.displaced.reference.uri, **_facet(self.displaced, self.path_before)}
        if self.path_before and self.path_before == self.path and not file:
            return {**_facet(self.before, self.path_before), "path": f"{self.path_before} (not in the inventory)"}
        return _facet(self.before, self.path_before)


def _facet(document: Document | None, path: str | None) -> dict[str, Any]:
    """What a difference is about. The size is that of the layers as downloaded, which check mode knows as well."""
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
