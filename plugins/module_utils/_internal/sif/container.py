# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SIF container format, version 1: header, descriptors, data objects.

All numbers are little-endian and packed. Source: the SIF reference implementation (sylabs/sif, ``pkg/sif``), which both
Apptainer and SingularityCE use.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from ..errors import InvalidSif

DEFINITION, LABELS, PARTITION, SIGNATURE, JSON = 0x4001, 0x4003, 0x4004, 0x4005, 0x4006

_LAUNCH = b"#!/usr/bin/env run-singularity\n"
_MAGIC = b"SIF_MAGIC\0"
_VERSION = b"01\0"
_HEADER = struct.Struct("<32s10s3s3s16s8q")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_PARTITION_EXTRA = struct.Struct("<ii3s")
_DESCRIPTORS = 48
_DESCRIPTORS_OFFSET = 4096
_DATA_OFFSET = 32176  # the descriptors' end, rounded up by the reference implementation
_GROUP, _NO_GROUP = 0xF0000001, 0xF0000000
_FINGERPRINT = slice(4, 24)  # of a signature's extra bytes, after the type of its hash
_MAX_SIGNATURE = 4 * 1024 * 1024  # bytes
_SQUASHFS, _PRIMARY_SYSTEM = 1, 2
_PAGE = 4096
_ARCHITECTURES = {
    "386": b"01",
    "amd64": b"02",
    "arm": b"03",
    "arm64": b"04",
    "ppc64": b"05",
    "ppc64le": b"06",
    "mips": b"07",
    "mipsle": b"08",
    "mips64": b"09",
    "mips64le": b"10",
    "s390x": b"11",
    "riscv64": b"12",
}


@dataclass(frozen=True)
class DataObject:
    """A small data object: its type, its name, its content."""

    type: int
    name: str
    content: bytes


@dataclass(frozen=True)
class HeaderFields:
    """The fields of a new header: its architecture in Go's spelling, its identifier, and the time of the header and of
    every descriptor, in seconds since the epoch.
    """

    architecture: str
    identifier: uuid.UUID
    time: int


@dataclass(frozen=True)
class Header:
    """The header of a SIF: architecture in Go's spelling (None if unknown), end of the data in bytes."""

    architecture: str | None
    end: int


def partition_offset(objects: Sequence[DataObject]) -> int:
    """Return where the partition begins that follows these objects, in bytes from the beginning of the file."""
    return -(-(_DATA_OFFSET + sum(len(item.content) for item in objects)) // _PAGE) * _PAGE


def require_architecture(architecture: str) -> bytes:
    """Return the code of an architecture.

    :raises InvalidSif: if the format knows no such architecture.
    """
    code = _ARCHITECTURES.get(architecture)
    if code is None:
        raise InvalidSif(f"the SIF format has no code for the architecture {architecture!r}")
    return code


def write(target: IO[bytes], fields: HeaderFields, objects: Sequence[DataObject], partition: int) -> None:
    """Make a SIF of a file that holds a squashfs image from an offset to its end: write all that is missing.

    The objects come in their order, then the squashfs as primary system partition. An object for which there is no room
    before the partition lies behind it.

    :param target: open for writing.
    :param partition: where the squashfs begins, in bytes from the beginning of the file.
    :raises InvalidSif: if the format knows no such architecture.
    """
    code = require_architecture(fields.architecture)
    table = []
    packed = end = target.seek(0, os.SEEK_END)
    position = _DATA_OFFSET
    for item in objects:
        size = len(item.content)
        fits = position + size <= partition
        place = position if fits else end
        target.seek(place)
        target.write(item.content)
        table.append(_SifDescriptor(item.type, _GROUP, 0, place, size, item.name.encode(), b"", place))
        position, end = (position + size, end) if fits else (position, end + size)
    extra = _PARTITION_EXTRA.pack(_SQUASHFS, _PRIMARY_SYSTEM, code)
    table.append(_SifDescriptor(PARTITION, _GROUP, 0, partition, packed - partition, b"", extra, position))
    target.seek(_DESCRIPTORS_OFFSET)
    target.write(b"".join(each.packed(number, fields.time) for number, each in enumerate(table, 1)))
    target.seek(0)
    target.write(_packed_header(fields, code, len(table), end - _DATA_OFFSET))


def _packed_header(fields: HeaderFields, code: bytes, used: int, size: int) -> bytes:
    """Return the header of a file with so many descriptors in use, and so many bytes of data."""
    table = (_DESCRIPTORS - used, _DESCRIPTORS, _DESCRIPTORS_OFFSET, _DESCRIPTORS * _DESCRIPTOR.size)
    times = (fields.time, fields.time)
    return _HEADER.pack(_LAUNCH, _MAGIC, _VERSION, code, fields.identifier.bytes, *times, *table, _DATA_OFFSET, size)


def read_header(path: str) -> Header:
    """Read and check the header of a SIF.

    :raises InvalidSif: if the file is not a SIF, or is shorter than its header says.
    :raises OSError: if it cannot be read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):  # nobody may ever write to a pipe
            raise InvalidSif(f"{path} is not a SIF image, nor a regular file")
        raw, length = stream.read(_HEADER.size), status.st_size
    if len(raw) < _HEADER.size or raw[32:42] != _MAGIC:
        raise InvalidSif(f"{path} is not a SIF image")
    fields = _HEADER.unpack(raw)
    code, data_offset, data_size = fields[3].rstrip(b"\0"), fields[-2], fields[-1]
    end = data_offset + data_size
    if end > length:
        raise InvalidSif(f"{path} is truncated: it has {length} of {end} bytes")
    names = {value: name for name, value in _ARCHITECTURES.items()}
    return Header(names.get(code), end)


def read_object(path: str, name: str, limit: int, kind: int | None = None) -> bytes | None:
    """Return the content of the first data object of a name; None if there is none.

    :param kind: the type that it also has to be of.
    :param limit: bytes; a larger object is refused.
    :raises InvalidSif: if the file is not a SIF, or damaged.
    :raises OSError: if it cannot be read.
    """
    read_header(path)
    with open(path, "rb") as stream:
        for item in _descriptors(stream, path):
            if item.name == name.encode() and kind in (None, item.type):
                return _content(stream, item, path, limit)
    return None


def signers(path: str) -> frozenset[str]:
    """Return the keys that claim to have signed every object of a file. Whether they have, only verifying it can tell.

    A PGP key is its fingerprint in upper-case hexadecimal; another one what its envelope calls it, which is mostly
    ``SHA256:`` with the base64 of a hash.

    Source: sylabs/sif, ``pkg/sif/descriptor.go`` (``signature``) and ``pkg/integrity/dsse.go``.

    :raises InvalidSif: if the file is not a SIF, or damaged.
    :raises OSError: if it cannot be read.
    """
    read_header(path)
    with open(path, "rb") as stream:
        items = list(_descriptors(stream, path))
        signed: dict[str, set[int]] = {}
        for item in items:
            if item.type == SIGNATURE:
                for key in _keys_of(item, _content(stream, item, path, _MAX_SIGNATURE)):
                    signed.setdefault(key, set()).add(item.link)
    groups = {item.group for item in items if item.type != SIGNATURE and item.group != _NO_GROUP}
    return frozenset(key for key, links in signed.items() if groups <= links)


def _keys_of(item: _SifDescriptor, content: bytes) -> list[str]:
    if item.extra[_FINGERPRINT].strip(b"\0"):
        return [item.extra[_FINGERPRINT].hex().upper()]
    try:
        envelope = json.loads(content)
        return [str(one["keyid"]) for one in envelope["signatures"] if one.get("keyid")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


@dataclass(frozen=True)
class _SifDescriptor:
    """A descriptor that is in use.

    :ivar link: the object or group that a signature is for.
    :ivar begin: where the object before ended: the size with padding counts from there.
    """

    type: int
    group: int
    link: int
    offset: int
    size: int
    name: bytes
    extra: bytes
    begin: int = 0

    def packed(self, number: int, time: int) -> bytes:
        """Return the bytes of the descriptor."""
        padded = self.offset - self.begin + self.size
        place = (self.offset, self.size, padded)
        who = (self.type, True, number, self.group, self.link)
        return _DESCRIPTOR.pack(*who, *place, time, time, 0, 0, self.name, self.extra)


def _descriptors(stream: IO[bytes], path: str) -> Iterator[_SifDescriptor]:
    stream.seek(0)
    fields = _HEADER.unpack(stream.read(_HEADER.size))
    total, position = fields[8], fields[9]
    stream.seek(max(0, position))
    table = stream.read(min(max(total, 0), _DESCRIPTORS) * _DESCRIPTOR.size)
    if len(table) % _DESCRIPTOR.size:
        raise InvalidSif(f"{path} is damaged: its descriptors are cut off")
    for (
        kind,
        used,
        _id,
        group,
        link,
        offset,
        size,
        _padded,
        _created,
        _modified,
        _uid,
        _gid,
        name,
        extra,
    ) in _DESCRIPTOR.iter_unpack(table):
        if used:
            yield _SifDescriptor(kind, group, link, offset, size, name.rstrip(b"\0"), extra)


def _content(stream: IO[bytes], item: _SifDescriptor, path: str, limit: int) -> bytes:
    if not 0 <= item.size <= limit or item.offset < 0:
        name = item.name.decode(errors="replace") or f"of type {item.type:#x}"
        raise InvalidSif(f"{path} is damaged: its object {name} claims {item.size} bytes at {item.offset}")
    stream.seek(item.offset)
    return stream.read(item.size)
