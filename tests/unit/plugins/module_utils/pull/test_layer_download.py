# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layers of an image on their way into the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.layer_download import LayerDownloads
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry import ranges
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import resolve_image
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored

from tests.faults import FaultyRegistry
from tests.faults.server import Answer, Request, Upstream

STEP = 500_000


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a layer of three megabytes be large, and no registry quick enough."""
    monkeypatch.setattr(ranges, "_RANGE", STEP)
    monkeypatch.setattr(ranges, "_LARGE", 2 * STEP)
    monkeypatch.setattr(ranges, "_TRIAL", STEP // 2)
    monkeypatch.setattr(ranges, "_QUICK", float("inf"))


@pytest.fixture
def registries() -> Iterator[Registries]:
    made = Registries(Keychain(None), Transport(http=True, timeout=20.0))
    yield made
    made.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_large_layer_that_comes_slowly_comes_in_several_ranges_at_once(
    stored: Stored, faulty: FaultyRegistry, registries: Registries, tmp_path: Path, threads: int
) -> None:
    meeting = threading.Barrier(2, timeout=20)

    def held(request: Request, upstream: Upstream) -> Answer:
        meeting.wait()  # until another range is asked for
        return upstream(request)

    faulty.when("/blobs/", held, times=2, after=2)  # after the config, and the layer from its beginning
    platform = Platform("linux", "amd64")
    cache = BlobCache(str(tmp_path / "cache"))
    session = Session(registries, cache, Inventory(str(tmp_path / "inventory")), platform, threads)
    reference = Reference.parse(f"{faulty.address}/team/big:1")
    image = resolve_image(registries.of(reference), cache, reference, platform)
    downloads = LayerDownloads(session, image, PullOutcome(reference, platform, progress=session.progress))
    with ThreadPoolExecutor(threads) as pool:
        downloads.begin(pool)
    layer = image.layers[0]
    assert cache.proven(layer.digest)
    ranges_of_it = [one.headers["range"] for one in faulty.asked(layer.digest) if "range" in one.headers]
    assert len(ranges_of_it) > 2 if threads > 1 else not ranges_of_it
    assert session.progress.state()["fetched"] == layer.size


def test_threads_that_download_share_the_connections_of_the_run(registries: Registries, tmp_path: Path) -> None:
    platform = Platform("linux", "amd64")
    cache, inventory = BlobCache(str(tmp_path / "cache")), Inventory(str(tmp_path / "inventory"))
    session = Session(registries, cache, inventory, platform, 4)
    together = threading.Barrier(4)

    def ask(_number: int) -> ranges.DownloadSlots:
        together.wait()
        return session.slots

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert found[0].most == 4
    assert all(one is found[0] for one in found)
