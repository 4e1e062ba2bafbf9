# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layer that a build step would have made."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.lab.difference import difference
from tests.lab.tree import Tree


def base() -> Tree:
    tree = Tree().directory("./").directory("./etc").file("./etc/kept", "1").file("./etc/changed", "1")
    tree.directory("./opt").directory("./opt/old").file("./opt/old/file", "1").directory("./usr").file(
        "./usr/perl", "1"
    )
    return tree.directory("./was").file("./was/file")


def layer(tmp_path: Path, old: Tree, new: Tree) -> tarfile.TarFile:
    before, after = tmp_path / "old.tar", tmp_path / "new.tar"
    before.write_bytes(old.tar())
    after.write_bytes(new.tar())
    return tarfile.open(fileobj=io.BytesIO(b"".join(difference(before, after))))


def test_nothing_has_changed(tmp_path: Path) -> None:
    assert layer(tmp_path, base(), base()).getnames() == []


def test_what_is_new_changed_and_gone(tmp_path: Path) -> None:
    new = Tree().directory("./").directory("./etc").file("./etc/kept", "1").file("./etc/changed", "2")
    new.directory("./opt").directory("./usr").file("./usr/perl", "1").hardlink("./usr/perl5", "./usr/perl").file(
        "./was"
    )
    new.symlink("./bin", "usr")
    with layer(tmp_path, base(), new) as tar:
        names = tar.getnames()
        changed = tar.extractfile("./etc/changed")
        assert changed is not None
        assert changed.read() == b"2"
    # With the parents of what changed, and with the file of a hard link; "was" needs no whiteout.
    assert names == [
        *(".", "./etc", "./etc/changed", "./opt", "./usr", "./usr/perl", "./usr/perl5", "./was", "./bin"),
        "./opt/.wh.old",
    ]


def test_the_content_counts_where_all_else_is_the_same(tmp_path: Path) -> None:
    with layer(tmp_path, Tree().file("a", "1"), Tree().file("a", "2")) as tar:
        assert tar.getnames() == ["a"]
