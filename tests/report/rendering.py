# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the role ``report`` on facts that are given."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def render(facts: Mapping[str, Any], directory: Path, **variables: Any) -> Path:
    """Write the report below ``directory`` and return the page; its twins lie beside it."""
    return _run("report_facts", facts, directory, variables)


def render_compared(document: Mapping[str, Any], directory: Path, **variables: Any) -> Path:
    """Render the same from the output of the filter ``fleet``, which takes Ansible seconds for a large fleet."""
    return _run("_report_document", document, directory, {"report_facts": {}, **variables})


def _run(variable: str, content: Mapping[str, Any], directory: Path, variables: Mapping[str, Any]) -> Path:
    source, page = directory / "source.json", directory / "fleet.html"
    source.write_text(json.dumps(content), encoding="utf-8")
    role = {
        "name": "Report",
        "ansible.builtin.include_role": {"name": "hpc.sregistry.report", "tasks_from": "render"},
        "vars": {
            variable: "{{ lookup('ansible.builtin.file', source) | from_json }}",
            "report_path": str(page),
            **variables,
        },
    }
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"source": str(source)}, "tasks": [role]}
    command = ["ansible-playbook", "-i", "localhost,", "/dev/stdin"]
    done = subprocess.run(command, input=json.dumps([play]), capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"the role failed: {done.stdout}{done.stderr}")
    return page
