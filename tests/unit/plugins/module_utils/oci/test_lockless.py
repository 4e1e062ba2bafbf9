# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole runs that share a store and a cache, on file systems whose locks keep nobody out, or only one host's runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.files import swap_in
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils import file_systems
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.file_systems import (
    GRANTS_ALL,
    KINDS,
    LOCAL,
    LOCKS_WORK,
    REFUSES,
)
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

from tests.faults import FaultyRegistry, faults

SIF = written(squashfs=os.urandom(400_000))

_PULL = """
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.argv[1].encode(), "legacy"
from ansible_collections.hpc.sregistry.plugins.modules.sregistry_pull import main
main()
"""


def options(site: FaultyRegistry, store: Path) -> list[str]:
    """Return the options of a pull of one finished file into a store, through a cache beside it."""
    given = {
        "name": [f"{site.url}/team/a.sif", f"{site.url}/team/b.sif"],
        "storage": str(store),
        "cachedir": str(store.parent / "cache"),
        "platform": "linux/amd64",
        "timeout": 20,
    }
    return [json.dumps({"ANSIBLE_MODULE_ARGS": given})]


def result_of(kind: str, host: int, arguments: list[str]) -> dict[str, Any]:
    told = file_systems.begin(kind, host, _PULL, arguments).communicate(timeout=1200)[0]
    result: dict[str, Any] = json.loads(told)
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_pulls_into_one_store_end_well_whatever_locks_do(kind: str, tmp_path: Path) -> None:
    with FaultyRegistry() as site:
        for name in "ab":
            site.when(
                f"/team/{name}.sif", faults.together(faults.slowed(2_000_000), faults.served(SIF, etag=f'"{name}"'))
            )
        arguments = options(site, tmp_path / "store")
        runs = [file_systems.begin(kind, number % 2, _PULL, arguments) for number in range(4)]
        told = [run.communicate(timeout=1200)[0] for run in runs]
        results = [json.loads(one) for one in told]
        assert [run.returncode for run in runs] == [0] * 4, "\n".join(told)
        for result in results:
            for image in result["images"]:
                assert Path(image["path"]).read_bytes() == SIF
        # Of two that did the same work, one wrote the file last, and the other the document: the next run sees to that.
        assert not result_of(kind, 0, arguments).get("failed")
        again = result_of(kind, 1, arguments)
        assert [image["action"] for image in again["images"]] == ["present"] * 2
        if kind == LOCKS_WORK:
            assert sum(result["changed"] for result in results) == 1
    left = [name for _parent, _directories, names in os.walk(tmp_path) for name in names if name.endswith(".tmp")]
    assert left == []


# What lives is not swept


_WRITE = """
import time
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.files import replacing
with replacing(sys.argv[1]) as stream:
    stream.write(b"new")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""

_SWEEP = """
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
stale._ABANDONED = -1.0
stale.remove_files(sys.argv[1])
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", [0, 1])
def test_what_a_run_is_writing_is_left_alone_whatever_locks_do(kind: str, host: int, tmp_path: Path) -> None:
    path = str(tmp_path / "image.sif")
    writer = file_systems.begin(kind, 0, _WRITE, [path])
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    sweeper = file_systems.begin(kind, host, _SWEEP, [path])
    assert sweeper.communicate(timeout=1200)[0] == ""
    assert len(os.listdir(tmp_path)) == 1
    writer.communicate("\n", timeout=1200)
    assert writer.returncode == 0
    assert os.listdir(tmp_path) == ["image.sif"]


@pytest.mark.parametrize(
    ("kind", "age", "stays"),
    [
        (LOCKS_WORK, 0.0, False),
        (LOCAL, 0.0, False),
        (GRANTS_ALL, 0.0, True),
        (GRANTS_ALL, 24 * 3600.0, False),
        (REFUSES, 0.0, True),
        (REFUSES, 24 * 3600.0, False),
    ],
)
def test_what_a_killed_run_left_goes_at_once_or_after_a_day(kind: str, age: float, stays: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "image.sif")
    writer = file_systems.begin(kind, 0, _WRITE, [path])
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=1200)
    later = f"import time; now = time.time() + {age}; time.time = lambda: now\n"
    sweeper = file_systems.begin(kind, 0, later + _SWEEP, [path])
    assert sweeper.communicate(timeout=1200)[0] == ""
    assert len(os.listdir(tmp_path)) == stays


# Directories


def tree(path: Path, words: str) -> str:
    path.mkdir()
    (path / "file").write_text(words, encoding="utf-8")
    return str(path)


def test_directories_that_no_lock_keeps_apart_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run puts its own in the place that this one has just emptied."""
    path, new = tmp_path / "sandbox", tree(tmp_path / "new", "own")
    tree(path, "old")
    rename, times = os.rename, 3

    def raced(source: str, target: str) -> None:
        nonlocal times
        if source == new and times:
            times -= 1
            tree(path, f"another's {times}")
        rename(source, target)

    monkeypatch.setattr(os, "rename", raced)
    swap_in(new, str(path), str(tmp_path / "before"))
    assert (path / "file").read_text(encoding="utf-8") == "own"
    assert sorted(os.listdir(tmp_path)) == ["before", "before1", "before2", "before3", "sandbox"]


def test_what_cannot_be_swapped_in_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "sandbox"
    tree(path, "old")
    with pytest.raises(StorageError, match="No such file or directory"):
        swap_in(str(tmp_path / "missing"), str(path), str(tmp_path / "before"))
    assert (path / "file").read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["sandbox"]
