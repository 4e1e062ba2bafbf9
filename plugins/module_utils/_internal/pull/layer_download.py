# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layers of an image on their way into the cache, while they are already built from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from ..fs.files import need_space
from ..late import importing
from ..oci.blobs import Obtained
from ..oci.descriptor import Descriptor
from ..registry.blob_source import source_of
from ..registry.image import ResolvedImage
from .outcome import PullOutcome
from .session import Session

_Result = TypeVar("_Result")


@dataclass
class LayerDownloads:
    """The layers of one image, each digest once; what is fetched counts in an outcome."""

    session: Session
    image: ResolvedImage
    outcome: PullOutcome
    _begun: dict[str, Future[Obtained]] = field(default_factory=dict)
    _unforeseen: dict[str, Obtained] = field(default_factory=dict)

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch, the newest layer first: it is the first that a build reads.

        :raises NoSpace: if the cache cannot hold them.
        """
        cache = self.session.cache
        layers = {layer.digest: layer for layer in reversed(self.image.layers)}
        missing = {layer.digest: cache.missing(layer) for layer in layers.values()}
        need_space(cache.directory, sum(missing.values()), f"fetching {self.image.reference}")
        progress = self.session.progress
        for digest, size in missing.items():
            if size:
                progress.expect(digest, layers[digest].size)
        progress.expect_reading(self.image.reference.uri, sum(layer.size or 0 for layer in layers.values()))
        self._begun.update((digest, pool.submit(self._obtain, layer)) for digest, layer in layers.items())

    def serve(self, build: Callable[[], _Result]) -> _Result:
        """Build with the layers. What proves to be damaged while it is read is fetched once more, and all begins anew.

        :param build: waits for each layer (``wait``) before it reads it.
        :raises DamagedBlob: if a layer is damaged again.
        """
        with importing:
            from ..layers.content import DamagedBlob  # only a build needs it

        renewed: set[str] = set()
        try:
            while True:
                try:
                    return build()
                except DamagedBlob as damage:
                    digest = damage.descriptor.digest
                    if digest in renewed:
                        raise
                    renewed.add(digest)
                    self.session.cache.drop(digest)
                    self._begun.pop(digest, None)
                    self._unforeseen.pop(digest, None)
        finally:
            ended = [blob for blob in self._begun.values() if not blob.cancel() and blob.done()]
            obtained = self.outcome.obtained
            obtained.extend(blob.result() for blob in ended if not blob.cancelled() and not blob.exception())
            obtained.extend(self._unforeseen.values())

    def wait(self, layer: Descriptor) -> None:
        """Return when a layer is in the cache. One for which nothing was begun is fetched now.

        :raises SregistryError: that tells why this one, or another of the image, does not come.
        """
        with self.outcome.clock("fetch"):
            for blob in self._begun.values():
                if blob.done():
                    blob.result()  # what did not come ends the build at once, whatever it is waiting for
            if layer.digest in self._begun:
                self._begun[layer.digest].result()
            else:  # the file was to come from the cache, and nothing was begun
                self._unforeseen.setdefault(layer.digest, self._obtain(layer))

    def note_read(self, layer: Descriptor, position: int) -> None:
        """Note how many bytes of a layer, as it is compressed, have been read."""
        self.session.progress.note_read(self.image.reference.uri, layer.digest, position)

    def _obtain(self, layer: Descriptor) -> Obtained:
        reference = self.image.reference
        source = source_of(self.session.registries.of(reference), reference.repository, layer, self.session.slots)
        with self.session.progress.fetching(layer.digest, layer.size, source) as counted:
            return self.session.cache.obtain(layer, counted, f"the layer {layer.digest} of {reference}")


@contextmanager
def threads_for(session: Session) -> Iterator[ThreadPoolExecutor]:
    """Give the threads that fetch, for a block. What they have not begun when it ends, they need not begin."""
    pool = ThreadPoolExecutor(max(1, session.threads))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
