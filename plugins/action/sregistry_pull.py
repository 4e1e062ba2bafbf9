# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``sregistry_pull`` as Ansible runs it, and beside it, for people who watch, lines that tell how far it is.

The module writes its progress into a small file on its host, and a thread here reads that over a second connection. The
module itself runs as without this plugin, in one call that ends when it ends: its result, an interruption, a time limit
and a lost connection are what they always are. Ansible's own way for long work, an asynchronous task that is polled,
would change all of these, and cost some seconds for each image that is up to date.
"""

from __future__ import annotations

import contextvars
import copy
import gc
import os
import secrets
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ansible import constants
from ansible.plugins.action.normal import ActionModule as Normal
from ansible.plugins.loader import connection_loader
from ansible.utils.color import stringc
from ansible.utils.display import Display

from ..plugin_utils._internal.display.output import is_machine_read


def _copied(stream: TextIO | None) -> int | None:
    """Return a descriptor of its own for what a stream writes to; None if there is none."""
    try:
        return os.dup(stream.fileno()) if stream else None
    except (OSError, ValueError):
        return None


# Ansible imports this in its main process before it forks the workers, which have no terminal any more.
_TERMINAL = sys.stdout is not None and sys.stdout.isatty()
_OUTPUT = _copied(sys.stdout)
_ERRORS = _copied(sys.stderr)

_MOST = 4096  # bytes of a report
_PATIENCE = 1.0  # seconds that a look which is under way may hold up the end of a task
_CONNECTIONS_TALK = 3  # the verbosity from which on they say what they do

_display = Display()


class ActionModule(Normal):  # type: ignore[misc]
    """The module, and its progress where somebody watches."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        variables = task_vars or {}
        if not self._is_watched(variables):
            return self._result(tmp, task_vars)
        with self._followed(variables) as file:
            result = self._result(tmp, task_vars)
            file.left = "module_stdout" in result  # no result of its own: it was killed, and could not clean up
            return result

    def _result(self, tmp: str | None, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return the result of the module, run as Ansible runs any other.

        To bundle it Ansible parses all its files, and Python looks for garbage in these trees again and again, where
        there is none: half of what bundling takes. This process ends with the task.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            return dict(super().run(tmp, task_vars))
        finally:
            if collecting:
                gc.enable()

    def _is_watched(self, variables: Mapping[str, Any]) -> bool:
        task = self._task
        if task.check_mode or task.async_val or task.no_log:
            return False
        try:
            wish = task.args.get("progress") or self._templar.template(variables.get("sregistry_progress"))
        except Exception:  # noqa: BLE001 (whatever a template raises)
            return False
        wish = wish or os.environ.get("SREGISTRY_PROGRESS") or "auto"
        return wish == "always" or (wish == "auto" and _TERMINAL and not is_machine_read())

    @contextmanager
    def _followed(self, variables: Mapping[str, Any]) -> Iterator[_File]:
        """Show the progress of the module that a block runs."""
        from ..plugin_utils._internal.display.progress import Board, follow

        host, ended = self._label(variables), threading.Event()
        board = Board(os.path.join(constants.DEFAULT_LOCAL_TMP, f"sregistry-progress-{self._task._uuid}"))
        file = _File(self)

        def work() -> None:
            try:
                hosts = len(variables.get("ansible_play_batch") or ())
                follow(host, file.read, _show, board, hosts, ended)
            except Exception as error:  # noqa: BLE001 (progress must never be the end of a task)
                _display.vvv(f"no more progress: {error}", host=host)

        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
        with suppress(OSError):
            board.begin(host)
        before = self._task.environment
        self._task.environment = [*(before if isinstance(before, list) else [before or {}]), file.variable]
        thread.start()
        try:
            yield file
        finally:
            self._task.environment = before
            ended.set()
            # What a connection says goes to the main process through a queue. A worker that ended in the middle of that
            # would leave the queue locked, and all others would wait for ever.
            thread.join(_PATIENCE if _display.verbosity < _CONNECTIONS_TALK else None)
            with suppress(OSError):
                board.end(host)
            file.clear()

    def _label(self, variables: Mapping[str, Any]) -> str:
        host = str(variables.get("inventory_hostname"))
        return f"{host} -> {self._task.delegate_to}" if self._task.delegate_to else host


class _File:
    """The file on the managed host that the module tells its progress in; ``left`` if it may still be there."""

    def __init__(self, action: ActionModule) -> None:
        from ..module_utils._internal.pull.progress import FILE_VARIABLE

        directories = action.get_shell_option("system_tmpdirs", default=["/tmp"])
        directory = "/tmp" if "/tmp" in directories else directories[0]
        self.left = False
        self._path = os.path.join(directory, f"sregistry-progress-{secrets.token_hex(8)}")
        self.variable = {FILE_VARIABLE: self._path}
        self._action = action
        self._other: Normal | None = None

    def read(self) -> str:
        """Return what the module tells; an empty text if it tells nothing.

        The directory belongs to everybody: only a file of the user who runs the module counts, and no link.
        """
        path = shlex.quote(self._path)
        told = self._run(f"test ! -L {path} -a -f {path} -a -O {path} && head -c {_MOST} {path}")
        return next((line for line in told.splitlines() if line.startswith("{")), "")

    def clear(self) -> None:
        """Remove what the module could not."""
        if self.left:
            with suppress(Exception):
                self._run(f"rm -f {shlex.quote(self._path)} {shlex.quote(self._path)}.tmp")

    def _run(self, command: str) -> str:
        if self._other is None:
            self._other = _twin(self._action)
        return str(self._other._low_level_execute_command(command)["stdout"])


def _twin(action: ActionModule) -> Normal:
    """Return an action for the same task with its own connection: the first one is busy until the module ends.

    It is never closed: some kinds of connections share with all others of a process what they are made of.
    """
    first = action._connection
    name = getattr(first, "ansible_name", None) or first._load_name
    second = connection_loader.get(
        name,
        first._play_context,
        new_stdin=None,
        task_uuid=action._task._uuid,
        ansible_playbook_pid=str(os.getppid()),
    )
    second.set_options(direct=dict(first._options))
    second._shell = copy.copy(first._shell)
    if first.become:
        second.set_become_plugin(copy.copy(first.become))  # it keeps what marks the output of the last command
    return Normal(
        action._task, second, action._play_context, action._loader, action._templar, action._shared_loader_obj
    )


def _show(line: str) -> None:
    """Write a line where the main process writes.

    Ansible's own way for a worker leads through a queue, whose lock a worker that is told to end takes with it.
    """
    screen = _ERRORS if is_machine_read() else _OUTPUT
    if screen is not None:
        with suppress(OSError):
            os.write(screen, f"{stringc(line, constants.COLOR_VERBOSE)}\n".encode(errors="replace"))
