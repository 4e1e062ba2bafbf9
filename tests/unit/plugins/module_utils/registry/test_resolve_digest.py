# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests to pin names to, found out with few requests, and the lookup's use of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible.errors import AnsibleLookupError
from ansible_collections.hpc.sregistry.plugins.lookup.digest import LookupModule
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InvalidManifest,
    InvalidReference,
    PlatformNotFound,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.pins import Pin
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.resolve_digest import pin
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored

from tests.faults import FaultyRegistry, faults
from tests.lab import oci

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = [AMD64, ARM64]
ONE = f"sha256:{'1' * 64}"


class Asked:
    """A registry whose requests are counted."""

    def __init__(self, server: FaultyRegistry, cache: BlobCache) -> None:
        self.server = server
        self._cache = cache
        self._registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0))

    def __call__(self, image: str, wanted: list[Platform], known: Pin | None = None, scheme: str = "docker") -> Pin:
        """Pin one name."""
        self.server.calm()
        return self.again(image, wanted, known, scheme)

    def again(self, image: str, wanted: list[Platform], known: Pin | None = None, scheme: str = "docker") -> Pin:
        """Pin one name, with the faults that are set."""
        reference = Reference.parse(f"{scheme}://{self.server.address}/{image}")
        return pin(self._registries, self._cache, reference, wanted, known)

    @property
    def requests(self) -> list[str]:
        """Return the requests of the last one, as ``METHOD kind``."""
        return [f"{request.method} {request.path.split('/')[-2]}" for request in self.server.requests]

    def close(self) -> None:
        """Close the connections."""
        self._registries.close()


@pytest.fixture
def asked(faulty: FaultyRegistry, tmp_path: Path) -> Iterator[Asked]:
    asking = Asked(faulty, BlobCache(str(tmp_path)))
    yield asking
    asking.close()


@pytest.fixture
def multi(stored: Stored) -> Pin:
    """Return the digests of ``team/multi:1``, for both platforms."""
    amd64, arm64 = (oci.digest_of(member.manifest()) for member, _extra in stored.multi.members[:2])
    return Pin(oci.digest_of(stored.multi.manifest()), {AMD64: amd64, ARM64: arm64})


def test_an_index_takes_one_request_for_all_platforms(asked: Asked, multi: Pin) -> None:
    assert asked("team/multi:1", BOTH) == multi
    assert asked.requests == ["GET manifests"]
    assert asked(f"team/multi@{multi.digest}", [ARM64]) == Pin(multi.digest, {ARM64: multi.platforms[ARM64]})


def test_without_platforms_one_request_is_all(asked: Asked, multi: Pin) -> None:
    assert asked("team/multi:1", []) == Pin(multi.digest)
    assert asked.requests == ["GET manifests"]


def test_a_digest_to_keep_is_not_that_of_a_head_which_may_lie(asked: Asked, multi: Pin) -> None:
    asked("team/multi:1", [])
    asked.server.when("/manifests/", faults.header("Docker-Content-Digest", ONE), method="HEAD")
    assert asked.again("team/multi:1", []) == Pin(multi.digest)
    assert asked.again("team/multi:1", BOTH, multi) == multi


def test_docker_hub_counts_a_get_and_is_asked_with_a_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registries = Registries(Keychain(), Transport())
    reference = Reference.parse("alpine:3")
    monkeypatch.setattr(registries.of(reference), "head", lambda _reference: Descriptor(ONE, 5, oci.OCI_INDEX))
    assert pin(registries, BlobCache(str(tmp_path)), reference, []) == Pin(ONE)


def test_the_config_tells_the_platform_of_a_lone_image(asked: Asked, stored: Stored) -> None:
    digest = oci.digest_of(stored.tiny.manifest())
    assert asked("team/tiny:1.0", [AMD64]) == Pin(digest, {AMD64: digest})
    assert asked.requests == ["GET manifests", "GET blobs"]
    with pytest.raises(PlatformNotFound, match=r"no linux/arm64 in .*/team/tiny:1.0 \(it has linux/amd64\)"):
        asked("team/tiny:1.0", BOTH)


def test_an_index_that_says_no_platforms_is_looked_into(asked: Asked, stored: Stored) -> None:
    index = oci.Index(tuple((member, {}) for member, _extra in stored.multi.members[:2]))
    digests = [oci.digest_of(member.manifest()) for member, _extra in index.members]
    stored.push("team/silent:1", index)
    assert asked("team/silent:1", BOTH).platforms == {AMD64: digests[0], ARM64: digests[1]}


def test_what_is_known_takes_one_head_until_it_moves(asked: Asked, stored: Stored, multi: Pin) -> None:
    name = "team/known:1"
    stored.push(name, stored.multi)
    assert asked(name, [ARM64], multi) == Pin(multi.digest, {ARM64: multi.platforms[ARM64]})
    assert asked.requests == ["HEAD manifests"]
    assert asked(name, BOTH, Pin(multi.digest, {ARM64: ONE})) == multi
    assert asked.requests == ["GET manifests"]  # it did not tell of one of them
    assert asked(name, BOTH, Pin(ONE, multi.platforms)) == multi
    assert asked.requests == ["HEAD manifests", "GET manifests"]


def test_a_lone_sif_file_is_pinned_without_a_platform(asked: Asked, stored: Stored) -> None:
    image = oci.Image((oci.layer(b"a SIF, as far as a registry knows", compression="none"),))
    stored.push("team/sif:blobs", image)
    manifest = json.loads(image.manifest())
    manifest["layers"][0]["mediaType"] = "application/vnd.sylabs.sif.layer.v1.sif"
    content, headers = json.dumps(manifest).encode(), {"Content-Type": image.media_type}
    requests.put(f"{stored.url}/v2/team/sif/manifests/1", content, headers=headers, timeout=30).raise_for_status()
    digest = oci.digest_of(content)
    assert asked("team/sif:1", BOTH, scheme="oras") == Pin(digest)
    assert asked("team/sif:1", BOTH, Pin(digest), scheme="oras") == Pin(digest)
    assert asked.requests == ["HEAD manifests"]
    with pytest.raises(InvalidManifest, match="not a SIF file but a container image"):
        asked("team/tiny:1.0", BOTH, scheme="oras")


def test_what_is_on_a_web_server_is_known_only_by_its_name(asked: Asked) -> None:
    registries = Registries(Keychain(), Transport())
    cache = BlobCache("/nonexistent")
    assert pin(registries, cache, Reference.parse(f"https://host.invalid/a.sif@{ONE}"), BOTH) == Pin(ONE)
    with pytest.raises(InvalidReference, match=r"https://host.invalid/a.sif is on a web server, which tells no digest"):
        pin(registries, cache, Reference.parse("https://host.invalid/a.sif"), BOTH)


class Lookup(LookupModule):
    """The lookup with options given to it alone, as Ansible would have validated them."""

    def __init__(self, **options: Any) -> None:
        defaults = {"registry": "docker.io", "no_https": True, "validate_certs": True, "timeout": 20.0, "retries": 0}
        defaults["insecure_registries"] = []
        self._given = {**defaults, "known": {}, **options}

    def set_options(self, **_how: Any) -> None:
        """Take the options that were given."""
        self._options = self._given

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        """Return one of the options."""
        return self._given.get(option)


def test_the_lookup_gives_digests_or_what_the_option_digests_takes(stored: Stored, multi: Pin) -> None:
    name = f"{stored.address}/team/multi:1"
    assert Lookup().run([name, name]) == [multi.digest] * 2
    assert Lookup(platform="linux/aarch64").run([name]) == [multi.platforms[ARM64]]
    entry = {"digest": multi.digest, "platforms": {"linux/amd64": multi.platforms[AMD64]}}
    for known in ({}, {name: entry}, {name: multi.to_entry()}):
        assert Lookup(platforms=["linux/amd64"], known=known).run([name]) == [entry]
    assert Lookup(platforms=["linux/amd64"]).run([]) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"platform": "linux/amd64", "platforms": ["linux/amd64"]}, "both platform and platforms; give one of them"),
        ({"platforms": ["amd64"]}, "invalid platform 'amd64'"),
        ({"platforms": ["linux/s390x"]}, r"no linux/s390x in .*/team/multi:1 \(it has linux/amd64, linux/arm64\)"),
        ({"platforms": ["linux/amd64"], "known": {"app": "1"}}, "library/app:latest: invalid digest '1'"),
    ],
)
def test_the_lookup_fails_in_the_words_of_the_library(stored: Stored, options: dict[str, Any], why: str) -> None:
    with pytest.raises(AnsibleLookupError, match=f"hpc.sregistry.digest, on the controller: .*{why}"):
        Lookup(**options).run([f"{stored.address}/team/multi:1"])
