# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushes, refusals, and the meaning of a name in a real registry afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import (
    CLIENT_ORAS,
    Document,
    File,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.push import (
    PushOutcome,
    PushRequest,
    check_annotations,
    parse_destination,
    push_file,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import MANIFEST_TYPES
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.location import Location
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

from tests.faults import FaultyRegistry

AMD64 = Platform("linux", "amd64")
NAME = Reference.parse("tools/solver:2.4")
NOTHING = {"blobs": 0, "bytes": 0}


class Case:
    """A host with an image in its inventory, and a registry."""

    def __init__(self, directory: Path, registry: FaultyRegistry) -> None:
        self.directory = directory
        self.registry = registry
        self.inventory = Inventory(str(directory / "inventory"))
        self.registries = Registries(Keychain(None), Transport(http=True, timeout=20.0))
        self.content = written() + uuid.uuid4().bytes
        self.path = self.file("solver.sif", self.content)
        self.to = parse_destination(f"{registry.address}/pushed/{uuid.uuid4().hex}:1")
        self.document = self.record(NAME, self.path)

    def file(self, name: str, content: bytes) -> str:
        """Write a file of the host."""
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def record(self, reference: Reference, *paths: str, **more: Any) -> Document:
        """Let the inventory know files of an image."""
        files = [
            File.at(path, hashlib.sha256(Path(path).read_bytes()).hexdigest(), {"compression": "zstd"})
            for path in paths
        ]
        document = dataclasses.replace(Document.local(reference, AMD64, *files), **more)
        self.inventory.put(document)
        return document

    def push(self, name: Reference | None = NAME, path: str | None = None, **more: Any) -> PushOutcome:
        """Push the image, or what else is said."""
        to, annotations = more.pop("to", self.to), more.pop("annotations", {})
        return push_file(self.inventory, self.registries, PushRequest(name, AMD64, path, to, annotations, **more))

    def manifest(self, to: Reference | None = None) -> dict[str, Any]:
        """Return the manifest of the name."""
        to = to or self.to
        url = f"{self.registry.url}/v2/{to.repository}/manifests/{to.tag}"
        answer = requests.get(url, headers={"Accept": ", ".join(MANIFEST_TYPES)}, timeout=20)
        return dict(answer.json()) if answer.ok else {}


@pytest.fixture
def case(tmp_path: Path, faulty: FaultyRegistry) -> Iterator[Case]:
    """Yield a case of its own for each test."""
    made = Case(tmp_path, faulty)
    yield made
    made.registries.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oras://host:5000/a/b:1", "oras://host:5000/a/b:1"),
        ("host:5000/a/b", "oras://host:5000/a/b:latest"),
        (" a/b:1 ", "oras://quay.io/a/b:1"),
    ],
)
def test_a_destination_is_a_name_of_a_sif(text: str, expected: str) -> None:
    assert parse_destination(text, "quay.io").uri == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("docker://host/a/b:1", "is pushed as it is; write"),
        ("https://host/a/b.sif", "is pushed as it is; write"),
        (f"host/a/b@sha256:{'0' * 64}", "its digest follows from what is pushed; give a tag"),
        ("user:secret@host/a/b", "looks like a login"),
        ("host/A/b", "invalid image name"),
        ("", "it is empty"),
    ],
)
def test_any_other_destination_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidReference, match=why) as caught:
        parse_destination(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("a", 1.1), ("", "x"), (1, "x"), ("a", None), ("hpc.sregistry.name", "x")])
def test_annotations_are_texts_and_not_ours(key: Any, value: Any) -> None:
    with pytest.raises(InvalidReference, match=f"invalid annotation {key!r}"):
        check_annotations({key: value})
    assert check_annotations({"a": "1.1"}) == {"a": "1.1"}


def test_a_file_is_pushed_once_with_what_is_known_of_it(case: Case) -> None:
    asked = case.push(check=True)
    assert (asked.changed, asked.action, asked.to_result("")["pushed"]) == (True, "pushed", NOTHING)
    assert [one.method for one in case.registry.requests] == ["GET"]
    first = case.push(annotations={"of.mine": "1"})
    assert first.error is None
    assert (first.changed, first.action) == (True, "pushed")
    assert first.to_result("")["pushed"] == {"blobs": 1, "bytes": len(case.content)}
    assert first.shown[0] == {}
    assert first.shown[1]["annotations"] == {
        "hpc.sregistry.input.compression": "zstd",
        "hpc.sregistry.name": NAME.uri,
        "hpc.sregistry.platform": "linux/amd64",
        "of.mine": "1",
    }
    manifest = case.manifest()
    assert manifest["annotations"] == first.shown[1]["annotations"]
    assert manifest["layers"][0]["annotations"] == {"org.opencontainers.image.title": f"{case.to.name}.sif"}
    assert manifest["layers"][0]["digest"] == f"sha256:{hashlib.sha256(case.content).hexdigest()}"
    case.registry.calm()
    times = os.stat(case.path)  # nor is its content read: nobody notices what size and time do not tell
    case.file("solver.sif", case.content[:-1] + b"~")
    os.utime(case.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = case.push(annotations={"of.mine": "1"})
    assert (again.changed, again.action, again.digest, again.sent) == (False, "present", first.digest, 0)
    assert [one.method for one in case.registry.requests] == ["GET"]


def test_a_tag_moves_to_other_content(case: Case) -> None:
    first = case.push()
    other = case.file("other.sif", case.content + b"other")
    asked = case.push(None, other, check=True)
    assert case.manifest()["layers"][0]["digest"].endswith(first.shown[1]["sha256"])
    moved = case.push(None, other)
    assert (moved.changed, moved.action) == (True, "moved")
    assert (asked.shown[0], asked.shown[1]) == (moved.shown[0], moved.shown[1])
    assert moved.shown[0] == first.shown[1]
    assert moved.shown[1]["sha256"] == hashlib.sha256(case.content + b"other").hexdigest() != moved.shown[0]["sha256"]
    assert (moved.platform, moved.shown[1]["annotations"]) == (None, {})


def test_other_annotations_are_another_manifest_of_the_same_file(case: Case) -> None:
    case.push()
    moved = case.push(annotations={"of.mine": "1"})
    assert (moved.action, moved.to_result("")["pushed"]) == ("moved", NOTHING)
    assert moved.shown[0]["sha256"] == moved.shown[1]["sha256"]
    assert moved.shown[0]["digest"] != moved.shown[1]["digest"]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_that_was_pulled_from_the_same_registry_is_mounted(renamed: bool, case: Case) -> None:
    digest = case.push().digest
    name = Reference.parse("tools/renamed:1" if renamed else case.to.uri)
    layers = ({"digest": f"sha256:{hashlib.sha256(case.content).hexdigest()}", "size": 1, "media_type": ""},)
    case.inventory.remove(NAME, AMD64)
    url = case.to.url if renamed else None
    case.record(name, case.path, client=CLIENT_ORAS, layers=layers, digest=digest, url=url)
    to = parse_destination(f"{case.to.registry}/production/{uuid.uuid4().hex}:1")
    change = case.push(name, to=to)
    assert (change.error, change.action) == (None, "pushed")
    assert (change.mounted, change.to_result("")["pushed"]) == (True, NOTHING)
    assert case.manifest(to)["layers"][0]["size"] == len(case.content)


def test_a_file_that_was_changed_needs_force_and_says_nothing_of_the_image(case: Case) -> None:
    changed = written() + b"changed"
    case.file("solver.sif", changed)
    for refused in (case.push(), case.push(None, case.path)):
        assert "is not what the inventory says, so it is not pushed" in str(refused.error)
        assert refused.action == "failed"
    assert case.registry.requests == []
    forced = case.push(force=True)
    assert forced.shown[1] == {
        "digest": forced.digest,
        "sha256": hashlib.sha256(changed).hexdigest(),
        "size": len(changed),
        "annotations": {},
    }


@pytest.mark.parametrize("tag", ["tiny:1.0", "multi:1"])
def test_the_name_of_a_container_image_is_not_taken(tag: str, case: Case, stored: Stored) -> None:
    name = f"team/mine{uuid.uuid4().hex}:1"
    stored.push(name, stored.tiny if tag == "tiny:1.0" else stored.multi)
    to = parse_destination(f"{case.to.registry}/{name}")
    before = case.manifest(to)
    refused = case.push(to=to)
    assert "names something else than one SIF file in the registry (application/vnd." in str(refused.error)
    assert case.manifest(to) == before
    forced = case.push(to=to, force=True)
    assert (forced.error, forced.action) == (None, "moved")
    assert set(forced.shown[0]) == {"digest", "media_type"}


def test_a_path_is_known_by_a_link_too(case: Case) -> None:
    link = case.directory / "link.sif"
    link.symlink_to(case.path)
    for path in (str(link), case.path, f"{case.directory}//./solver.sif"):
        change = case.push(None, path, check=True)
        assert (str(change.platform), change.shown[1]["annotations"]["hpc.sregistry.name"]) == ("linux/amd64", NAME.uri)


def test_an_image_with_files_that_differ_needs_a_path(case: Case) -> None:
    other = case.file("other.sif", case.content + b"other")
    same = case.file("same.sif", case.content)
    case.record(NAME, case.path, other)
    assert "has several files that differ" in str(case.push().error)
    assert case.push(path=other, check=True).shown[1]["size"] == len(case.content) + 5
    case.record(NAME, case.path, same)
    os.unlink(case.path)
    assert case.push(check=True).path == same


def test_what_cannot_be_pushed_is_named(case: Case) -> None:
    sandbox = case.directory / "sandbox"
    (sandbox / ".singularity.d").mkdir(parents=True)
    text = case.file("text.sif", b"no image" * 20)
    cut = case.file("cut.sif", case.content[:200])
    expected = {
        str(sandbox): "only SIF files can be pushed, so build one of it first",
        text: "is not a SIF image; only SIF files can be pushed",
        cut: "only SIF files can be pushed",
        "/no/such.sif": "there is no file /no/such.sif to push; pull or build it first",
        "relative.sif": "is no absolute path",
    }
    for path, why in expected.items():
        assert why in str(case.push(None, path).error)
    assert "knows no file of tools/other:1 for linux/amd64" in str(case.push(Reference.parse("tools/other:1")).error)
    assert f"for linux/amd64 at {text}; pull" in str(case.push(path=text).error)
    os.unlink(case.path)
    assert f"there is no file {case.path} to push" in str(case.push().error)
    assert case.registry.requests == []


def test_a_push_goes_past_the_mirrors_of_a_registry(case: Case) -> None:
    with FaultyRegistry() as mirror:
        mirrors = {case.to.registry: [Location.parse(f"http://{mirror.address}", "mirror")]}
        case.registries = Registries(Keychain(None), Transport(http=True, timeout=20.0), mirrors)
        assert case.push().action == "pushed"
        assert mirror.requests == []
        case.registries.close()


def test_a_change_is_fit_for_a_result(case: Case) -> None:
    result = case.push().to_result("")
    assert json.loads(json.dumps(result)) == result
    assert set(result) == {
        *("name", "reference", "platform", "changed", "action", "path", "size", "sha256"),
        *("digest", "pushed", "mounted"),
    }
