# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The means that the images of one run share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..inventory.database import Inventory
from ..inventory.document import Document, timestamp
from ..late import importing
from ..oci.blobs import BlobCache
from ..oci.pins import Pins
from ..oci.platform import Platform
from ..registry.pool import Registries
from .outcome import PullOutcome
from .progress import Progress

if TYPE_CHECKING:
    from ..registry.ranges import DownloadSlots

_Result = TypeVar("_Result")


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
    _slots: list[DownloadSlots] = field(default_factory=list)

    @property
    def slots(self) -> DownloadSlots:
        """The connections that all downloads of the run share."""
        with importing:  # threads ask for them, and have to get the same
            from ..registry.ranges import DownloadSlots  # most runs download nothing

            if not self._slots:
                self._slots.append(DownloadSlots(self.threads))
        return self._slots[0]

    @property
    def stock(self) -> BlobCache:
        """The cache of a run without ``check``, to be looked into."""
        return self.real_cache or self.cache

    def kept(self, outcome: PullOutcome) -> str:
        """Return another name that the file of an image may have, in the cache; empty if it has no digest."""
        file = outcome.file
        return self.cache.path(file.digest) if file and file.digest else ""

    def in_parallel(self, work: Callable[[Any], _Result], items: Sequence[object]) -> list[_Result]:
        """Do something with each of some items at the same time; return the results in their order."""
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            return list(pool.map(work, items))

    def enter(self, document: Document) -> Document:
        """Write the document that an image has in the end, and return it.

        :raises StorageError, NoSpace, InventoryError: if it cannot be written.
        """
        document = dataclasses.replace(document, updated_at=timestamp())
        self.inventory.put(document)
        return document
