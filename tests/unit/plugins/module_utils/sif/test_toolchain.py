# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that still are as a build now would make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import PackerError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.config import Config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.metadata import run_config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.mksquashfs import Packer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import CMD, ENTRYPOINT, Toolchain

BUILT = {
    "format": "sif",
    "command": "entrypoint",
    "compression": "zstd",
    "level": "3",
    "reproducible": "yes",
    "engine": "apptainer",
}


@pytest.mark.parametrize(
    ("asked", "engine", "agrees"),
    [
        ({}, "apptainer", True),
        ({}, None, True),
        ({}, "singularity-ce", False),
        ({"command": ENTRYPOINT}, "apptainer", True),
        ({"command": CMD}, "apptainer", False),
        ({"compression": "zstd", "level": 3}, "apptainer", True),
        ({"compression": "gzip"}, "apptainer", False),
        ({"compression": "zstd", "level": 19}, None, False),
        ({"reproducible": False}, "apptainer", True),
    ],
)
def test_only_what_is_asked_for_counts(asked: dict[str, Any], engine: str | None, agrees: bool) -> None:
    toolchain = Toolchain("/tmp", **asked)
    vars(toolchain)["engine_kind"] = engine  # as if it had been looked for
    assert toolchain.agrees(BUILT) is agrees
    untold = {name: text for name, text in BUILT.items() if name != "command"}
    assert not toolchain.agrees(untold)
    assert set(vars(toolchain)).isdisjoint({"engine", "packer", "mountable"}), "no program is looked for"


def test_a_program_is_looked_for_once_and_only_when_it_is_asked_for(install: Callable[[str, str], str]) -> None:
    path = install("apptainer", 'echo "$@" >> "$0.calls"; echo apptainer version 1.4.5')
    toolchain = Toolchain("/tmp", compression="gzip", level=2, processors=3, memory=100)
    calls = Path(f"{path}.calls")
    assert (toolchain.engine_kind, calls.exists()) == ("apptainer", False), "its file name tells"
    assert toolchain.acceptable_inputs == [{**BUILT, "compression": "gzip", "level": "2"}]
    assert (toolchain.engine.version, toolchain.engine.path) == ("1.4.5", path)
    assert calls.read_text() == "--version\n"
    with pytest.raises(PackerError, match="there is no mksquashfs"):
        toolchain.need_programs()
    packer = install("mksquashfs", 'echo "mksquashfs version 4.6.1"')
    assert toolchain.packer == Packer(packer, "4.6.1", "gzip", 2, 3, 100)
    assert toolchain.inputs == {**BUILT, "compression": "gzip", "level": "2"}
    kept = {name: BUILT[name] for name in ("command", "reproducible", "engine")}
    assert toolchain.sandbox_inputs == {"format": "sandbox", **kept}


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
