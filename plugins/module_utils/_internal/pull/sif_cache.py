# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finished SIF files in a registry, found by what they are made of: what one node built, no other has to build.

It works as a compiler's cache does: image, platform and inputs of the build decide the name of an entry, so that no
entry is ever wrong, or has to be renewed. The files are ORAS artifacts, which the engines pull as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import Denied, InvalidManifest, RegistryError, Unauthorized, Unreachable
from ..fs import permit
from ..fs.files import storage_error
from ..inventory.document import Document, File
from ..inventory.provenance import Provenance
from ..inventory.storage import file_name
from ..oci.blobs import BlobCache
from ..oci.descriptor import Descriptor
from ..oci.platform import Platform
from ..oci.reference import ORAS, Reference
from ..registry import artifact, upload
from ..registry.artifact import Artifact, Parcel
from ..registry.blob_source import source_of
from ..registry.client import Manifest, Registry
from ..registry.location import Location

if TYPE_CHECKING:
    from ..oci.partial import Source
    from ..registry.ranges import DownloadSlots

_DOCUMENTS = "documents"  # the key of the image's documents in the config of an entry
_MAX_CONFIG = 16 * 2**20  # bytes


@dataclass(frozen=True)
class CacheKey:
    """The things that a SIF is made of: an image by its name and the digest of its platform's manifest, and the inputs
    of the build. The name belongs to it, since it is in the file.
    """

    image: Reference
    manifest_digest: str
    platform: Platform
    inputs: Mapping[str, str]

    @property
    def tag(self) -> str:
        """The tag of its entry: the same for the same content only."""
        parts = [self.image.uri, self.manifest_digest, str(self.platform), dict(self.inputs)]
        return f"sif-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"


@dataclass(frozen=True)
class CacheEntry:
    """A file in the cache, what it is made of, and what else is told of it."""

    artifact: Artifact
    key: CacheKey
    provenance: Provenance | None


@dataclass(eq=False)
class SifCache:
    """A place in a registry where files are looked for, and put if it ``fills``. Where it has none and is ``required``,
    that is an error instead of a build.
    """

    location: Location
    registry: Registry
    slots: DownloadSlots
    fills: bool
    required: bool
    _troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.location)

    def warnings(self) -> list[str]:
        """Return what the user must know though it answers: a mirror or login that could not be used, each once."""
        return self.registry.warnings(self.location.prefix.rstrip("/"))

    def get(self, keys: Sequence[CacheKey]) -> CacheEntry | None:
        """Return the file for the first of some keys that has one.

        :raises RegistryError, InvalidManifest: if the registry does not say, or what it says makes no sense.
        """
        for key in keys:
            reference = self.reference(key)
            body = self._get(reference)
            if body:
                found = artifact.from_manifest(self.registry, reference, body, key.platform)
                return CacheEntry(found, key, Provenance.parse(found.annotations))
        return None

    def has(self, key: CacheKey) -> bool:
        """Tell whether there is a file for a key.

        :raises RegistryError: if the registry does not say.
        """
        return self._get(self.reference(key)) is not None

    def documents(self, entry: CacheEntry, cache: BlobCache) -> dict[str, Any]:
        """Return the documents of the image's own registry, as ``image.restore`` takes them; nothing is proven.

        :raises RegistryError, StorageError, InvalidManifest: if they cannot be read.
        """
        found = entry.artifact
        source = source_of(self.registry, found.reference.repository, found.config)
        what = f"the config of {found.reference}"
        content, _blob = cache.read(found.config, _MAX_CONFIG, source, what)
        try:
            documents = json.loads(content).get(_DOCUMENTS, {})
        except (ValueError, AttributeError, RecursionError) as error:
            raise InvalidManifest(f"{what} is no JSON object") from error
        return documents if isinstance(documents, dict) else {}

    def source(self, entry: CacheEntry) -> Source:
        """Return what ``BlobCache.obtain`` needs to fetch a file."""
        found = entry.artifact
        return source_of(self.registry, found.reference.repository, found.layer, self.slots)

    def put(self, key: CacheKey, document: Document, file: File, contents: Mapping[str, bytes]) -> bool:
        """Put a file there, and what is known of it; returns whether it had to be sent.

        :param contents: the documents of the image, as ``ResolvedImage`` has them.
        :raises StorageError: if it cannot be read.
        :raises RegistryError: if the registry does not take it.
        """
        texts = {name: content.decode(errors="replace") for name, content in contents.items()}
        parcel = Parcel(
            layer=Descriptor(f"sha256:{file.sha256}", file.size),
            title=file_name(key.image).rpartition("/")[2],
            config=json.dumps({_DOCUMENTS: texts}, sort_keys=True).encode(),
            annotations=Provenance.of(document, file).annotations,
        )
        try:
            with permit.reading(file.path) as held, open(held, "rb") as stream:
                return artifact.push(self.registry, self.reference(key), parcel, stream) == upload.SENT
        except OSError as error:
            raise storage_error(error, file.path) from error

    def _get(self, reference: Reference) -> Manifest | None:
        """Get the manifest of an entry; None if there is none.

        Nobody waits a second time for a registry in trouble. A right that lacks may be there for the next image.
        """
        if self._troubles:
            raise Unreachable(self._troubles[0])
        try:
            return self.registry.get_or_none(reference)
        except (Unauthorized, Denied):
            raise
        except RegistryError as error:
            self._troubles.append(str(error))
            raise type(error)(self._troubles[0]) from error  # who waits at the same time says the same

    def reference(self, key: CacheKey) -> Reference:
        """Return the name of an entry, which engines pull too. The port of a registry cannot stand in a repository."""
        host = re.sub(r"[^a-z0-9.]+", "-", key.image.registry).strip("-.")
        repository = f"{self.location.prefix}{host}/{key.image.repository}"
        return Reference(self.location.host, repository, tag=key.tag, scheme=ORAS)
