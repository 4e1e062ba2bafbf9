# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of a task about many images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.outcome import PRESENT
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module.remote_images import finish, warnings_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome


@dataclass
class Told:
    """A session whose registries have something to say of some images."""

    words: dict[Reference, list[str]] = field(default_factory=dict)

    @property
    def registries(self) -> Told:
        """As a session has them."""
        return self

    def warnings(self, reference: Reference) -> list[str]:
        """Return warnings as registries tell them."""
        return self.words.get(reference, [])


def test_the_same_warning_of_many_images_is_told_once() -> None:
    one, two, three = (Reference.parse(f"quay.io/org/{name}:1") for name in ("one", "two", "three"))
    platform = Platform.parse("linux/amd64")
    outcomes = {
        reference: PullOutcome(reference, platform, warnings=list(warnings))
        for reference, warnings in {one: ["down"], two: ["down", "odd"], three: ["down"]}.items()
    }
    session: Any = Told({two: ["slow"]})
    assert warnings_of(session, outcomes) == [
        "quay.io/org/one:1 and 2 more: down",
        "quay.io/org/two:1: odd",
        "quay.io/org/two:1: slow",
    ]


class Ended(Exception):
    """The module would have ended."""


@dataclass
class Module:
    """As much of an Ansible module as the end of a task needs."""

    check_mode: bool
    params: dict[str, Any] = field(default_factory=lambda: {"gather": "auto", "storage": "/store"})
    _diff: bool = False

    def exit_json(self, **_result: Any) -> None:
        """End."""
        raise Ended


@pytest.mark.parametrize("check", [False, True])
def test_what_killed_runs_left_goes_also_where_nothing_is_to_be_done(
    check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)
    inventory = Inventory(str(tmp_path / ".sregistry"))
    path, document = tmp_path / "app-1.sif", Path(inventory.images) / "quay.io+org+app=1.json"
    document.parent.mkdir(parents=True)
    left = [place.parent / f"{stale.prefix(str(place))}x.tmp" for place in (path, document)]
    for one in left:
        one.touch()
    mine = tmp_path / ".notes.tmp"
    mine.touch()
    reference = Reference.parse("quay.io/org/app:1")
    outcomes = {reference: PullOutcome(reference, Platform.parse("linux/amd64"), path=str(path), action=PRESENT)}
    session: Any = Told()
    session.inventory = inventory
    with pytest.raises(Ended):
        finish(cast("Any", Module(check)), session, [("app", reference)], outcomes)
    assert [one.exists() for one in left] == [check, check]
    assert mine.exists()
