# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats of files, told by content: nothing that the engine would not run gets into the store."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidImage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.formats import (
    Format,
    begins_as_image,
    identify,
    is_image,
    is_left_by_an_engine,
    is_sandbox,
)

from tests.lab.shelf import (
    LAUNCH,
    ext_bytes,
    sif_bytes,
    squashfs_bytes,
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (sif_bytes(), Format("sif", "amd64")),
        (sif_bytes(architecture="arm64"), Format("sif", "arm64")),
        (squashfs_bytes(), Format("squashfs")),
        (LAUNCH + squashfs_bytes(), Format("squashfs")),
        (ext_bytes(), Format("ext3")),
        (LAUNCH + ext_bytes(), Format("ext3")),
    ],
)
def test_images_of_all_formats_are_known(tmp_path: Path, content: bytes, expected: Format) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    assert identify(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an image"),
        (b"#!/bin/sh\necho\n", "is not an image"),
        (b"\x1f\x8b\x08" + bytes(5000), "is not an image"),
        (LAUNCH, "is not an image"),
        (sif_bytes()[:-1], "is truncated"),
        (squashfs_bytes()[:-1], "is truncated"),
        (LAUNCH + squashfs_bytes()[:-1], "is truncated"),
        (squashfs_bytes(size=2**60), "is truncated"),
        (LAUNCH + ext_bytes()[:-1], "is truncated"),
        (ext_bytes(claimed=2**32 - 1), "is truncated"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(InvalidImage, match=words) as error:
        identify(str(path))
    assert str(path) in str(error.value)


def test_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidImage, match="not a regular file"):
            identify(str(path))


def test_a_real_squashfs_and_a_real_ext3_are_known(tmp_path: Path) -> None:
    search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    mksquashfs, mke2fs = shutil.which("mksquashfs", path=search), shutil.which("mke2fs", path=search)
    if not mksquashfs or not mke2fs:
        pytest.skip("there is no mksquashfs or no mke2fs here")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content")
    squashfs, ext = tmp_path / "a.simg", tmp_path / "a.img"
    subprocess.run([mksquashfs, tmp_path / "tree", squashfs, "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([mke2fs, "-q", "-t", "ext3", ext, "2M"], check=True)
    for path, name in ((squashfs, "squashfs"), (ext, "ext3")):
        content = path.read_bytes()
        assert identify(str(path)) == Format(name)
        path.write_bytes(LAUNCH + content)
        assert identify(str(path)) == Format(name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + bytes(100), True),
        (b"hsqs" + bytes(100), True),
        (b"Bootstrap: docker\n", False),
        (b"", False),
    ],
)
def test_an_image_is_known_by_its_first_bytes(tmp_path: Path, content: bytes, expected: bool) -> None:
    (tmp_path / "file").write_bytes(content)
    assert is_image(str(tmp_path / "file")) == expected


@pytest.mark.parametrize(
    ("content", "begins", "left"),
    [
        (sif_bytes(), True, True),
        (sif_bytes()[:200], True, True),
        (squashfs_bytes(), True, True),
        (squashfs_bytes()[:10], True, True),
        (LAUNCH, True, True),
        (LAUNCH + squashfs_bytes(), True, True),
        (LAUNCH + ext_bytes(), True, True),
        (ext_bytes(), True, False),  # an overlay, or the disk of a machine, as likely as an image
        (b"", False, True),
        (b"MB " * 100, False, False),
        (bytes(5000), False, False),
        (b"#!/bin/sh\necho run-singularity\n", False, False),
        (b"See how to run-singularity\n", False, False),
    ],
)
def test_what_is_an_image_and_what_is_nobodys_work(tmp_path: Path, content: bytes, begins: bool, left: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert (begins_as_image(str(path)), is_left_by_an_engine(str(path))) == (begins, left)


def test_a_sandbox_is_known_by_what_an_engine_puts_into_it(tmp_path: Path) -> None:
    assert not is_sandbox(str(tmp_path))
    (tmp_path / ".singularity.d").mkdir()
    assert is_sandbox(str(tmp_path))
