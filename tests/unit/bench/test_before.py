# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench.before import Line, checked_out, table
from tests.measure.command import ROOT, Failed


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        ([2.0, 2.1, 2.2], [2.0, 2.1, 2.2], False),
        ([2.0, 2.0, 2.0], [2.06, 2.06, 2.06], False),
        ([2.0, 2.0, 2.0], [2.07, 2.07, 2.07], True),
        ([2.0, 2.0, 2.0], [2.0, 2.5, 2.5], False),
        ([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], False),
    ],
    ids=["the same", "within the noise", "all runs", "the least is the same", "better"],
)
def test_a_line_is_worse_where_median_and_least_are(before: list[float], now: list[float], worse: bool) -> None:
    line = Line("files: hpc.sregistry", "time", before, now)

    assert line.is_worse is worse
    assert ("WORSE" in table([line])) is worse


def test_a_commit_that_is_not_there_is_named() -> None:
    with pytest.raises(Failed, match="no files of the commit nowhere"), checked_out("nowhere"):
        pass


def test_the_collection_of_a_commit_is_where_ansible_looks() -> None:
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False).returncode:
        pytest.skip("this is no work tree of git")

    with checked_out("HEAD") as settings:
        collection = Path(settings["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections" / "hpc" / "sregistry"
        assert (collection / "plugins" / "modules" / "sregistry_pull.py").is_file()
