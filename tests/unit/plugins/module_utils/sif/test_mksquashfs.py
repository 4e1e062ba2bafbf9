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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import IO

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import NoSpace, PackerError, StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import Entry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar_writer import TarWriter
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import mksquashfs as squashfs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.mksquashfs import Packer, Partition

REAL = shutil.which("mksquashfs", path="/usr/bin:/usr/sbin:/usr/local/bin")
needs_mksquashfs = pytest.mark.skipif(
    REAL is None or shutil.which("unsquashfs") is None, reason="the package squashfs-tools is not installed"
)

Install = Callable[[str, str], str]


def mksquashfs(version: str = "mksquashfs version 4.5.1 (2022/03/17)", compressors: str = "gzip zstd") -> str:
    """Return a script that answers as the program does, and packs nothing."""
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
    assert squashfs.find_packer() == Packer(path, version, "zstd", 3)


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
    assert squashfs.find_packer().compression == compression


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        (["4.4", "4.6.1"], 1),
        (["4.5.1", "4.6"], 1),
        (["4.6", "4.7.5"], 0),
        (["4.7", "4.6"], 0),
        (["4.4", "4.3"], 0),
        (["of nobody", "4.3"], 1),
        (["4.4", "4.5"], 1),
        (["4.5.1", "4.5"], 0),
        (["4.10", "4.6"], 0),
    ],
)
def test_a_packer_that_does_all_with_tar_archives_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: list[str], chosen: int
) -> None:
    directories = [tmp_path / str(number) for number in range(len(versions))]
    for directory, version in zip(directories, versions, strict=True):
        directory.mkdir()
        (directory / "mksquashfs").write_text(f"#!/bin/sh\n{mksquashfs(f'mksquashfs version {version} (2022)')}\n")
        (directory / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", str(directories[0]))
    monkeypatch.setattr(squashfs, "_SYSTEM_DIRECTORIES", tuple(map(str, directories)))
    monkeypatch.setattr(squashfs, "_ENGINE_DIRECTORIES", ())
    assert squashfs.find_packer().path == str(directories[chosen] / "mksquashfs")


@pytest.mark.parametrize(
    ("compression", "level", "taken"),
    [
        ("zstd", None, 3),
        ("zstd", 1, 1),
        ("zstd", 22, 22),
        ("gzip", None, 1),
        ("gzip", 9, 9),
        ("lz4", None, None),
        ("xz", None, None),
    ],
)
def test_a_compression_that_is_asked_for_has_its_level(
    install: Install, compression: str, level: int | None, taken: int | None
) -> None:
    install("mksquashfs", mksquashfs(compressors="gzip zstd lz4 xz"))
    packer = squashfs.find_packer(compression, level)
    assert (packer.compression, packer.level) == (compression, taken)


@pytest.mark.parametrize(
    ("compression", "level", "allowed"),
    [
        ("zstd", 0, "from 1 to 22"),
        ("zstd", 23, "from 1 to 22"),
        ("gzip", 0, "from 1 to 9"),
        ("gzip", 10, "from 1 to 9"),
        ("gzip", -1, "from 1 to 9"),
        ("lz4", 1, "none"),
        ("xz", 0, "none"),
    ],
)
def test_a_level_that_a_compression_has_not_is_refused(
    install: Install, compression: str, level: int, allowed: str
) -> None:
    install("mksquashfs", mksquashfs(compressors="gzip zstd lz4 xz"))
    with pytest.raises(PackerError) as error:
        squashfs.find_packer(compression, level)
    assert str(error.value) == (f"the compression {compression} has no level {level} ({allowed}); give another or none")


def test_a_level_is_checked_against_the_compression_that_was_chosen(install: Install) -> None:
    install("mksquashfs", mksquashfs(compressors="gzip"))
    with pytest.raises(PackerError, match="the compression gzip has no level 15"):
        squashfs.find_packer(None, 15)


@pytest.mark.parametrize(
    ("zstd", "compression", "level", "expected"),
    [
        (True, None, None, [("zstd", 3), ("gzip", 1)]),
        (True, None, 9, [("zstd", 9), ("gzip", 9)]),
        (True, None, 15, [("zstd", 15)]),
        (False, None, None, [("gzip", 1)]),
        (False, "xz", None, [("xz", None)]),
    ],
)
def test_what_a_host_can_mount_needs_no_packer(
    monkeypatch: pytest.MonkeyPatch,
    zstd: bool,
    compression: str | None,
    level: int | None,
    expected: list[tuple[str, int]],
) -> None:
    monkeypatch.setattr(squashfs, "_kernel_reads_zstd", lambda: zstd)
    monkeypatch.setattr(squashfs, "_squashfuse_reads_zstd", lambda: zstd)
    assert squashfs.mountable(compression, level) == expected


def test_a_level_that_nothing_mountable_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squashfs, "_kernel_reads_zstd", lambda: False)
    with pytest.raises(PackerError, match="the compression gzip has no level 15"):
        squashfs.mountable(None, 15)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "xz"])
def test_a_compression_that_the_packer_was_built_without_is_refused(install: Install, compression: str) -> None:
    path = install("mksquashfs", mksquashfs(compressors="gzip"))
    with pytest.raises(PackerError) as error:
        squashfs.find_packer(compression)
    assert str(error.value) == (
        f"{path} 4.5.1 was built without {compression}; ask for compression: auto, or another one"
    )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"memory": 63}, "mksquashfs cannot work with 63 MiB of memory; give 64M or more"),
        ({"memory": 0}, "mksquashfs cannot work with 0 MiB of memory; give 64M or more"),
        ({"processors": 0}, "mksquashfs cannot work with 0 processors; give 1 or more"),
        ({"processors": -1}, "mksquashfs cannot work with -1 processors; give 1 or more"),
    ],
)
def test_bounds_that_nothing_can_keep_are_refused(install: Install, bounds: dict[str, int], message: str) -> None:
    install("mksquashfs", mksquashfs())
    with pytest.raises(PackerError) as error:
        squashfs.find_packer(**bounds)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_missing_packer_is_named_with_its_package(install: Install) -> None:
    with pytest.raises(PackerError) as error:
        squashfs.find_packer()
    assert str(error.value) == (
        "there is no mksquashfs on this host; install the package squashfs-tools (squashfs on SUSE)"
    )


def test_a_packer_outside_the_path_is_found_in_the_system_directories(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = install("mksquashfs", mksquashfs())
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(squashfs, "_SYSTEM_DIRECTORIES", (os.path.dirname(path),))
    assert squashfs.find_packer().path == path


def test_a_packer_that_cannot_be_run_is_named(install: Install) -> None:
    path = install("mksquashfs", "")
    Path(path).write_bytes(b"\x7fELF of another machine")
    with pytest.raises(PackerError) as error:
        squashfs.find_packer()
    assert str(error.value) == f"cannot run {path}: Exec format error"


def test_no_place_for_temporary_files_is_an_error_of_the_storage(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("mksquashfs", mksquashfs())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=rf"^cannot use {tmp_path}/none/.*: No such file or directory; "):
        squashfs.find_packer()


def test_trying_the_packer_leaves_nothing_behind_even_if_it_is_killed(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    listing = tmp_path / "listing"
    install("mksquashfs", f"ls -A {place} >> {listing}; echo tried >> {listing}; {mksquashfs(compressors='gzip')}")
    squashfs.find_packer()
    assert set(listing.read_text().split()) == {"tried"}, "there was something that a kill would have left"
    assert list(place.iterdir()) == []


@needs_mksquashfs
def test_the_real_packer_is_found() -> None:
    packer = squashfs.find_packer()
    assert re.fullmatch(r"[0-9]+\.[0-9].*", packer.version)
    assert os.access(packer.path, os.X_OK)


# What a version cannot do

ROOT = Entry(b"", "directory", 0o755, os.geteuid(), os.getegid(), 0)


@pytest.mark.parametrize(
    ("version", "root", "newest", "moment", "obstacle"),
    [
        ("4.4", ROOT, 0, None, "mksquashfs 4.4 does not read tar archives, as 4.5 and later do"),
        ("of unknown version", ROOT, 0, None, "mksquashfs of unknown version does not read tar archives"),
        ("4.5", ROOT, 0, None, None),
        ("4.5.1", ROOT, 100, 100, None),
        ("4.5.1", ROOT, 101, None, None),
        ("4.5.1", ROOT, 101, 100, "mksquashfs 4.5.1 cannot date an image that holds newer files from a tar archive"),
        ("4.6", ROOT, 101, 100, None),
        ("4.6.1-g1a2b3c4", ROOT, 101, 100, None),
        (
            "4.5.1",
            ROOT._replace(uid=os.geteuid() + 1),
            0,
            None,
            "gives the root directory of a tar archive to the user",
        ),
        (
            "4.5.1",
            ROOT._replace(gid=os.getegid() + 1),
            0,
            None,
            "gives the root directory of a tar archive to the user",
        ),
        ("4.6", ROOT._replace(uid=12345, gid=12345), 0, None, None),
        ("4.5.1", ROOT._replace(mode=0o700), 0, None, None),
        ("4.10", ROOT._replace(uid=12345), 101, 100, None),
        ("4.7.5", ROOT._replace(xattrs=(("user.a", b""),)), 0, None, "the root directory has extended attributes"),
    ],
)
def test_what_a_version_cannot_take_from_an_archive(
    version: str, root: Entry, newest: int, moment: int | None, obstacle: str | None
) -> None:
    refusal = Packer("mksquashfs", version, "gzip", 1).refuses(root, newest, moment)
    assert (refusal is None) == (obstacle is None)
    assert (obstacle or "") in (refusal or "")


@pytest.mark.parametrize(
    ("version", "offsets"), [("4.4", True), ("4.6.1", True), ("4.7", False), ("4.7.1", True), ("4.8", True)]
)
def test_the_version_that_damages_images_at_an_offset_gets_none(version: str, offsets: bool) -> None:
    assert Packer("mksquashfs", version, "gzip", 1).offsets == offsets


# How it is called

RECORD = """\
printf '%s\\n' "$@" >"$0.arguments"
env >"$0.environment"
cat >"$0.input"
"""


@contextmanager
def partition(path: Path, offset: int = 0) -> Iterator[Partition]:
    """Yield a file, opened for an image."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield Partition(descriptor, offset, "/images")
    finally:
        os.close(descriptor)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Partition]:
    """Yield a new file."""
    with partition(tmp_path / "image") as opened:
        yield opened


def called(path: str) -> tuple[list[str], dict[str, str]]:
    """Return arguments and environment of the stand-in's last call."""
    lines = Path(f"{path}.environment").read_text(encoding="utf-8").splitlines()
    arguments = Path(f"{path}.arguments").read_text(encoding="utf-8").splitlines()
    return arguments, dict(line.partition("=")[::2] for line in lines)


def after(arguments: Sequence[str], option: str) -> str | None:
    """Return the value of an option."""
    return arguments[arguments.index(option) + 1] if option in arguments else None


@pytest.fixture
def recorder(programs: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a stand-in that records how it was called and what it was given."""
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    return install("mksquashfs", RECORD)


BOUNDS: list[tuple[Packer, int, dict[str, str | None]]] = [
    (
        Packer("", "4.6.1", "zstd", 3),
        0,
        {"-comp": "zstd", "-Xcompression-level": "3", "-processors": None, "-mem": "256M", "-o": None},
    ),
    (
        Packer("", "4.6.1", "gzip", 9, processors=3, memory=512),
        4096,
        {"-comp": "gzip", "-Xcompression-level": "9", "-processors": "3", "-mem": "512M", "-o": "4096"},
    ),
    (
        Packer("", "4.6.1", "xz", None, processors=1),
        1,
        {"-comp": "xz", "-Xcompression-level": None, "-processors": "1"},
    ),
]


@pytest.mark.parametrize(("packer", "offset", "options"), BOUNDS)
def test_the_options_of_a_directory_and_of_an_archive(
    recorder: str, tmp_path: Path, packer: Packer, offset: int, options: dict[str, str | None]
) -> None:
    packer = Packer(recorder, *(getattr(packer, name) for name in list(packer.__dataclass_fields__)[1:]))
    with partition(tmp_path / "image", offset) as place:
        packer.pack(str(tmp_path), place, 77, as_root=False)
        arguments, environment = called(recorder)
        assert arguments[:2] == [str(tmp_path), f"/proc/self/fd/{place.descriptor}"]
        assert {option: after(arguments, option) for option in options} == options
        assert after(arguments, "-mkfs-time") == "77"
        assert "SOURCE_DATE_EPOCH" not in environment
        assert "-all-root" not in arguments
        packer.pack(str(tmp_path), place, 77, as_root=True)
        assert "-all-root" in called(recorder)[0]
        with packer.packing(place, 77, Entry(b"", "directory", 0o1750, 12, 34, 56)) as pipe:
            pipe.write(b"an archive")
        arguments, environment = called(recorder)
    assert arguments[0] == "-" and "-tar" in arguments
    assert {option: after(arguments, option) for option in options} == options
    for option, value in {"mode": "1750", "uid": "12", "gid": "34", "time": "56"}.items():
        assert after(arguments, f"-root-{option}") == value
    assert after(arguments, "-mkfs-time") == "77"
    assert "SOURCE_DATE_EPOCH" not in environment
    assert Path(f"{recorder}.input").read_bytes() == b"an archive"


def test_a_version_before_4_6_is_told_the_time_by_its_environment(recorder: str, place: Partition) -> None:
    with Packer(recorder, "4.5.1", "gzip", 1).packing(place, 77, ROOT):
        pass
    arguments, environment = called(recorder)
    assert environment["SOURCE_DATE_EPOCH"] == "77"
    assert [option for option in ("-mkfs-time", "-root-uid", "-root-time") if option in arguments] == []


@pytest.mark.parametrize(
    ("version", "careful"), [("4.5.1", False), ("4.6.1", False), ("4.7.3", True), ("4.7.4", True), ("4.7.5", False)]
)
def test_versions_that_race_on_zeros_look_for_none(
    recorder: str, place: Partition, version: str, careful: bool
) -> None:
    with Packer(recorder, version, "gzip", 1).packing(place, 0, ROOT):
        pass
    assert ("-no-sparse" in called(recorder)[0]) == careful


@pytest.mark.parametrize("offset", [0, 8192])
@pytest.mark.parametrize(
    ("version", "table", "cleared"),
    [("4.4", 100, True), ("4.3", 200, True), ("4.4", -1, False), ("4.5", 100, False), ("4.6.1", 100, False)],
)
def test_what_a_version_before_4_5_leaves_to_chance_is_cleared(
    install: Install, programs: Path, tmp_path: Path, version: str, table: int, cleared: bool, offset: int
) -> None:
    image = bytearray(b"\xff" * 300)
    image[56:64] = table.to_bytes(8, "little", signed=True)
    (tmp_path / "prepared").write_bytes(bytes(offset) + image)
    program = install("mksquashfs", f'/bin/cat "{tmp_path}/prepared" >"$2"')
    with partition(tmp_path / "image", offset) as place:
        Packer(program, version, "gzip", 1).pack(str(programs), place, 0, as_root=False)
    if cleared:
        image[table + 12 : table + 16] = bytes(4)
    assert (tmp_path / "image").read_bytes() == bytes(offset) + image


# Packing for real


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with what an image may hold."""
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


def real(compression: str = "gzip", **bounds: int) -> Packer:
    assert REAL is not None
    return squashfs.find_packer(compression, **bounds)


def unsquashfs(option: str, image: Path, offset: int = 0) -> str:
    command = ["unsquashfs", "-offset", str(offset), option, str(image)]
    environment = {**os.environ, "TZ": "UTC"}
    return subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode()


def listing(image: Path, offset: int = 0) -> dict[str, tuple[str, str, str]]:
    """Return mode, numeric owner and date of each path in a squashfs image."""
    lines = [line for line in unsquashfs("-lln", image, offset).splitlines() if "squashfs-root" in line]
    fields = (line.split(maxsplit=5) for line in lines)
    return {field[5].partition("squashfs-root")[2]: (field[0], field[1], f"{field[3]} {field[4]}") for field in fields}


def mkfs_time(image: Path, offset: int = 0) -> int:
    return int.from_bytes(image.read_bytes()[offset + 8 : offset + 12], "little")


@needs_mksquashfs
@pytest.mark.parametrize(("compression", "level"), [("zstd", 3), ("gzip", 1)])
def test_a_packed_directory_has_its_compression_and_its_content(
    tree: Path, tmp_path: Path, place: Partition, compression: str, level: int
) -> None:
    image = tmp_path / "image"
    packer = real(compression)
    assert packer.level == level
    packer.pack(str(tree), place, 1_700_000_000, as_root=False)
    told = unsquashfs("-s", image)
    assert f"Compression {compression}" in told
    assert re.search(rf"compression-level {level}\b", told)
    assert "Filesystem is not exportable via NFS" in told
    assert mkfs_time(image) == 1_700_000_000
    out = tmp_path / "out"
    subprocess.run(["unsquashfs", "-d", str(out), str(image)], capture_output=True, check=True)
    subprocess.run(["diff", "-r", "--no-dereference", str(tree), str(out)], check=True)
    modes = {path: fields[0] for path, fields in listing(image).items()}
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
def test_files_belong_to_root_only_if_asked(tree: Path, tmp_path: Path, place: Partition, as_root: bool) -> None:
    if os.geteuid() == 0:
        os.chown(tree / "bin" / "tool", 1234, 5678)
    status = (tree / "bin" / "tool").stat()
    real().pack(str(tree), place, 0, as_root=as_root)
    owner = "0/0" if as_root else f"{status.st_uid}/{status.st_gid}"
    assert listing(tmp_path / "image")["/bin/tool"][1] == owner


@needs_mksquashfs
def test_an_image_that_is_there_is_replaced_and_not_appended_to(tree: Path, tmp_path: Path, place: Partition) -> None:
    real().pack(str(tree), place, 0, as_root=True)
    (tree / "bin" / "tool").unlink()
    real().pack(str(tree), place, 0, as_root=True)
    assert "/bin/tool" not in listing(tmp_path / "image")
    assert "/bin" in listing(tmp_path / "image")


@needs_mksquashfs
def test_the_callers_environment_does_not_reach_the_image(
    tree: Path, tmp_path: Path, place: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    real().pack(str(tree), place, 99, as_root=True)
    assert mkfs_time(tmp_path / "image") == 99


# Archives for real


@pytest.fixture
def reads_tar() -> None:
    """Skip without a mksquashfs that can."""
    if REAL is None or shutil.which("unsquashfs") is None:
        pytest.skip("the package squashfs-tools is not installed")
    obstacle = real().refuses(ROOT, 0, None)
    if obstacle:
        pytest.skip(obstacle)


needs_tar = pytest.mark.usefixtures("reads_tar")
MANY = [
    (Entry(b"f/%d" % number, "file", 0o644, 0, 0, 5, 5000), Random(number).randbytes(5000)) for number in range(200)
]


def write_tree(pipe: IO[bytes], more: Sequence[tuple[Entry, bytes]] = ()) -> None:
    """Write files before their directories, as a build does."""
    writer = TarWriter(pipe)
    for entry, data in (
        (Entry(b"d/tool", "file", 0o4755, 12, 34, 86400, 3), b"abc"),
        (Entry(b"d/zeros", "file", 0o600, 2**32 - 2, 2**32 - 2, 86400, 300_000), bytes(300_000)),
        *more,
    ):
        writer.add(entry, (memoryview(data)[n : n + 1000] for n in range(0, len(data), 1000)))
    writer.add(Entry(b"d", "directory", 0o1777, 56, 78, 2 * 86400))
    writer.add(Entry(b"s", "symlink", 0o777, 0, 0, 0, 0, b"t" * 300))
    writer.add(Entry(b"d/linked", "link", 0o4755, 12, 34, 86400, 0, b"d/tool"))
    writer.finish()


@needs_tar
@pytest.mark.parametrize("offset", [0, 4096, 36864])
def test_an_archive_becomes_an_image_at_its_place(tmp_path: Path, offset: int) -> None:
    image = tmp_path / "image"
    root = ROOT._replace(mode=0o1750, mtime=3 * 86400)
    with partition(image, offset) as place, real().packing(place, 3 * 86400, root) as pipe:
        write_tree(pipe)
    assert image.read_bytes()[:offset] == bytes(offset)
    assert image.read_bytes()[offset : offset + 4] == b"hsqs"
    assert mkfs_time(image, offset) == 3 * 86400
    owner = f"{ROOT.uid}/{ROOT.gid}"
    assert listing(image, offset) == {
        "": ("drwxr-x--T", owner, "1970-01-04 00:00"),
        "/d": ("drwxrwxrwt", "56/78", "1970-01-03 00:00"),
        "/d/linked": ("-rwsr-xr-x", "12/34", "1970-01-02 00:00"),
        "/d/tool": ("-rwsr-xr-x", "12/34", "1970-01-02 00:00"),
        "/d/zeros": ("-rw-------", "4294967294/4294967294", "1970-01-02 00:00"),
        f"/s -> {'t' * 300}": ("lrwxrwxrwx", "0/0", "1970-01-01 00:00"),
    }
    out = tmp_path / "out"
    command = ["unsquashfs", "-offset", str(offset), "-d", str(out), str(image), "d/tool", "d/zeros", "d/linked"]
    subprocess.run(command, capture_output=True, check=True)
    assert (out / "d" / "tool").read_bytes() == b"abc"
    assert (out / "d" / "zeros").read_bytes() == bytes(300_000)
    assert (out / "d" / "linked").stat().st_ino == (out / "d" / "tool").stat().st_ino


@needs_tar
def test_a_second_archive_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    """The bytes before the offset are written when all is packed, so they may be lost."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    packer = real()
    for image, stacks in ((once, [[]]), (twice, [MANY, []])):
        image.write_bytes(b"old" * 10_000_000)
        with partition(image, 4096) as place:
            for more in stacks:
                with packer.packing(place, 7, ROOT) as pipe:
                    write_tree(pipe, more)
    assert twice.read_bytes() == once.read_bytes()
    assert once.stat().st_size < 1_000_000


@needs_tar
def test_an_image_ends_where_its_file_does(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with partition(image, 4096) as place, real().packing(place, 0, ROOT) as pipe:
        write_tree(pipe)
    used = int.from_bytes(image.read_bytes()[4096 + 40 : 4096 + 48], "little")
    assert used <= image.stat().st_size - 4096 < used + 4096


@needs_tar
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_same_archive_gives_the_same_bytes_however_many_processors_there_are(
    tmp_path: Path, compression: str
) -> None:
    images = []
    for number, processors in enumerate((1, 2, 2, None)):
        image = tmp_path / str(number)
        bounds = {"processors": processors} if processors else {}
        with partition(image, 4096) as place, real(compression, **bounds).packing(place, 86400 * 3, ROOT) as pipe:
            write_tree(pipe, MANY)
        images.append(image.read_bytes())
    assert len(set(images)) == 1


@needs_mksquashfs
def test_the_same_directory_gives_the_same_bytes_however_many_processors_there_are(tmp_path: Path, tree: Path) -> None:
    images = []
    for processors in (1, 2):
        image = tmp_path / str(processors)
        with partition(image) as place:
            real(processors=processors).pack(str(tree), place, 5, as_root=True)
        images.append(image.read_bytes())
    assert images[0] == images[1]


@needs_tar
def test_the_least_memory_is_enough(tmp_path: Path, place: Partition) -> None:
    with real(memory=64).packing(place, 0, ROOT) as pipe:
        write_tree(pipe, MANY)
    assert len(listing(tmp_path / "image")) == 206 + 1


# Failures


def children() -> set[str]:
    """Return the processes that this one has started and not yet waited for."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ends meanwhile
            number, _name, rest = re.split(r" \((.*)\) ", process.read_text(encoding="utf-8"), maxsplit=1)
            if int(rest.split()[1]) == os.getpid():
                found.add(number)
    return found


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Check that the program ends, whatever happens."""
    before = children()
    yield
    assert children() == before


@needs_mksquashfs
def test_the_programs_own_words_are_in_the_error(tmp_path: Path, place: Partition) -> None:
    packer = real()
    with pytest.raises(PackerError) as error:
        packer.pack(str(tmp_path / "none"), place, 0, as_root=True)
    assert str(error.value).startswith(f"{packer.path} {packer.version} failed with status 1: ")
    assert f"{tmp_path}/none" in str(error.value)


FULL = "no space left in /images while the image was packed; free some, or choose another directory"


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("body", "full", "kind", "words"),
    [
        (
            "echo 'Write failed because No space left on device'; echo 'FATAL ERROR: Failed to write' >&2; exit 3",
            False,
            NoSpace,
            FULL,
        ),
        ("echo 'FATAL ERROR: Failed to write to output filesystem'; exit 3", True, NoSpace, FULL),
        ("echo 'Write failed because Disk quota exceeded'; exit 1", False, NoSpace, FULL),
        (
            "echo 'FATAL ERROR: Failed to write to output filesystem'; exit 3",
            False,
            PackerError,
            "/mksquashfs 4.5.1 failed with status 3: FATAL ERROR: Failed to write to output filesystem",
        ),
        (
            "echo 'FATAL ERROR: Out of memory' >&2; exit 3",
            True,
            PackerError,
            "/mksquashfs 4.5.1 failed with status 3: FATAL ERROR: Out of memory",
        ),
        ("kill -9 $$", True, PackerError, "/mksquashfs 4.5.1 was killed by signal 9: "),
        ("printf %0900d 7 >&2; exit 1", False, PackerError, f"failed with status 1: {'0' * 799}7"),
    ],
)
def test_a_full_file_system_is_told_from_other_failures(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: Partition,
    body: str,
    full: bool,
    kind: type[Exception],
    words: str,
    streaming: bool,
) -> None:
    packer = Packer(install("mksquashfs", body), "4.5.1", "zstd", 3)
    available = 0 if full else 2**30
    monkeypatch.setattr(os, "fstatvfs", lambda _file: os.statvfs_result((1, 1, 0, 0, available, 0, 0, 0, 0, 255)))

    def run() -> None:
        if not streaming:
            packer.pack(str(tmp_path), place, 0, as_root=True)
            return
        with packer.packing(place, 0, ROOT):
            pass

    with pytest.raises(kind) as error:
        run()
    assert str(error.value).endswith(words)


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("first", ["", "head -c 100000 >/dev/null\n"])
@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            "echo 'FATAL ERROR: bad header' >&2; exit 1",
            "/mksquashfs 4.5.1 failed with status 1: FATAL ERROR: bad header",
        ),
        ("kill -11 $$", "/mksquashfs 4.5.1 was killed by signal 11: "),
        ("exit 0", "/mksquashfs 4.5.1 did not take all: it stopped reading, and said nothing"),
        ("echo skipped; exit 0", "/mksquashfs 4.5.1 did not take all: skipped"),
    ],
)
def test_a_program_that_ends_before_its_archive_is_an_error_in_its_own_words(
    programs: Path,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    place: Partition,
    first: str,
    end: str,
    message: str,
) -> None:
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    packer = Packer(install("mksquashfs", first + end), "4.5.1", "gzip", 1)

    def write_without_end() -> None:
        with packer.packing(place, 0, ROOT) as pipe:
            while True:
                pipe.write(bytes(100_000))

    with pytest.raises(PackerError) as error:
        write_without_end()
    assert str(error.value).endswith(message)


@pytest.mark.usefixtures("no_process_left")
def test_a_program_that_complains_and_goes_on_is_an_error(
    programs: Path, install: Install, monkeypatch: pytest.MonkeyPatch, place: Partition
) -> None:
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    packer = Packer(install("mksquashfs", "cat >/dev/null\necho 'file skipped' >&2"), "4.5.1", "gzip", 1)
    with pytest.raises(PackerError, match=r"did not take all: file skipped$"), packer.packing(place, 0, ROOT) as pipe:
        pipe.write(b"x")


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("raised", [ValueError("own"), KeyboardInterrupt(), NoSpace("own"), OSError(5, "own")])
@pytest.mark.parametrize("body", ["cat >/dev/null; exit 0", "exec sleep 600", "exit 1"])
def test_an_exception_of_the_block_goes_through_and_ends_the_program(
    programs: Path,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    place: Partition,
    raised: BaseException,
    body: str,
) -> None:
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    packer = Packer(install("mksquashfs", body), "4.6", "gzip", 1)
    with pytest.raises(type(raised)) as caught, packer.packing(place, 0, ROOT):
        raise raised
    assert caught.value is raised


@needs_tar
@pytest.mark.usefixtures("no_process_left")
def test_half_an_archive_never_becomes_an_image(tmp_path: Path, place: Partition) -> None:
    def begin() -> None:
        with real().packing(place, 0, ROOT) as pipe:
            for entry, data in MANY:
                TarWriter(pipe).add(entry, [memoryview(data)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin()
    assert (tmp_path / "image").read_bytes()[:4] != b"hsqs"


@needs_tar
@pytest.mark.usefixtures("no_process_left")
def test_what_is_no_archive_is_an_error_in_the_programs_own_words(place: Partition) -> None:
    packer = real()
    message = f"^{packer.path} {packer.version} (failed|did not take)"
    with pytest.raises(PackerError, match=message), packer.packing(place, 0, ROOT) as pipe:
        pipe.write(b"no archive at all" * 1000)


@needs_tar
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("offset", [0, 4096])
def test_a_full_disk_is_said_while_an_archive_is_packed(small_disk: Path, offset: int) -> None:
    noise = [Random(number).randbytes(1 << 20) for number in range(8)]
    entries = [(Entry(b"n", "file", 0o644, 0, 0, 0, 1 << 20)._replace(path=b"%d" % n), noise[n]) for n in range(8)]
    with (
        pytest.raises(NoSpace) as error,
        partition(small_disk / "image", offset) as place,
        real().packing(place, 0, ROOT) as pipe,
    ):
        write_tree(pipe, entries)
    assert str(error.value) == FULL


@needs_mksquashfs
@pytest.mark.usefixtures("no_process_left")
def test_a_full_disk_is_said_while_a_directory_is_packed(small_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "noise").write_bytes(Random(1).randbytes(3 << 20))
    with pytest.raises(NoSpace) as error, partition(small_disk / "image") as place:
        real().pack(str(source), place, 0, as_root=True)
    assert str(error.value) == FULL


def test_a_packer_that_vanished_is_named(tmp_path: Path, place: Partition) -> None:
    packer = Packer(str(tmp_path / "none"), "4.5.1", "zstd", 3)
    message = f"^cannot run {tmp_path}/none: No such file or directory$"
    with pytest.raises(PackerError, match=message):
        packer.pack(str(tmp_path), place, 0, as_root=True)
    with pytest.raises(PackerError, match=message), packer.packing(place, 0, ROOT):
        pytest.fail("the block ran")
