# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``sregistry_pull`` on real hosts: what it makes runs, a second run changes nothing, and what moved is noticed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import lab

from .conftest import REGISTRY, Host, run
from .tags import Tag


@pytest.mark.parametrize("user", ["root", "hpc"])
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_the_whole_life_of_a_tag(node: str, user: str, tag: Tag, node1: Host, node2: Host) -> None:
    host = {"node1": node1, "node2": node2}[node].as_user(user)
    before = host.sregistry("pull", tag.name, check=True, diff=True)
    assert before["changed"]
    assert before["diff"][0]["before"] == {}
    assert "No such file" in host.shell("ls ~/.singularity ~/.apptainer", check=False).stderr

    first = host.sregistry("pull", tag.name, diff=True)
    assert first["changed"]
    assert first["diff"] == before["diff"]
    image = first["images"][0]
    assert image["action"] == "pulled"
    assert run(host, image["path"]) == "one"

    for check in (True, False):
        tag.listen()
        again = host.sregistry("pull", tag.name, check=check, diff=True)
        assert not again["changed"]
        assert again["diff"] == []
        assert again["images"][0]["action"] == "present"
        assert tag.heard() == ["HEAD manifests"]

    moved = tag.push("two")
    foreseen = host.sregistry("pull", tag.name, check=True, diff=True)
    assert foreseen["changed"]
    assert foreseen["images"][0]["digest"] == foreseen["images"][0]["manifest_digest"] == moved
    assert foreseen["diff"][0]["before"]["manifest_digest"] == image["manifest_digest"]
    assert foreseen["diff"][0]["after"]["manifest_digest"] == moved
    assert run(host, image["path"]) == "one"

    kept = host.sregistry("pull", tag.name, pull="not_present")
    assert not kept["changed"]
    rebuilt = host.sregistry("pull", tag.name, diff=True)
    assert rebuilt["changed"]
    assert rebuilt["diff"] == foreseen["diff"]
    assert rebuilt["images"][0]["action"] == "rebuilt"
    assert rebuilt["images"][0]["path"] == image["path"]
    assert run(host, image["path"]) == "two"
    assert not host.sregistry("pull", tag.name)["changed"]


def test_a_name_by_digest_asks_nothing_when_it_is_there(node1: Host, tag: Tag) -> None:
    name = f"{tag.repository}@{tag.push('one')}"
    assert node1.sregistry("pull", name)["changed"]
    for arguments in ({}, {"check": True}, {"pull": "not_present"}):
        tag.listen()
        assert not node1.sregistry("pull", name, **arguments)["changed"]
        assert tag.heard() == []


def test_not_present_asks_nothing_when_it_is_there(node1: Host, tag: Tag) -> None:
    assert node1.sregistry("pull", tag.name, pull="not_present")["changed"]
    tag.listen()
    assert not node1.sregistry("pull", tag.name, pull="not_present")["changed"]
    assert tag.heard() == []


def test_a_record_is_upgraded_by_a_pull(node1: Host, tag: Tag) -> None:
    recorded = node1.sregistry("record", tag.name)
    assert recorded["changed"]
    assert [row["path"] for row in recorded["ansible_facts"]["sregistry"]["images"]] == [None]
    assert not node1.sregistry("record", tag.name)["changed"]
    pulled = node1.sregistry("pull", tag.name)
    rows = pulled["ansible_facts"]["sregistry"]["images"]
    assert [row["path"] for row in rows] == [pulled["images"][0]["path"]]
    assert not node1.sregistry("record", tag.name)["changed"]
    tag.push("two")
    assert node1.sregistry("record", tag.name, check=True)["changed"]
    outdated = node1.sregistry("record", tag.name)["ansible_facts"]["sregistry"]["images"]
    assert [(row["path"], row["outdated"]) for row in outdated] == [(pulled["images"][0]["path"], True)]
    assert node1.sregistry("pull", tag.name)["images"][0]["action"] == "rebuilt"


DAMAGES = {
    "deleted": "rm {path}",
    "truncated": "truncate -s -1 {path}",
    "replaced": "cp {path} {path}.new; printf x >> {path}.new; mv {path}.new {path}",
    "touched": "touch {path}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_changed_behind_the_back_is_put_right(node1: Host, tag: Tag, damage: str) -> None:
    image = node1.sregistry("pull", tag.name)["images"][0]
    node1.shell(DAMAGES[damage].format(path=image["path"]))
    (row,) = node1.sregistry("info", tag.name)["images"]
    assert row["state"] == ("missing" if damage == "deleted" else "modified")
    assert node1.sregistry("pull", tag.name, check=True)["changed"]
    repaired = node1.sregistry("pull", tag.name)
    assert repaired["images"][0]["action"] == "repaired"
    assert run(node1, image["path"]) == "one"
    assert not node1.sregistry("pull", tag.name)["changed"]


def test_checksum_finds_what_size_and_time_do_not_show(node1: Host, tag: Tag) -> None:
    path = node1.sregistry("pull", tag.name)["images"][0]["path"]
    flip = "import os,sys; p=sys.argv[1]; s=os.stat(p); f=open(p,'r+b'); f.seek(-1,2); b=f.read(1); f.seek(-1,2); "
    flip += "f.write(bytes([b[0]^1])); f.close(); os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))"
    node1.shell(f'python3 -c "{flip}" {path}')
    assert not node1.sregistry("pull", tag.name)["changed"]
    assert node1.sregistry("info", tag.name, checksum=True)["images"][0]["state"] == "modified"
    assert node1.sregistry("pull", tag.name, checksum=True)["images"][0]["action"] == "repaired"
    assert not node1.sregistry("pull", tag.name, checksum=True)["changed"]


def test_a_damaged_blob_in_the_cache_is_fetched_again(node1: Host, tag: Tag) -> None:
    path = node1.sregistry("pull", tag.name)["images"][0]["path"]
    node1.shell(
        "cd ~/.apptainer/cache/blob/blobs/sha256; for b in *; do printf XXXX | dd of=$b bs=1 seek=20 conv=notrunc; done"
    )
    assert node1.sregistry("pull", tag.name, force=True)["changed"]
    assert run(node1, path) == "one"


def test_apptainer_reuses_the_blobs_that_we_fetched(node1: Host) -> None:
    """It opens a GET for each blob all the same, and hangs up when it sees that the blob is there."""
    name = Tag().name
    lab.move(name, "lab/debian:12")
    fetched = node1.sregistry("pull", name)["images"][0]["fetched"]["bytes"]
    offset = lab.log_offset("plain")
    fast = "--mksquashfs-args '-comp zstd -Xcompression-level 1'"  # which pull cannot, and blobs do not depend on
    node1.shell(f"apptainer build {fast} --no-https /tmp/a.sif docker://{REGISTRY}/{name}")
    requests = lab.requests_of("plain", since=offset)
    sizes = [request.size for request in requests if f"/{name.partition(':')[0]}/blobs/" in request.path]
    assert len(sizes) == 4
    assert sum(sizes) < fetched / 2, "what was on its way when it hung up is a few megabytes, sometimes"


def test_we_reuse_the_blobs_that_apptainer_fetched(node1: Host, tag: Tag) -> None:
    node1.shell(f"apptainer pull --no-https /tmp/a.sif docker://{REGISTRY}/{tag.name}")
    tag.listen()
    result = node1.sregistry("pull", tag.name)["images"][0]
    assert result["fetched"] == {"blobs": 0, "bytes": 0}
    assert result["cached"]["blobs"] == 3
    assert "GET blobs" not in tag.heard()


def test_without_a_cache_nothing_is_left_but_the_image(node1: Host, tag: Tag) -> None:
    assert node1.sregistry("pull", tag.name, disable_cache=True)["changed"]
    assert node1.shell("find ~/.apptainer /tmp/sregistry* -type f", check=False).stdout == ""


def test_file_attributes_are_set_and_kept(node1: Host, tag: Tag) -> None:
    arguments: dict[str, Any] = {"owner": "hpc", "group": "hpc", "mode": "0640"}
    path = node1.sregistry("pull", tag.name, **arguments)["images"][0]["path"]
    assert node1.shell(f"stat -c '%U %G %a' {path}").stdout.split() == ["hpc", "hpc", "640"]
    assert not node1.sregistry("pull", tag.name, **arguments)["changed"]
    foreseen = node1.sregistry("pull", tag.name, mode="0644", check=True, diff=True)
    result = node1.sregistry("pull", tag.name, mode="0644", diff=True)
    assert foreseen["changed"]
    assert result["images"][0]["action"] == "attributes"
    assert foreseen["diff"] == result["diff"]
    assert (result["diff"][0]["before"]["mode"], result["diff"][0]["after"]["mode"]) == ("0640", "0644")
    assert node1.shell(f"stat -c '%U %G %a' {path}").stdout.split() == ["hpc", "hpc", "644"]


def test_dest_is_a_file_or_a_directory_and_one_image_may_have_many(node1: Host, tag: Tag) -> None:
    for dest in ("/root/sif/one.sif", "/root/sif/"):
        assert node1.sregistry("pull", tag.name, dest=dest)["changed"]
    for dest in ("/root/sif/one.sif", "/root/sif"):
        assert not node1.sregistry("pull", tag.name, dest=dest)["changed"]
    rows = node1.sregistry("info", tag.name)["images"]
    assert sorted(row["path"] for row in rows) == [
        f"/root/sif/{tag.repository.split('/')[1]}-1.sif",
        "/root/sif/one.sif",
    ]


def test_a_new_version_takes_the_place_of_the_old_one_at_a_fixed_path(node1: Host, tag: Tag) -> None:
    node1.sregistry("pull", tag.name, dest="/root/sif/one.sif")
    assert node1.sregistry("pull", "lab/tiny", dest="/root/sif/one.sif", check=True)["changed"]
    result = node1.sregistry("pull", "lab/tiny", dest="/root/sif/one.sif")
    assert result["changed"]
    assert run(node1, "/root/sif/one.sif") == "hello from tiny 1.0"
    rows = result["ansible_facts"]["sregistry"]["images"]
    assert [row["name"] for row in rows if row["path"] == "/root/sif/one.sif"] == ["tiny"]
    assert not node1.sregistry("pull", "lab/tiny", dest="/root/sif/one.sif")["changed"]


def test_a_path_of_the_store_is_not_taken_from_another_platform(node1: Host) -> None:
    path = node1.sregistry("pull", "lab/multi")["images"][0]["path"]
    for check in (True, False):
        refused = node1.sregistry("pull", "lab/multi", platform="linux/arm64", check=check)
        assert re.search(r"multi-latest.sif is the file of .* for linux/amd64; give another dest", refused["msg"])
    assert not node1.sregistry("pull", "lab/multi")["changed"]
    assert node1.sregistry("pull", "lab/multi", platform="linux/arm64", force=True)["changed"]
    rows = node1.sregistry("info", "lab/multi")["images"]
    assert [(row["platform"], row["path"]) for row in rows] == [("linux/amd64", None), ("linux/arm64", path)]


def test_results_and_facts_tell_what_the_file_was_built_from(node1: Host, tag: Tag) -> None:
    built_from = node1.sregistry("pull", tag.name)["images"][0]["manifest_digest"]
    moved = tag.push("two")
    node1.sregistry("record", tag.name)
    kept = node1.sregistry("pull", tag.name, pull="not_present")["images"][0]
    assert (kept["action"], kept["manifest_digest"]) == ("present", built_from)
    facts = node1.sregistry("info", tag.name, "lab/elsewhere", inspect=True)
    (row,) = facts["images"]
    assert (row["built_from"], row["manifest_digest"], row["outdated"]) == (built_from, moved, True)
    assert row["inspect"]["labels"]["org.label-schema.usage.singularity.deffile.bootstrap"] == "docker"
    assert facts["unknown"] == [f"{REGISTRY}/lab/elsewhere"]


def test_a_replaced_file_keeps_its_rights_and_a_new_one_never_has_others(node1: Host, tag: Tag) -> None:
    path = node1.sregistry("pull", tag.name, owner="hpc", mode="0700")["images"][0]["path"]
    tag.push("two")
    assert node1.sregistry("pull", tag.name)["images"][0]["action"] == "rebuilt"
    assert node1.shell(f"stat -c '%U %a' {path}").stdout.split() == ["hpc", "700"]
    refused = node1.sregistry("pull", tag.name, owner="nobody-here")
    assert "there is no user 'nobody-here' on this host (owner)" in refused["msg"]


def test_facts_of_a_replaced_file_start_nothing_that_is_in_it(node1: Host, tag: Tag) -> None:
    path = node1.sregistry("pull", tag.name)["images"][0]["path"]
    node1.shell(f"printf '#!/bin/sh\ntouch /tmp/started\n' > {path}")
    facts = node1.sregistry("info", tag.name, inspect=True)
    assert (facts["images"][0]["state"], facts["images"][0]["inspect"]) == ("modified", None)
    assert "is not a SIF image" in facts["warnings"][0]
    assert node1.shell("ls /tmp/started", check=False).returncode != 0


def test_no_names_is_nothing_to_do(node1: Host) -> None:
    result = node1.module("hpc.sregistry.sregistry_pull", name=[])
    assert (result["changed"], result["images"]) == (False, [])


def test_another_platform_is_built_for_that_platform(node1: Host) -> None:
    result = node1.sregistry("pull", "lab/multi", platform="linux/arm64", dest="/root/sif/arm64.sif")
    assert result["images"][0]["platform"] == "linux/arm64"
    assert "System/arm64" in node1.shell("apptainer sif list /root/sif/arm64.sif").stdout
    assert not node1.sregistry("pull", "lab/multi", platform="linux/aarch64/v8", dest="/root/sif/arm64.sif")["changed"]


def test_two_runs_at_once_do_the_work_once(node1: Host, tag: Tag) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _number: node1.sregistry("pull", tag.name), range(4)))
    assert sorted(result["changed"] for result in results) == [False, False, False, True]
    assert len({result["images"][0]["sha256"] for result in results}) == 1
    assert run(node1, results[0]["images"][0]["path"]) == "one"


def test_one_bad_image_does_not_stop_the_others(node1: Host, tag: Tag) -> None:
    result = node1.sregistry("pull", "lab/nothing-here", tag.name)
    assert result["failed"]
    assert [image["action"] for image in result["images"]] == ["failed", "pulled"]
    assert "1 of 2 images failed" in result["msg"]
    assert run(node1, result["images"][1]["path"]) == "one"
