# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file is still what a build now would give."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.manifest import Config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.metadata import run_config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import CMD, ENTRYPOINT, Choice

BUILT = {
    "format": "sif",
    "command": "entrypoint",
    "compression": "zstd",
    "level": "3",
    "reproducible": "yes",
    "engine": "apptainer",
}


def never() -> Any:
    """A program that is not to be looked for."""
    raise AssertionError("looked for a program")


@pytest.mark.parametrize(
    ("asked", "engine", "agrees"),
    [
        ({}, "apptainer", True),
        ({}, None, True),
        ({}, "singularity-ce", False),
        ({"command": "entrypoint"}, "apptainer", True),
        ({"command": "cmd"}, "apptainer", False),
        ({"compression": "zstd", "level": "3"}, "apptainer", True),
        ({"compression": "gzip"}, "apptainer", False),
        ({"compression": "zstd", "level": "19"}, None, False),
        ({"unknown": "1"}, "apptainer", False),
    ],
)
def test_only_what_is_asked_for_counts(asked: dict[str, str], engine: str | None, agrees: bool) -> None:
    choice = Choice("auto", True, ENTRYPOINT, "/tmp", asked, never, lambda: engine, never, never)
    assert choice.agrees(BUILT) is agrees


@pytest.mark.parametrize(
    ("config", "command", "run"),
    [
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, ENTRYPOINT, {"Entrypoint": ["e"], "Cmd": ["c"]}),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, CMD, {"Cmd": ["c"]}),
        ({"Entrypoint": ["e"], "Cmd": None}, CMD, {"Entrypoint": ["e"]}),
        ({"Entrypoint": ["e"], "Cmd": []}, CMD, {"Entrypoint": ["e"], "Cmd": []}),
        ({"Entrypoint": None, "Cmd": ["c"]}, CMD, {"Cmd": ["c"]}),
        ({"Env": ["A=1"], "Labels": None}, CMD, {"Env": ["A=1"]}),
    ],
)
def test_the_command_takes_the_place_of_the_entry_point_where_there_is_one(
    config: dict[str, Any], command: str, run: dict[str, Any]
) -> None:
    assert run_config(Config(Platform.parse("linux/amd64"), None, {"config": config}), command) == run
