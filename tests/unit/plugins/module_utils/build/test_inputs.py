# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of what goes into a build: every change that decides the result changes them, and nothing else does."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build import inputs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with a file, a link and a directory."""
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("hello")
    (root / "link").symlink_to("etc/motd")
    return root


def rewrite(path: Path) -> None:
    """Write another content of the same size, later."""
    path.write_text("HELLO")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


CHANGES: list[object] = [
    pytest.param(lambda root: rewrite(root / "etc/motd"), id="content"),
    pytest.param(lambda root: (root / "etc/motd").write_text("hello you"), id="size"),
    pytest.param(lambda root: (root / "etc/motd").chmod(0o700), id="mode"),
    pytest.param(lambda root: (root / "etc/new").touch(), id="new file"),
    pytest.param(lambda root: (root / "etc/motd").rename(root / "etc/other"), id="name"),
    pytest.param(lambda root: (root / "etc/motd").unlink(), id="gone"),
    pytest.param(lambda root: ((root / "link").unlink(), (root / "link").symlink_to("etc")), id="link"),
    pytest.param(lambda root: root.chmod(0o711), id="root"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_tree_changes_its_digest(tree: Path, change: Callable[[Path], object]) -> None:
    before = inputs.digest_of_image(str(tree))
    assert inputs.digest_of_image(str(tree)) == before
    change(tree)
    assert inputs.digest_of_image(str(tree)) != before


def test_the_digest_of_a_tree_does_not_depend_on_where_it_is(tree: Path) -> None:
    before = inputs.digest_of_tree(str(tree))
    assert inputs.digest_of_tree(str(tree.rename(tree.with_name("moved")))) == before


def test_a_tree_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="/absent"):
        inputs.digest_of_image(str(tmp_path / "absent"))


def test_the_size_of_a_tree_counts_each_inode_once(tree: Path) -> None:
    os.link(tree / "etc/motd", tree / "etc/again")
    assert inputs.size_of_tree(str(tree)) == len("hello")


COPIED_CHANGES: list[object] = [
    pytest.param(lambda root: (root / "etc/motd").write_text("HELLO"), True, id="content"),
    pytest.param(lambda root: (root / "etc/motd").chmod(0o700), True, id="mode"),
    pytest.param(lambda root: (root / "etc/new").touch(), True, id="new file"),
    pytest.param(lambda root: os.utime(root / "etc/motd", (1, 1)), False, id="time"),
    pytest.param(lambda root: (root / "other").touch(), False, id="not copied"),
]


@pytest.mark.parametrize("sources", [("etc",), ("e*",), ("etc/",)])
@pytest.mark.parametrize(("change", "counts"), COPIED_CHANGES)
def test_what_is_copied_counts_by_content_and_permissions(
    tree: Path, sources: tuple[str, ...], change: Callable[[Path], object], counts: bool
) -> None:
    before = inputs.digest_of_files(sources, str(tree))
    change(tree)
    assert (inputs.digest_of_files(sources, str(tree)) != before) == counts


def test_links_are_followed_and_circles_end(tree: Path) -> None:
    before = inputs.digest_of_files(("link",), str(tree))
    (tree / "etc/motd").write_text("HELLO")
    assert inputs.digest_of_files(("link",), str(tree)) != before
    (tree / "etc/circle").symlink_to("..")
    assert inputs.digest_of_files((".",), str(tree)).startswith("sha256:")


def test_what_is_missing_is_named_but_not_what_only_a_shell_knows(tree: Path) -> None:
    sources = ("etc/motd", "absent", "no*", "$HOME/x", "/etc/hostname-absent")
    missing = inputs.missing_files(sources, str(tree))
    assert missing == [f"{tree}/absent", f"{tree}/no*", "/etc/hostname-absent"]
    assert inputs.digest_of_files(sources, str(tree)) == inputs.digest_of_files(sources, str(tree))


def test_special_files_are_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "etc/pipe")
    assert stat.S_ISFIFO((tree / "etc/pipe").stat().st_mode)
    assert inputs.digest_of_files(("etc",), str(tree)).startswith("sha256:")
