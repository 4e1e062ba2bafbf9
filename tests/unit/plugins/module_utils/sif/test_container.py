# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bytes of a SIF, read with structures of the tests' own."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidSif
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import container
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import (
    DESCRIPTOR,
    IDENTIFIER,
    OBJECTS,
    SQUASHFS,
    TIME,
    fields,
    written,
)

# Little-endian and packed, as the sif Go library's pkg/sif lays them out.
HEADER = struct.Struct("<32s10s3s3s16s8q")
PARTITION = struct.Struct("<ii3s")


class Descriptor(NamedTuple):
    """One entry of the table at offset 4096."""

    type: int
    used: bool
    id: int
    group: int
    link: int
    offset: int
    size: int
    padded: int
    created: int
    modified: int
    uid: int
    gid: int
    name: bytes
    extra: bytes


def descriptors(raw: bytes) -> list[Descriptor]:
    return [Descriptor._make(DESCRIPTOR.unpack_from(raw, 4096 + number * 585)) for number in range(48)]


def test_the_structures_have_their_sizes() -> None:
    assert (HEADER.size, DESCRIPTOR.size) == (128, 585)


def test_the_header_of_a_sif() -> None:
    raw = written()
    assert HEADER.unpack_from(raw) == (
        b"#!/usr/bin/env run-singularity\n\0",
        b"SIF_MAGIC\0",
        b"01\0",
        b"02\0",
        IDENTIFIER.bytes,
        TIME,
        TIME,
        44,  # descriptors free
        48,
        4096,
        28080,
        32176,
        len(raw) - 32176,
    )


def test_the_descriptors_of_a_sif_and_what_they_point_at() -> None:
    raw = written()
    used = [item for item in descriptors(raw) if item.used]
    assert [item.type for item in used] == [0x4001, 0x4006, 0x4006, 0x4004]
    assert [item.id for item in used] == [1, 2, 3, 4]
    assert [item.name.rstrip(b"\0") for item in used] == [b"", b"inspect-metadata.json", b"oci-config.json", b""]
    for item in used:
        assert (item.group, item.link, item.uid, item.gid) == (0xF0000001, 0, 0, 0)
        assert (item.created, item.modified) == (TIME, TIME)
    contents = [raw[item.offset : item.offset + item.size] for item in used]
    assert contents == [*(item.content for item in OBJECTS), SQUASHFS]
    assert [item.extra.rstrip(b"\0") for item in used[:3]] == [b"", b"", b""]
    assert PARTITION.unpack_from(used[3].extra) == (1, 2, b"02\0")
    assert used[3].extra[PARTITION.size :] == bytes(384 - PARTITION.size)


def test_the_free_descriptors_are_empty() -> None:
    assert written()[4096 + 4 * 585 : 32176] == bytes(32176 - 4096 - 4 * 585)


@pytest.mark.parametrize("size", [0, 1, 591, 592, 593, 4096, 4688, 100_000])
def test_the_partition_is_aligned_and_its_padding_counted(size: int) -> None:
    raw = written((container.DataObject(0x4001, "", b"x" * size),))
    first, partition = descriptors(raw)[:2]
    assert (first.offset, first.size, first.padded) == (32176, size, size)
    assert partition.offset % 4096 == 0
    assert 0 <= partition.offset - (32176 + size) < 4096
    assert partition.padded == partition.offset - (32176 + size) + len(SQUASHFS)
    assert raw[32176 + size : partition.offset].strip(b"\0") == b""
    assert raw[partition.offset :] == SQUASHFS


def test_the_partition_stays_as_it_is_and_the_rest_is_written(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(bytes(container.partition_offset(OBJECTS)) + SQUASHFS)
    with path.open("r+b") as target:
        target.seek(17)  # wherever it stands
        container.write(target, fields("amd64"), OBJECTS, container.partition_offset(OBJECTS))
    assert path.read_bytes() == written()


def test_an_object_without_room_before_the_partition_lies_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    first = container.partition_offset(OBJECTS)
    large = container.DataObject(0x4006, "large", b"x" * 5000)
    path.write_bytes(bytes(first) + SQUASHFS)
    with path.open("r+b") as target:
        container.write(target, fields("amd64"), (OBJECTS[0], large, *OBJECTS[1:]), first)
    raw = path.read_bytes()
    assert raw[first : first + len(SQUASHFS)] == SQUASHFS
    assert raw[first + len(SQUASHFS) :] == large.content
    *found, partition = [each for each in descriptors(raw) if each.used]
    assert [raw[each.offset : each.offset + each.size] for each in found] == [
        OBJECTS[0].content,
        large.content,
        OBJECTS[1].content,
        OBJECTS[2].content,
    ]
    assert (partition.offset, partition.size) == (first, len(SQUASHFS))
    assert container.read_header(str(path)).end == len(raw)
    assert container.read_object(str(path), "large", 5000) == large.content


@pytest.mark.parametrize(
    ("sizes", "offset"),
    [([], 32768), ([592], 32768), ([593], 36864), ([500, 92], 32768), ([500, 93], 36864), ([0, 0, 100_000], 135168)],
)
def test_the_partition_begins_at_the_first_page_after_the_objects(sizes: list[int], offset: int) -> None:
    objects = tuple(container.DataObject(0x4006, "", b"x" * size) for size in sizes)
    assert container.partition_offset(objects) == offset
    partition = descriptors(written(objects))[len(objects)]
    assert (partition.offset, partition.size) == (offset, len(SQUASHFS))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert written() == written()


@pytest.mark.parametrize(
    ("architecture", "code"),
    [
        ("386", b"01\0"),
        ("amd64", b"02\0"),
        ("arm", b"03\0"),
        ("arm64", b"04\0"),
        ("ppc64le", b"06\0"),
        ("s390x", b"11\0"),
        ("riscv64", b"12\0"),
    ],
)
def test_the_architecture_is_in_header_and_partition_and_read_back(
    tmp_path: Path, architecture: str, code: bytes
) -> None:
    raw = written(architecture=architecture)
    assert HEADER.unpack_from(raw)[3] == code
    assert PARTITION.unpack_from(descriptors(raw)[3].extra)[2] == code
    path = tmp_path / "a.sif"
    path.write_bytes(raw)
    assert container.read_header(str(path)) == container.Header(architecture, len(raw))


def test_an_architecture_that_the_format_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidSif) as error:
        written(architecture="loong64")
    assert str(error.value) == "the SIF format has no code for the architecture 'loong64'"


def test_an_unknown_code_and_appended_data_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.sif"
    raw = written()
    path.write_bytes(raw[:45] + b"99\0" + raw[48:] + b"a signature")
    assert container.read_header(str(path)) == container.Header(None, len(raw))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sif")
    with pytest.raises(InvalidSif, match=r"pipe\.sif is not a SIF image, nor a regular file"):
        container.read_header(str(tmp_path / "pipe.sif"))


@pytest.mark.parametrize("content", [b"", b"#!/usr/bin/env run-singularity\n", SQUASHFS, bytes(200)])
def test_what_is_no_sif_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sif"
    path.write_bytes(content)
    with pytest.raises(InvalidSif) as error:
        container.read_header(str(path))
    assert str(error.value) == f"{path} is not a SIF image"


@pytest.mark.parametrize("missing", [1, len(SQUASHFS)])
def test_a_truncated_sif_is_named_with_both_sizes(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "a.sif"
    raw = written()
    path.write_bytes(raw[:-missing])
    with pytest.raises(InvalidSif) as error:
        container.read_header(str(path))
    assert str(error.value) == f"{path} is truncated: it has {len(raw) - missing} of {len(raw)} bytes"


def test_a_data_object_is_read_back_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(written())
    assert container.read_object(str(path), "inspect-metadata.json", 100) == OBJECTS[1].content
    assert container.read_object(str(path), "nothing", 100) is None
    with pytest.raises(InvalidSif, match="claims 10 bytes"):
        container.read_object(str(path), "inspect-metadata.json", 9)


def test_no_data_object_is_read_from_what_is_no_sif(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(b"#!/bin/sh\nexit 1\n" * 100)
    with pytest.raises(InvalidSif, match="is not a SIF image"):
        container.read_object(str(path), "inspect-metadata.json", 100)


FINGERPRINT = bytes(range(20))
PGP = struct.pack("<i", 1) + FINGERPRINT
DSSE = b'{"payload":"","signatures":[{"keyid":"SHA256:abc","sig":""},{"sig":""}]}'
ANY_GROUP, GROUP_1, GROUP_2 = 0xF0000000, 0xF0000001, 0xF0000002


def signed(path: Path, *signatures: tuple[int, bytes, bytes], groups: tuple[int, ...] = (GROUP_1,)) -> str:
    """Return a SIF with signatures: the group of each, its extra bytes, its content; one more object a group."""
    content = bytearray(written())
    table, number, size = 4096, len(OBJECTS) + 1, DESCRIPTOR.size
    entries = [(0x4005, ANY_GROUP, link, extra, data) for link, extra, data in signatures]
    entries += [(0x4006, group, 0, b"", b"x") for group in groups]
    for kind, group, link, extra, data in entries:
        entry = DESCRIPTOR.pack(kind, True, number, group, link, len(content), len(data), 0, 0, 0, 0, 0, b"", extra)
        content[table + number * size : table + (number + 1) * size] = entry
        content += data
        number += 1
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("signatures", "groups", "signers"),
    [
        ([], (GROUP_1,), set()),
        ([(GROUP_1, PGP, b"text")], (GROUP_1,), {FINGERPRINT.hex().upper()}),
        ([(GROUP_1, struct.pack("<i", 1), DSSE)], (GROUP_1,), {"SHA256:abc"}),
        ([(GROUP_1, PGP, b""), (GROUP_1, b"", DSSE)], (GROUP_1,), {FINGERPRINT.hex().upper(), "SHA256:abc"}),
        ([(GROUP_1, PGP, b"")], (GROUP_1, GROUP_2), set()),
        ([(GROUP_1, PGP, b""), (GROUP_2, PGP, b"")], (GROUP_1, GROUP_2), {FINGERPRINT.hex().upper()}),
        ([(GROUP_1, PGP, b"")], (GROUP_1, ANY_GROUP), {FINGERPRINT.hex().upper()}),
        ([(GROUP_1, b"", b"{}")], (GROUP_1,), set()),
        ([(GROUP_1, b"", b"[" * 100_000)], (GROUP_1,), set()),
        ([(GROUP_1, b"", b'{"signatures":7}')], (GROUP_1,), set()),
    ],
)
def test_the_signers_of_a_file_are_those_who_signed_all_of_it(
    tmp_path: Path, signatures: list[tuple[int, bytes, bytes]], groups: tuple[int, ...], signers: set[str]
) -> None:
    assert container.signers(signed(tmp_path / "signed.sif", *signatures, groups=groups)) == signers


def test_a_signature_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    path = signed(tmp_path / "huge.sif", (GROUP_1, PGP, bytes(5 << 20)))
    with pytest.raises(InvalidSif, match=r"its object of type 0x4005 claims 5242880 bytes"):
        container.signers(path)
