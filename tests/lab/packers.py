# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several releases of ``mksquashfs`` side by side: those of Debian's suites, each with the libraries of its own suite.

``cache/packers/<suite>/`` needs nothing of the machine that runs it and may be copied to any other one of the same
architecture: ``bin`` has the programs, ``lib`` their libraries and the dynamic linker, and beside them there is one
small script a program, so ``packers/bullseye/mksquashfs`` is what to run.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import commands, debian, paths

RECIPE = 1
SUITES = ("bullseye", "bookworm", "trixie", "sid")
"""They have 4.4 (which cannot read a tar), 4.5.1, 4.6.1 and the newest."""
PACKAGES = ("squashfs-tools", "squashfs-tools-ng")
PROGRAMS = ("mksquashfs", "unsquashfs", "sqfstar", "tar2sqfs", "rdsquashfs", "sqfsdiff")
"""Not every release has each of them."""

_SCRIPT = """\
#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/lib/{linker}" --library-path "$here/lib" "$here/bin/{program}" "$@"
"""


@dataclass(frozen=True)
class Packer:
    """The programs of one suite."""

    suite: str
    directory: Path

    @property
    def version(self) -> str:
        """The upstream version of squashfs-tools: ``4.5.1``."""
        return (self.directory / "version").read_text(encoding="ascii").strip()

    @property
    def programs(self) -> list[str]:
        """The names of those :data:`PROGRAMS` that this suite has."""
        return [name for name in PROGRAMS if (self.directory / name).exists()]

    def program(self, name: str = "mksquashfs") -> Path:
        """Return the script that runs the program ``name``."""
        return self.directory / name


def packer(suite: str) -> Packer:
    """Return the programs of ``suite``, downloaded when they are not there yet.

    Raises ``debian.NotAvailable`` if the mirror of this machine does not have them.
    What is there stays as it is until the lab is cleaned, also that of a suite which moves on.
    """
    made = Packer(suite, paths.cache() / "packers" / suite)
    if not _finished(made.directory):
        _make(made)
    return made


def packers(suites: tuple[str, ...] = SUITES) -> tuple[list[Packer], dict[str, str]]:
    """Return the programs of all ``suites`` that can be had, and for each other suite why it cannot."""
    there, missing = [], {}
    for suite in suites:
        try:
            there.append(packer(suite))
        except debian.NotAvailable as error:
            missing[suite] = str(error)
    return there, missing


def _finished(directory: Path) -> bool:
    recipe = directory / "recipe"
    return recipe.exists() and recipe.read_text(encoding="ascii") == f"{RECIPE}\n"


def _make(wanted: Packer) -> None:
    target = wanted.directory
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".building-{wanted.suite}-") as building:
        unpacked, made = Path(building) / "unpacked", Path(building) / "made"
        for package in debian.download(wanted.suite, PACKAGES, Path(building) / "apt"):
            commands.run(["dpkg-deb", "-x", package, unpacked], "packers")
        _gather(unpacked, made)
        asked = commands.output_of(["sh", "-c", f"'{made}/mksquashfs' -version; :"]).decode()
        (made / "version").write_text(asked.split()[2] + "\n", encoding="ascii")
        (made / "recipe").write_text(f"{RECIPE}\n", encoding="ascii")
        if _finished(target):
            return  # somebody else was faster
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


def _gather(unpacked: Path, made: Path) -> None:
    """Copy programs and shared libraries to two flat directories, and write a script for each program."""
    programs = made / "bin"
    programs.mkdir(parents=True)
    linker = debian.gather_libraries(unpacked, made / "lib")
    for program in PROGRAMS:
        file = unpacked / "usr" / "bin" / program
        if file.exists():
            shutil.copy(file, programs / program)
            script = made / program
            script.write_text(_SCRIPT.format(linker=linker, program=program), encoding="ascii")
            script.chmod(0o755)
