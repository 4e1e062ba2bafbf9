# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a pull, and who gets to see it; the task does not depend on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action.normal import ActionModule as Normal
from ansible_collections.hpc.sregistry.plugins.action import sregistry_pull as module
from ansible_collections.hpc.sregistry.plugins.action.sregistry_pull import ActionModule
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.display import progress

HOST: Mapping[str, Any] = {"inventory_hostname": "node7"}
RESULT: Mapping[str, Any] = {"changed": True, "images": []}


def action(template: Any = lambda value: value, **task: Any) -> ActionModule:
    """Return the action of a task that runs nothing."""
    usual = {"args": {}, "check_mode": False, "async_val": 0, "no_log": False, "delegate_to": None}
    described = SimpleNamespace(**{**usual, "environment": [{"A": "b"}], "_uuid": "task", **task})
    connection = SimpleNamespace(_shell=SimpleNamespace(get_option=lambda _name: ["/var/tmp", "/tmp"]))
    return ActionModule(described, connection, None, None, SimpleNamespace(template=template), None)


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take terminal and variable away, and leave Ansible's own callback."""
    monkeypatch.setattr(module, "_TERMINAL", False)
    monkeypatch.delenv("SREGISTRY_PROGRESS", raising=False)
    monkeypatch.setattr(constants, "DEFAULT_STDOUT_CALLBACK", "default")


WISHES: Mapping[str, tuple[dict[str, Any], bool]] = {
    "no terminal": ({}, False),
    "a terminal": ({"terminal": True}, True),
    "a terminal, but read by a program": ({"terminal": True, "callback": "ansible.posix.json"}, False),
    "a terminal, but read line by line": ({"terminal": True, "callback": "jsonl"}, False),
    "another callback": ({"terminal": True, "callback": "community.general.yaml"}, True),
    "the option": ({"option": "always"}, True),
    "the option, for a program": ({"option": "always", "callback": "json"}, True),
    "the option wins": ({"option": "never", "variable": "always", "environment": "always", "terminal": True}, False),
    "the variable": ({"variable": "always"}, True),
    "the variable wins": ({"variable": "never", "environment": "always"}, False),
    "the environment": ({"environment": "always"}, True),
    "the environment, off": ({"environment": "never", "terminal": True}, False),
    "auto": ({"option": "auto", "terminal": True}, True),
    "auto without a terminal": ({"option": "auto", "environment": "always"}, False),
    "a word that is none": ({"option": "perhaps", "terminal": True}, False),
    "check mode": ({"option": "always", "check_mode": True}, False),
    "asynchronous": ({"option": "always", "async_val": 10}, False),
    "a secret task": ({"option": "always", "no_log": True}, False),
}


@pytest.mark.parametrize(("wish", "watched"), WISHES.values(), ids=WISHES.keys())
def test_progress_is_for_who_watches(wish: dict[str, Any], watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = dict(wish)
    monkeypatch.setattr(module, "_TERMINAL", wish.pop("terminal", False))
    monkeypatch.setattr(constants, "DEFAULT_STDOUT_CALLBACK", wish.pop("callback", "default"))
    if "environment" in wish:
        monkeypatch.setenv("SREGISTRY_PROGRESS", wish.pop("environment"))
    variables = {"sregistry_progress": wish.pop("variable", None)}
    args = {"progress": wish.pop("option", None)}
    assert action(args=args, **wish)._is_watched(variables) is watched


def test_a_variable_that_cannot_be_told_is_nobody_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    def template(_value: object) -> str:
        raise AnsibleUndefinedVariable("nothing")

    monkeypatch.setattr(module, "_TERMINAL", True)
    assert action(template)._is_watched({"sregistry_progress": "{{ nothing }}"}) is False


class Run:
    """The module, for a while; what it was given, and what was shown meanwhile."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, directory: Path, result: Mapping[str, Any] | None = None
    ) -> None:
        self.environment: list[dict[str, str]] = []
        self.lines: list[str] = []
        self.commands: list[str] = []
        self.said = '{"image": "org/app:1", "step": "pack"}'
        self.trouble: Exception | None = None
        self.seconds = 60.0  # at most: it ends when something was shown, or could not be
        run = self

        def module_run(self: ActionModule, tmp: str | None = None, task_vars: object = None) -> dict[str, Any]:
            run.environment = list(self._task.environment)
            end = time.monotonic() + run.seconds
            while time.monotonic() < end and not run.lines and not (run.trouble and run.commands):
                time.sleep(0.01)
            return dict(result or RESULT)

        def command(text: str) -> dict[str, str]:
            self.commands.append(text)
            if self.trouble:
                raise self.trouble
            return {"stdout": f"a banner\r\n{self.said}\r\n"}

        monkeypatch.setattr(Normal, "run", module_run)
        monkeypatch.setattr(module, "_twin", lambda _action: SimpleNamespace(_low_level_execute_command=command))
        monkeypatch.setattr(module, "_show", self.lines.append)
        monkeypatch.setattr(progress, "_FIRST", 0.01)
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(directory))


def test_the_result_is_that_of_the_module_and_lines_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, task = Run(monkeypatch, tmp_path), action(args={"progress": "always"})
    assert task.run(task_vars=dict(HOST)) == RESULT
    assert run.lines == ["node7: org/app:1: pack for 0 s"]
    given, named = run.environment
    assert given == {"A": "b"}
    path = named["SREGISTRY_PROGRESS_FILE"]
    assert os.path.dirname(path) == "/tmp"
    assert all(path in command for command in run.commands)
    assert task._task.environment == [{"A": "b"}], "a task that is tried again names its own file"
    assert os.listdir(tmp_path / "sregistry-progress-task") == ["node7.ended"]
    assert not any("rm -f" in command for command in run.commands)


def test_a_host_that_works_for_another_is_named_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run(monkeypatch, tmp_path)
    action(args={"progress": "always"}, delegate_to="node8").run(task_vars=dict(HOST))
    assert run.lines == ["node7 -> node8: org/app:1: pack for 0 s"]


def test_trouble_with_progress_is_no_trouble_of_the_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run(monkeypatch, tmp_path)
    run.trouble = OSError("no second connection")
    assert action(args={"progress": "always"}).run(task_vars=dict(HOST)) == RESULT
    assert run.lines == []
    assert len(run.commands) == 1, "it is not tried again"


def test_a_module_that_was_killed_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run(monkeypatch, tmp_path, {"failed": True, "module_stdout": "", "rc": 137})
    assert action(args={"progress": "always"}).run(task_vars=dict(HOST))["rc"] == 137
    assert run.commands[-1].startswith("rm -f /tmp/sregistry-progress-")


def test_who_does_not_watch_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, before = Run(monkeypatch, tmp_path), set(threading.enumerate())
    run.seconds = 0.0
    assert action().run(task_vars=dict(HOST)) == RESULT
    assert (run.environment, run.commands, run.lines) == ([{"A": "b"}], [], [])
    assert set(threading.enumerate()) <= before
    assert os.listdir(tmp_path) == []
