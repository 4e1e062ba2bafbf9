# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions to an inventory, and the file that answers ``get``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.selector import WordSearch
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage import facts
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.facts import Query, find_images, path_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = Reference.parse("app:1")


def row(
    image: str | None, state: str = "present", platform: str = "linux/amd64", created_at: str = "2024"
) -> dict[str, Any]:
    return {"reference": APP.uri, "path": image, "state": state, "platform": platform, "created_at": created_at}


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
        {"reference": uri, "platform": "linux/amd64", "path": None}
        for uri in ("library/a:1", "library/ab:1", "quay.io/org/a:1")
    ]

    def found(**given: Any) -> list[str]:
        rows_found = find_images(Inventory("/nowhere"), rows, Query(**given), lambda _words: None)
        return [one["reference"] for one in rows_found]

    assert found() == [one["reference"] for one in rows]
    assert found(search=WordSearch.of(["library/"])) == ["library/a:1", "library/ab:1"]
    assert found(search=WordSearch.of(["a:"]), references=[Reference.parse("a:1")]) == ["library/a:1"]
    assert found(search=WordSearch.of(["nothing"])) == []


def test_a_command_line_is_for_files_alone() -> None:
    rows = [
        {"reference": "library/a:1", "platform": "linux/amd64", "path": image, "size": 1, "mtime_ns": 1, "sha256": ""}
        for image in (None, "/nowhere/a.sif")
    ]
    question = Query(command=lambda path: ["apptainer", "exec", path])
    answers = find_images(Inventory("/nowhere"), rows, question, lambda _words: None)
    assert [answer["command"] for answer in answers] == [None, ["apptainer", "exec", "/nowhere/a.sif"]]


def recorded(image: str) -> dict[str, Any]:
    """Return a row as the inventory gives it."""
    name = {"reference": APP.uri, "registry": APP.registry, "collection": "library", "name": "app", "tag": "1"}
    return {**name, "platform": "linux/amd64", "path": image, "size": 5, "mtime_ns": 1, "sha256": ""}


def test_a_warning_names_the_image_whose_file_is_no_image(tmp_path: Path) -> None:
    file = tmp_path / "a.sif"
    file.write_text("notes")
    known = recorded(str(file))
    warnings: list[str] = []
    find_images(Inventory(str(tmp_path / "inventory")), [known], Query(inspect=True), warnings.append)
    (warning,) = warnings
    assert warning.startswith(f"library/app:1: cannot inspect {file}: ")


def test_a_warning_names_the_image_whose_file_root_does_not_read_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inventory = Inventory(str(tmp_path / "inventory"))
    inventory.put(Document.local(APP, AMD64, url=""))
    file = tmp_path / "x"
    known = recorded(str(file))
    warnings: list[str] = []

    def refuse(*_about: object) -> None:
        raise StorageError(f"{file} belongs to the user 0")

    monkeypatch.setattr(facts, "need_readable", refuse)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    find_images(inventory, [known], Query(inspect=True), warnings.append)
    assert warnings == [f"library/app:1: {file} belongs to the user 0"]
