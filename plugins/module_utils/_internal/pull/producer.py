# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the file of an image comes to be: built from its layers, or fetched as it is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ..errors import InvalidSif, PlatformNotFound, RegistryError
from ..inventory.document import VERIFIED, File
from ..inventory.outcome import PRESENT
from ..late import importing
from ..registry.image import ResolvedImage
from ..sif.toolchain import Toolchain
from ..sif.trust import Trust
from . import sif_download
from .layer_download import Delivery
from .outcome import PullOutcome
from .resolve import Resolved
from .session import Session
from .sif_cache import Entry, SifCache
from .sif_cache_policy import MISS
from .sif_download import Ready, Shipment


class Supply(Protocol):
    """What makes the file of one image, and counts in an outcome what that took."""

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch what is needed.

        :raises NoSpace: if it does not fit into the cache.
        """

    def make(self, path: str) -> File:
        """Put the file in its place, in the place of what is there.

        :raises SregistryError: if that fails; what was there is then as before.
        """


def supply_of(
    session: Session,
    image: Resolved,
    outcome: PullOutcome,
    toolchain: Toolchain,
    trust: Trust | None,
    prepare: Callable[[str], None],
    there: File | None,
) -> Supply:
    """The way that suits an image.

    :param toolchain: what a file is built with.
    :param trust: whose signature a file needs, if any; ``prepare`` has to see to that.
    :param prepare: what a finished file goes through before it gets its name.
    :param there: the file that is there, whole, and made in the same way.
    """
    if isinstance(image, ResolvedImage):
        return _Building(session, image, outcome, toolchain, prepare)
    return _Fetching(session, image, outcome, trust, prepare, there)


class _Building:
    """A file that is built while its layers arrive."""

    def __init__(
        self,
        session: Session,
        image: ResolvedImage,
        outcome: PullOutcome,
        toolchain: Toolchain,
        prepare: Callable[[str], None],
    ) -> None:
        self._session = session
        self._image = image
        self._outcome = outcome
        self._toolchain = toolchain
        self._prepare = prepare
        self._delivery = Delivery(session, image, outcome)

    def begin(self, pool: ThreadPoolExecutor) -> None:
        self._delivery.begin(pool)

    def make(self, path: str) -> File:
        # Ansible compiles a module's code each time it runs: most runs build nothing, and need not know how.
        with importing:
            from ..sif.builder import ImageBuild

        image, cache, outcome = self._image, self._session.cache, self._outcome
        toolchain, workers = self._toolchain, self._session.threads
        inputs = toolchain.inputs  # what misses a program ends here
        built = self._delivery.serve(
            lambda arrival: ImageBuild(image, cache, toolchain, arrival, outcome.clock, workers).write_sif(
                path, self._prepare
            )
        )
        outcome.warnings.extend(built.warnings)
        outcome.builder = {"name": built.builder, "reason": built.reason}
        cache.keep(built.path, f"sha256:{built.sha256}")  # who deletes it by mistake gets it back at once
        return File.at(
            built.path,
            built.sha256,
            inputs,
            size=built.size,
            mtime_ns=built.mtime_ns,
            manifest_digest=image.manifest_digest,
            engine_version=toolchain.engine.version,
            packer=f"mksquashfs {toolchain.packer.version}",
            builder=built.builder,
        )


class _Fetching:
    """A file that is fetched as it is. What comes again as it came before leaves the one that is there in its place."""

    def __init__(
        self,
        session: Session,
        image: Ready,
        outcome: PullOutcome,
        trust: Trust | None,
        prepare: Callable[[str], None],
        there: File | None,
    ) -> None:
        self._image = image
        self._cache = session.cache
        self._outcome = outcome
        self._trust = trust
        self._prepare = prepare
        self._there = there
        self._shipment = Shipment(session, image, outcome)

    def begin(self, pool: ThreadPoolExecutor) -> None:
        self._shipment.begin(pool)

    def make(self, path: str) -> File:
        fetched = self._shipment.arrive()
        if self._there and self._there.manifest_digest == fetched.digest:
            if self._trust:
                self._trust.verify(path, path)
            self._outcome.action, self._outcome.changed = PRESENT, False
            self._cache.keep(path, fetched.digest)  # instead of what came now, so that it is there once
            return self._there
        with self._outcome.clock("place"):
            placed = self._shipment.place(fetched, path, self._prepare)
        mark = {VERIFIED: self._trust.mark} if self._trust and self._trust.mark else {}
        return File.at(
            path,
            placed.sha256,
            {**sif_download.inputs(self._image.reference), **mark},
            size=placed.size,
            mtime_ns=placed.mtime_ns,
            manifest_digest=self._image.manifest_digest or placed.digest,
        )


class FromCache:
    """A file that somebody else has built. If it does not come, it is made as if it had not been there."""

    def __init__(
        self,
        session: Session,
        cache: SifCache,
        entry: Entry,
        outcome: PullOutcome,
        prepare: Callable[[str], None],
        otherwise: Supply,
    ) -> None:
        self._cache = cache
        self._entry = entry
        self._outcome = outcome
        self._prepare = prepare
        self._otherwise = otherwise
        self._shipment = Shipment(session, entry.artifact, outcome, cache.source(entry))

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch it."""
        self._shipment.begin(pool)

    def make(self, path: str) -> File:
        """Put the file in its place.

        :raises SregistryError: as ``Supply.make``.
        """
        try:
            return self._place(path)
        except (RegistryError, InvalidSif, PlatformNotFound) as error:
            if self._cache.required:
                raise
            self._outcome.warnings.append(f"the SIF cache {self._cache} could not be used: {error}")
        self._outcome.sif_cache = MISS
        return self._otherwise.make(path)

    def _place(self, path: str) -> File:
        fetched = self._shipment.arrive()
        self._outcome.warnings.extend(self._cache.warnings())
        with self._outcome.clock("place"):
            placed = self._shipment.place(fetched, path, self._prepare)
        known = self._entry.provenance
        return File.at(
            path,
            placed.sha256,
            dict(self._entry.key.inputs),
            size=placed.size,
            mtime_ns=placed.mtime_ns,
            manifest_digest=self._entry.key.manifest_digest,
            engine_version=known.engine_version if known else None,
            packer=known.packer if known else None,
            builder=known.builder if known else None,
        )
