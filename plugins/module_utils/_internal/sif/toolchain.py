# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image is built with, and which of that decides what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.executable import APPTAINER
from .formats import SANDBOX, SIF

if TYPE_CHECKING:
    from ..engine.cli import Engine
    from .mksquashfs import Packer

AUTO = "auto"
STREAM, VIA_SANDBOX = "stream", "sandbox"
BUILDERS = (AUTO, STREAM, VIA_SANDBOX)
COMPRESSIONS = ("zstd", "gzip", "lz4", "xz")
ENTRYPOINT, CMD = "entrypoint", "cmd"


@dataclass(frozen=True)
class Choice:
    """What is chosen of a build's means before any program is looked for.

    ``engine`` and ``packer`` find the programs when a build needs them; ``engine_kind`` tells which engine a build now
    would use, None if there is none. ``inputs`` are those of a build that were asked for. ``mountable`` tells the
    compressions, with their levels, that suit this host and were asked for, the best first.
    """

    builder: str
    reproducible: bool
    command: str
    tmpdir: str
    inputs: Mapping[str, str]
    engine: Callable[[], Engine]
    engine_kind: Callable[[], str | None]
    packer: Callable[[], Packer]
    mountable: Callable[[], Sequence[tuple[str, int | None]]]

    def means(self, workers: int) -> Means:
        """The programs, found, with all choices.

        :raises EngineError, PackerError: if one is missing.
        """
        return Means(**vars(self.tree_means(workers)), packer=self.packer(), builder=self.builder)

    def tree_means(self, workers: int) -> TreeMeans:
        """What a directory tree is made with: no packer is looked for.

        :raises EngineError: if there is no engine.
        """
        return TreeMeans(self.engine(), self.command, self.reproducible, self.tmpdir, max(1, workers))

    def agrees(self, inputs: Mapping[str, str]) -> bool:
        """Whether a build now would have the inputs of one before. Where there is no engine now, any was right."""
        kind = self.engine_kind()
        expected = {**self.inputs, **({"engine": kind} if kind else {})}
        return all(inputs.get(name) == value for name, value in expected.items())

    def sif_inputs(self) -> list[dict[str, str]]:
        """The inputs that a SIF made elsewhere may have to be as good as one built here, the best first.

        Neither packer nor engine is needed to use it, so they are not looked for.
        """
        kind = self.engine_kind() or APPTAINER
        return [sif_inputs(self.command, *packing, self.reproducible, kind) for packing in self.mountable()]


@dataclass(frozen=True)
class TreeMeans:
    """What a directory tree is made with. ``command`` says which of an image's entry point and command becomes the run
    script; ``workers`` layers are read at once.
    """

    engine: Engine
    command: str
    reproducible: bool
    tmpdir: str
    workers: int

    @property
    def inputs(self) -> dict[str, str]:
        """What, besides the image, decides what comes out."""
        return {
            "format": SANDBOX,
            "command": self.command,
            "reproducible": "yes" if self.reproducible else "no",
            "engine": self.engine.kind,
        }


@dataclass(frozen=True)
class Means(TreeMeans):
    """The programs and choices of a build. ``builder`` is one of ``BUILDERS``."""

    packer: Packer
    builder: str

    @property
    def inputs(self) -> dict[str, str]:
        """What, besides the image, decides what a SIF holds."""
        packer = self.packer
        return sif_inputs(self.command, packer.compression, packer.level, self.reproducible, self.engine.kind)


def sif_inputs(command: str, compression: str, level: int | None, reproducible: bool, engine: str) -> dict[str, str]:
    """What, besides the image, decides what a SIF holds, as it is recorded."""
    return {
        "format": SIF,
        "command": command,
        "compression": compression,
        **({} if level is None else {"level": str(level)}),
        "reproducible": "yes" if reproducible else "no",
        "engine": engine,
    }
