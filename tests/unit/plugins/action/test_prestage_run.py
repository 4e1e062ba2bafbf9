# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that looks at a shared store: how long, and what it asks for where it does not see all files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.action.prestage_run import ActionModule
from ansible_collections.hpc.sregistry.plugins.filter.prestage_elect import prestage_elect

NAME = "ubuntu:24.04"
ROW = {"reference": NAME, "path": "/store/ubuntu.sif", "sha256": "c" * 64, "state": "present"}
LEADER = {"images": [{**ROW, "name": NAME, "action": "pulled", "changed": True}]}
FACTS = {"ansible_facts": {"sregistry": {"storage": "/store"}}}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("answers", "modules"),
    [
        ([{"images": [ROW]}], ["info"]),
        ([{"images": []}, FACTS], ["info", "facts"]),
        ([{"msg": "no such option"}], ["info"]),
    ],
)
def test_only_a_host_that_misses_a_file_is_asked_for_its_inventory(
    monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any]], modules: list[str], check: bool
) -> None:
    present = {**LEADER, "images": [{**LEADER["images"][0], "action": "present", "changed": False}]}
    election = prestage_elect({"n1": {"group": "g", "names": [NAME]}}, {"n1": present})
    asked: list[tuple[str, dict[str, Any]]] = []

    def run(module: str, options: dict[str, Any], _variables: dict[str, Any]) -> dict[str, Any]:
        asked.append((module.rpartition("_")[2], options))
        return dict(answers[len(asked) - 1], warnings=["there is no inventory"])

    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=check)
    monkeypatch.setattr(action, "_run", run)
    given = {
        "module": "hpc.sregistry.sregistry_info",
        "sees": {"names": [NAME], "group": election["groups"]["g"]},
        "within": 0,
    }
    found = action._look(given, {"name": [NAME], "storage": "/store"}, {})
    assert [module for module, _options in asked] == modules
    assert asked[1:] in ([], [("facts", {"storage": "/store"})])
    assert ("ansible_facts" in found, "warnings" in found) == (len(modules) > 1, not check)
