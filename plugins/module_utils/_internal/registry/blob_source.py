# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""Sources of the content of a descriptor: the descriptor itself, the registry, or another address that it names.

Source: OCI image specification, descriptor.md, ``data`` and ``urls``. The digest decides, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ..errors import RegistryError
from ..oci.descriptor import Descriptor
from ..oci.reference import Reference
from .client import Manifest, Registry
from .ranges import DownloadSlots, blob_in_ranges

if TYPE_CHECKING:
    from ..oci.partial import Source

_MAX_PLACES = 10  # addresses that are tried for one blob


def source_of(
    registry: Registry, repository: str, descriptor: Descriptor, slots: DownloadSlots | None = None
) -> Source:
    """Return the source of the content of a descriptor, for ``BlobCache.obtain``.

    :param slots: the connections of this run, of which several may be used at once where the content is large.
    """
    if descriptor.data is not None:
        return _of_data(descriptor.data)
    source = blob_in_ranges(registry, repository, descriptor, slots or DownloadSlots(1))
    return _or_elsewhere(registry, source, descriptor) if descriptor.urls else source


def manifest_of(registry: Registry, reference: Reference, member: Descriptor) -> Manifest:
    """Return the manifest that an index describes.

    :raises RegistryError: as ``Registry.get``.
    """
    if member.data is not None:
        return Manifest(member.digest, member.media_type, member.data)
    return registry.get(reference.at(member.digest))


def _of_data(content: bytes) -> Source:
    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        yield offset, iter((content[offset:],))

    return source


def _or_elsewhere(registry: Registry, source: Source, descriptor: Descriptor) -> Source:
    """Return a source that also asks other places, for content that a registry may not distribute."""

    def opened(offset: int) -> Iterator[AbstractContextManager[tuple[int, Iterator[bytes]]]]:
        yield source(offset)
        for url in descriptor.urls[:_MAX_PLACES]:
            yield registry.elsewhere(url, f"the blob {descriptor.digest}", offset)

    @contextmanager
    def either(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        failures: list[RegistryError] = []
        for place in opened(offset):
            begun = False
            try:
                with place as found:
                    begun = True
                    yield found
                    return
            except RegistryError as error:
                if begun:
                    raise
                failures.append(error)
        first, *others = failures
        raise first.with_more(f"; nor does it come from where else the manifest says: {'; '.join(map(str, others))}")

    return either
