# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The place of an image's file, and whether it is still what was recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import storage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.strategies import references
from hypothesis import given

UBUNTU = Reference.parse("ubuntu:22.04")


@pytest.mark.parametrize(
    ("store", "dest", "many", "path"),
    [
        ("/srv", None, False, "/srv/library/ubuntu-22.04.sif"),
        ("/srv/", None, True, "/srv/library/ubuntu-22.04.sif"),
        ("/srv/../opt//images", None, False, "/opt/images/library/ubuntu-22.04.sif"),
        ("/srv", "/opt/u.sif", False, "/opt/u.sif"),
        ("/srv", "/opt/a/../u.sif", False, "/opt/u.sif"),
        ("/srv", "/nonexistent/images/", False, "/nonexistent/images/ubuntu-22.04.sif"),
        ("/srv", "/nonexistent/images", True, "/nonexistent/images/ubuntu-22.04.sif"),
        ("relative", "/opt/u.sif", False, "/opt/u.sif"),
    ],
)
def test_the_place_of_a_file(store: str, dest: str | None, many: bool, path: str) -> None:
    assert storage.place(store, UBUNTU, dest, many) == path


def test_an_existing_directory_as_dest_gets_the_file(tmp_path: Path) -> None:
    assert storage.place("/srv", UBUNTU, str(tmp_path)) == f"{tmp_path}/ubuntu-22.04.sif"


def test_a_sandbox_as_dest_is_no_directory_for_files(tmp_path: Path) -> None:
    (tmp_path / "box" / ".singularity.d").mkdir(parents=True)
    assert storage.place("/store", UBUNTU, str(tmp_path / "box")) == str(tmp_path / "box")


@pytest.mark.parametrize(
    ("store", "dest", "named"),
    [
        ("images", None, "images/library/ubuntu-22.04.sif"),
        ("/srv", "u.sif", "u.sif"),
        ("/srv", "images/", "images/ubuntu-22.04.sif"),
        ("/srv", "", ""),
    ],
)
def test_a_relative_path_is_refused(store: str, dest: str | None, named: str) -> None:
    with pytest.raises(StorageError) as error:
        storage.place(store, UBUNTU, dest)
    assert str(error.value) == f"{named!r} is no absolute path; write storage and dest with a leading '/'"


@given(references())
def test_every_image_lies_below_the_store(reference: Reference) -> None:
    assert storage.place("/srv/images", reference).startswith("/srv/images/")


CONTENT = b"a SIF of some size"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MTIME = 1_600_000_000_123_456_789


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return a file that is as the inventory has it."""
    path = tmp_path / "a.sif"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(0, MTIME))
    return path


def state(path: Path, checksum: bool) -> str:
    return storage.state(str(path), len(CONTENT), MTIME, SHA256, checksum)


def _nothing(path: Path) -> None:
    pass


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 1))


def _damage(path: Path) -> None:
    path.write_bytes(CONTENT.upper())
    os.utime(path, ns=(0, MTIME))


def _grow(path: Path) -> None:
    path.write_bytes(CONTENT + b"!")


def _remove(path: Path) -> None:
    path.unlink()


def _dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _move_behind_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize(
    ("change", "by_time", "by_content"),
    [
        (_nothing, "present", "present"),
        (_touch, "modified", "present"),
        (_damage, "present", "modified"),
        (_grow, "modified", "modified"),
        (_remove, "missing", "missing"),
        (_dangle, "missing", "missing"),
        (_replace_by_a_pipe, "modified", "modified"),
        (_move_behind_a_link, "present", "present"),
    ],
)
def test_the_state_of_a_file(recorded: Path, change: Callable[[Path], None], by_time: str, by_content: str) -> None:
    change(recorded)
    assert state(recorded, checksum=False) == by_time
    assert state(recorded, checksum=True) == by_content


def test_a_file_whose_directory_became_a_file_is_missing(recorded: Path) -> None:
    recorded.unlink()
    recorded.parent.rmdir()
    recorded.parent.write_bytes(b"")
    assert state(recorded, checksum=False) == "missing"


def test_a_file_that_cannot_be_looked_at_is_named(recorded: Path) -> None:
    recorded.unlink()
    recorded.symlink_to(recorded.name)
    with pytest.raises(StorageError) as error:
        state(recorded, checksum=True)
    assert str(error.value).startswith(f"cannot use {recorded}: Too many levels of symbolic links; ")


def test_nobody_waits_for_what_a_pipe_may_have_to_say(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert storage.state(str(tmp_path / "pipe"), 0, 0, SHA256, checksum=True) == "modified"


@pytest.mark.parametrize(
    ("sha256", "make", "expected"),
    [
        ("", lambda path: path.mkdir(), "present"),
        ("", lambda path: path.touch(), "modified"),
        ("", lambda path: None, "missing"),
        ("0" * 64, lambda path: path.mkdir(), "modified"),
    ],
)
def test_a_directory_has_no_checksum_and_is_there_to_be_changed(
    tmp_path: Path, sha256: str, make: Callable[[Path], None], expected: str
) -> None:
    make(tmp_path / "box")
    assert storage.state(str(tmp_path / "box"), 7, 7, sha256, checksum=False) == expected
