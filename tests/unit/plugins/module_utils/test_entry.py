# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which names in directories lead to one file, and which of them the others need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.entry import (
    entries,
    entry,
    is_one_name,
    is_second_name,
    leads_to,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file with all kinds of names."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.sif").write_text("a")
    (tmp_path / "store" / "copy.sif").write_text("a")
    os.link(tmp_path / "store" / "a.sif", tmp_path / "store" / "hard.sif")
    (tmp_path / "dir").symlink_to("store")
    (tmp_path / "soft.sif").symlink_to("dir/a.sif")
    (tmp_path / "store" / "chain.sif").symlink_to("../store/../soft.sif")
    (tmp_path / "loop.sif").symlink_to("loop.sif")
    (tmp_path / "dangling.sif").symlink_to("nowhere/x.sif")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "one", "second", "leads"),
    [
        ("store/a.sif", True, True, False),
        ("dir/a.sif", True, True, False),
        ("store/hard.sif", False, True, False),
        ("soft.sif", False, False, True),
        ("store/chain.sif", False, False, True),
        ("dir/chain.sif", False, False, True),
        ("store/copy.sif", False, False, False),
        ("loop.sif", False, False, False),
        ("dangling.sif", False, False, False),
        ("nowhere/y.sif", False, False, False),
    ],
)
def test_what_a_path_has_to_do_with_a_file(root: Path, path: str, one: bool, second: bool, leads: bool) -> None:
    file = str(root / "store" / "a.sif")
    told = [about(str(root / path), file) for about in (is_one_name, is_second_name, leads_to)]
    assert told == [one, second, leads]


def test_a_path_needs_each_symlink_on_its_way(root: Path) -> None:
    steps = ("dir/chain.sif", "soft.sif", "store/a.sif")
    assert entries(str(root / "store" / "chain.sif")) == {entry(str(root / step)) for step in steps}
