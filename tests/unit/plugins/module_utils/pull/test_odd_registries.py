# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of odd registries: each serves an image oddly, and the image is what it is all the same."""

from __future__ import annotations

import gzip
import json
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
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.record import record
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.resolve import resolve
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import ResolvedImage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.location import Location
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.resolve_digest import pin
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored

from tests.faults import FaultyRegistry, odd
from tests.lab import oci

AMD64 = Platform("linux", "amd64")
ROWS = [*odd.FAULTS, *odd.GUARDED, *odd.REWORKED]
BEHIND = "registry.invalid"


@pytest.fixture
def server(stored: Stored) -> Iterator[FaultyRegistry]:
    with odd.registry(stored.url) as registry:
        yield registry


class Runs:
    """Runs on one host, each with sessions of its own."""

    def __init__(self, server: FaultyRegistry, directory: Path, mirrored: bool) -> None:
        self._server = server
        self._directory = directory
        self._mirrored = mirrored
        self._inventory = Inventory(str(directory / "inventory"))
        self.cache = BlobCache(str(directory / "cache"))
        self._authfile = directory / "config.json"
        username, password = odd.LOGIN
        entry = {"username": username, "password": password}
        self._authfile.write_text(json.dumps({"auths": {server.address: entry}}))

    def name(self, row: str) -> Reference:
        """Return the image of a row, where a mirror has it under its own name."""
        return Reference.parse(f"{BEHIND if self._mirrored else self._server.address}/{row}/team/tiny:1.0")

    def session(self, check: bool = False) -> Session:
        """Return a session for one run, with a login that no other server may see."""
        mirrors = {BEHIND: [Location.parse(f"http://{self._server.address}", "mirror")]} if self._mirrored else {}
        keychain = Keychain(Login(*odd.LOGIN), str(self._authfile))  # a mirror gets only what the file has for it
        registries = Registries(keychain, Transport(http=True, timeout=20.0), mirrors)
        return Session(registries, self.cache, self._inventory, AMD64, 1, check)

    def record(self, row: str, check: bool = False) -> PullOutcome:
        """Make one record."""
        session, name = self.session(check), self.name(row)
        outcome = record(session, [name])[name]
        session.registries.close()
        return outcome

    def layers(self, row: str) -> list[bytes]:
        """Return the layers, fetched as a pull does, and decompressed."""
        session, name = self.session(), self.name(row)
        outcome = PullOutcome(name, AMD64)
        image = resolve(session, name, outcome)
        assert isinstance(image, ResolvedImage)
        downloads = LayerDownloads(session, image, outcome)
        with ThreadPoolExecutor(1) as pool:  # what a mirror lacks is known before the next is asked for
            downloads.begin(pool)
            downloads.serve(lambda: list(map(downloads.wait, image.layers)))
        session.registries.close()
        blobs = [Path(self.cache.path(layer.digest)).read_bytes() for layer in image.layers]
        assert [oci.digest_of(blob) for blob in blobs] == [layer.digest for layer in image.layers]
        return [gzip.decompress(blob) for blob in blobs]


@pytest.fixture(params=[False, True], ids=["registry", "mirror"])
def runs(request: pytest.FixtureRequest, server: FaultyRegistry, tmp_path: Path) -> Runs:
    return Runs(server, tmp_path, request.param)


def summary(outcome: PullOutcome) -> tuple[str, bool, str | None]:
    return outcome.action, outcome.changed, str(outcome.error) if outcome.error else None


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("row", ROWS)
def test_an_image_is_recorded_once_and_all_of_it_comes(row: str, runs: Runs, stored: Stored) -> None:
    foreseen, first = runs.record(row, check=True), runs.record(row)
    assert [summary(foreseen), summary(first)] == [("recorded", True, None)] * 2
    assert foreseen.to_diff() == first.to_diff()
    assert [summary(runs.record(row, check=check)) for check in (True, False)] == [("present", False, None)] * 2
    assert runs.layers(row) == [gzip.decompress(layer.blob) for layer in stored.tiny.layers]
    document = first.after
    assert document
    if row not in odd.REWORKED:
        assert document.digest == document.manifest_digest == oci.digest_of(stored.tiny.manifest())


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("row", ROWS)
def test_a_digest_that_is_kept_is_that_of_the_content(
    row: str, server: FaultyRegistry, tmp_path: Path, stored: Stored
) -> None:
    runs = Runs(server, tmp_path, mirrored=False)
    registries = runs.session().registries
    found = pin(registries, runs.cache, runs.name(row), [])
    assert pin(registries, runs.cache, runs.name(row).at(found.digest), [AMD64]).platforms == {AMD64: found.digest}
    if row not in odd.REWORKED:
        assert found.digest == oci.digest_of(stored.tiny.manifest())
    registries.close()
