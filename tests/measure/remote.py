# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on hosts of the lab: scripts by SSH, playbooks by Ansible."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import hosts, paths
from tests.measure.command import Failed

CALLBACKS = Path(__file__).with_name("callback_plugins")
COUNTING = Path(__file__).with_name("counting_ssh.py")


def shell(host: hosts.Host, script: str, stdin: str = "") -> str:
    """Run a script of bash on a host, as root, and return its output.

    :raises Failed: it ended with an error.
    """
    command = [*hosts.ssh_command(host), f"bash -euo pipefail -c {shlex.quote(script)}"]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(
            f"on {host.name}: {script}\nended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


@dataclass(frozen=True)
class Playbook:
    """A playbook that whoever measures it may run; ``record`` is where a callback writes what becomes of its tasks."""

    command: Sequence[str]
    environment: Mapping[str, str]
    record: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return the results of each task on each host, see ``callback_plugins/task_results.py``."""
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]


class Counts:
    """What goes to hosts by SSH, as ``counting_ssh.py`` writes it into a file of a directory."""

    def __init__(self, directory: Path) -> None:
        self._file, self._program = directory / "counts", directory / "ssh"
        self._program.write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, str(COUNTING)])} "$@"\n', encoding="utf-8"
        )
        self._program.chmod(0o700)

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of ``ansible-playbook`` that have it counted."""
        return {"ANSIBLE_SSH_EXECUTABLE": str(self._program), "COUNTED_FILE": str(self._file)}

    @property
    def sent(self) -> int:
        """The bytes of all commands and modules, before SSH encrypts them."""
        return sum(map(int, self._file.read_text(encoding="utf-8").split()))


def playbook(directory: Path, plays: Sequence[Mapping[str, Any]], **settings: str) -> Playbook:
    """Write plays into a directory. ``settings`` are environment variables of ``ansible-playbook``."""
    file, record = directory / "play.json", directory / "results.json"
    file.write_text(json.dumps(plays), encoding="utf-8")
    record.touch()
    callback = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "task_results"}
    environment = {**os.environ, **callback, "TASK_RESULTS_FILE": str(record), **settings}
    return Playbook(["ansible-playbook", "--inventory", str(paths.inventory()), str(file)], environment, record)
