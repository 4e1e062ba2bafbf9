# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ansible-playbook``, run by a process that has imported Ansible already.

The tests run a thousand small playbooks, and of the time of each, half went into starting Python and importing Ansible.
So one process imports it once, and forks for each playbook. What runs in the fork is the same ``main`` that the command
has. Likewise Ansible parses and packs a module once for all playbooks, as it does for all tasks of one: an edit of the
code counts from the next run of pytest on.

Where a test needs another environment, a terminal, or a process to send signals to, it starts the command itself.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_IMPORTED = [
    "ansible.cli.playbook",
    "ansible.executor.module_common",
    "ansible.executor.playbook_executor",
    "ansible.executor.task_queue_manager",
    "ansible.plugins.action.normal",
    "ansible.plugins.callback.default",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.strategy.linear",
]
_PACKED = tempfile.TemporaryDirectory(prefix="ansiballz-")
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(_IMPORTED)


def run_playbook(arguments: Sequence[str], text: str = "", timeout: int = 900) -> subprocess.CompletedProcess[str]:
    """Run ``ansible-playbook`` in the environment that this process began with, and return what it printed.

    :param text: what it reads from its standard input, such as the playbook ``/dev/stdin``.
    :param timeout: seconds.
    :raises subprocess.TimeoutExpired: if it takes longer; it is killed then.
    """
    command = ["ansible-playbook", *arguments]
    with tempfile.TemporaryDirectory(prefix="playbook-") as directory:
        own = Path(directory, "local")
        own.mkdir()
        (own / "ansiballz_cache").symlink_to(_PACKED.name)
        streams = [Path(directory, name) for name in ("stdin", "stdout", "stderr")]
        for stream, content in zip(streams, (text, "", ""), strict=True):
            stream.write_text(content, encoding="utf-8")
        process = _PROCESSES.Process(target=_play, args=(command, str(own), [str(stream) for stream in streams]))
        process.start()
        process.join(timeout)
        output, errors = (stream.read_text(encoding="utf-8", errors="replace") for stream in streams[1:])
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, output, errors)
    return subprocess.CompletedProcess(command, process.exitcode, output, errors)


def _play(command: list[str], own: str, streams: Sequence[str]) -> None:
    for number, path in enumerate(streams):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    from ansible import constants
    from ansible.cli.playbook import main

    constants.DEFAULT_LOCAL_TMP = own  # each command has one; it was chosen when Ansible was imported
    main(command)
