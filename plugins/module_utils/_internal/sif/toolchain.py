# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs and choices that images are built with, and which of these decide the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..engine.executable import APPTAINER, engine_kind
from ..late import importing
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
class Toolchain:
    """The choices of a task, and the programs of this host that suit them, each looked for when it is first asked for.

    :ivar tmpdir: a directory for temporary files; it need not exist.
    :ivar builder: one of ``BUILDERS``.
    :ivar command: which of an image's entry point and command becomes the run script.
    :ivar executable: name or path of the engine; None for the engine of this host.
    :ivar compression: one of ``COMPRESSIONS``; None for the best that this host can mount.
    :ivar level: of the compression; None for the usual one.
    :ivar processors: that the packer uses; None for all.
    :ivar memory: of the packer, in MiB; None for the usual amount.
    """

    tmpdir: str
    builder: str = AUTO
    command: str = ENTRYPOINT
    reproducible: bool = True
    executable: str | None = None
    compression: str | None = None
    level: int | None = None
    processors: int | None = None
    memory: int | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine.

        :raises EngineError: if there is none.
        """
        with importing:
            from ..engine.cli import find_engine  # only a build needs it

        return find_engine(self.executable)

    @cached_property
    def engine_kind(self) -> str | None:
        """The kind of the engine, mostly known without running it; None if there is no engine.

        :raises EngineError: if it has to be run, and fails.
        """
        return engine_kind(self.executable)

    @cached_property
    def packer(self) -> Packer:
        """The mksquashfs of this host, with its options.

        :raises PackerError: if there is none, or it cannot do what is asked for.
        """
        with importing:
            from .mksquashfs import find_packer  # only a build needs it

        return find_packer(self.compression, self.level, self.processors, self.memory)

    @cached_property
    def mountable(self) -> Sequence[tuple[str, int | None]]:
        """The compressions, with their levels, that suit this host and the task, the best first.

        :raises PackerError: if none has such a level.
        """
        with importing:
            from .mksquashfs import mountable

        return mountable(self.compression, self.level)

    def need_programs(self, packer: bool = True) -> None:
        """Raise unless the programs are there.

        :param packer: whether that one is needed too.
        :raises EngineError, PackerError: naming the one that is missing.
        """
        _found = (self.engine, packer and self.packer)

    @property
    def asked(self) -> dict[str, str]:
        """The inputs that the task asks for. All others stay as they were built."""
        return {
            "command": self.command,
            **({} if self.compression is None else {"compression": self.compression}),
            **({} if self.level is None else {"level": str(self.level)}),
            **({"reproducible": "yes"} if self.reproducible else {}),
        }

    def agrees(self, inputs: Mapping[str, str]) -> bool:
        """Tell whether a build now would have the inputs of an earlier one. Without an engine, any engine was right."""
        kind = self.engine_kind
        expected = {**self.asked, **({"engine": kind} if kind else {})}
        return all(inputs.get(name) == value for name, value in expected.items())

    @property
    def sandbox_inputs(self) -> dict[str, str]:
        """The inputs of a directory tree: all that decides its content, beside the image.

        :raises EngineError: if there is no engine.
        """
        return {
            "format": SANDBOX,
            "command": self.command,
            "reproducible": "yes" if self.reproducible else "no",
            "engine": self.engine.kind,
        }

    @property
    def inputs(self) -> dict[str, str]:
        """The inputs of a SIF: all that decides its content, beside the image.

        :raises EngineError, PackerError: if a program is missing.
        """
        engine, packer = self.engine, self.packer
        return sif_inputs(self.command, packer.compression, packer.level, self.reproducible, engine.kind)

    @property
    def acceptable_inputs(self) -> list[dict[str, str]]:
        """The inputs of SIF files that are as good as one built here, the best first. No program is needed for them."""
        kind = self.engine_kind or APPTAINER
        return [sif_inputs(self.command, *packing, self.reproducible, kind) for packing in self.mountable]


def sif_inputs(command: str, compression: str, level: int | None, reproducible: bool, engine: str) -> dict[str, str]:
    """Return the inputs of a SIF as they are recorded: all that decides its content, beside the image."""
    return {
        "format": SIF,
        "command": command,
        "compression": compression,
        **({} if level is None else {"level": str(level)}),
        "reproducible": "yes" if reproducible else "no",
        "engine": engine,
    }
