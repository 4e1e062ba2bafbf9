# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for replacing what lies at a path: the whole table, and its words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.replace_rules import (
    ADD,
    BUILD,
    PULL,
    RENAME,
    Newcomer,
    Occupant,
    need_replaceable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

IMAGE = b"\0" * 32 + b"SIF_MAGIC\0"
APP, OTHER = Reference.parse("org/app:1"), Reference.parse("org/other:1")
AMD64 = Platform.parse("linux/amd64")


def sandbox(path: Path) -> None:
    (path / ".singularity.d").mkdir(parents=True)
    (path / ".singularity.d" / "runscript").touch()


def full_directory(path: Path) -> None:
    path.mkdir()
    (path / "data").touch()


def link_to(target: str) -> Callable[[Path], None]:
    def lie(path: Path) -> None:
        (path.parent / "file").write_bytes(IMAGE)
        (path.parent / "directory").mkdir()
        path.symlink_to(path.parent / target)

    return lie


LIE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _path: None,
    "image": lambda path: path.write_bytes(IMAGE),
    "text": lambda path: path.write_bytes(b"notes"),
    "empty": lambda path: path.touch(),
    "link": link_to("file"),
    "broken_link": link_to("gone"),
    "link_to_directory": link_to("directory"),
    "fifo": os.mkfifo,
    "empty_directory": lambda path: path.mkdir(),
    "full_directory": full_directory,
    "sandbox": sandbox,
}

NEWCOMERS = {
    "pull": Newcomer(PULL),
    "pull_in_store": Newcomer(PULL, derived=True),
    "build": Newcomer(BUILD),
    "build_in_store": Newcomer(BUILD, derived=True),
    "build_sandbox": Newcomer(BUILD, sandbox=True),
    "add": Newcomer(ADD),
    "rename": Newcomer(RENAME),
}

TABLE = """
what              who_has_it    pull   pull_in_store  build  build_in_store  build_sandbox  add    rename
nothing           nobody        yes    yes            yes    yes             yes            yes    yes
image             nobody        yes    yes            yes    yes             force          force  never
image             own_pulled    yes    yes            yes    force           force          yes    never
image             own_built     force  force          yes    yes             force          yes    never
image             own_added     force  force          force  force           force          yes    never
image             other_pulled  yes    force          yes    force           force          never  never
image             other_built   force  force          yes    force           force          never  never
image             other_added   force  force          force  force           force          never  never
text              nobody        force  force          never  never           never          force  never
text              own_pulled    yes    yes            yes    force           force          yes    never
text              other_pulled  yes    force          yes    force           force          never  never
empty             nobody        yes    yes            never  never           never          force  never
link              nobody        yes    yes            yes    yes             never          never  never
link              other_pulled  yes    force          yes    force           never          never  never
broken_link       nobody        yes    yes            yes    yes             never          never  never
broken_link       own_added     force  force          yes    yes             never          yes    never
broken_link       other_added   yes    force          yes    force           never          never  never
link_to_directory nobody        yes    yes            never  never           never          never  never
fifo              nobody        never  never          never  never           never          never  never
fifo              other_pulled  never  never          never  never           never          never  never
empty_directory   nobody        never  never          yes    yes             yes            never  never
full_directory    nobody        never  never          never  never           never          never  never
full_directory    own_built     force  force          force  force           force          yes    never
sandbox           nobody        never  never          force  force           force          never  never
sandbox           own_built     force  force          force  force           force          yes    never
sandbox           other_built   never  never          force  force           force          never  never
"""
_HEADER, *_ROWS = (line.split() for line in TABLE.strip().splitlines())


def occupant(path: Path, what: str, who: str) -> Occupant:
    LIE[what](path)
    owner, _space, how = who.partition("_")
    if owner == "nobody":
        return Occupant(str(path))
    pulled, made = "sha256:1" if how == "pulled" else None, "engine" if how != "added" else None
    file = File(str(path), 9, 9, "" if path.is_dir() else "1" * 64, pulled, {}, None, None, made, "")
    document = Document.local(APP if owner == "own" else OTHER, AMD64, file)
    return Occupant(str(path), document) if owner == "own" else Occupant(str(path), None, (document,))


def verdict(newcomer: Newcomer, there: Occupant) -> str:
    for force in (False, True):
        try:
            need_replaceable(Newcomer(newcomer.operation, force, newcomer.derived, newcomer.sandbox), there)
        except StorageError:
            continue
        return "force" if force else "yes"
    return "never"


@pytest.mark.parametrize("row", _ROWS, ids=[f"{what}-{who}" for what, who, *_verdicts in _ROWS])
def test_what_may_be_replaced(tmp_path: Path, row: list[str]) -> None:
    what, who, *verdicts = row
    there = occupant(tmp_path / "path", what, who)
    found = [verdict(NEWCOMERS[name], there) for name in _HEADER[2:]]
    assert found == verdicts, dict(zip(_HEADER[2:], found, strict=True))


@pytest.mark.parametrize(
    ("operation", "what", "who", "words"),
    [
        (PULL, "fifo", "nobody", "is there and is no regular file; remove it, or give another dest or storage"),
        (
            PULL,
            "text",
            "nobody",
            "is a file, and no image; remove it, give another dest or storage, or give force: true to replace it",
        ),
        (
            PULL,
            "image",
            "own_built",
            (
                "is the file of org/app:1 for linux/amd64, which was added or built here, so that nobody could fetch "
                "it again; rename that image, give another dest or storage, or give force: true to replace it"
            ),
        ),
        (BUILD, "link_to_directory", "nobody", "is a symlink; give the path that it leads to, or remove it"),
        (BUILD, "text", "nobody", "is a file, and no image; remove it, or give another name or path"),
        (
            BUILD,
            "full_directory",
            "nobody",
            "is a directory that no engine has built, and it is not empty; remove it, or give another name or path",
        ),
        (
            BUILD,
            "sandbox",
            "nobody",
            (
                "is a directory that was not built here, as far as the inventory knows, and what was changed in it "
                "would be lost; give another name or path, or give force: true to replace it"
            ),
        ),
        (
            ADD,
            "image",
            "other_pulled",
            "is the file of org/other:1 for linux/amd64; give another name, storage or method",
        ),
        (
            ADD,
            "image",
            "nobody",
            (
                "is there, is not in the inventory, and is another file than the one to be added; remove it, give "
                "another name, storage or method, or give force: true to replace it"
            ),
        ),
        (RENAME, "image", "nobody", "is there already; remove it, or choose another name or dest"),
        (RENAME, "image", "other_built", "is the file of org/other:1 for linux/amd64; choose another name or dest"),
    ],
)
def test_the_words_for_what_must_not_be_replaced(
    tmp_path: Path, operation: str, what: str, who: str, words: str
) -> None:
    with pytest.raises(StorageError) as refusal:
        need_replaceable(Newcomer(operation), occupant(tmp_path / "path", what, who))
    assert str(refusal.value) == f"{tmp_path}/path {words}"


def test_a_directory_as_it_was_built_is_told_from_one_that_somebody_else_built(tmp_path: Path) -> None:
    sandbox(tmp_path / "path")
    with pytest.raises(StorageError, match="is a directory that was built from other inputs, and what was changed"):
        need_replaceable(Newcomer(BUILD), Occupant(str(tmp_path / "path"), intact=True))


@pytest.mark.parametrize("operation", [ADD, RENAME])
def test_what_is_the_file_of_the_image_already_is_in_nobodys_way(tmp_path: Path, operation: str) -> None:
    path = tmp_path / "path"
    path.write_bytes(IMAGE)
    need_replaceable(Newcomer(operation), Occupant(str(path), is_same=lambda: True))
