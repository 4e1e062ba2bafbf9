# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Platforms of container images: operating system, architecture and variant.

Names follow Go's GOOS and GOARCH, as the OCI image specification asks (image-index.md, "Platform"); other spellings are
normalised as containerd does (``platforms/database.go``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..errors import InvalidPlatform

_PART = re.compile(r"\A[A-Za-z0-9_.-]+\Z")
_OS = {"macos": "darwin"}
_ARCHITECTURE = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "ppc64el": ("ppc64le", ""),
    "loongarch64": ("loong64", ""),
}
# The variant that an architecture has when none is written.
_IMPLIED_VARIANT = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_VARIANT_NUMBER = re.compile(r"\Av([0-9]+)\Z")


@dataclass(frozen=True)
class Platform:
    """One platform in normal form; ``variant`` is empty where it is the architecture's implied one."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, system: str, architecture: str, variant: str = "") -> Platform:
        """Normalise the three parts, for example ``("linux", "aarch64", "v8")`` to ``linux/arm64``."""
        system = system.lower()
        architecture = architecture.lower()
        architecture, implied = _ARCHITECTURE.get(architecture, (architecture, ""))
        variant = (variant or implied).lower()
        if variant.isdigit():
            variant = f"v{variant}"
        if variant == _IMPLIED_VARIANT.get(architecture):
            variant = ""
        return cls(_OS.get(system, system), architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture[/variant]``.

        :raises InvalidPlatform: if it has another form.
        """
        parts = text.strip().split("/")
        if len(parts) not in (2, 3) or not all(_PART.match(part) for part in parts):
            raise InvalidPlatform(
                f"invalid platform {text!r}: write it as os/architecture or os/architecture/variant, "
                "such as linux/arm64"
            )
        return cls.of(*parts)

    @classmethod
    def host(cls) -> Platform:
        """Return the platform of the running host, from uname(2)."""
        uname = os.uname()
        return cls.of(uname.sysname, uname.machine)

    def rank(self, offered: Platform) -> int | None:
        """Return how well an offered platform serves this wanted one: 0 is exact, larger is worse, None is not at all.

        An offered variant may be older than the wanted one (an ARM v7 processor runs v6 code), never newer.
        """
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return None
        wanted, have = self._variant_number(), offered._variant_number()
        if wanted is None or have is None:
            return 0 if self.variant == offered.variant else None
        return wanted - have if have <= wanted else None

    def _variant_number(self) -> int | None:
        match = _VARIANT_NUMBER.match(self.variant or _IMPLIED_VARIANT.get(self.architecture, "v0"))
        return int(match.group(1)) if match else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
