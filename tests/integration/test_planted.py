# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root at work in a user's store and cache, on real hosts: nothing else is touched, and the user goes on with both."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import requests

from tests import lab
from tests.lab import catalogue, oci, tree

from .conftest import LAB, REGISTRY, Host
from .playbooks import run_playbook

SECRET = "the secret of root"
CANARY = "/root/canary"
STORE, CACHE = "/home/hpc/sif/store", "/home/hpc/sif/cache"  # which node1 empties


def push(words: str) -> str:
    """Push an image of its own that has a file with some words; return its name."""
    name = f"planted/{uuid.uuid4().hex}:1"
    lab.push(name, catalogue.tiny_with(oci.layer(tree.Tree().file("words", f"{words}\n").tar()), Cmd=["/bin/true"]))
    return name


def play(host: Host, tasks: list[tuple[str, dict[str, Any]]]) -> str:
    """Run tasks as root, whatever becomes of each; all that Ansible says."""
    steps = [{f"hpc.sregistry.sregistry_{name}": options, "ignore_errors": True} for name, options in tasks]
    text = json.dumps([{"hosts": host.name, "gather_facts": False, "tasks": steps}])
    arguments = ["-i", str(LAB / "inventory.yml"), "-e", "ansible_user=root", "-vvv", "--diff", "/dev/stdin"]
    done = run_playbook(arguments, text)
    return done.stdout + done.stderr


def look(host: Host) -> str:
    """Return all of the canary: names, modes, owners, times and content."""
    return host.shell(
        f"find {CANARY} -printf '%p %i %m %U:%G %T@\\n' | sort; find {CANARY} -type f | sort | xargs sha256sum"
    ).stdout


def test_root_touches_nothing_for_what_a_user_has_planted(node1: Host) -> None:
    user, name = node1.as_user("hpc"), push(SECRET)
    blobs = f"{CACHE}/cache/blob/blobs"
    node1.shell(
        f"umask 077; rm -rf {CANARY} /root/known /root/pulled; mkdir -m 700 {CANARY}; echo '{SECRET}' > {CANARY}/notes"
    )
    pulled = node1.sregistry("pull", name, dest=f"{CANARY}/secret.sif", mode="0600", storage="/root/pulled")
    assert pulled["changed"], pulled
    node1.shell(f"cp {CANARY}/secret.sif {CANARY}/{'ab' * 32}; touch -d @1500000000 {CANARY}/*")
    added = node1.module(
        "hpc.sregistry.sregistry_add",
        name="planted/secret:1",
        path=f"{CANARY}/secret.sif",
        method="in_place",
        storage="/root/known",
    )
    assert added["changed"], added
    user.shell(f"mkdir -p {STORE}/.sregistry/images {STORE}/own {blobs}; ln -s {CANARY} {blobs}/sha256")
    user.shell(f"ln -s {CANARY} {STORE}/127.0.0.1+5000; ln -s {CANARY} {STORE}/own/way; ln -s {CANARY} {blobs}/evil")
    user.shell(f"ln -s {CANARY}/secret.sif {STORE}/own/link.sif")
    node1.shell(
        f"cp /root/known/.sregistry/images/planted* {STORE}/.sregistry/images/; chown -R hpc:hpc {STORE}/.sregistry; "
        f"ln {CANARY}/notes {STORE}/own/second.sif"
    )
    node1.module("ansible.builtin.command", cmd="openssl genrsa -out /root/known/key.pem 2048")
    stolen = f"oras://{REGISTRY}/planted/stolen-{uuid.uuid4().hex}:1"
    image, store = {"name": "planted/secret:1"}, {"storage": STORE}
    shown: dict[str, Any] = {"mode": "0666", "owner": "hpc"}
    pull = {"name": f"{REGISTRY}/{name}", "no_https": True, "cachedir": CACHE, **store, **shown}
    before = look(node1)
    said = play(
        node1,
        [
            ("info", {"checksum": True, "inspect": True, **store}),
            ("rename", {**image, "dest": f"{STORE}/x.sif", **store, **shown}),
            ("push", {**image, "to": stolen, "no_https": True, **store}),
            ("push", {"path": f"{STORE}/own/link.sif", "to": stolen, "no_https": True, **store}),
            ("sign", {**image, "key": "/root/known/key.pem", **store}),
            ("add", {"name": "mine:1", "path": f"{STORE}/own/link.sif", **store, **shown}),
            ("add", {"name": "mine:2", "path": f"{STORE}/own/way/secret.sif", "method": "move", **store, **shown}),
            ("add", {"name": "mine:3", "path": f"{STORE}/own/second.sif", "method": "in_place", **store, **shown}),
            ("pull", {**pull, "force": True}),
            ("pull", {**pull, "dest": f"{STORE}/own/way/new.sif"}),
            ("build", {"source": f"docker://{REGISTRY}/{name}", "path": f"{STORE}/own/way/b.sif", "no_https": True}),
            ("remove", {"cache": "prune", "sweep": True, "cachedir": CACHE, **store}),
            ("remove", {**image, "force": True, "cachedir": CACHE, **store}),
        ],
    )
    assert look(node1) == before
    assert len(re.findall(r"could have (?:made|written|named)", said)) >= 8, said
    assert SECRET not in said
    host, repository = stolen.removeprefix("oras://").removesuffix(":1").split("/", 1)
    assert requests.get(f"http://{host}/v2/{repository}/manifests/1", timeout=30).status_code == 404
    assert SECRET not in user.shell(f"grep -rhas '{SECRET}' {STORE} {CACHE}; true").stdout


def test_the_owner_of_a_store_and_a_cache_goes_on_with_them_after_root(node1: Host) -> None:
    user, first, second = node1.as_user("hpc"), push("one"), push("two")
    user.shell(f"mkdir -p {STORE} {CACHE}")
    options: dict[str, Any] = {"storage": STORE, "cachedir": CACHE}
    assert node1.sregistry("pull", first, **options)["changed"]
    others = f"find {STORE} {CACHE} ! -user hpc"
    assert node1.shell(others).stdout == ""
    assert node1.sregistry("pull", first, **options)["changed"] is False
    assert user.sregistry("pull", first, **options)["changed"] is False
    done = user.sregistry("pull", first, second, force=True, **options)
    assert done["changed"], done
    assert node1.sregistry("pull", second, **options)["changed"] is False
    gone = user.sregistry("remove", first, second, cache="prune", no_https=None, **options)
    assert "msg" not in gone, gone
    assert user.shell(f"find {STORE} {CACHE} -name '*.sif' -o -path '*/sha256/*'").stdout == ""
