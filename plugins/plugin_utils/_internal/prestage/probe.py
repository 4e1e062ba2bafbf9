# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The questions to a host before anything is done there, and the group of hosts that get the same files."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....module_utils._internal.engine.executable import APPTAINER, DIRECTORIES, PROGRAMS, VERSION

_UNSAFE = re.compile(r"[^A-Za-z0-9_./-]", re.ASCII)
_NO_PROGRAM = ("", "126", "127")  # exit statuses where there is no program to ask, or it cannot be run


@dataclass(frozen=True)
class ProbeScript:
    """A script for the shell of a host that finds out what is asked for.

    :ivar mount: a path that must be a mount point; empty if there is none.
    :ivar architecture: whether it tells the architecture.
    :ivar engine: whether it tells the kind of the engine.
    :ivar program: the path or the name of the engine, if it was given.
    """

    mount: str = ""
    architecture: bool = False
    engine: bool = False
    program: str = ""

    @property
    def text(self) -> str:
        """The text of the script; empty if nothing is to be asked."""
        parts = []
        if self.mount:
            parts.append(f"mountpoint -q -- {shlex.quote(self.mount)}; echo mountpoint: $?")
        if self.architecture:
            parts.append("echo architecture: $(uname -m)")
        if self.engine:
            parts.append(self._engine)
        return "; ".join(parts)

    @property
    def _engine(self) -> str:
        """The part that looks for the engine as ``executable.engine_kind`` does: Apptainer is known by its file name,
        and need not be run.
        """
        programs = " ".join(shlex.quote(name) for name in ([self.program] if self.program else PROGRAMS))
        return (
            f'PATH=$PATH:{":".join(DIRECTORIES)}; for e in {programs}; do p=$(command -v "$e") || continue; '
            f'case $(readlink -f "$p") in */{APPTAINER}) echo engine: {APPTAINER} version 0;; '
            '*) echo "engine: $("$p" --version </dev/null 2>/dev/null | head -n 1)";; esac; break; done'
        )

    def obstacle(self, answer: Mapping[str, str]) -> str:
        """Return why the host can have no image; empty if it can."""
        status = answer.get("mountpoint", "")
        if not self.mount or status == "0":
            return ""
        if status in _NO_PROGRAM:
            return (
                f"it could not be asked whether {self.mount} is mounted (prestage_require_mount); "
                "nothing was fetched or made"
            )
        return f"{self.mount} is not a mount point (prestage_require_mount); nothing was fetched or made"


def parse_answer(said: str) -> dict[str, str]:
    """Return what a ``ProbeScript`` printed, without what a login shell says besides.

    The ``engine`` is its kind. A host without an engine gets files for Apptainer, as ``sregistry_pull`` makes them.
    """
    found = dict(re.findall(r"^(mountpoint|architecture|engine): *(.*?)\s*$", said, re.MULTILINE))
    engine = VERSION.search(found.get("engine", ""))
    return {**found, "engine": engine.group(1) if engine else APPTAINER}


def group_of(platform: str, engine: str, content: Sequence[Any]) -> str:
    """Return a name for the hosts that get the same files; empty where the platform is not known.

    :param engine: its kind, empty if it does not matter.
    :param content: all else that decides what is in the files.
    """
    safe = _UNSAFE.sub("", platform)
    if not safe:
        return ""
    text = json.dumps(content, sort_keys=True, default=str)
    return " ".join(filter(None, (safe, engine, hashlib.sha256(text.encode()).hexdigest()[:12])))
