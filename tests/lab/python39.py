# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python 3.9 with ``requests`` 2.25.1 and ``urllib3`` 1.26.5, as Debian 11 has them, much like Enterprise Linux 9.

``cache/python3.9/`` needs nothing of the machine that runs it, as the packers do, and may be copied to a host of the
lab: ``python3.9/python3`` there is an interpreter for modules. What it runs gets the libraries of the host.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.lab import commands, debian, paths

RECIPE = 1
SUITE = "bullseye"
PACKAGES = ("python3", "python3-requests")

_SCRIPT = """\
#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/lib/{linker}" --library-path "$here/lib" "$here/usr/bin/python3.9" "$@"
"""


def python39() -> Path:
    """Return the directory to copy to a host, downloaded when it is not there yet.

    Raises ``debian.NotAvailable`` if the mirror of this machine does not have Debian 11.
    """
    target = paths.cache() / "python3.9"
    if not _finished(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-python3.9-") as building:
            unpacked, made = Path(building) / "unpacked", Path(building) / "made"
            for package in debian.download(SUITE, PACKAGES, Path(building) / "apt"):
                commands.run(["dpkg-deb", "-x", package, unpacked], "packages")
            _gather(unpacked, made)
            if not _finished(target):  # else somebody else was faster
                shutil.rmtree(target, ignore_errors=True)
                made.rename(target)
    return target


def _finished(directory: Path) -> bool:
    recipe = directory / "recipe"
    return recipe.exists() and recipe.read_text(encoding="ascii") == f"{RECIPE}\n"


def _gather(unpacked: Path, made: Path) -> None:
    """Move the interpreter with its libraries, and write a script that runs it with these."""
    (made / "usr" / "bin").mkdir(parents=True)
    shutil.move(unpacked / "usr/bin/python3.9", made / "usr/bin/python3.9")
    for library in ("python3", "python3.9"):  # the second is where the interpreter looks for what belongs to it
        shutil.move(unpacked / "usr/lib" / library, made / "usr/lib" / library)
    linker = debian.gather_libraries(unpacked, made / "lib")
    script = made / "python3"
    script.write_text(_SCRIPT.format(linker=linker), encoding="ascii")
    script.chmod(0o755)
    (made / "recipe").write_text(f"{RECIPE}\n", encoding="ascii")
