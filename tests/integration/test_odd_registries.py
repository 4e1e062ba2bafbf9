# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of odd registries and web servers, by the real modules on a real host: all rows in each task."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults import odd

from .conftest import REGISTRY, Host

ARTIFACT = "odd/sif"


BUILT = ["head-405", "head-lies", "l" * 241, *odd.REWORKED]
"""Rows whose images are built, which takes longer; what others do to a manifest, they do to those of SIF files, too."""


@dataclass(frozen=True)
class Table:
    """The names of all rows: images, those of them that are built, SIF files in a registry and on a web server, and
    those that only come with a login.
    """

    images: list[str]
    built: list[str]
    artifacts: list[str]
    files: list[str]
    guarded: list[str]

    @property
    def names(self) -> list[str]:
        """All that are pulled."""
        return [*self.built, *self.artifacts, *self.files]


@pytest.fixture
def table(node1: Host) -> Iterator[Table]:
    made = node1.sregistry("pull", "lab/tiny:1.0", dest="/tmp/odd.sif")
    assert made["changed"], made
    node1.shell(f"apptainer push --no-https /tmp/odd.sif oras://{REGISTRY}/{ARTIFACT}:1")
    sif = subprocess.run([*node1._ssh(), "cat /tmp/odd.sif"], capture_output=True, check=True, timeout=1200).stdout
    with odd.registry(f"http://{REGISTRY}") as server:
        yield Table(
            [f"{server.address}/{row}/lab/tiny:1.0" for row in (*odd.FAULTS, *odd.REWORKED)],
            [f"{server.address}/{row}/lab/tiny:1.0" for row in BUILT],
            [f"oras://{server.address}/{row}/{ARTIFACT}:1" for row in odd.FAULTS],
            odd.serve(server, sif),
            [f"oras://{server.address}/{row}/{ARTIFACT}:1" for row in odd.GUARDED],
        )


def summary(result: dict[str, Any]) -> dict[str, tuple[str, bool, str]]:
    """Return of each row what was done, whether that changed something, and why it failed."""
    return {image["name"]: (image["action"], image["changed"], image.get("error", "")) for image in result["images"]}


def steady(result: dict[str, Any]) -> list[Any]:
    """Return the differences of all but those web servers that tell something else at each request."""
    return [each for each in result["diff"] if "-new/" not in each["before_header"]]


def files_of(host: Host) -> str:
    """Return inode, size, time and path of all files of the store."""
    return host.shell("cd; find .singularity .apptainer -name '*.sif' -printf '%i %s %T@ %p\\n' | sort -k 4").stdout


def test_the_table_of_odd_registries(node1: Host, table: Table) -> None:
    for check, done in ((True, "recorded"), (False, "recorded"), (False, "present")):
        recorded = node1.sregistry("record", *table.images, check=check)
        assert summary(recorded) == dict.fromkeys(table.images, (done, done == "recorded", "")), check

    names = table.names
    foreseen = node1.sregistry("pull", *names, check=True, diff=True)
    first = node1.sregistry("pull", *names, diff=True)
    assert summary(foreseen) == summary(first) == dict.fromkeys(names, ("pulled", True, ""))
    assert steady(foreseen) == steady(first)

    there = files_of(node1)
    assert there.count(".sif") == len(names)
    for module, check in (("pull", True), ("pull", False), ("record", False)):
        again = node1.sregistry(module, *names, check=check, diff=True)
        assert summary(again) == dict.fromkeys(names, ("present", False, "")), (module, check)
        assert all(each["before"] == each["after"] for each in again["diff"])
    assert files_of(node1) == there

    facts = node1.sregistry("facts", checksum=True)["ansible_facts"]["sregistry"]
    rows = {row["reference"]: row for row in facts["images"]}
    assert {*table.images, *names} <= set(rows)
    assert {rows[name]["outdated"] for name in names} == {False}
    paths = " ".join(image["path"] for image in first["images"] if image["name"] in table.built)
    greetings = node1.shell(f"for file in {paths}; do apptainer run --userns $file; done")
    assert greetings.stdout == "hello from tiny 1.0\n" * len(table.built)

    for done, module in (("pulled", "pull"), ("present", "pull"), ("present", "record")):
        opened = node1.sregistry(module, *table.guarded, username=odd.LOGIN[0], password=odd.LOGIN[1])
        assert summary(opened) == dict.fromkeys(table.guarded, (done, done == "pulled", "")), module
