# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions to a host before anything is done there, answered by its own shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.prestage.probe import (
    ProbeScript,
    group_of,
    parse_answer,
)


def asked(script: ProbeScript, path: Path | None = None) -> dict[str, str]:
    """Return the answer of this machine, with programs of this directory before all others."""
    environment = {"PATH": f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script.text], env=environment, capture_output=True, text=True, check=False)
    return parse_answer(f"Welcome to this host\n{done.stdout}\n")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a directory for programs."""
    return tmp_path


def engine(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{version}'\n", encoding="utf-8")
    path.chmod(0o755)


def test_nothing_is_asked_without_need() -> None:
    assert ProbeScript().text == ""
    assert ProbeScript(program="/opt/apptainer").text == ""


@pytest.mark.parametrize(
    ("mount", "obstacle"),
    [
        ("/proc", ""),
        ("/usr/bin/none; echo mountpoint: 0", "/usr/bin/none; echo mountpoint: 0 is not a mount point"),
        ("/etc/passwd", "/etc/passwd is not a mount point (prestage_require_mount); nothing was fetched or made"),
        ("", ""),
    ],
)
def test_a_path_must_be_a_mount_point(mount: str, obstacle: str) -> None:
    script = ProbeScript(mount=mount)
    found = script.obstacle(asked(script))
    assert found.startswith(obstacle)
    assert bool(found) == bool(obstacle)


@pytest.mark.parametrize("status", ["", "mountpoint: 127", "mountpoint: 126"])
def test_a_host_that_cannot_tell_of_a_mount_point_has_an_obstacle(status: str) -> None:
    assert (
        ProbeScript(mount="/m").obstacle(parse_answer(status)).startswith("it could not be asked whether /m is mounted")
    )


def test_a_host_tells_its_architecture() -> None:
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert asked(ProbeScript(mount="/proc", architecture=True))["architecture"] == machine


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apptainer version 1.4.5", "apptainer"),
        ("singularity-ce version 4.2.1-jammy", "singularity-ce"),
        ("singularity version 3.8.7", "singularity"),
        ("something else", "apptainer"),
    ],
)
def test_a_host_tells_the_kind_of_its_engine(programs: Path, version: str, kind: str) -> None:
    engine(programs / "engine", version)
    assert asked(ProbeScript(engine=True, program=str(programs / "engine")))["engine"] == kind


def test_the_file_name_tells_where_it_is_apptainer_as_it_does_for_a_pull(programs: Path) -> None:
    engine(programs / "apptainer", "must not be run")
    (programs / "singularity").symlink_to("apptainer")
    for program in ("", "singularity", str(programs / "singularity")):
        assert asked(ProbeScript(engine=True, program=program), programs)["engine"] == "apptainer"


def test_where_there_is_no_engine_files_are_those_of_apptainer() -> None:
    assert asked(ProbeScript(engine=True, program="/none/engine"))["engine"] == "apptainer"


def test_hosts_that_get_the_same_files_are_one_group_and_no_others() -> None:
    content = [["a", "b"], {"a": 1}, ""]
    group = group_of("x86_64", "apptainer", content)
    assert group == group_of("x86_64", "apptainer", [["a", "b"], {"a": 1}, ""])
    others = [
        group_of("aarch64", "apptainer", content),
        group_of("x86_64", "singularity-ce", content),
        group_of("x86_64", "", content),
        group_of("x86_64", "apptainer", [["b", "a"], {"a": 1}, ""]),
    ]
    assert len({group, *others}) == 5
    assert group_of("", "apptainer", content) == ""
    assert group_of("$(id)", "", content).startswith("id ")
