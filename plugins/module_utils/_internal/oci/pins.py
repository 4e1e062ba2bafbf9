# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pins: digests of names that were found out, and reviewed, before, so that no registry decides what a name means.

They are the content of a lock file: for each name the digest that it pointed at, and those of its manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidManifest, InvalidPlatform, InvalidReference, PlatformNotFound
from ..text import shown
from .platform import Platform
from .reference import DOCKER_HUB, Reference, check_digest

DIGEST, PLATFORMS = "digest", "platforms"
"""The keys of an entry, as options and lock files write it."""

_FORM = "write it as a digest, or as a dictionary of digest and platforms"


@dataclass(frozen=True)
class Pin:
    """The pin of a name: the ``digest`` that it points at, and that of the manifest for each platform.

    No ``platforms`` at all means that they are not known, as of a lone SIF file, which does not tell its own.
    """

    digest: str
    platforms: Mapping[Platform, str] = field(default_factory=dict)

    def to_entry(self) -> dict[str, Any]:
        """Return the pin as an option or a lock file writes it."""
        entry: dict[str, Any] = {DIGEST: self.digest}
        if self.platforms:
            entry[PLATFORMS] = {str(platform): digest for platform, digest in self.platforms.items()}
        return entry


@dataclass(frozen=True)
class Pinned:
    """The pin of a name on one platform; ``manifest_digest`` is None where that is not known."""

    reference: Reference
    platform: Platform
    digest: str
    manifest_digest: str | None

    def fits(self, digest: str | None, manifest_digest: str | None) -> bool:
        """Tell whether an image with these digests is the pinned one."""
        return digest == self.digest and self.manifest_digest in (None, manifest_digest)

    def require(self, manifest_digest: str | None) -> None:
        """Refuse an image whose manifest is not the pinned one.

        :raises InvalidManifest: naming both.
        """
        if self.manifest_digest not in (None, manifest_digest):
            raise InvalidManifest(
                f"{self.reference} is pinned to the manifest {self.manifest_digest} for {self.platform}, but "
                f"{self.digest}, to which it is pinned as well, has {manifest_digest} for that; lock it again"
            )


@dataclass(frozen=True)
class Pins:
    """All names of a run that are pinned."""

    pins: Mapping[Reference, Pin] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: Mapping[Any, Any], default_registry: str = DOCKER_HUB) -> Pins:
        """Read what an option or a lock file says.

        :param given: for each name a digest, or ``{"digest": DIGEST, "platforms": {PLATFORM: DIGEST}}``.
        :param default_registry: the host of a name that names none.
        :raises InvalidReference, InvalidPlatform: naming the entry that is wrong.
        """
        pins: dict[Reference, Pin] = {}
        for name, entry in given.items():
            try:
                reference = Reference.parse(str(name), default_registry)
            except InvalidReference as error:
                raise InvalidReference(f"digests: {error}") from error
            pin = _pin(reference, entry)
            if pins.setdefault(reference, pin) != pin:
                raise InvalidReference(f"digests names {reference} twice, and pins it to different digests; keep one")
        return cls(pins)

    def of(self, reference: Reference, platform: Platform) -> Pinned | None:
        """Return the pin of a name on a platform; None if it is not pinned.

        :raises PlatformNotFound: if it is pinned for other platforms only.
        """
        pin = self.pins.get(reference)
        if pin is None:
            return None
        if pin.platforms and platform not in pin.platforms:
            known = ", ".join(str(one) for one in pin.platforms)
            raise PlatformNotFound(
                f"{reference} is pinned for {known}, and not for {platform}; lock it again with all platforms "
                "of the hosts, or give another one as platform"
            )
        return Pinned(reference, platform, pin.digest, pin.platforms.get(platform))


def _pin(reference: Reference, entry: Any) -> Pin:
    def refuse(why: str) -> InvalidReference:
        return InvalidReference(f"digests, {reference}: {why}")

    if isinstance(entry, str):
        entry = {DIGEST: entry}
    if not isinstance(entry, Mapping):
        raise refuse(f"{shown(entry)} is not a pin; {_FORM}")
    unknown = [shown(key) for key in entry if key not in (DIGEST, PLATFORMS)]
    if unknown:
        raise refuse(f"it has the unknown key {', '.join(sorted(unknown))}; {_FORM}")
    if entry.get(DIGEST) is None:
        raise refuse(f"it has no digest; {_FORM}")
    pin = Pin(_digest(entry[DIGEST], refuse), _platforms(reference, entry.get(PLATFORMS) or {}, refuse))
    if reference.digest and pin.digest != reference.digest:
        raise refuse(f"the name has its own digest, and it is pinned to {pin.digest}; give one of them")
    if reference.from_web and not reference.digest:
        raise refuse("a file on a web server is pinned by its name; write it as ADDRESS@DIGEST, here and in the task")
    return pin


def _platforms(reference: Reference, given: Any, refuse: Callable[[str], InvalidReference]) -> dict[Platform, str]:
    if not isinstance(given, Mapping):
        raise refuse(f"platforms is {shown(given)}; write it as a dictionary such as {{linux/amd64: 'sha256:…'}}")
    platforms: dict[Platform, str] = {}
    for name, digest in given.items():
        try:
            platform = Platform.parse(str(name))
        except InvalidPlatform as error:
            raise InvalidPlatform(f"digests, {reference}: {error}") from error
        if platforms.setdefault(platform, _digest(digest, refuse)) != digest:
            raise refuse(f"platforms names {platform} twice, with different digests; keep one")
    return platforms


def _digest(given: Any, refuse: Callable[[str], InvalidReference]) -> str:
    try:
        return check_digest(given if isinstance(given, str) else shown(given))
    except InvalidReference as error:
        raise refuse(str(error)) from error
