# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that packs a directory into a squashfs image: which one, which version, which options."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from .errors import NoSpace, PackerError
from .files import storage_error

_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")
_ZSTD_KERNEL = (4, 14)  # the first Linux whose squashfs reads zstd
_ZSTD_SQUASHFUSE = (0, 1, 101)
# Options after -comp. The programs' own defaults (zstd 15, gzip 9) are many times slower for a few per cent of size.
_OPTIONS = {
    "zstd": ("-comp", "zstd", "-Xcompression-level", "3"),
    "gzip": ("-comp", "gzip", "-Xcompression-level", "1"),
}


@dataclass(frozen=True)
class Packer:
    """A mksquashfs executable with its version and the compression that suits this host."""

    path: str
    version: str
    compression: str

    def pack(self, directory: str, target: str, as_root: bool) -> None:
        """Pack a directory into a new squashfs image.

        :param as_root: give all files to root, for a directory that an ordinary user wrote.
        :raises PackerError: with the program's own words, if it fails.
        :raises NoSpace: if it ran out of room.
        """
        command = [self.path, directory, target, "-noappend", "-no-progress", "-quiet", *_OPTIONS[self.compression]]
        if as_root:
            command.append("-all-root")
        result = _run(command)
        said = (result.stderr + result.stdout).decode("utf-8", "replace").strip()
        if result.returncode != 0:
            place = os.path.dirname(target)
            if "No space left" in said or ("Failed to write" in said and _full(place)):
                raise NoSpace(f"no space left in {place} while packing the image; free some or give tmpdir")
            raise PackerError(f"{self.path} {self.version} failed with status {result.returncode}: {said[-800:]}")


def find() -> Packer:
    """The mksquashfs of this host.

    :raises PackerError: naming the package that brings it.
    """
    search = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_DIRECTORIES))
    path = shutil.which("mksquashfs", path=search)
    if not path:
        raise PackerError("there is no mksquashfs on this host; install the package squashfs-tools (squashfs on SUSE)")
    result = _run([path, "-version"])
    match = re.search(rb"version ([0-9][0-9A-Za-z.-]*)", result.stdout + result.stderr)
    version = match.group(1).decode() if match else "of unknown version"
    zstd = _kernel_reads_zstd() and _squashfuse_reads_zstd(search) and _packs(path, "zstd")
    return Packer(path, version, "zstd" if zstd else "gzip")


def _packs(path: str, compression: str) -> bool:
    """Ask the program by doing: how it lists its compressors differs from version to version."""
    try:
        with tempfile.TemporaryDirectory(prefix="sregistry-packer-") as directory:
            source = os.path.join(directory, "empty")
            os.mkdir(source)
            command = [path, source, os.path.join(directory, "image"), "-noappend", *_OPTIONS[compression]]
            return _run(command).returncode == 0
    except OSError as error:
        raise storage_error(error, tempfile.tempdir or "the temporary directory") from error


def _kernel_reads_zstd() -> bool:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return match is not None and (int(match.group(1)), int(match.group(2))) >= _ZSTD_KERNEL


def _squashfuse_reads_zstd(search: str) -> bool:
    """Ordinary users mount by squashfuse; where there is none installed, the kernel or the engine's own counts."""
    path = shutil.which("squashfuse", path=search)
    if not path:
        return True
    result = _run([path, "--help"])
    match = re.search(rb"squashfuse (\d+)\.(\d+)(?:\.(\d+))?", result.stdout + result.stderr)
    return not match or tuple(int(part or 0) for part in match.groups()) >= _ZSTD_SQUASHFUSE


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, env=_environment())
    except OSError as error:
        raise PackerError(f"cannot run {command[0]}: {error.strerror}") from error


def _environment() -> dict[str, str]:
    """SOURCE_DATE_EPOCH and the like must not leak in from whoever runs Ansible."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _full(directory: str) -> bool:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize < 1024 * 1024
