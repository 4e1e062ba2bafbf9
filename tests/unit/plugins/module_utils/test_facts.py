# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of an inventory, and the file that answers ``get``."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.facts import Question, path_of, query
from ansible_collections.hpc.sregistry.plugins.module_utils.inventory import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils.selection import Search

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = Reference.parse("app:1")


def row(
    image: str | None, state: str = "present", platform: str = "linux/amd64", created_at: str = "2024"
) -> dict[str, Any]:
    return {"uri": APP.uri, "image": image, "state": state, "platform": platform, "created_at": created_at}


@pytest.mark.parametrize(
    ("rows", "wanted", "path"),
    [
        ([], AMD64, None),
        ([row("/a")], AMD64, "/a"),
        ([row("/a"), row("/b", created_at="2025")], AMD64, "/b"),
        ([row("/a", created_at="2025"), row("/b")], AMD64, "/a"),
        ([row("/a"), row("/b", platform="linux/arm64")], ARM64, "/b"),
        ([row("/a", platform="linux/arm64")], AMD64, None),
        ([row("/a", state="missing"), row("/b", state="modified"), row(None, state="remote")], AMD64, None),
        ([row("/a", platform="linux/arm/v6"), row("/b", platform="linux/arm")], Platform("linux", "arm"), "/b"),
        ([row("/a", platform="linux/arm/v6")], Platform("linux", "arm"), "/a"),
    ],
)
def test_the_file_that_a_platform_can_run(rows: list[dict[str, Any]], wanted: Platform, path: str | None) -> None:
    assert path_of(rows, APP, wanted) == path
    assert path_of(rows, Reference.parse("other"), wanted) is None


def test_a_search_and_a_name_both_narrow() -> None:
    rows = [
        {"uri": uri, "platform": "linux/amd64", "image": None}
        for uri in ("library/a:1", "library/ab:1", "quay.io/org/a:1")
    ]

    def found(**given: Any) -> list[str]:
        return [one["uri"] for one in query(Inventory("/nowhere"), rows, Question(**given), lambda _words: None)]

    assert found() == [one["uri"] for one in rows]
    assert found(search=Search.of(["library/"])) == ["library/a:1", "library/ab:1"]
    assert found(search=Search.of(["a:"]), references=[Reference.parse("a:1")]) == ["library/a:1"]
    assert found(search=Search.of(["nothing"])) == []


def test_a_command_line_is_for_files_alone() -> None:
    rows = [
        {"uri": "library/a:1", "platform": "linux/amd64", "image": image, "size": 1, "mtime_ns": 1, "version": ""}
        for image in (None, "/nowhere/a.sif")
    ]
    question = Question(command=lambda path: ["apptainer", "exec", path])
    answers = query(Inventory("/nowhere"), rows, question, lambda _words: None)
    assert [answer["command"] for answer in answers] == [None, ["apptainer", "exec", "/nowhere/a.sif"]]
