# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The weight of ``sregistry_pull`` on its way to a host, and the files that a run imports there that changes nothing.

Most runs of most tasks change nothing, and cost little more than Ansible itself. What they cost is code: for each play,
Ansible parses every file that a module can reach by any ``import``, also by one in a function, and packs it. On each
host Python compiles every file that is really imported, each time. Code is weighed in nodes of its syntax tree, of
which comments and docstrings have next to none. 10,000 nodes are about 25 ms, on the controller and on a host alike.

A feature may be worth more weight: raise the limit then. First see whether what is new is imported where it is needed,
in the function, and whether a constant or a type drags in a file that nothing else needs.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.executor.module_common import ModuleDepFinder
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

from tests.faults import FaultyRegistry, faults

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
PACKAGE = "ansible_collections.hpc.sregistry.plugins"
UTILS = f"{PACKAGE}.module_utils._internal"
LIBRARY = PLUGINS / "module_utils" / "_internal"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DIGEST = f"sha256:{'1' * 64}"

CARRIED = 107_200  # nodes
ASKED, UNASKED = 44_600, 34_500  # nodes of a run with one request, and of one with none

RUN = f"""
import sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.argv[1].encode(), "legacy"
from {PACKAGE}.modules.sregistry_pull import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def registry() -> Iterator[str]:
    """Yield a registry where every name points at one digest."""
    headers = {"Content-Type": MANIFEST, "Content-Length": "2", "Docker-Content-Digest": DIGEST}
    with FaultyRegistry() as registry:
        yield registry.when("", faults.says(b"", headers=headers), "HEAD").address


def weight(name: str) -> int:
    """Return the nodes of a file of the library, such as ``oci/blobs``."""
    return sum(1 for _node in ast.walk(ast.parse((LIBRARY / f"{name}.py").read_bytes())))


def report(names: set[str], limit: int) -> str:
    weights = sorted(((weight(name), name) for name in names), reverse=True)
    listed = ", ".join(f"{name} {nodes}" for nodes, name in weights)
    return f"{sum(nodes for nodes, _name in weights)} nodes are more than {limit}; see the head of this file. {listed}"


def reached(path: Path, name: str) -> set[str]:
    """Return the files of the library that Ansible finds in a file, as it looks for them."""
    finder = ModuleDepFinder(name, ast.parse(path.read_bytes()))
    return own({".".join(parts) for parts in finder.submodules})


def carried(module: str) -> set[str]:
    names: set[str] = set()
    new = reached(PLUGINS / "modules" / f"{module}.py", f"{PACKAGE}.modules.{module}")
    while new:
        names |= new
        new = {
            other for name in new for other in reached(LIBRARY / f"{name}.py", f"{UTILS}.{name.replace('/', '.')}")
        } - names
    return names


def imported(tmp_path: Path, name: str) -> set[str]:
    """Return all that a run imports which finds a file there, and check that it is the right one."""
    storage, path = tmp_path / "images", tmp_path / "images" / "app.sif"
    storage.mkdir()
    path.write_bytes(b"an image")
    inputs = {"command": "entrypoint", "reproducible": "yes", "engine": "apptainer"}
    document = Document(
        reference=Reference.parse(name, "docker.io"),
        platform=Platform.parse("linux/amd64"),
        digest=DIGEST,
        manifest_digest=DIGEST,
        media_type=MANIFEST,
        layers=(),
        size=0,
        metrics={},
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
        files=(
            dataclasses.replace(
                File.at(str(path), "2" * 64, inputs),
                manifest_digest=DIGEST,
            ),
        ),
    )
    Inventory(str(storage / ".sregistry")).put(document)
    options = {"name": name, "storage": str(storage), "dest": str(path), "no_https": True, "platform": "linux/amd64"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "cachedir": str(tmp_path)}})],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout)["images"][0]["action"] == "present"
    return set(run.stderr.split())


def own(modules: set[str]) -> set[str]:
    """Return the files of the library among modules, and among what is imported from modules."""
    found = set()
    for name in modules:
        path = LIBRARY.joinpath(*name[len(UTILS) + 1 :].split("."))
        if name.startswith(f"{UTILS}."):
            found |= {file for file in (path, path.parent) if file.with_suffix(".py").is_file()}
    return {str(file.relative_to(LIBRARY)) for file in found}


def test_what_a_pull_carries_to_a_host_stays_light() -> None:
    names = carried("sregistry_pull")
    assert {"sif/builder", "layers/tar", "registry/client"} <= names, "what is imported in functions is carried as well"
    assert sum(map(weight, names)) <= CARRIED, report(names, CARRIED)


def test_a_pull_that_changes_nothing_imports_only_what_asks_the_registry(tmp_path: Path, registry: str) -> None:
    names = own(imported(tmp_path, f"{registry}/app:1"))
    assert "registry/client" in names
    assert names.isdisjoint(
        {
            "engine/cli",
            "oci/manifest",
            "pull/sif_cache",
            "pull/sif_download",
            "registry/mirror",
            "registry/web",
            "sif/builder",
            "sif/container",
            "sif/trust",
        }
    )
    assert sum(map(weight, names)) <= ASKED, report(names, ASKED)


def test_a_pull_that_has_nothing_to_ask_imports_no_library_for_it(tmp_path: Path) -> None:
    modules = imported(tmp_path, f"registry.invalid/app@{DIGEST}")
    assert modules.isdisjoint({"requests", "urllib3", f"{UTILS}.registry.client", f"{UTILS}.transport.http"})
    assert sum(map(weight, own(modules))) <= UNASKED, report(own(modules), UNASKED)
