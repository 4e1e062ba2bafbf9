# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that packs a tree into a squashfs image: which one, which version, which options."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

from .errors import NoSpace, PackerError
from .files import storage_error
from .tar import DIRECTORY, Entry

AUTO = "auto"
COMPRESSIONS = ("zstd", "gzip", "lz4", "xz")

_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")
_ZSTD_KERNEL = (4, 14)  # the first Linux whose squashfs reads zstd
_ZSTD_SQUASHFUSE = (0, 1, 101)
# The level unless one is given, and the highest. The programs' own defaults (zstd 15, gzip 9) are many times slower for
# a few per cent of size.
_LEVELS = {"zstd": (3, 22), "gzip": (1, 9)}
_QUIETLY = ("-noappend", "-no-progress", "-quiet")
_PIPE = 1024 * 1024  # bytes; each switch between two programs costs
_F_SETPIPE_SZ = 1031  # Linux; Python 3.9 has no name for it
_NOTHING = Entry(b"", DIRECTORY, 0o755, 0, 0, 0)


@dataclass(frozen=True)
class Partition:
    """Where an image goes: an open file, from an offset in bytes to its end. Its own time stamps are ``moment``, in
    seconds since the epoch.
    """

    descriptor: int
    offset: int
    moment: int


@dataclass(frozen=True)
class Packer:
    """A mksquashfs executable with its version, and how it shall pack.

    ``level`` is None for a compression that has none. ``streams`` tells whether it reads tar archives. ``processors``
    and ``memory`` (MiB) bound what it uses, None if they do not.
    """

    path: str
    version: str
    compression: str
    level: int | None
    streams: bool
    processors: int | None = None
    memory: int | None = None

    def pack(self, directory: str, partition: Partition, as_root: bool) -> None:
        """Pack a directory.

        :param as_root: give all files to root, for a directory that an ordinary user wrote.
        :raises PackerError: with the program's own words, if it fails.
        :raises NoSpace: if it ran out of room.
        """
        command = [self.path, directory, _path(partition), *self._options(partition)]
        if as_root:
            command.append("-all-root")
        result = _run(command, (partition.descriptor,))
        self._judge(result.returncode, result.stderr + result.stdout, partition)

    @contextmanager
    def packing(self, partition: Partition, root: Entry) -> Iterator[IO[bytes]]:
        """Pack a tar archive that a block writes to the unbuffered stream it is given.

        :param root: mode and owner of the root directory, which the program does not take from an archive.
        :raises PackerError: with the program's own words, if it fails.
        :raises NoSpace: if it ran out of room.
        """
        command = [self.path, "-", _path(partition), "-tar", *self._options(partition), *_root_options(root, partition.moment)]
        with tempfile.TemporaryFile() as words:
            process = _start(command, words, partition.descriptor)
            pipe = cast("IO[bytes]", process.stdin)
            with suppress(OSError):
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
            try:
                with suppress(BrokenPipeError):  # it died; its own words say why
                    yield pipe
                with suppress(BrokenPipeError):
                    pipe.close()
            except BaseException:
                process.kill()
                raise
            finally:
                with suppress(BrokenPipeError):
                    pipe.close()
                process.wait()
            words.seek(0)
            self._judge(process.returncode, words.read(), partition)

    def _options(self, partition: Partition) -> list[str]:
        options = [*_QUIETLY, *_compression_options(self.compression, self.level)]
        options += ["-o", str(partition.offset), "-mkfs-time", str(partition.moment)]
        if self.processors:
            options += ["-processors", str(self.processors)]
        if self.memory:
            options += ["-mem", f"{self.memory}M"]
        return options

    def _judge(self, status: int, output: bytes, partition: Partition) -> None:
        if status == 0:
            return
        said = output.decode("utf-8", "replace").strip()
        if "No space left" in said or ("Failed to write" in said and _full(partition.descriptor)):
            raise NoSpace("no space left for the image while it was packed; free some, or choose another directory")
        raise PackerError(f"{self.path} {self.version} failed with status {status}: {said[-800:]}")


def find(
    compression: str = AUTO, level: int | None = None, processors: int | None = None, memory: int | None = None
) -> Packer:
    """The mksquashfs of this host.

    :param compression: one of ``COMPRESSIONS``, or ``auto``: zstd where this host can also mount it, else gzip.
    :param level: of the compression, for zstd and gzip.
    :raises PackerError: naming the package that brings it, or what it cannot do.
    """
    search = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_DIRECTORIES))
    path = shutil.which("mksquashfs", path=search)
    if not path:
        raise PackerError("there is no mksquashfs on this host; install the package squashfs-tools (squashfs on SUSE)")
    result = _run([path, "-version"])
    match = re.search(rb"version ([0-9][0-9A-Za-z.-]*)", result.stdout + result.stderr)
    version = match.group(1).decode() if match else "of unknown version"
    if compression == AUTO:
        zstd = _kernel_reads_zstd() and _squashfuse_reads_zstd(search) and _packs(path, "zstd", 1)
        compression = "zstd" if zstd else "gzip"
    elif not _packs(path, compression, None):
        raise PackerError(f"{path} {version} was built without {compression}; ask for compression: auto, or another one")
    return Packer(path, version, compression, _level(compression, level), _reads_tar(path), processors, memory)


def _level(compression: str, level: int | None) -> int | None:
    usual, highest = _LEVELS.get(compression, (None, 0))
    if level is not None and not 1 <= level <= highest:
        allowed = f"from 1 to {highest}" if highest else "none"
        raise PackerError(f"the compression {compression} has no level {level} ({allowed}); give another or none")
    return usual if level is None else level


def _compression_options(compression: str, level: int | None) -> list[str]:
    return ["-comp", compression, *(["-Xcompression-level", str(level)] if level is not None else [])]


def _root_options(root: Entry, moment: int) -> list[str]:
    options = ["-root-mode", f"{root.mode:o}", "-root-time", str(moment)]
    return [*options, "-root-uid", str(root.uid), "-root-gid", str(root.gid)]


def _packs(path: str, compression: str, level: int | None) -> bool:
    """Ask the program by doing: how it lists its compressors differs from version to version."""
    with _trial() as directory:
        source = os.path.join(directory, "empty")
        os.mkdir(source)
        target = os.path.join(directory, "image")
        return _run([path, source, target, "-noappend", *_compression_options(compression, level)]).returncode == 0


def _reads_tar(path: str) -> bool:
    """Whether it packs an archive of nothing, with the options that packing one for real takes."""
    with _trial() as directory:
        command = [path, "-", os.path.join(directory, "image"), "-tar", *_QUIETLY, *_root_options(_NOTHING, 0)]
        return _run(command, archive=bytes(1024)).returncode == 0


@contextmanager
def _trial() -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory(prefix="sregistry-packer-") as directory:
            yield directory
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


def _run(
    command: list[str], descriptors: tuple[int, ...] = (), archive: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, capture_output=True, check=False, input=archive, env=_environment(), pass_fds=descriptors
        )
    except OSError as error:
        raise PackerError(f"cannot run {command[0]}: {error.strerror}") from error


def _start(command: list[str], words: IO[bytes], descriptor: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=words,
            env=_environment(),
            pass_fds=(descriptor,),
        )
    except OSError as error:
        raise PackerError(f"cannot run {command[0]}: {error.strerror}") from error


def _path(partition: Partition) -> str:
    """The file under a name that no one else can put another file at."""
    return f"/proc/self/fd/{partition.descriptor}"


def _environment() -> dict[str, str]:
    """SOURCE_DATE_EPOCH and the like must not leak in from whoever runs Ansible."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _full(descriptor: int) -> bool:
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize < 1024 * 1024
