# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files as tests of the store need them, and a database of sregistry."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAUNCH = b"#!/usr/bin/env run-singularity\n"

# What SQLAlchemy makes of sregistry's models; compared with a database that sregistry 0.2.39 wrote.
DDL = """
CREATE TABLE collection (
    id INTEGER NOT NULL, name VARCHAR(150), token VARCHAR(50), created_at DATETIME, PRIMARY KEY (id), UNIQUE (name)
);
CREATE TABLE container (
    id INTEGER NOT NULL, created_at DATETIME, metrics TEXT NOT NULL, name VARCHAR(250) NOT NULL,
    tag VARCHAR(250) NOT NULL, image VARCHAR(250), url VARCHAR(500), uri VARCHAR(500), client VARCHAR(50) NOT NULL,
    version VARCHAR(250), collection_id INTEGER NOT NULL, PRIMARY KEY (id),
    CONSTRAINT _container_uc UNIQUE (collection_id, name, tag, client, version),
    FOREIGN KEY(collection_id) REFERENCES collection (id)
);
"""


def sif_bytes(words: str = "one", architecture: str = "amd64") -> bytes:
    """Return a SIF, sound as far as its header tells; it differs by its words."""
    code = {"amd64": b"02", "arm64": b"04"}[architecture]
    body = words.encode()
    numbers = (0, 0, 48, 48, 4096, 28080, 32176, len(body))
    header = struct.pack("<32s10s3s3s16s8q", LAUNCH, b"SIF_MAGIC\0", b"01\0", code, bytes(16), *numbers)
    return header.ljust(32176, b"\0") + body


def squashfs_bytes(words: str = "one", size: int | None = None) -> bytes:
    """Return a squashfs, as far as its superblock tells.

    :param size: that it claims; None for the one that it has.
    """
    body = words.encode().ljust(4096, b"\0")
    used = 96 + len(body) if size is None else size
    return b"hsqs".ljust(40, b"\0") + struct.pack("<Q", used).ljust(56, b"\0") + body


def ext_bytes(blocks: int = 8, claimed: int | None = None) -> bytes:
    """Return an ext file system of blocks of 1 KiB, as far as its superblock tells."""
    superblock = bytearray(1024)
    struct.pack_into("<I", superblock, 4, blocks if claimed is None else claimed)
    struct.pack_into("<H", superblock, 56, 0xEF53)
    return bytes(1024) + bytes(superblock) + bytes(1024 * (blocks - 2))


def write(path: Path, content: bytes) -> Path:
    """Write a file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def database(path: Path, containers: Sequence[dict[str, Any]]) -> Path:
    """Write a database of sregistry; each container gives what differs from the usual, and its ``collection``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript(DDL)
        for number, given in enumerate(containers, 1):
            container = {
                "id": number,
                "created_at": "2018-01-14 22:08:41",
                "metrics": {"schemaVersion": 2},
                "name": "ubuntu",
                "tag": "latest",
                "image": None,
                "url": "library/ubuntu:latest",
                "client": "dockerhub",
                "version": "",
                "collection": "library",
                **given,
            }
            collection = container.pop("collection")
            connection.execute("INSERT OR IGNORE INTO collection (name, token) VALUES (?, 'token')", (collection,))
            (key,) = connection.execute("SELECT id FROM collection WHERE name = ?", (collection,)).fetchone()
            container["collection_id"] = key
            container["metrics"] = json.dumps(container["metrics"])
            container.setdefault("uri", f"{collection}/{container['name']}:{container['tag']}")
            columns = ", ".join(container)
            marks = ", ".join("?" for _column in container)
            connection.execute(f"INSERT INTO container ({columns}) VALUES ({marks})", list(container.values()))
    connection.close()
    return path
