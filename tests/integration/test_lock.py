# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locked images: a node gets what the lock says, wherever the tag has moved, and asks nobody what it means."""

from __future__ import annotations

from tests import lab

from .conftest import REGISTRY, Host
from .test_pull import Tag, run


def asked_about(tag: Tag) -> list[str]:
    """The tags and digests whose manifests were asked for since the test began to listen."""
    asked = [request.path for request in lab.requests_of("plain", since=tag.offset)]
    return [path.rpartition("/")[2] for path in asked if f"/{tag.repository}/manifests/" in path]


def test_a_pinned_node_is_brought_back_to_its_pin_and_then_asks_nothing(node1: Host) -> None:
    tag = Tag()
    locked, moved = tag.push("one"), tag.push("two")
    first = node1.sregistry("pull", tag.name)["images"][0]
    assert (first["digest"], run(node1, first["path"])) == (moved, "two")
    digests = {f"{REGISTRY}/{tag.name}": {"digest": locked, "platforms": {"linux/amd64": locked}}}

    foreseen = node1.sregistry("pull", tag.name, digests=digests, pull="not_present", check=True, diff=True)
    tag.listen()
    back = node1.sregistry("pull", tag.name, digests=digests, pull="not_present", diff=True)
    assert asked_about(tag) == [locked]
    assert back["diff"] == foreseen["diff"]
    assert [foreseen["images"][0][key] for key in ("action", "digest")] == ["rebuilt", locked]
    image = back["images"][0]
    assert [image[key] for key in ("action", "digest", "path")] == ["rebuilt", locked, first["path"]]
    assert run(node1, image["path"]) == "one"
    rows = back["ansible_facts"]["sregistry"]["images"]
    assert [(row["uri"], row["tag"], row["outdated"]) for row in rows] == [(f"{REGISTRY}/{tag.name}", "1", False)]

    tag.listen()
    for action, check in (("pull", True), ("pull", False), ("record", False)):
        again = node1.sregistry(action, tag.name, digests=digests, check=check, diff=True)
        assert not again["changed"]
        assert again["diff"] == []
    assert tag.heard() == []
