# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The executable of the container engine: where it is, of which engine and version, and that engine's home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from .. import programs
from ..errors import EngineError

APPTAINER, SINGULARITY_CE, SINGULARITY = "apptainer", "singularity-ce", "singularity"

PROGRAMS = ("apptainer", "singularity")
DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/opt/apptainer/bin", "/opt/singularity/bin")
VERSION = re.compile(r"(apptainer|singularity-ce|singularity)\s+version\s+v?([0-9][^\s]*)")


def locate(given: str | None = None) -> str | None:
    """Return the path of the executable, None if there is none.

    :param given: a path or name to use instead of looking for one.
    """
    search = os.pathsep.join((os.environ.get("PATH", ""), *DIRECTORIES))
    for name in (given,) if given else PROGRAMS:
        path = shutil.which(name, path=search)
        if path:
            return path
    return None


def kind_and_version(path: str) -> tuple[str, str]:
    """Run an executable to learn which engine it is; return the kind and the version.

    :raises EngineError: if it is not an engine, or broken.
    """
    try:
        result = subprocess.run(
            [path, "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=programs.inherited(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"cannot run {path}: {error}") from error
    match = VERSION.search(result.stdout)
    if result.returncode != 0 or not match:
        said = (result.stdout + result.stderr).strip()[:200]
        raise EngineError(
            f"{path} is neither Apptainer nor Singularity: --version ends with {result.returncode} and {said!r}; "
            "mend it, or give another executable's path with engine"
        )
    return match.group(1), match.group(2)


def engine_kind(given: str | None = None) -> str | None:
    """Return the kind of the engine of this host, None if there is none. It is run only if its file name does not tell.

    :raises EngineError: if it has to be run to tell, and fails.
    """
    path = locate(given)
    if path is None:
        return None
    return APPTAINER if os.path.basename(os.path.realpath(path)) == APPTAINER else kind_and_version(path)[0]


def home_of(kind: str | None) -> str:
    """Return the name of an engine's directory in a user's home; ``.singularity`` where there is no engine."""
    return ".apptainer" if kind == APPTAINER else ".singularity"
