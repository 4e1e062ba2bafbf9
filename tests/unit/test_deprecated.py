# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No role and no playbook uses what Ansible is about to remove, in this release or a later one that we know."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

import pytest
from ansible.module_utils.common.yaml import yaml_load

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("roles", "playbooks") for path in (ROOT / part).rglob("*.yml"))
# Of ansible-core 2.21, which needs a newer Python than the tests.
LATER = {"apt_key", "apt_repository"}


def deprecated() -> set[str]:
    """Return the modules and actions that the installed ansible-core deprecates or has removed."""
    runtime = importlib.resources.files("ansible.config").joinpath("ansible_builtin_runtime.yml")
    routing = yaml_load(runtime.read_text(encoding="utf-8"))["plugin_routing"]
    return {
        name
        for kind in ("modules", "action")
        for name, entry in routing.get(kind, {}).items()
        if {"deprecation", "tombstone"} & set(entry)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_used_that_ansible_is_about_to_remove(path: Path) -> None:
    used = set(re.findall(r"ansible\.builtin\.([a-z0-9_]+)", path.read_text(encoding="utf-8")))
    assert used & (deprecated() | LATER) == set()
