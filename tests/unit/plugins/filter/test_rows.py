# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters: what sregistry printed, from facts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.image_path import image_path
from ansible_collections.hpc.sregistry.plugins.filter.images_table import images_table
from ansible_collections.hpc.sregistry.plugins.filter.inspect import inspect
from ansible_collections.hpc.sregistry.plugins.filter.inventory_table import inventory_table
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
DIGEST = f"sha256:{'d' * 64}"

HELLO = "ed9755a0871f04db3e14971bec56a33f"
FACTORY = "846442ecd7487f99fce3b8fb68ae15af"
CLI = "953fc2a30e6a9f997c1e9ca897142869"
UBUNTU = "f8d7d2e9f5da3fa4112aab30105e2fcd"

# The table of the documentation of sregistry's client for Docker Hub. Its last line lacks a space there.
TABLE = """\
Containers:   [date]   [location]  [client]\t[uri]
1  December 29, 2017\tlocal \t   [google-drive]\tvsoch/hello-world:latest@ed9755a0871f04db3e14971bec56a33f
2  December 30, 2017\tremote\t   [google-storage]\texpfactory/expfactory:metadata@846442ecd7487f99fce3b8fb68ae15af
3  December 30, 2017\tlocal \t   [google-storage]\tvsoch/avocados:tacos@ed9755a0871f04db3e14971bec56a33f
4  January 01, 2018\tlocal \t   [google-drive]\texpfactory/expfactory:master@846442ecd7487f99fce3b8fb68ae15af
5  January 01, 2018\tremote\t   [google-drive]\tvsoch/hello-world:pancakes@ed9755a0871f04db3e14971bec56a33f
6  January 09, 2018\tlocal \t   [registry]\tmso4sc/sregistry-cli:latest@953fc2a30e6a9f997c1e9ca897142869
7  January 14, 2018\tlocal \t   [dockerhub]\tlibrary/ubuntu:latest@f8d7d2e9f5da3fa4112aab30105e2fcd
8  January 14, 2018\tremote\t   [dockerhub]\tcontinuumio/anaconda3:latest"""


def row(
    name: str,
    created_at: str = "2018-01-14T22:08:41Z",
    path: str | None = "/a.sif",
    platform: Platform = AMD64,
    **more: Any,
) -> dict[str, Any]:
    """Return a row as the inventory makes it."""
    document = Document(Reference.parse(name), platform, DIGEST, DIGEST, "", (), 1, {}, created_at, created_at)
    if path:
        file = File(path, 1, 1, "f" * 64, DIGEST, {}, None, None, None, created_at)
        document = dataclasses.replace(document, files=(file,))
    (one,) = document.rows()
    return {**one, **more}


@pytest.fixture
def seed() -> list[dict[str, Any]]:
    """Return the inventory that the table shows, in another order."""
    given = [
        ("vsoch/hello-world:latest", "2017-12-29T01:00:00Z", "google-drive", HELLO, "present"),
        ("expfactory/expfactory:metadata", "2017-12-30T01:00:00Z", "google-storage", FACTORY, "missing"),
        ("vsoch/avocados:tacos", "2017-12-30T02:00:00Z", "google-storage", HELLO, "present"),
        ("expfactory/expfactory:master", "2018-01-01T01:00:00Z", "google-drive", FACTORY, "modified"),
        ("vsoch/hello-world:pancakes", "2018-01-01T02:00:00Z", "google-drive", HELLO, "missing"),
        ("mso4sc/sregistry-cli:latest", "2018-01-09T01:00:00Z", "registry", CLI, "present"),
        ("ubuntu", "2018-01-14T01:00:00Z", "dockerhub", UBUNTU, "present"),
    ]  # fmt: skip
    rows = [
        row(name, created, client=client, sha256=version, state=state)
        for name, created, client, version, state in given
    ]
    return [row("continuumio/anaconda3", path=None), *reversed(rows)]


def test_the_table_is_that_of_sregistry(seed: list[dict[str, Any]]) -> None:
    assert images_table(seed) == TABLE
    assert images_table({"images": seed}) == TABLE
    assert images_table({"sregistry": {"images": seed, "storage": "/s"}}) == TABLE
    assert images_table([]) == ""


def test_numbers_with_two_digits_stay_in_their_column() -> None:
    lines = images_table([row(f"a:{number}") for number in range(10)]).splitlines()
    assert lines[1].startswith("1  January")
    assert lines[10].startswith("10 January")


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, f"library/a:1@{DIGEST}"),
        ({"built_from": None}, f"library/a:1@{DIGEST}"),
        ({"built_from": f"sha256:{'e' * 64}"}, f"library/a:1@sha256:{'e' * 64}"),
        ({"built_from": None, "manifest_digest": None}, "library/a:1"),
        ({"sha256": HELLO}, f"library/a:1@{HELLO}"),
        ({"sha256": ""}, "library/a:1"),
        ({"reference": f"library/a@{DIGEST}"}, f"library/a@{DIGEST}"),
    ],
)
def test_what_stands_behind_a_name_is_the_digest_of_the_image(more: dict[str, Any], shown: str) -> None:
    assert images_table([row("a:1", **more)]).splitlines()[1].split("\t")[-1] == shown


def test_the_images_of_many_hosts_are_one_table() -> None:
    found = row("quay.io/org/solver:2.4", state="present", size=40894464, built_from=f"sha256:{'2d' * 32}")
    built = row("our:1", state="modified", size=100, built_from=None, manifest_digest=None)
    hosts = {
        "node1": {"images": [found, built], "changed": False},
        "node10": {"sregistry": {"images": [row("recorded:1", path=None, state="remote", platform=ARM64)]}},
        "node2": [],
    }
    assert inventory_table(hosts).splitlines() == [
        "HOST    IMAGE                   PLATFORM         SIZE  DIGEST        BUILT                 STATE",
        "node1   quay.io/org/solver:2.4  linux/amd64  39.0 MiB  2d2d2d2d2d2d  2018-01-14T22:08:41Z  present",
        "node1   library/our:1           linux/amd64     100 B  -             2018-01-14T22:08:41Z  modified",
        "node10  library/recorded:1      linux/arm64         -  dddddddddddd  -                     remote",
    ]
    assert inventory_table({}) == "HOST  IMAGE  PLATFORM  SIZE  DIGEST  BUILT  STATE"
    assert "2d" * 32 in inventory_table(hosts, digits=64)


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        ([], 12, "wants a dictionary of hosts"),
        ({"node1": {"failed": True, "msg": "no"}}, 12, "^inventory_table, node1: this is not an inventory"),
        ({}, 3, "from 8 to 64 digits of a digest, not 3"),
    ],
)
def test_a_table_of_something_else_is_an_error(value: Any, digits: int, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        inventory_table(value, digits)


def test_the_object_is_that_of_sregistry(seed: list[dict[str, Any]]) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "layers": [{"digest": "sha256:1"}, {"digest": "sha256:2"}],
    }
    seed[0]["metrics"] = {"manifest": manifest, "config": {}}
    seed[0]["layers"] = [{"digest": "sha256:1"}, {"digest": "sha256:2"}]
    seed[0]["url"] = "docker://docker.io/continuumio/anaconda3:latest"
    link = "https://index.docker.io/v2/continuumio/anaconda3/manifests"
    found = inspect(seed, "continuumio/anaconda3")
    assert found == {
        "client": "dockerhub",
        "collection": "continuumio",
        "collection_id": 5,
        "created_at": "2018-01-14 22:08:41",
        "id": 8,
        "image": None,
        "metrics": {
            "1": {
                "architecture": "amd64",
                "fsLayers": [{"blobSum": "sha256:2"}, {"blobSum": "sha256:1"}],
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "schemaVersion": 2,
                "selfLink": f"{link}/latest",
            },
            "2": {**manifest, "selfLink": f"{link}/latest"},
            "selfLink": link,
        },
        "name": "anaconda3",
        "tag": "latest",
        "uri": "continuumio/anaconda3:latest",
        "url": "continuumio/anaconda3:latest",
        "version": "",
    }
    assert list(found) == sorted(found)
    assert json.dumps(found)
    assert [one["id"] for one in inspect(seed)] == list(range(1, 9))


def test_a_schema_1_manifest_is_shown_as_it_is() -> None:
    manifest = {"schemaVersion": 1, "fsLayers": [{"blobSum": "sha256:1"}]}
    found = inspect([row("localhost:5000/a:1", metrics={"manifest": manifest})], "localhost:5000/a:1")
    link = "https://localhost:5000/v2/a/manifests"
    assert found["metrics"] == {"1": {**manifest, "selfLink": f"{link}/1"}, "selfLink": link}


def test_what_was_taken_over_says_what_its_database_said() -> None:
    former = {
        "id": 42, "collection_id": 7, "image": "/a.sif", "metrics": {"x": 1}, "uri": "vsoch/hello:latest@ed97",
        "url": "https://example.org", "version": "ed97",
    }  # fmt: skip
    taken = row("vsoch/hello", metrics={"sregistry": [{**former, "image": "/b.sif", "id": 41}, former]}, digest=None)
    found = inspect([taken], "vsoch/hello")
    assert (found["id"], found["collection_id"], found["version"]) == (42, 7, "ed97")
    assert (found["metrics"], found["uri"], found["url"]) == (
        {"x": 1},
        "vsoch/hello:latest@ed97",
        "https://example.org",
    )


ROWS = [
    row("ubuntu:24.04", path="/old.sif", created_at="2017-01-01T00:00:00Z"),
    row("ubuntu:24.04", path="/new.sif"),
    row("app:1", path="/amd64.sif"),
    row("app:1", path="/arm64.sif", platform=ARM64),
    row("gone:1", path="/gone.sif", state="missing"),
    row("changed:1", path="/changed.sif", state="modified"),
    row("here:1", path="/here.sif", state="present"),
    row("recorded:1", path=None),
    row("localhost:5000/app:1", path="/registry.sif"),
]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("ubuntu:24.04", {}, "/new.sif"),
        ("docker://docker.io/library/ubuntu:24.04", {}, "/new.sif"),
        ("app:1", {"platform": "linux/arm64"}, "/arm64.sif"),
        ("app:1", {"platform": "linux/aarch64"}, "/arm64.sif"),
        ("app:1", {"platform": "linux/riscv64"}, None),
        ("app:1", {"registry": "localhost:5000"}, "/registry.sif"),
        ("gone:1", {}, None),
        ("changed:1", {}, None),
        ("here:1", {}, "/here.sif"),
        ("recorded:1", {"default": "none"}, "none"),
        ("unknown", {"default": ""}, ""),
        (["unknown", "here:1"], {}, [None, "/here.sif"]),
    ],
)
def test_the_path_of_an_image(name: Any, given: dict[str, Any], expected: Any) -> None:
    assert image_path(ROWS, name, **given) == expected
    assert image_path({"sregistry": {"images": ROWS}}, name, **given) == expected


@pytest.mark.parametrize(
    ("rows", "name", "given", "words"),
    [
        (ROWS, "app:1", {}, "library/app:1 has files for linux/amd64, linux/arm64; say which with platform"),
        (ROWS, "UPPER", {}, "invalid image name"),
        (ROWS, "app:1", {"platform": "amd64"}, "invalid platform"),
        (ROWS, "app:1", {"registry": "//"}, "invalid registry"),
        ("text", "app:1", {}, "this is not an inventory of images"),
        ([{"path": "/a"}], "app:1", {}, "this is not an inventory of images"),
        (None, "app:1", {}, "this is not an inventory of images"),
    ],
)
def test_what_makes_no_sense_is_an_error(rows: Any, name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        image_path(rows, name, **given)


def test_an_image_that_is_not_there_cannot_be_inspected() -> None:
    with pytest.raises(AnsibleFilterError, match=r"image library/x:latest was not found in the inventory"):
        inspect(ROWS, "x")
