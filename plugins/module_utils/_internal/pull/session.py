# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The means that the images of one run share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ..inventory.database import Inventory
from ..inventory.document import Document, timestamp
from ..oci.blobs import BlobCache
from ..oci.pins import Pins
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..registry.pool import Registries
from .outcome import PullOutcome
from .progress import Progress


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

    def kept(self, outcome: PullOutcome) -> str:
        """Another name that the file of an image may have, in the cache; empty if it has no digest."""
        file = outcome.file
        return self.cache.path(file.digest) if file and file.digest else ""

    def each(
        self, references: Sequence[Reference], work: Callable[[Reference, PullOutcome], None]
    ) -> dict[Reference, PullOutcome]:
        """Do something with each image, in parallel, the same image once; an error ends only its own image's work."""

        def guarded(reference: Reference) -> PullOutcome:
            outcome = PullOutcome(reference, self.platform, progress=self.progress)
            with outcome.clock("total"), outcome.catching():
                work(reference, outcome)
            return outcome

        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            futures: dict[Reference, Future[PullOutcome]] = {
                reference: pool.submit(guarded, reference) for reference in dict.fromkeys(references)
            }
            return {reference: future.result() for reference, future in futures.items()}

    def enter(self, outcome: PullOutcome, document: Document) -> None:
        """Write the document that an image has in the end.

        :raises StorageError, NoSpace, InventoryError: if it cannot be written.
        """
        outcome.after = dataclasses.replace(document, updated_at=timestamp())
        self.inventory.put(outcome.after)
