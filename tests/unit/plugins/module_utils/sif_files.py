# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes of a SIF, written by the library itself; ``tests.lab.shelf`` has some that only look like one."""

from __future__ import annotations

import io
import struct
import uuid

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import container

# One entry of the table of descriptors, little-endian and packed, as the sif Go library's pkg/sif lays it out.
DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
TIME = 1_700_000_000
IDENTIFIER = uuid.UUID("12345678-1234-5678-1234-567812345678")
SQUASHFS = b"hsqs" + bytes(range(256)) * 40
OBJECTS = (
    container.DataObject(0x4001, "", b"bootstrap: docker\nfrom: ubuntu\n\n"),
    container.DataObject(0x4006, "inspect-metadata.json", b'{"a":"\xc3\xbc"}'),
    container.DataObject(0x4006, "oci-config.json", b""),
)


def fields(architecture: str) -> container.HeaderFields:
    """Return the fields of a header."""
    return container.HeaderFields(architecture, IDENTIFIER, TIME)


def written(
    objects: tuple[container.DataObject, ...] = OBJECTS, squashfs: bytes = SQUASHFS, architecture: str = "amd64"
) -> bytes:
    """Return a whole SIF."""
    target = io.BytesIO()
    target.seek(container.partition_offset(objects))
    target.write(squashfs)
    container.write(target, fields(architecture), objects, container.partition_offset(objects))
    return target.getvalue()
