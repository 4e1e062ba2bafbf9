# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The provenance of the SIF file of an image, as annotations of the manifest that has the file in a registry.

``org.opencontainers.image.base.name`` and ``org.opencontainers.image.base.digest`` are standard (OCI image
specification 1.1, annotations.md, "Pre-Defined Annotation Keys"): the full name of what the file was built from, and
the digest of the manifest that it pointed at. All keys that begin with ``hpc.sregistry.`` are ours. There are no times,
so that the same file has the same manifest whenever it is pushed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidPlatform, InvalidReference
from ..oci.platform import Platform
from ..oci.reference import BUILD, DOCKER, ORAS, Reference, check_digest
from .document import Document, File

BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
OURS = "hpc.sregistry."

_INPUT = f"{OURS}input."
_PLATFORM = f"{OURS}platform"


@dataclass(frozen=True)
class Provenance:
    """The origin of a file: the image that it was built from, and the way it was built.

    ``name`` is the image in its short form, ``digest`` what that pointed at, ``manifest_digest`` that of the platform's
    manifest, ``inputs`` those of the build. What is not known is None.
    """

    platform: Platform
    name: str | None = None
    digest: str | None = None
    manifest_digest: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    engine_version: str | None = None
    packer: str | None = None
    builder: str | None = None

    @classmethod
    def of(cls, document: Document, file: File) -> Provenance:
        """Return what the inventory knows of a file of an image.

        If the name was found to point elsewhere since the file was built, what it pointed at then is not known.
        A name that is a path of this host tells others nothing.
        """
        origin = origin_of(document)
        return cls(
            platform=document.platform,
            name=None if origin.scheme == BUILD else origin.uri,
            digest=document.digest if file.manifest_digest == document.manifest_digest else None,
            manifest_digest=file.manifest_digest,
            inputs=file.unmarked_inputs,
            engine_version=file.engine_version,
            packer=file.packer,
            builder=file.builder,
        )

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations that say so, without those of which nothing is known."""
        base = Reference.parse(self.name) if self.name and self.manifest_digest else None
        known = {
            _PLATFORM: str(self.platform),
            f"{OURS}name": self.name,
            f"{OURS}digest": self.digest,
            f"{OURS}manifest-digest": self.manifest_digest,
            f"{OURS}engine-version": self.engine_version,
            f"{OURS}packer": self.packer,
            f"{OURS}builder": self.builder,
            **{_INPUT + key: value for key, value in self.inputs.items()},
        }
        if base and base.scheme in (DOCKER, ORAS):
            known[BASE_NAME] = base.url.partition("://")[2]
            known[BASE_DIGEST] = self.digest
        return {key: value for key, value in sorted(known.items()) if value is not None}

    @classmethod
    def parse(cls, annotations: Mapping[str, object]) -> Provenance | None:
        """Return what annotations of a manifest say; None if they are not ours, or wrong. Anybody may write them."""
        told: dict[str, str] = {}
        for key, value in annotations.items():
            if key.startswith(OURS):
                if not isinstance(value, str):
                    return None
                told[key] = value
        try:
            return cls(
                platform=Platform.parse(told[_PLATFORM]),
                name=_checked_name(told.get(f"{OURS}name")),
                digest=_checked_digest(told.get(f"{OURS}digest")),
                manifest_digest=_checked_digest(told.get(f"{OURS}manifest-digest")),
                inputs={key[len(_INPUT) :]: value for key, value in told.items() if key.startswith(_INPUT)},
                engine_version=told.get(f"{OURS}engine-version"),
                packer=told.get(f"{OURS}packer"),
                builder=told.get(f"{OURS}builder"),
            )
        except (KeyError, InvalidPlatform, InvalidReference):
            return None


def origin_of(document: Document) -> Reference:
    """Return the name that an image has where it comes from; here it may have been renamed."""
    if document.digest and document.url:
        try:
            return Reference.parse(document.url)
        except InvalidReference:  # what a registry was asked for by another tool
            pass
    return document.reference


def _checked_name(name: str | None) -> str | None:
    if name is not None and Reference.parse(name).uri != name:
        raise InvalidReference(f"{name!r:.300} is not the short form of a name")
    return name


def _checked_digest(digest: str | None) -> str | None:
    return None if digest is None else check_digest(digest)
