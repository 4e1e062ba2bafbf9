# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``prestage`` hands on the options of ``sregistry_pull``, and describes all of its variables."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.hpc.sregistry.plugins.modules import sregistry_pull

ROLE = Path(__file__).parents[2] / "roles/prestage"
# Backups, which nothing removes, would fill the disks of all nodes.
NOT_FOR_A_FLEET = {"client", "api_version", "os", "architecture", "attributes", "unsafe_writes", "backup"}
SELINUX = {"selevel", "serole", "setype", "seuser"}


def load(path: str) -> Any:
    return yaml_load((ROLE / path).read_text(encoding="utf-8"))


def options_of_pull() -> set[str]:
    """Return the names of the options, those of the fragments as well; Ansible's own fragment is named here."""
    documentation = yaml_load(sregistry_pull.DOCUMENTATION)
    options = {*documentation["options"], "owner", "group", "mode", "attributes", "unsafe_writes", *SELINUX}
    for fragment in documentation["extends_documentation_fragment"]:
        if fragment.startswith("hpc.sregistry."):
            name = fragment.rpartition(".")[2]
            module = import_module(f"ansible_collections.hpc.sregistry.plugins.doc_fragments.{name}")
            options |= set(yaml_load(module.ModuleDocFragment.DOCUMENTATION).get("options", {}))
    return options


def variables() -> set[str]:
    """Return the variables that the tasks use."""
    text = "".join(path.read_text(encoding="utf-8") for path in ROLE.glob("*/*.yml") if path.parent.name != "meta")
    return set(re.findall(r"(?<![\w.])prestage_\w+", text))


def test_every_option_of_a_pull_is_handed_on_in_one_place() -> None:
    assert set(load("vars/main.yml")["_prestage_options"]) == options_of_pull() - NOT_FOR_A_FLEET - SELINUX
    pulls = [task for task in steps() if task["module"] == "hpc.sregistry.sregistry_pull"]
    assert [task["options"] for task in pulls] == ["{{ _prestage_options }}"] * 2


def tasks() -> list[dict[str, Any]]:
    """Return the tasks of all files but the main one."""
    files = sorted((ROLE / "tasks").glob("*.yml"))
    return [task for file in files if file.name != "main.yml" for task in load(f"tasks/{file.name}")]


def steps() -> list[dict[str, Any]]:
    """Return the tasks that run a module on some of the hosts."""
    return [task["hpc.sregistry.prestage_run"] for task in tasks() if "hpc.sregistry.prestage_run" in task]


def test_a_task_that_hosts_register_is_skipped_by_no_condition() -> None:
    """Before ansible-core 2.19, its result would be that of all hosts, see the plugin ``prestage_run``."""
    single = [task for task in tasks() if "{" in str(task.get("run_once", ""))]
    assert len(single) == 5
    assert [task["name"] for task in single if "when" in task and "register" in task] == []


def test_every_variable_is_described_and_no_other() -> None:
    options = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(options) == variables()
    readme = (ROLE / "README.md").read_text(encoding="utf-8")
    assert {name for name in options if f"`{name}`" not in readme} == set()


def test_defaults_are_what_their_description_says() -> None:
    options = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert load("defaults/main.yml") == {name: one["default"] for name, one in options.items() if "default" in one}
