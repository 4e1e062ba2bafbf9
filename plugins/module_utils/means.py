# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image is built with, and which of that decides what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Engine
    from .squashfs import Packer

AUTO = "auto"
STREAM, SANDBOX = "stream", "sandbox"
BUILDERS = (AUTO, STREAM, SANDBOX)
COMPRESSIONS = ("zstd", "gzip", "lz4", "xz")


@dataclass(frozen=True)
class Means:
    """The programs and choices of a build. ``builder`` is one of ``BUILDERS``; ``workers`` layers are read at once."""

    engine: Engine
    packer: Packer
    builder: str
    reproducible: bool
    tmpdir: str
    workers: int = 2

    @property
    def inputs(self) -> dict[str, str]:
        """What, besides the image, decides what a SIF holds."""
        level = {} if self.packer.level is None else {"level": str(self.packer.level)}
        return {
            "format": "sif",
            "command": "entrypoint",
            "compression": self.packer.compression,
            **level,
            "reproducible": "yes" if self.reproducible else "no",
            "engine": self.engine.kind,
        }
