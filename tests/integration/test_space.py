# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that do not fit together, on a real small file system: nothing is fetched, and nothing changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue, oci, tree

from .conftest import Host

DISK = "/tmp/sregistry-small"


def push(megabytes: int) -> str:
    """Push an image with so much that cannot be compressed; return its name, in a place that is only this test's."""
    name = f"space/{uuid.uuid4().hex}:1"
    noise = tree.Tree().file("noise", Random(name).randbytes(megabytes << 20))
    lab.push(name, catalogue.tiny_with(oci.layer(noise.tar())))
    return name


@pytest.fixture
def small(node1: Host) -> Iterator[Host]:
    """Yield the first host, with a file system of 16 MiB."""
    node1.shell(f"mkdir {DISK} && mount -t tmpfs -o size=16m tmpfs {DISK}")
    try:
        yield node1
    finally:
        node1.shell(f"umount {DISK}; rmdir {DISK}")


def test_what_does_not_fit_together_is_not_begun(small: Host) -> None:
    here: dict[str, Any] = {"storage": f"{DISK}/store", "cachedir": f"{DISK}/cache"}
    one, two = push(4), push(6)
    first = small.sregistry("pull", one, **here)
    assert first["changed"]
    left = f"find {DISK}/store -type f -printf '%p %s %T@\\n' | sort"
    before = small.shell(left).stdout

    offset = lab.log_offset("plain")
    for check in (True, False):
        done = small.sregistry("pull", one, two, push(3), check=check, **here)
        assert done["failed"]
        assert not done["changed"]
        assert [image["action"] for image in done["images"]] == ["present", "failed", "failed"]
        assert f"no space left in {DISK}/cache/cache/blob and {DISK}/store/127.0.0.1_5000/space: needs " in done["msg"]
        assert f"; of 2 images the largest is 127.0.0.1:5000/{two} with 1" in done["msg"]
        assert done["msg"].count("Nothing was fetched; free some") == 1
    heard = [request for request in lab.requests_of("plain", since=offset) if "/space/" in request.path]
    assert heard  # names and what describes the images; no layer of them
    assert max(request.size for request in heard) < 100_000
    assert small.shell(left).stdout == before

    small.shell(f"rm {DISK}/store/*/*/*.sif")
    lone = small.sregistry("pull", one, push(2), **here)  # one of them comes back from the cache
    assert [image["action"] for image in lone["images"]] == ["repaired", "pulled"]
