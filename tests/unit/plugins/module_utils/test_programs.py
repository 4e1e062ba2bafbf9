# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No program that the library runs inherits a login, or what was set for another program."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from ansible.module_utils.basic import env_fallback
from ansible_collections.hpc.sregistry.plugins.module_utils._internal import programs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import cli, executable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import tempdir
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import compression
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module import options
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import mksquashfs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import credential_helper

LIBRARY = Path(__file__).resolve().parents[4] / "plugins" / "module_utils"
STARTS = {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
RECORDER = """\
#!/bin/sh
/usr/bin/env > "$0.environment"
echo 'apptainer version 1.4.5'
"""


def deflated(path: str) -> None:
    with open(path, "rb") as source, suppress(Exception):
        compression._ProgramZstdStream(source, path, "a layer", []).read(1)


def asked(_path: str) -> None:
    with suppress(Exception):
        credential_helper.ask("recorder", "registry.example.org", 10)


RUNS: dict[str, tuple[str, Callable[[str], object]]] = {
    "engine, asked for its version": ("apptainer", executable.kind_and_version),
    "engine at work": ("apptainer", lambda path: cli.Engine(path, "apptainer", "1.4.5").run(["inspect"])),
    "packer": ("mksquashfs", mksquashfs._version),
    "zstd": ("zstd", deflated),
    "credential helper": ("docker-credential-recorder", asked),
    "rm": ("rm", lambda path: tempdir.remove_tree(str(Path(path).parent / "stays"))),
}


def secrets() -> set[str]:
    """Return all variables that options fall back to, and those that engines read a login from."""
    bare = {"DOCKER_USERNAME", "DOCKER_PASSWORD", "APPTAINERENV_TOKEN", "SINGULARITYENV_TOKEN"}
    spec = {**options.registry_options(), **options.store_options(), **options.build_options()}
    falling_back = [option["fallback"] for option in spec.values() if "fallback" in option]
    assert all(function is env_fallback for function, _names in falling_back)
    return bare | {name for _function, names in falling_back for name in names} - {"TMPDIR"}


@pytest.mark.parametrize("run", RUNS)
def test_no_program_inherits_a_login(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, start = RUNS[run]
    program = tmp_path / name
    program.write_text(RECORDER)
    program.chmod(0o755)
    (tmp_path / "stays").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_arguments, **_options: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert {"SREGISTRY_DOCKERHUB_PASSWORD", "APPTAINER_DOCKER_PASSWORD", "SINGULARITY_DOCKER_PASSWORD"} <= secrets()
    for variable in secrets():
        monkeypatch.setenv(variable, "zebra-stripes")
    start(str(program))
    inherited = (tmp_path / f"{name}.environment").read_text()
    assert f"PATH={tmp_path}:" in inherited
    assert "zebra-stripes" not in inherited


def test_what_a_program_needs_it_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "HTTPS_PROXY", "AWS_PROFILE", "DOCKER_CONFIG", "SINGULARITY_CACHEDIR", "SOURCE_DATE_EPOCH"):
        monkeypatch.setenv(name, "value")
    inherited = programs.inherited(LC_ALL="C", APPTAINER_DOCKER_PASSWORD="given")
    assert {"HOME", "HTTPS_PROXY", "AWS_PROFILE", "DOCKER_CONFIG"} <= inherited.keys()
    assert inherited.keys().isdisjoint({"SINGULARITY_CACHEDIR", "SOURCE_DATE_EPOCH"})
    assert (inherited["LC_ALL"], inherited["APPTAINER_DOCKER_PASSWORD"]) == ("C", "given")
    assert programs.bare(TZ="UTC").keys() == {"PATH", "LC_ALL", "TZ"}


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.stem)
def test_whoever_starts_a_program_says_what_it_inherits(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            starts = name.startswith("subprocess.") and node.func.attr in STARTS
            if starts and "env" not in {keyword.arg for keyword in node.keywords}:
                wrong.append(f"{node.lineno}: {name} without env")
            if name.startswith(("os.exec", "os.spawn", "os.posix_spawn", "os.system", "os.popen")):
                wrong.append(f"{node.lineno}: {name}")
    assert wrong == []
