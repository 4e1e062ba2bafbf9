# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our SIF and the one of ``apptainer build`` from the same registry hold the same tree and say the same of themselves.

Compared entry by entry: path, kind, mode, owner, time, size, content, link target, device, hard-link groups, xattrs;
and all that ``apptainer inspect`` shows, but for dates and the name that the image was asked for.

Where Apptainer 1.4.5 itself departs from the specifications, ours follows them, and the tests here say so:

- It refuses Docker schema 1, indexes in indexes, and GNU sparse files (all three are in the specifications or in the
  tar format that they name). Ours is compared with Apptainer's build of an image of the same content.
- It escapes environment values twice, so that ``$``, back quote, double quote or backslash in one value break all.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.catalogue import ODD_ENVIRONMENT

from .conftest import REGISTRY, Host
from .trees import LABELS, LOST_BY_APPTAINER, differences, scan

# our image, the image that Apptainer can build of the same content
IMAGES = [
    pytest.param("lab/tiny:latest", "lab/tiny:latest", id="v2s2, one layer"),
    pytest.param("lab/debian:12", "lab/debian:12", id="v2s2, a distribution"),
    pytest.param("lab/oci:latest", "lab/oci:latest", id="OCI manifest"),
    pytest.param("lab/zstd:latest", "lab/zstd:latest", id="zstd layers"),
    pytest.param("lab/mixed:latest", "lab/mixed:latest", id="gzip, zstd and plain layers"),
    pytest.param("lab/multi:latest", "lab/multi:latest", id="OCI index with attestation"),
    pytest.param("lab/list:latest", "lab/list:latest", id="Docker manifest list"),
    pytest.param("lab/hazards:latest", "lab/hazards:latest", id="every hazard of layers"),
    pytest.param("lab/furnished:latest", "lab/furnished:latest", id="metadata and applications of its own"),
    pytest.param("lab/furnished:unlabelled", "lab/furnished:unlabelled", id="labels of its own"),
    pytest.param("lab/nested:latest", "lab/multi:latest", id="nested index, refused by Apptainer"),
    pytest.param("lab/schema1:latest", "lab/schema2:latest", id="schema 1, refused by Apptainer"),
]

REFUSED = ["lab/nested:latest", "lab/schema1:latest", "lab/hazards-sparse:latest"]

BUILDERS = ("stream", "sandbox")

DEFINITION = ".singularity.d/Singularity"
DATES = {"org.label-schema.build-date", "org.opencontainers.image.created"}
SOURCE = "org.label-schema.usage.singularity.deffile.from"


def inspect(host: Host, sif: str) -> dict[str, Any]:
    """Return the engine's inspection of a SIF, dates left out."""
    attributes = json.loads(host.shell(f"apptainer inspect --all --json {sif}").stdout)["data"]["attributes"]
    return {**attributes, "labels": {k: v for k, v in attributes["labels"].items() if k not in DATES}}


def renamed(attributes: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return a SIF's description of itself, had it been built from another name."""
    labels = {**attributes["labels"], SOURCE: attributes["labels"][SOURCE].replace(old, new)}
    return {**attributes, "labels": labels, "deffile": attributes["deffile"].replace(old, new)}


def apptainer_build(host: Host, image: str) -> str:
    """Let Apptainer build an image of the plain registry; returns the path of its SIF.

    Its default compression, gzip at level 9, takes ten times as long, and changes nothing of what is compared here.
    """
    path = "/tmp/theirs.sif"  # on the host
    fast = "--mksquashfs-args '-comp zstd -Xcompression-level 1'"
    host.shell(f"rm -f {path}; apptainer build {fast} --no-https {path} docker://{REGISTRY}/{image}", timeout=7200)
    return path


def pull_with(host: Host, builder: str, image: str, **arguments: Any) -> str:
    """Pull an image with one of the builders; returns the path of the file."""
    result = host.sregistry("pull", image, builder=builder, **arguments)
    assert result["changed"], result
    used = result["images"][0]["builder"]
    assert (used["name"], used["reason"]) == (builder, "asked for")
    return str(result["images"][0]["path"])


@pytest.mark.parametrize(("image", "twin"), IMAGES)
def test_tree_and_metadata_are_those_of_apptainer(node1: Host, image: str, twin: str) -> None:
    theirs = apptainer_build(node1, twin)
    said = renamed(inspect(node1, theirs), twin, image)
    (their_tree,) = scan(node1, theirs)
    varying = {LABELS} if image == twin else {LABELS, DEFINITION}
    for builder in BUILDERS:
        ours = pull_with(node1, builder, image, force=True)
        (our_tree,) = scan(node1, ours)
        assert not differences(our_tree, their_tree, varying), builder
        assert inspect(node1, ours) == said, builder


@pytest.mark.parametrize("user", ["root", "hpc"])
def test_what_an_image_says_of_itself_and_its_applications_is_shown(node1: Host, user: str) -> None:
    host, image = node1.as_user(user), "lab/furnished:latest"
    theirs = apptainer_build(host, image)
    ours = pull_with(host, "stream", image, dest="/tmp/ours.sif")
    asked = [
        "-H",
        "-t",
        "-e",
        "-r",
        "-d",
        "-s",
        "--list-apps",
        "--app one -H",
        "--app two -r",
        "--app one -l",
        "--app one -t",
    ]
    commands = [f"inspect {options} SIF" for options in asked] + ["run-help SIF", "run-help --app one SIF", "run SIF"]
    script = "; ".join(f"echo = {each}; apptainer {each} 2>&1" for each in commands)
    said = [host.shell(script.replace("SIF", sif), check=False).stdout.replace(sif, "SIF") for sif in (ours, theirs)]
    assert said[0] == said[1]
    for text in ("How this image is used", "its own test", "How the application is used", "NINETY_ONE=own"):
        assert text in said[0]
    node1.shell("rm -rf /tmp/ours.tree /tmp/theirs.tree")
    tree = host.sregistry("build", source=f"docker://{REGISTRY}/{image}", path="/tmp/ours.tree", format="sandbox")
    assert tree["changed"], tree
    host.shell(f"apptainer build --sandbox --no-https /tmp/theirs.tree docker://{REGISTRY}/{image}")
    rows = host.sregistry("info", f"{REGISTRY}/{image}", inspect=True)["images"]
    assert {row["path"] for row in rows} == {ours, "/tmp/ours.tree"}
    for row in rows:
        shown = json.loads(host.shell(f"apptainer inspect --all --json {row['path']}").stdout)
        assert row["inspect"] == shown["data"]["attributes"]
    our_tree, their_tree = scan(host, "/tmp/ours.tree", "/tmp/theirs.tree")
    node1.shell("rm -rf /tmp/ours.tree /tmp/theirs.tree")
    for entry in (*our_tree.values(), *their_tree.values()):
        entry["xattrs"].pop("user.rootlesscontainers", None)
    assert not differences(our_tree, their_tree, {LABELS})


def test_links_in_the_metadata_of_an_image_reach_no_file_of_the_host(node1: Host) -> None:
    """Apptainer 1.4.5 follows them: as root it writes to the host, and puts ``/etc/shadow`` into the SIF."""
    node1.shell("rm -rf /tmp/written-by-an-image /tmp/ours.tree")
    path = pull_with(node1, "stream", "lab/furnished:linked")
    built = node1.sregistry(
        "build", source=f"docker://{REGISTRY}/lab/furnished:linked", path="/tmp/ours.tree", format="sandbox"
    )
    assert built["changed"], built
    node1.shell("test ! -e /tmp/written-by-an-image")
    said = inspect(node1, path)
    assert (said["helpfile"], "test" in said, "root:" in json.dumps(said)) == ("help inside", False, False)
    rows = node1.sregistry("info", f"{REGISTRY}/lab/furnished:linked", inspect=True)["images"]
    assert [(row["inspect"]["helpfile"], "root:" in json.dumps(row)) for row in rows] == [("help inside", False)] * 2
    node1.shell("rm -rf /tmp/ours.tree")


@pytest.mark.parametrize("image", ["lab/debian:12", "lab/hazards:latest"])
def test_an_ordinary_user_who_unpacks_gets_the_tree_of_apptainer(node1: Host, image: str) -> None:
    user = node1.as_user("hpc")
    ours = pull_with(user, "sandbox", image, dest="/tmp/ours.sif")
    our_tree, their_tree = scan(node1, ours, apptainer_build(user, image))
    for entry in their_tree.values():
        entry["xattrs"].pop("user.rootlesscontainers", None)  # its note of the owner that it could not set
    assert not differences(our_tree, their_tree, {LABELS, *LOST_BY_APPTAINER})
    for path in LOST_BY_APPTAINER & their_tree.keys():
        assert their_tree[path]["size"] == 0
        assert path not in our_tree or our_tree[path]["size"] > 0


@pytest.mark.parametrize("image", ["lab/debian:12", "lab/hazards:latest"])
def test_an_ordinary_user_who_streams_gets_what_root_gets(node1: Host, image: str) -> None:
    ours = pull_with(node1.as_user("hpc"), "stream", image, dest="/tmp/ours.sif")
    our_tree, their_tree = scan(node1, ours, apptainer_build(node1, image))
    assert not differences(our_tree, their_tree, {LABELS})


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("image", REFUSED)
def test_what_apptainer_refuses_runs_from_our_sif(node1: Host, image: str, builder: str) -> None:
    refused = node1.shell(f"apptainer build --no-https /tmp/refused.sif docker://{REGISTRY}/{image}", check=False)
    assert refused.returncode != 0, "Apptainer builds this now: compare the trees instead"
    path = pull_with(node1, builder, image)
    node1.shell(f"apptainer exec --userns {path} /bin/busybox true")


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_sparse_file_has_its_holes_filled_with_zeros(node1: Host, builder: str) -> None:
    path = pull_with(node1, builder, "lab/hazards-sparse")
    (tree,) = scan(node1, path)
    (sparse,) = [entry for name, entry in tree.items() if "sparse" in name]
    script = f"apptainer exec --userns {path} /bin/busybox sh -c 'wc -c < /sparse-gnu'"
    assert int(node1.shell(script).stdout) == sparse["size"] > 10000


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_value_of_the_environment_arrives_as_the_image_has_it(node1: Host, builder: str) -> None:
    path = pull_with(node1, builder, "lab/env")
    done = node1.shell(f"apptainer exec --userns --cleanenv {path} /bin/busybox env -0")
    found = dict(item.split("=", 1) for item in done.stdout.split("\0") if "=" in item)
    assert len(ODD_ENVIRONMENT) > 3
    assert {name: found.get(name) for name in ODD_ENVIRONMENT} == ODD_ENVIRONMENT
    theirs = node1.shell(
        f"apptainer exec --userns {apptainer_build(node1, 'lab/env:latest')} /bin/busybox true", check=False
    )
    assert "without closing quote" in theirs.stderr, "Apptainer escapes these now: compare the scripts instead"
