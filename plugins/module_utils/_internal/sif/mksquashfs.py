# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that packs a tree into a squashfs image: which one, which version, which options."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, cast

from .. import programs
from ..errors import NoSpace, PackerError
from ..fs.files import storage_error
from ..layers.tar import Entry

_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")
_ENGINE_DIRECTORIES = (
    "/usr/libexec/apptainer/bin",
    "/usr/local/libexec/apptainer/bin",
    "/opt/apptainer/libexec/apptainer/bin",
)
_ZSTD_KERNEL = (4, 14)  # the first Linux whose squashfs reads zstd
_ZSTD_SQUASHFUSE = (0, 1, 101)
# The level unless one is given, and the highest. The programs' own defaults (zstd 15, gzip 9) are many times slower for
# a few per cent of size.
_LEVELS = {"zstd": (3, 22), "gzip": (1, 9)}
_QUIETLY = ("-noappend", "-no-progress", "-quiet", "-no-exports")
# Versions that have to be treated with care (the change log of squashfs-tools, and its sources):
_READS_TAR = (4, 5)
_SETS_ROOT = (4, 6)  # before, with -tar, -root-uid, -root-gid and -root-time are accepted and do nothing
_CUTS_OFFSET = ((4, 7),)  # writes a damaged image with -o, and says nothing
_RACES_ON_ZEROS = ((4, 7, 3), (4, 7, 4))  # may damage files that are all zeros
_USUAL_MEMORY = 256  # MiB; more makes it no faster, and a fixed bound makes 4.7 reproducible
_LEAST_MEMORY = 64
_FULL = (b"No space left", b"Disk quota exceeded", b"File too large")
_XATTR_TABLE = 56  # where the superblock tells the place of the table, and where in that nothing is
_XATTR_UNUSED = 12
_PIPE = 1024 * 1024  # bytes; each switch between two programs costs
_F_SETPIPE_SZ = 1031  # Linux; Python 3.9 has no name for it


@dataclass(frozen=True)
class Partition:
    """The place of an image: an open file, from an offset in bytes to its end; ``where`` names the place in errors."""

    descriptor: int
    offset: int
    where: str = "the place of the image"


@dataclass(frozen=True)
class Packer:
    """A mksquashfs executable with its version, and the options that it packs with.

    ``level`` is None for a compression that has none. ``processors`` is None for all; ``memory`` is in MiB.
    """

    path: str
    version: str
    compression: str
    level: int | None
    processors: int | None = None
    memory: int = _USUAL_MEMORY

    @property
    def arguments(self) -> str:
        """The arguments for a program that runs mksquashfs itself, so that it packs like this."""
        bound = [] if self.processors is None else ["-processors", str(self.processors)]
        return " ".join([*_compression_options(self.compression, self.level), *bound, "-mem", f"{self.memory}M"])

    @property
    def offsets(self) -> bool:
        """Tell whether it can leave room in front of an image."""
        return _numbers(self.version) not in _CUTS_OFFSET

    def refuses(self, root: Entry, newest: int, moment: int | None) -> str | None:
        """Return why it cannot pack a tree from a tar archive, None if it can.

        :param root: the root directory.
        :param newest: the latest time of any entry.
        :param moment: the time stamp that the image must have; None for any.
        """
        version = _numbers(self.version)
        if version < _READS_TAR:
            return f"mksquashfs {self.version} does not read tar archives, as 4.5 and later do"
        if root.xattrs:
            return "the root directory has extended attributes, which mksquashfs does not take from a tar archive"
        if version < _SETS_ROOT:
            if (root.uid, root.gid) != (os.geteuid(), os.getegid()):
                return f"mksquashfs {self.version} gives the root directory of a tar archive to the user that runs it"
            if moment is not None and newest > moment:
                return f"mksquashfs {self.version} cannot date an image that holds newer files from a tar archive"
        return None

    def pack(self, directory: str, partition: Partition, moment: int, as_root: bool) -> None:
        """Pack a directory.

        :param moment: the time stamp of the image, in seconds since the epoch.
        :param as_root: give all files to root, for a directory that an ordinary user wrote.
        :raises PackerError: with the program's own words, if it fails.
        :raises NoSpace: if it ran out of room.
        """
        command = [self.path, directory, _path(partition), *self._options(partition), "-mkfs-time", str(moment)]
        if as_root:
            command.append("-all-root")
        result = _run(command, (partition.descriptor,))
        self._judge(result.returncode, result.stderr + result.stdout, partition)
        if _numbers(self.version) < _READS_TAR:
            _clear_unused(partition)

    @contextmanager
    def packing(self, partition: Partition, moment: int, root: Entry) -> Iterator[IO[bytes]]:
        """Pack a tar archive that a block writes to the unbuffered stream it is given.

        :param root: the root directory, which the program does not take from an archive.
        :raises PackerError: with the program's own words, if it fails, or does not take all of the archive.
        :raises NoSpace: if it ran out of room.
        """
        command = [self.path, "-", _path(partition), "-tar", *self._options(partition), "-root-mode", f"{root.mode:o}"]
        environment = {}
        if _numbers(self.version) >= _SETS_ROOT:
            command += ["-root-uid", str(root.uid), "-root-gid", str(root.gid), "-root-time", str(root.mtime)]
            command += ["-mkfs-time", str(moment)]
        else:
            environment["SOURCE_DATE_EPOCH"] = str(moment)  # the only way to date the root directory
        with tempfile.TemporaryFile() as words:
            process = _start(command, words, partition.descriptor, environment)
            pipe = cast("IO[bytes]", process.stdin)
            with suppress(OSError):
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
            broken = False
            try:
                yield pipe
            except BrokenPipeError:  # its own words say why
                broken = True
            except BaseException:
                process.kill()  # else it takes the end of its input for the end of the archive
                raise
            finally:
                pipe.close()
                process.wait()
            words.seek(0)
            said = words.read()
            self._judge(process.returncode, said, partition)
            if broken or said.strip():
                why = _shortened(said) or "it stopped reading, and said nothing"
                raise PackerError(f"{self.path} {self.version} did not take all: {why}")

    def _options(self, partition: Partition) -> list[str]:
        options = [*_QUIETLY, *_compression_options(self.compression, self.level), "-mem", f"{self.memory}M"]
        if partition.offset:
            options += ["-o", str(partition.offset)]
        if self.processors:
            options += ["-processors", str(self.processors)]
        if _numbers(self.version) in _RACES_ON_ZEROS:
            options.append("-no-sparse")
        return options

    def _judge(self, status: int, output: bytes, partition: Partition) -> None:
        if status == 0:
            return
        if any(words in output for words in _FULL) or (b"Failed to write" in output and _full(partition.descriptor)):
            raise NoSpace(
                f"no space left in {partition.where} while the image was packed; free some, or choose another directory"
            )
        ended = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
        raise PackerError(f"{self.path} {self.version} {ended}: {_shortened(output)}")


def find_packer(
    compression: str | None = None, level: int | None = None, processors: int | None = None, memory: int | None = None
) -> Packer:
    """Return the mksquashfs of this host: the first of 4.6 or later, else of 4.5, else the first with a version.

    :param compression: None for the best that this host can mount: zstd, else gzip.
    :param level: of the compression, for zstd and gzip.
    :param memory: MiB.
    :raises PackerError: naming the package that brings it, or what it cannot do.
    """
    if memory is not None and memory < _LEAST_MEMORY:
        raise PackerError(f"mksquashfs cannot work with {memory} MiB of memory; give {_LEAST_MEMORY}M or more")
    if processors is not None and processors < 1:
        raise PackerError(f"mksquashfs cannot work with {processors} processors; give 1 or more")
    found = [(path, _version(path)) for path in _candidates()]
    if not found:
        raise PackerError("there is no mksquashfs on this host; install the package squashfs-tools (squashfs on SUSE)")
    path, version = max(found, key=lambda item: _merit(item[1]))  # of equals, the first
    choices = _suitable(compression)
    objection = None
    for choice in choices:
        objection = _objection(path, choice)
        if objection is None:
            return Packer(path, version, choice, _level(choice, level), processors, memory or _USUAL_MEMORY)
    if "gzip" in choices or _objection(path, "gzip") is not None:
        raise PackerError(f"{path} {version} cannot pack anything: {objection or 'it says nothing'}")
    raise PackerError(f"{path} {version} was built without {compression}; ask for compression: auto, or another one")


def mountable(compression: str | None = None, level: int | None = None) -> list[tuple[str, int | None]]:
    """Return the compressions, with their levels, of files for this host, the best first; no packer is needed.

    :param compression, level: as for ``find_packer``.
    :raises PackerError: if none has such a level.
    """
    found, objection = [], None
    for choice in _suitable(compression):
        try:
            found.append((choice, _level(choice, level)))
        except PackerError as error:
            objection = objection or error
    if not found and objection:
        raise objection
    return found


def _suitable(compression: str | None) -> list[str]:
    if compression:
        return [compression]
    return ["zstd", "gzip"] if _kernel_reads_zstd() and _squashfuse_reads_zstd() else ["gzip"]


def _candidates() -> list[str]:
    """Return all programs of this name; packages of Apptainer 1.4 and later bring one of their own, often newer."""
    paths = (shutil.which("mksquashfs", path=directory) for directory in _search())
    return list(dict.fromkeys(path for path in paths if path))


def _merit(version: str) -> int:
    numbers = _numbers(version)
    return (numbers >= _SETS_ROOT) + (numbers >= _READS_TAR) + (numbers > ())


def _search() -> list[str]:
    return [*os.environ.get("PATH", "").split(os.pathsep), *_SYSTEM_DIRECTORIES, *_ENGINE_DIRECTORIES]


def _version(path: str) -> str:
    result = _run([path, "-version"])
    match = re.search(rb"version ([0-9][0-9A-Za-z.-]*)", result.stdout + result.stderr)
    return match.group(1).decode() if match else "of unknown version"


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version for comparisons; an unknown one comes before all others."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def _level(compression: str, level: int | None) -> int | None:
    usual, highest = _LEVELS.get(compression, (None, 0))
    if level is not None and not 1 <= level <= highest:
        allowed = f"from 1 to {highest}" if highest else "none"
        raise PackerError(f"the compression {compression} has no level {level} ({allowed}); give another or none")
    return usual if level is None else level


def _compression_options(compression: str, level: int | None) -> list[str]:
    return ["-comp", compression, *(["-Xcompression-level", str(level)] if level is not None else [])]


def _objection(path: str, compression: str) -> str | None:
    """Ask the program by doing: how it lists its compressors differs from version to version. None if it can.

    The image goes into a file without a name, of which nothing is left whatever happens.
    """
    options = _compression_options(compression, _LEVELS.get(compression, (None, 0))[0])
    try:
        with tempfile.TemporaryFile() as image:
            target = _path(Partition(image.fileno(), 0))
            result = _run([path, os.devnull, target, "-noappend", *options], (image.fileno(),))
    except OSError as error:
        raise storage_error(error, tempfile.tempdir or "the temporary directory") from error
    return None if result.returncode == 0 else _shortened(result.stderr + result.stdout)


def _kernel_reads_zstd() -> bool:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return match is not None and (int(match.group(1)), int(match.group(2))) >= _ZSTD_KERNEL


def _squashfuse_reads_zstd() -> bool:
    """Tell whether squashfuse, for mounts of ordinary users, reads zstd; without it, others' support counts."""
    path = shutil.which("squashfuse", path=os.pathsep.join(_search()))
    if not path:
        return True
    result = _run([path, "--help"])
    match = re.search(rb"squashfuse (\d+)\.(\d+)(?:\.(\d+))?", result.stdout + result.stderr)
    return not match or tuple(int(part or 0) for part in match.groups()) >= _ZSTD_SQUASHFUSE


def _shortened(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()[-800:]


def _run(command: list[str], descriptors: tuple[int, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=programs.bare(),
            pass_fds=descriptors,
        )
    except OSError as error:
        raise PackerError(f"cannot run {command[0]}: {error.strerror}") from error


def _start(
    command: list[str], words: IO[bytes], descriptor: int, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=words,
            env=programs.bare(**environment),
            pass_fds=(descriptor,),
        )
    except OSError as error:
        raise PackerError(f"cannot run {command[0]}: {error.strerror}") from error


def _clear_unused(partition: Partition) -> None:
    """Set to zero what mksquashfs before 4.5 leaves to chance: the unused field of the table of extended attributes.

    Source: Linux, ``fs/squashfs/squashfs_fs.h``, ``squashfs_super_block`` and ``squashfs_xattr_id_table``.
    """
    (table,) = struct.unpack("<q", os.pread(partition.descriptor, 8, partition.offset + _XATTR_TABLE))
    if table >= 0:
        os.pwrite(partition.descriptor, bytes(4), partition.offset + table + _XATTR_UNUSED)


def _path(partition: Partition) -> str:
    """Return the file under a name that no one else can put another file at."""
    return f"/proc/self/fd/{partition.descriptor}"


def _full(descriptor: int) -> bool:
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize < 1024 * 1024
