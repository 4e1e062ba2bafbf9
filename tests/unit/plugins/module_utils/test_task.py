# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task about many images tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils.session import Outcome
from ansible_collections.hpc.sregistry.plugins.module_utils.task import warnings_of


@dataclass
class Told:
    """A session whose registries have something to say of some images."""

    words: dict[Reference, list[str]] = field(default_factory=dict)

    @property
    def registries(self) -> Told:
        """As a session has them."""
        return self

    def warnings(self, reference: Reference) -> list[str]:
        """As registries tell them."""
        return self.words.get(reference, [])


def test_the_same_warning_of_many_images_is_told_once() -> None:
    one, two, three = (Reference.parse(f"quay.io/org/{name}:1") for name in ("one", "two", "three"))
    platform = Platform.parse("linux/amd64")
    outcomes = {
        reference: Outcome(reference, platform, warnings=list(warnings))
        for reference, warnings in {one: ["down"], two: ["down", "odd"], three: ["down"]}.items()
    }
    session: Any = Told({two: ["slow"]})
    assert warnings_of(session, outcomes) == [
        "quay.io/org/one:1 and 2 more: down",
        "quay.io/org/two:1: odd",
        "quay.io/org/two:1: slow",
    ]
