# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container engine of the host: the ``apptainer`` or ``singularity`` executable."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import EngineError

APPTAINER, SINGULARITY_CE, SINGULARITY = "apptainer", "singularity-ce", "singularity"

_NAMES = ("apptainer", "singularity")
_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/opt/apptainer/bin", "/opt/singularity/bin")
_VERSION = re.compile(r"(apptainer|singularity-ce|singularity)\s+version\s+v?([0-9][^\s]*)")
_TIMEOUT = 600  # seconds; the engine only writes metadata here


@dataclass(frozen=True)
class Engine:
    """An executable, which engine it is, and its version."""

    path: str
    kind: str
    version: str

    @property
    def home(self) -> str:
        """The name of the engine's directory in a user's home: ``.apptainer`` or ``.singularity``."""
        return home_of(self.kind)

    def build_sandbox(self, source: str, target: str, tmpdir: str) -> None:
        """``build --sandbox`` from a source URI such as ``oci:PATH``, without touching the engine's cache.

        :raises EngineError: with the engine's own words.
        """
        self._run(["build", "--disable-cache", "--sandbox", target, source], tmpdir)

    def inspect(self, image: str, tmpdir: str | None = None) -> dict[str, Any]:
        """All that ``inspect --all --json`` tells of a SIF or sandbox: the object ``data.attributes``.

        :raises EngineError: with the engine's own words.
        """
        output = self._run(["inspect", "--all", "--json", image], tmpdir)
        try:
            return dict(json.loads(output)["data"]["attributes"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{self.path} inspect answered what is not its JSON: {output[:200]!r}") from error

    def _run(self, arguments: list[str], tmpdir: str | None) -> str:
        command = [self.path, *arguments]
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                stdin=subprocess.DEVNULL,
                env=_environment(os.environ, tmpdir),
                timeout=_TIMEOUT,
                umask=0o022,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{' '.join(command)} did not end within {_TIMEOUT} s") from error
        except OSError as error:
            raise EngineError(f"cannot run {self.path}: {error.strerror}") from error
        if result.returncode != 0:
            said = "\n".join(line for line in result.stderr.splitlines() if not line.startswith("INFO:")).strip()
            raise EngineError(f"{' '.join(command)} failed with status {result.returncode}: {said[-800:]}")
        return result.stdout


def home_of(kind: str | None) -> str:
    """The name of an engine's directory in a user's home; ``.singularity`` where there is no engine."""
    return ".apptainer" if kind == APPTAINER else ".singularity"


def kind_of(given: str | None = None) -> str | None:
    """Which engine this host has, without running it where its file name tells; None if there is none.

    :raises EngineError: if it has to be run to tell, and fails.
    """
    path = _locate(given)
    if path is None:
        return None
    return APPTAINER if os.path.basename(os.path.realpath(path)) == APPTAINER else _identify(path).kind


def find(given: str | None = None) -> Engine:
    """The engine of this host.

    :param given: a path or name to use instead of looking for one.
    :raises EngineError: saying where was looked and what to install.
    """
    path = _locate(given)
    if path:
        return _identify(path)
    if given:
        raise EngineError(f"the engine {given} is not an executable file on this host")
    raise EngineError(
        "there is neither apptainer nor singularity on this host; install the package apptainer or singularity-ce, "
        "or give the executable's path with engine"
    )


def _locate(given: str | None) -> str | None:
    search = os.pathsep.join((os.environ.get("PATH", ""), *_DIRECTORIES))
    for name in (given,) if given else _NAMES:
        path = shutil.which(name, path=search)
        if path:
            return path
    return None


def _identify(path: str) -> Engine:
    try:
        result = subprocess.run(
            [path, "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"cannot run {path}: {error}") from error
    match = _VERSION.search(result.stdout)
    if result.returncode != 0 or not match:
        said = (result.stdout + result.stderr).strip()[:200]
        raise EngineError(
            f"{path} is neither Apptainer nor Singularity: --version ends with {result.returncode} and {said!r}; "
            "mend it, or give another executable's path with engine"
        )
    return Engine(path, match.group(1), match.group(2))


def _environment(inherited: Mapping[str, str], tmpdir: str | None) -> dict[str, str]:
    """The engine's environment. Its own variables must not change what it writes, and it needs no login."""
    kept = {
        key: value
        for key, value in inherited.items()
        if not key.startswith(("APPTAINER", "SINGULARITY", "SREGISTRY_", "SOURCE_DATE_EPOCH"))
    }
    if tmpdir:
        kept.update({"TMPDIR": tmpdir, "APPTAINER_TMPDIR": tmpdir, "SINGULARITY_TMPDIR": tmpdir})
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
