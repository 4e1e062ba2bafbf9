# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIF files that are pushed to the lab's registries, and pulled from there by Apptainer."""

from __future__ import annotations

import uuid
from typing import Any

from tests import lab as laboratory

from .conftest import REGISTRY, Host

IMAGE = "lab/tiny:1.0"
CA = "/etc/ssl/lab-ca.pem"


def pushed(host: Host, to: str, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
    """Push the image that was pulled, or what the arguments say."""
    if not {"name", "path"} & arguments.keys():
        arguments["name"] = f"{REGISTRY}/{IMAGE}"
    arguments.setdefault("no_https", True)
    return host.module("hpc.sregistry.sregistry_push", check=check, diff=diff, to=to, **arguments)


def uploads(name: str, since: int, repository: str) -> list[tuple[str, int]]:
    """What was written to a repository: methods and statuses."""
    heard = laboratory.requests_of(name, since=since)
    return [(one.method, one.status) for one in heard if repository in one.path and one.method not in ("GET", "HEAD")]


def test_what_is_pushed_once_is_there_for_everybody(node1: Host) -> None:
    repository = f"pushed/{uuid.uuid4().hex}"
    name = f"oras://{REGISTRY}/{repository}:1"
    pulled = node1.sregistry("pull", IMAGE)["images"][0]
    offset = laboratory.log_offset("plain")
    before = pushed(node1, name, check=True, diff=True)
    assert uploads("plain", offset, repository) == []
    first = pushed(node1, name, diff=True)
    assert first["changed"], first
    assert before["changed"]
    assert before["diff"] == first["diff"]
    image = first["images"][0]
    assert (image["action"], image["uri"], image["path"]) == ("pushed", name, pulled["path"])
    assert (image["sha256"], image["pushed"]) == (pulled["sha256"], {"blobs": 1, "bytes": pulled["size"]})
    told = first["diff"][0]["after"]["annotations"]
    assert told["org.opencontainers.image.base.name"] == f"{REGISTRY}/{IMAGE}"
    assert told["hpc.sregistry.manifest-digest"] == pulled["manifest_digest"]
    assert first["ansible_facts"]["sregistry"]["images"]

    offset = laboratory.log_offset("plain")
    again = pushed(node1, name, diff=True)
    assert (again["changed"], again["images"][0]["action"]) == (False, "present")
    heard = [one.method for one in laboratory.requests_of("plain", since=offset) if repository in one.path]
    assert heard == ["GET"]

    script = f"cd /tmp && apptainer pull --force --no-https /tmp/theirs.sif {name} >&2 && sha256sum /tmp/theirs.sif"
    assert node1.shell(script).stdout.split()[0] == pulled["sha256"]
    assert "hello from tiny" in node1.shell("apptainer run --userns /tmp/theirs.sif").stdout
    ours = node1.sregistry("pull", f"oras://{REGISTRY}/{repository}@{image['digest']}")["images"][0]
    assert ours["sha256"] == pulled["sha256"]
