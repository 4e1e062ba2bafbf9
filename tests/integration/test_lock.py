# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locked images: a node gets what the lock says, wherever the tag has moved, and asks nobody what it means."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests import lab

from .conftest import REGISTRY, Host, run
from .tags import Tag


def asked_about(tag: Tag) -> list[str]:
    """Return the tags and digests whose manifests were asked for since the test began to listen."""
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
    assert [(row["reference"], row["tag"], row["outdated"]) for row in rows] == [(f"{REGISTRY}/{tag.name}", "1", False)]

    tag.listen()
    for action, check in (("pull", True), ("pull", False), ("record", False)):
        again = node1.sregistry(action, tag.name, digests=digests, check=check, diff=True)
        assert not again["changed"]
        assert again["diff"] == []
    assert tag.heard() == []


class LockFile:
    """A lock file, as the playbook writes it on the controller."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "images.lock.yml"

    def write(self, *images: str, check: bool = False, **variables: Any) -> tuple[int, str]:
        """Run the playbook; how many tasks changed something (-1 if one failed), and all that it said."""
        given = {"lock_images": images, "lock_file": self.path.name, "lock_options": {"no_https": True}, **variables}
        command = ["ansible-playbook", "hpc.sregistry.lock", "--diff", "-e", json.dumps(given)] + ["--check"] * check
        done = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False, cwd=self.path.parent)
        changed = done.stdout.rpartition("changed=")[2].partition(" ")[0]
        return int(changed) if done.returncode == 0 else -1, done.stdout + done.stderr

    @property
    def images(self) -> dict[str, Any]:
        """Return the images in it."""
        return dict(yaml.safe_load(self.path.read_text(encoding="utf-8"))["images"])


def test_a_lock_file_is_written_again_only_for_what_moved(tmp_path: Path) -> None:
    lock, tag, other = LockFile(tmp_path), Tag(), Tag()
    one, first = tag.push("one"), other.push("first")
    name, another = f"docker://{REGISTRY}/{tag.name}", f"{REGISTRY}/{other.name}"
    assert lock.write(name, another)[0] == 1
    pins = {digest: {"digest": digest, "platforms": {"linux/amd64": digest}} for digest in (one, first)}
    assert lock.images == {name: pins[one], another: pins[first]}

    written = lock.path.read_bytes()
    assert written.endswith(b"\n")
    tag.listen()
    assert lock.write(lock_images=f"{another}, {name}")[0] == 0, "a text is a list as well"
    assert tag.heard() == ["HEAD manifests"]
    assert lock.path.read_bytes() == written

    two, second = tag.push("two"), other.push("second")
    pins.update({digest: {"digest": digest, "platforms": {"linux/amd64": digest}} for digest in (two, second)})
    changed, said = lock.write(name, another, check=True)
    assert (changed, lock.path.read_bytes()) == (1, written)
    assert f"-    digest: {one}" in said
    assert f"+    digest: {two}" in said
    assert lock.write(name, another, lock_update=another)[0] == 1
    assert lock.images == {name: pins[one], another: pins[second]}

    written = lock.path.read_bytes()
    changed, said = lock.write(name, another, f"{REGISTRY}/{other.repository}:none")
    assert (changed, lock.path.read_bytes()) == (-1, written)
    assert f"{other.repository} has no tag 'none'" in said
    assert lock.write(name)[0] == 1
    assert lock.images == {name: pins[two]}
    lock.path.write_text("images: {}\nprecious: true\n", encoding="utf-8")
    changed, said = lock.write(name)
    assert (changed, lock.path.read_text(encoding="utf-8")) == (-1, "images: {}\nprecious: true\n")
    assert f"{lock.path.name}, line 2: 'precious' is not a key of a lock file" in said
