# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on hosts of the lab: scripts by SSH, playbooks by Ansible."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import hosts, paths
from tests.measure.command import Failed

CALLBACKS = Path(__file__).with_name("callback_plugins")


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


def playbook(directory: Path, plays: Sequence[Mapping[str, Any]], **settings: str) -> Playbook:
    """Write plays into a directory. ``settings`` are environment variables of ``ansible-playbook``."""
    file, record = directory / "play.json", directory / "results.json"
    file.write_text(json.dumps(plays), encoding="utf-8")
    record.touch()
    callback = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "task_results"}
    environment = {**os.environ, **callback, "TASK_RESULTS_FILE": str(record), **settings}
    return Playbook(["ansible-playbook", "--inventory", str(paths.inventory()), str(file)], environment, record)
