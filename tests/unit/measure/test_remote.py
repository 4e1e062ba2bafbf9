# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of each task of a playbook that really runs, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.measure import remote

PULL = """#!/bin/sh
echo '{"changed": true, "images": [{"name": "a", "action": "pulled", "changed": true, "builder": "stream", "size": 5}]}'
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a module that says that it built an image, for two hosts that are this machine."""
    lab = tmp_path / "lab"
    lab.mkdir()
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (lab / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"one": {}, "two": {}}, "vars": local}}))
    monkeypatch.setenv("SREGISTRY_LAB_DIR", str(lab))
    module = tmp_path / "library" / "pull"
    module.parent.mkdir()
    module.write_text(PULL)
    return module.parent


def test_a_line_for_each_task_on_each_host(tmp_path: Path, library: Path) -> None:
    tasks = [
        {"name": "pulls", "pull": {}},
        {"name": "runs", "ansible.builtin.command": {"argv": ["true"]}, "when": "inventory_hostname == 'one'"},
        {"name": "fails", "ansible.builtin.fail": {"msg": "no room"}, "when": "inventory_hostname == 'two'"},
    ]
    plays = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    playbook = remote.playbook(tmp_path, plays, ANSIBLE_LIBRARY=str(library), ANSIBLE_FORKS="1")
    assert playbook.lines() == []
    done = subprocess.run(playbook.command, env=playbook.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    pulls_one, pulls_two, runs, fails = playbook.lines()
    assert [line["host"] for line in (pulls_one, pulls_two, runs, fails)] == ["one", "two", "one", "two"]
    assert pulls_one["images"] == pulls_two["images"] == [{"builder": "stream", "changed": True, "size": 5}]
    assert runs["images"] == [{"builder": "apptainer", "changed": True, "size": None}]
    assert (runs["failed"], runs["error"], runs["changed"]) == (False, "", True)
    assert (fails["failed"], fails["error"], fails["images"]) == (True, "no room", [])
    assert all(0 < line["seconds"] < 600 for line in playbook.lines())


def test_what_goes_to_a_host_is_counted_and_still_goes_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nprintf "%s" "$2" && cat && exit 3\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    counts = remote.Counts(tmp_path)
    command = [counts.settings["ANSIBLE_SSH_EXECUTABLE"], "host", "python3"]
    environment = {**os.environ, **counts.settings}
    for data in ("a module", ""):
        done = subprocess.run(command, input=data, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == (f"python3{data}", 3), done.stderr
    assert counts.sent == len("python3a module") + len("python3")
