# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ansible-playbook``, run by a process that has imported Ansible already.

The tests run a thousand small playbooks, and of the time of each, most went into starting Python, importing Ansible
and reading the documentation of its plugins. So one process does that once, see ``preload.py``, and forks for each
playbook. What runs in the fork is the same ``main`` that the command has. Likewise Ansible parses and packs a module
once for all playbooks, as it does for all tasks of one: an edit of the code counts from the next run of pytest on.

Where a test needs another environment, a terminal, or a process to send signals to, it starts the command itself.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CALLBACKS = Path(__file__).with_name("callback_plugins")
_PACKED = tempfile.TemporaryDirectory(prefix="ansiballz-")
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.integration.preload"])


@dataclass(frozen=True)
class _Files:
    """The files that a playbook reads and writes in a directory of its own."""

    directory: Path

    @property
    def streams(self) -> tuple[Path, Path, Path]:
        """Standard input, output and error."""
        return self.directory / "stdin", self.directory / "stdout", self.directory / "stderr"

    @property
    def results(self) -> Path:
        """Return the results of the tasks, one a line."""
        return self.directory / "results"

    @property
    def local(self) -> Path:
        """Ansible's own temporary directory, with the modules that any playbook has packed."""
        return self.directory / "local"


def run_playbook(arguments: Sequence[str], text: str = "", timeout: int = 7200) -> subprocess.CompletedProcess[str]:
    """Run ``ansible-playbook`` in the environment that this process began with, and return what it printed.

    :param text: what it reads from its standard input, such as the playbook ``/dev/stdin``.
    :param timeout: seconds.
    :raises subprocess.TimeoutExpired: if it takes longer; it is killed then.
    """
    with tempfile.TemporaryDirectory(prefix="playbook-") as directory:
        return _run(_Files(Path(directory)), arguments, text, timeout)


def run_tasks(arguments: Sequence[str], play: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run a play of one host with ``ansible-playbook``, and return the results of its tasks, in their order.

    :raises AssertionError: no task has a result; it shows what ``ansible-playbook`` printed.
    """
    with tempfile.TemporaryDirectory(prefix="playbook-") as directory:
        files = _Files(Path(directory))
        done = _run(files, [*arguments, "/dev/stdin"], json.dumps([play]), 7200)
        results = files.results.read_text(encoding="utf-8") if files.results.exists() else ""
    assert results, f"no task has a result: {done.stdout}{done.stderr}"
    return [json.loads(line) for line in results.splitlines()]


def _run(files: _Files, arguments: Sequence[str], text: str, timeout: int) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", *arguments]
    files.local.mkdir()
    (files.local / "ansiballz_cache").symlink_to(_PACKED.name)
    for stream, content in zip(files.streams, (text, "", ""), strict=True):
        stream.write_text(content, encoding="utf-8")
    process = _PROCESSES.Process(target=_play, args=(command, files))
    process.start()
    process.join(timeout)
    output, errors = (stream.read_text(encoding="utf-8", errors="replace") for stream in files.streams[1:])
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(command, timeout, output, errors)
    return subprocess.CompletedProcess(command, process.exitcode, output, errors)


def _play(command: list[str], files: _Files) -> None:
    for number, path in enumerate(files.streams):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    from ansible import constants
    from ansible.cli.playbook import main
    from ansible.plugins.loader import callback_loader

    os.environ["TASK_RESULTS_FILE"] = str(files.results)
    callback_loader.add_directory(str(_CALLBACKS))
    constants.DEFAULT_LOCAL_TMP = str(files.local)  # each command has one; it was chosen when Ansible was imported
    main(command)
