# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packing with the real mksquashfs, and which one is taken with which compression."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils import squashfs
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import NoSpace, PackerError, StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils.squashfs import Packer

REAL = shutil.which("mksquashfs", path="/usr/bin:/usr/sbin:/usr/local/bin")
needs_mksquashfs = pytest.mark.skipif(
    REAL is None or shutil.which("unsquashfs") is None, reason="the package squashfs-tools is not installed"
)

Install = Callable[[str, str], str]


def mksquashfs(version: str = "mksquashfs version 4.5.1 (2022/03/17)", compressors: str = "gzip zstd") -> str:
    """A script that answers as the program does, and packs nothing."""
    cases = " ".join(f'*"-comp {name}"*) exit 0;;' for name in compressors.split())
    refusal = 'echo "FATAL ERROR: Compressor not supported" >&2; exit 1'
    return f'case "$*" in -version) echo "{version}"; exit 1;; {cases} esac\n{refusal}'


# Finding


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("mksquashfs version 4.5.1 (2022/03/17)", "4.5.1"),
        ("mksquashfs version 4.3 (2014/05/12)", "4.3"),
        ("mksquashfs version 4.6.1-g1a2b3c4 (2023/03/25)", "4.6.1-g1a2b3c4"),
        ("busybox", "of unknown version"),
    ],
)
def test_the_packer_on_the_path_is_found_with_its_version(install: Install, said: str, version: str) -> None:
    path = install("mksquashfs", mksquashfs(said))
    assert squashfs.find() == Packer(path, version, "zstd")


@pytest.mark.parametrize(
    ("kernel", "compressors", "squashfuse", "compression"),
    [
        ("6.1.0-28-amd64", "gzip zstd", None, "zstd"),
        ("4.14.0", "gzip zstd", None, "zstd"),
        ("4.13.16", "gzip zstd", None, "gzip"),
        ("3.10.0-1160.el7.x86_64", "gzip zstd", None, "gzip"),
        ("6.1.0", "gzip", None, "gzip"),
        ("6.1.0", "gzip zstd", "squashfuse 0.5.2 (c) 2012 Dave Vasilevsky", "zstd"),
        ("6.1.0", "gzip zstd", "squashfuse 0.1.101 (c) 2012 Dave Vasilevsky", "zstd"),
        ("6.1.0", "gzip zstd", "squashfuse 0.1.100 (c) 2012 Dave Vasilevsky", "gzip"),
        ("6.1.0", "gzip zstd", "squashfuse 1.0 (c) 2012 Dave Vasilevsky", "zstd"),
        ("6.1.0", "gzip zstd", "of no version", "zstd"),
    ],
)
def test_zstd_is_taken_where_packer_kernel_and_squashfuse_know_it(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    compressors: str,
    squashfuse: str | None,
    compression: str,
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "node", kernel, "#1", "x86_64")))
    install("mksquashfs", mksquashfs(compressors=compressors))
    if squashfuse:
        install("squashfuse", f'echo "{squashfuse}" >&2; exit 254')
    assert squashfs.find().compression == compression


def test_a_missing_packer_is_named_with_its_package(install: Install) -> None:
    with pytest.raises(PackerError) as error:
        squashfs.find()
    assert str(error.value) == (
        "there is no mksquashfs on this host; install the package squashfs-tools (squashfs on SUSE)"
    )


def test_a_packer_outside_the_path_is_found_in_the_system_directories(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = install("mksquashfs", mksquashfs())
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(squashfs, "_SYSTEM_DIRECTORIES", (os.path.dirname(path),))
    assert squashfs.find().path == path


def test_a_packer_that_cannot_be_run_is_named(install: Install) -> None:
    path = install("mksquashfs", "")
    Path(path).write_bytes(b"\x7fELF of another machine")
    with pytest.raises(PackerError) as error:
        squashfs.find()
    assert str(error.value) == f"cannot run {path}: Exec format error"


def test_no_place_for_temporary_files_is_an_error_of_the_storage(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("mksquashfs", mksquashfs())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        StorageError, match=rf"^cannot use {tmp_path}/none/sregistry-packer-.*: No such file or directory; "
    ):
        squashfs.find()


def test_trying_the_packer_leaves_nothing_behind(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    install("mksquashfs", f"{mksquashfs()}")
    squashfs.find()
    assert list(place.iterdir()) == []


@needs_mksquashfs
def test_the_real_packer_is_found() -> None:
    packer = squashfs.find()
    assert re.fullmatch(r"[0-9]+\.[0-9].*", packer.version)
    assert os.access(packer.path, os.X_OK)


# Packing


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with what an image may hold."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "bin" / "tool").chmod(0o755)
    (root / "bin" / "link").symlink_to("tool")
    (root / "grüße ☃").write_bytes(bytes(range(256)) * 1000)
    (root / "private").mkdir()
    (root / "private" / "empty").touch(mode=0o600)
    (root / "private").chmod(0o700)
    root.chmod(0o755)
    return root


def real(compression: str) -> Packer:
    assert REAL is not None
    return Packer(REAL, "4", compression)


def listing(image: Path) -> dict[str, tuple[str, str]]:
    """Mode and numeric owner of each path in a squashfs image."""
    done = subprocess.run(["unsquashfs", "-lln", str(image)], capture_output=True, check=True)
    lines = [line for line in done.stdout.decode().splitlines() if "squashfs-root" in line]
    fields = (line.split(maxsplit=5) for line in lines)
    return {field[5].partition("squashfs-root")[2]: (field[0], field[1]) for field in fields}


def summary(image: Path) -> str:
    return subprocess.run(["unsquashfs", "-s", str(image)], capture_output=True, check=True).stdout.decode()


@needs_mksquashfs
@pytest.mark.parametrize(("compression", "level"), [("zstd", "3"), ("gzip", "1")])
def test_a_packed_directory_has_its_compression_and_its_content(
    tree: Path, tmp_path: Path, compression: str, level: str
) -> None:
    image = tmp_path / "image"
    real(compression).pack(str(tree), str(image), as_root=False)
    told = summary(image)
    assert f"Compression {compression}" in told
    assert re.search(rf"compression-level {level}\b", told)
    out = tmp_path / "out"
    subprocess.run(["unsquashfs", "-d", str(out), str(image)], capture_output=True, check=True)
    subprocess.run(["diff", "-r", "--no-dereference", str(tree), str(out)], check=True)
    modes = {path: mode for path, (mode, _owner) in listing(image).items()}
    assert modes == {
        "": "drwxr-xr-x",
        "/bin": "drwxr-xr-x",
        "/bin/link -> tool": "lrwxrwxrwx",
        "/bin/tool": "-rwxr-xr-x",
        "/grüße ☃": "-rw-r--r--",
        "/private": "drwx------",
        "/private/empty": "-rw-------",
    }


@needs_mksquashfs
@pytest.mark.parametrize("as_root", [False, True])
def test_files_belong_to_root_only_if_asked(tree: Path, tmp_path: Path, as_root: bool) -> None:
    if os.geteuid() == 0:
        os.chown(tree / "bin" / "tool", 1234, 5678)
    status = (tree / "bin" / "tool").stat()
    image = tmp_path / "image"
    real("gzip").pack(str(tree), str(image), as_root=as_root)
    assert listing(image)["/bin/tool"][1] == ("0/0" if as_root else f"{status.st_uid}/{status.st_gid}")


@needs_mksquashfs
def test_an_image_that_is_there_is_replaced_and_not_appended_to(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    real("gzip").pack(str(tree), str(image), as_root=True)
    (tree / "bin" / "tool").unlink()
    real("gzip").pack(str(tree), str(image), as_root=True)
    assert "/bin/tool" not in listing(image)
    assert "/bin" in listing(image)


@needs_mksquashfs
def test_the_callers_environment_does_not_reach_the_image(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    image = tmp_path / "image"
    begin = int(time.time())
    real("gzip").pack(str(tree), str(image), as_root=True)
    made = int.from_bytes(image.read_bytes()[8:12], "little")  # mkfs_time of the superblock
    assert begin <= made <= time.time()


@needs_mksquashfs
def test_the_programs_own_words_are_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(PackerError) as error:
        real("gzip").pack(str(tmp_path / "none"), str(tmp_path / "image"), as_root=True)
    assert str(error.value).startswith(f"{REAL} 4 failed with status 1: ")
    assert f"{tmp_path}/none" in str(error.value)


@pytest.mark.parametrize(
    ("body", "full", "kind", "words"),
    [
        (
            "echo 'Write failed because No space left on device'; echo 'FATAL ERROR: Failed to write' >&2",
            False,
            NoSpace,
            "no space left in {} while packing the image; free some or give tmpdir",
        ),
        (
            "echo 'FATAL ERROR: Failed to write to output filesystem'",
            True,
            NoSpace,
            "no space left in {} while packing the image; free some or give tmpdir",
        ),
        (
            "echo 'FATAL ERROR: Failed to write to output filesystem'",
            False,
            PackerError,
            "failed with status 3: FATAL ERROR: Failed to write to output filesystem",
        ),
        (
            "echo 'FATAL ERROR: Out of memory' >&2",
            True,
            PackerError,
            "failed with status 3: FATAL ERROR: Out of memory",
        ),
    ],
)
def test_a_full_file_system_is_told_from_other_failures(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    full: bool,
    kind: type[Exception],
    words: str,
) -> None:
    packer = Packer(install("mksquashfs", f"{body}\nexit 3"), "4.5.1", "zstd")
    available = 0 if full else 2**30
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result((1, 1, 0, 0, available, 0, 0, 0, 0, 255)))
    with pytest.raises(kind) as error:
        packer.pack(str(tmp_path), str(tmp_path / "image"), as_root=True)
    assert words.format(tmp_path) in str(error.value)


def test_a_packer_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackerError) as error:
        Packer(str(tmp_path / "none"), "4.5.1", "zstd").pack(str(tmp_path), str(tmp_path / "image"), as_root=True)
    assert str(error.value) == f"cannot run {tmp_path}/none: No such file or directory"
