# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pins of names: read, refused, and taken instead of what a registry says, with a real one behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InvalidManifest,
    NotFound,
    PlatformNotFound,
    SregistryError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.pins import Pin, Pins
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.record import record
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored

from tests.faults import FaultyRegistry
from tests.lab import oci

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
LONG = f"sha512:{'5' * 128}"
APP = Reference.parse("quay.io/org/app:2.4")


@pytest.mark.parametrize(
    ("given", "name", "pin"),
    [
        ({"quay.io/org/app:2.4": ONE}, "quay.io/org/app:2.4", Pin(ONE)),
        ({"docker://quay.io/org/app:2.4": {"digest": LONG}}, "quay.io/org/app:2.4", Pin(LONG)),
        ({"app": {"digest": ONE, "platforms": None}}, "docker.io/library/app:latest", Pin(ONE)),
        (
            {"a/app:1": {"digest": ONE, "platforms": {"linux/x86_64": TWO, "linux/arm64/v8": THREE}}},
            "a/app:1",
            Pin(ONE, {AMD64: TWO, ARM64: THREE}),
        ),
        ({"oras://ghcr.io/org/app:1": ONE}, "oras://ghcr.io/org/app:1", Pin(ONE)),
        ({f"a/app@{ONE}": ONE}, f"a/app@{ONE}", Pin(ONE)),
        ({f"https://host/app.sif?key=secret@{ONE}": ONE}, f"https://host/app.sif@{ONE}", Pin(ONE)),
        ({"app": ONE, "docker://library/app:latest": {"digest": ONE}}, "app", Pin(ONE)),
    ],
)
def test_an_entry_is_read_by_what_its_name_means(given: dict[str, Any], name: str, pin: Pin) -> None:
    assert Pins.parse(given) == Pins({Reference.parse(name): pin})
    assert Pins.parse({name: pin.to_entry()}) == Pins({Reference.parse(name): pin})


def test_a_name_without_a_registry_belongs_to_the_default_one() -> None:
    assert list(Pins.parse({"org/app:1": ONE}, "host:5000").pins) == [Reference.parse("host:5000/org/app:1")]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"App": ONE}, "digests: invalid image name 'App': the repository component 'App' must be lower case"),
        ({"app": "1.0"}, "digests, library/app:latest: invalid digest '1.0': the digest '1.0' must begin with"),
        ({"app": {"digest": ONE[:-1]}}, "digests, library/app:latest: invalid digest .* must have 64 lower-case"),
        ({"app": {"digest": 7}}, "digests, library/app:latest: invalid digest '7'"),
        ({"app": 7}, "digests, library/app:latest: 7 is not a pin; write it as a digest, or as a dictionary of digest"),
        ({"app": None}, "digests, library/app:latest: None is not a pin"),
        ({"app": {}}, "digests, library/app:latest: it has no digest; write it as"),
        ({"app": {"platforms": {"linux/amd64": ONE}}}, "digests, library/app:latest: it has no digest"),
        ({"app": {"digest": ONE, "platform": {}}}, "library/app:latest: it has the unknown key platform; write it as"),
        ({"app": {"digest": ONE, "platforms": ["linux/amd64"]}}, "platforms is .*; write it as a dictionary"),
        (
            {"app": {"digest": ONE, "platforms": {"amd64": ONE}}},
            "digests, library/app:latest: invalid platform 'amd64'",
        ),
        (
            {"app": {"digest": ONE, "platforms": {"linux/amd64": "x"}}},
            "digests, library/app:latest: invalid digest 'x'",
        ),
        (
            {"app": {"digest": ONE, "platforms": {"linux/arm64": ONE, "linux/aarch64": TWO}}},
            "platforms names linux/arm64 twice, with different digests",
        ),
        ({"app": ONE, "library/app:latest": TWO}, "digests names library/app:latest twice"),
        ({f"app@{ONE}": TWO}, "the name has its own digest, and it is pinned to sha256:22"),
        (
            {"https://host/app.sif": ONE},
            "digests, https://host/app.sif: .* is pinned by its name; write it as ADDRESS@",
        ),
    ],
)
def test_what_is_no_pin_is_refused_with_the_name_of_its_entry(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SregistryError, match=why):
        Pins.parse(given)


@pytest.mark.parametrize(
    ("pin", "platform", "digests", "fits"),
    [
        (Pin(ONE), AMD64, (ONE, TWO), True),
        (Pin(ONE), AMD64, (TWO, TWO), False),
        (Pin(ONE, {AMD64: TWO}), AMD64, (ONE, TWO), True),
        (Pin(ONE, {AMD64: TWO}), AMD64, (ONE, THREE), False),
        (Pin(ONE, {AMD64: TWO, ARM64: THREE}), ARM64, (ONE, THREE), True),
        (Pin(ONE, {AMD64: TWO}), AMD64, (None, None), False),
    ],
)
def test_an_image_fits_by_both_digests(pin: Pin, platform: Platform, digests: tuple[Any, Any], fits: bool) -> None:
    pinned = Pins({APP: pin}).of(APP, platform)
    assert pinned
    assert pinned.fits(*digests) is fits


def test_a_platform_that_the_lock_lacks_is_an_error_and_a_name_that_it_lacks_is_none() -> None:
    pins = Pins({APP: Pin(ONE, {AMD64: TWO})})
    assert pins.of(Reference.parse("quay.io/org/app:2.5"), ARM64) is None
    with pytest.raises(
        PlatformNotFound, match=r"quay.io/org/app:2.4 is pinned for linux/amd64, and not for linux/arm64"
    ):
        pins.of(APP, ARM64)


class Site:
    """A registry whose requests are counted, and an inventory that images are recorded in."""

    def __init__(self, server: FaultyRegistry, directory: Path) -> None:
        self.server = server
        self._inventory = Inventory(str(directory / "inventory"))
        self._cache = BlobCache(str(directory / "cache"))

    def record(self, image: str, entry: Any = None, platform: Platform = AMD64, check: bool = False) -> PullOutcome:
        """Record one image, pinned to an entry if there is one."""
        self.server.calm()
        reference = Reference.parse(f"{self.server.address}/{image}")
        pins = Pins.parse({reference.uri: entry} if entry else {})
        registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0))
        session = Session(registries, self._cache, self._inventory, platform, 1, check, pins)
        outcome = record(session, [reference])[reference]
        registries.close()
        return outcome

    @property
    def manifests(self) -> list[str]:
        """Return the requests for manifests in the last run, as ``METHOD selector``."""
        requests = [(request.method, request.path) for request in self.server.requests]
        return [f"{method} {path.rpartition('/')[2]}" for method, path in requests if "/manifests/" in path]


@pytest.fixture
def site(faulty: FaultyRegistry, tmp_path: Path) -> Site:
    return Site(faulty, tmp_path)


def test_a_pinned_name_is_fetched_by_digest_keeps_its_tag_and_needs_no_request_again(
    site: Site, stored: Stored
) -> None:
    name = "team/moving:1"
    locked = stored.push(name, stored.multi)
    amd64, arm64 = (oci.digest_of(member.manifest()) for member, _extra in stored.multi.members[:2])
    entry = {"digest": locked, "platforms": {"linux/amd64": amd64, "linux/arm64": arm64}}
    assert site.record(name).changed
    moved = stored.push(name, stored.tiny)
    for check in (True, False):
        assert not site.record(name, entry, check=check).changed
        assert site.server.requests == []
    assert site.record(name).changed

    for check in (True, False):
        back = site.record(name, entry, check=check)
        assert site.manifests == [f"GET {locked}", f"GET {amd64}"]
        assert back.before
        assert back.after
        assert (back.before.digest, back.after.digest, back.reference.tag) == (moved, locked, "1")
        assert back.after.reference == back.reference
        assert "index" in back.after.metrics
    assert not site.record(name, entry).changed
    other = site.record(name, entry, platform=ARM64).after
    assert other
    assert other.manifest_digest == arm64


def test_an_image_that_is_gone_is_said_to_be_gone_with_the_way_out(site: Site) -> None:
    outcome = site.record("team/tiny:1.0", ONE)
    assert isinstance(outcome.error, NotFound)
    words = str(outcome.error)
    assert f"/team/tiny:1.0 is pinned to {ONE}, which {site.server.address} does not have any more; lock the" in words
    assert f"/team/tiny has no manifest {ONE} (status 404" in words


def test_another_manifest_than_the_pinned_one_is_refused_even_where_it_is_recorded(site: Site, stored: Stored) -> None:
    name, digest = "team/multi:1", oci.digest_of(stored.multi.manifest())
    assert site.record(name).changed
    outcome = site.record(name, {"digest": digest, "platforms": {"linux/amd64": ONE}})
    assert isinstance(outcome.error, InvalidManifest)
    assert f"is pinned to the manifest {ONE} for linux/amd64, but {digest}, to which" in str(outcome.error)
    lacking = site.record(name, {"digest": digest, "platforms": {"linux/arm64": ONE}})
    assert isinstance(lacking.error, PlatformNotFound)
    assert site.server.requests == []


def test_a_platform_that_the_image_itself_lacks_is_told_with_the_tag(site: Site, stored: Stored) -> None:
    outcome = site.record("team/multi:1", oci.digest_of(stored.multi.manifest()), replace(AMD64, architecture="s390x"))
    assert f"no linux/s390x in {site.server.address}/team/multi:1 (it has linux/amd64, linux/arm64)" in str(
        outcome.error
    )
