# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The formats of images, told by their content: SIF, the bare file systems of Singularity 2, and sandboxes.

A file of Singularity 2 begins with an interpreter line, and its file system follows; without the line, that begins the
file. Source: ``pkg/image`` of apptainer/apptainer, which decides what the engine runs.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from ..errors import InvalidImage, InvalidSif
from ..fs.files import storage_error
from ..late import importing

SIF, SQUASHFS, EXT3, SANDBOX = "sif", "squashfs", "ext3", "sandbox"
SUFFIXES = {SIF: ".sif", SQUASHFS: ".simg", EXT3: ".img"}  # a sandbox is not a file

_LAUNCH = b" run-singularity"
_HEAD = 4096  # bytes that hold all that is looked at
_SIF_MAGIC, _SIF_MAGIC_OFFSET = b"SIF_MAGIC\0", 32
_SQUASHFS_MAGIC = b"hsqs"
_SQUASHFS_USED = struct.Struct("<Q")  # bytes_used, at 40 of the superblock (squashfs 4.0)
_EXT_SUPERBLOCK = 1024
_EXT = struct.Struct("<4xI16xI28xH")  # s_blocks_count at 4, s_log_block_size at 24, s_magic at 56
_EXT_MAGIC = 0xEF53
_MAX_LOG_BLOCK_SIZE = 6


@dataclass(frozen=True)
class Format:
    """The format of an image file: its name, and the architecture in Go's spelling, where the file tells it."""

    name: str
    architecture: str | None = None

    @property
    def suffix(self) -> str:
        """The ending of a file's name, with its dot."""
        return SUFFIXES[self.name]


def identify(path: str) -> Format:
    """Tell the format of a file, and whether all of it is there.

    :raises InvalidImage: if it is not an image, or a truncated one.
    :raises FileNotFoundError: if there is none.
    """
    head, size = _head(path)
    if _is_sif(head):
        return _sif(path)
    for name, end in _file_systems(head):
        if end > size:
            raise InvalidImage(f"{path} is truncated: it has {size} of {end} bytes; fetch or copy it again")
        return Format(name)
    raise InvalidImage(
        f"{path} is not an image: it is neither a SIF nor one of Singularity 2 (squashfs or ext3); "
        "build an image of it first, with apptainer build or singularity build"
    )


def is_image(path: str) -> bool:
    """Tell whether a regular file begins as a SIF or a squashfs image does, whole or not.

    :raises StorageError: if it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise storage_error(error, path) from error
    return _is_sif(head) or head.startswith(_SQUASHFS_MAGIC)


def begins_as_image(path: str) -> bool:
    """Tell whether a file begins as an image of any format does, whole or not.

    :raises InvalidImage: if it is not a regular file, or cannot be read.
    :raises FileNotFoundError: if there is none.
    """
    head, _size = _head(path)
    return _is_engines(head) or bool(_file_systems(head))


def is_left_by_an_engine(path: str) -> bool:
    """Tell whether a file is an image, or the beginning of one, beyond doubt. An empty file is nobody's work either.

    An ext file system without the interpreter line of Singularity 2 may be an overlay, or the disk of a machine.

    :raises InvalidImage, FileNotFoundError: as ``begins_as_image``.
    """
    head, size = _head(path)
    return size == 0 or _is_engines(head)


def is_sandbox(path: str) -> bool:
    """Tell whether a directory is what an engine has built."""
    return os.path.isdir(os.path.join(path, ".singularity.d"))


def _head(path: str) -> tuple[bytes, int]:
    """Return the first bytes of a regular file, and its size."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _irregular(path)
            return stream.read(_HEAD), status.st_size
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise _irregular(path) from error
    except OSError as error:
        raise InvalidImage(f"cannot read {path}: {error.strerror}; let this user read it") from error


def _is_engines(head: bytes) -> bool:
    """Tell whether a file begins as only what an engine has made does."""
    return _is_sif(head) or _is_launched(head) or head.startswith(_SQUASHFS_MAGIC)


def _is_launched(head: bytes) -> bool:
    """Tell whether a file begins with the interpreter line that makes it run itself."""
    return head.startswith(b"#!") and head.partition(b"\n")[0].endswith(_LAUNCH)


def _is_sif(head: bytes) -> bool:
    return head[_SIF_MAGIC_OFFSET:].startswith(_SIF_MAGIC)


def _irregular(path: str) -> InvalidImage:
    return InvalidImage(
        f"{path} is not a regular file; give the path of an image file (of a sandbox, build a SIF first)"
    )


def _sif(path: str) -> Format:
    with importing:
        from . import container  # who asks about directories need not know

    try:
        return Format(SIF, container.read_header(path).architecture)
    except InvalidSif as error:
        raise InvalidImage(f"{error}; fetch or copy it again") from error


def _file_systems(head: bytes) -> list[tuple[str, int]]:
    """Find the file system at the beginning of a file, or after an interpreter line: its format, and where it ends."""
    launch = head.find(_LAUNCH)
    offset = launch + len(_LAUNCH) + 1 if launch > 0 else 0
    ends = ((SQUASHFS, _squashfs_end(head[offset:])), (EXT3, _ext_end(head[offset:])))
    return [(name, offset + end) for name, end in ends if end is not None]


def _squashfs_end(superblock: bytes) -> int | None:
    """Return where a squashfs ends that begins here; None if none does."""
    if not superblock.startswith(_SQUASHFS_MAGIC) or len(superblock) < 48:
        return None
    return int(_SQUASHFS_USED.unpack_from(superblock, 40)[0])


def _ext_end(head: bytes) -> int | None:
    """Return where an ext file system ends that begins here; None if none does."""
    if len(head) < _EXT_SUPERBLOCK + _EXT.size:
        return None
    blocks, log_block_size, magic = _EXT.unpack_from(head, _EXT_SUPERBLOCK)
    if magic != _EXT_MAGIC or log_block_size > _MAX_LOG_BLOCK_SIZE:
        return None
    return int(blocks * (1024 << log_block_size))
