# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is asked before anything is done there, and which hosts therefore get the same files."""

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
_UNASKABLE = ("", "126", "127")  # the status where there is no program to ask, or it cannot be run


@dataclass(frozen=True)
class Question:
    """What is to be found out: whether ``mount`` is a mount point, the ``architecture``, the kind of the ``engine``.

    ``program`` is the path or the name of the engine, if it was given.
    """

    mount: str = ""
    architecture: bool = False
    engine: bool = False
    program: str = ""

    @property
    def script(self) -> str:
        """For the shell of the host, in one go; empty if nothing is to be asked."""
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
        """Its kind, as ``executable.engine_kind`` finds it: the file name tells where it is Apptainer."""
        programs = " ".join(shlex.quote(name) for name in ([self.program] if self.program else PROGRAMS))
        return (
            f'PATH=$PATH:{":".join(DIRECTORIES)}; for e in {programs}; do p=$(command -v "$e") || continue; '
            f'case $(readlink -f "$p") in */{APPTAINER}) echo engine: {APPTAINER} version 0;; '
            '*) echo "engine: $("$p" --version </dev/null 2>/dev/null | head -n 1)";; esac; break; done'
        )

    def hindrance(self, answer: Mapping[str, str]) -> str:
        """What keeps the host from having any image; empty if nothing does."""
        status = answer.get("mountpoint", "")
        if not self.mount or status == "0":
            return ""
        if status in _UNASKABLE:
            return (
                f"it could not be asked whether {self.mount} is mounted (prestage_require_mount); "
                "nothing was fetched or made"
            )
        return f"{self.mount} is not a mount point (prestage_require_mount); nothing was fetched or made"


def answer_of(said: str) -> dict[str, str]:
    """Read what the script of a ``Question`` printed; what a login shell says besides is left out.

    The ``engine`` is its kind. Where there is none, files are those of Apptainer, as ``sregistry_pull`` takes it.
    """
    found = dict(re.findall(r"^(mountpoint|architecture|engine): *(.*?)\s*$", said, re.MULTILINE))
    engine = VERSION.search(found.get("engine", ""))
    return {**found, "engine": engine.group(1) if engine else APPTAINER}


def group_of(platform: str, engine: str, content: Sequence[Any]) -> str:
    """A name for the hosts that get the same files; empty where the platform is not known.

    :param engine: its kind, empty if it does not matter.
    :param content: whatever else decides what is in the files.
    """
    safe = _UNSAFE.sub("", platform)
    if not safe:
        return ""
    text = json.dumps(content, sort_keys=True, default=str)
    return " ".join(filter(None, (safe, engine, hashlib.sha256(text.encode()).hexdigest()[:12])))
