# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIF files that are pushed to the lab's registries, and pulled from there by Apptainer."""

from __future__ import annotations

import uuid
from typing import Any

from tests import lab as laboratory
from tests.faults import FaultyRegistry, faults
from tests.lab.registry import PASSWORD, USER

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
    """Return the writes to a repository: methods and statuses."""
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
    assert (image["action"], image["reference"], image["path"]) == ("pushed", name, pulled["path"])
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

    # what was pulled from one repository is lent to another one
    ours = node1.sregistry("pull", name)["images"][0]
    assert (ours["sha256"], ours["digest"]) == (pulled["sha256"], image["digest"])
    offset = laboratory.log_offset("plain")
    lent = pushed(node1, f"{REGISTRY}/{repository}/other:2", name=name)["images"][0]
    assert (lent["action"], lent["mounted"], lent["pushed"]) == ("pushed", True, {"blobs": 0, "bytes": 0})
    (mount,) = [one for one in laboratory.requests_of("plain", since=offset) if "mount=" in one.path]
    assert (mount.method, mount.status) == ("POST", 201)

    # another file takes the name
    node1.shell(f"cp {pulled['path']} /tmp/other.sif && head -c 20M /dev/urandom >> /tmp/other.sif")
    other = node1.shell("sha256sum /tmp/other.sif").stdout.split()[0]
    with FaultyRegistry(f"http://{REGISTRY}") as broken:
        broken.when("/blobs/uploads/", faults.dropped(), "PATCH", times=1, after=1)
        moved = pushed(node1, f"{broken.address}/{repository}:1", path="/tmp/other.sif", diff=True)
        assert moved["images"][0]["action"] == "moved", moved
        statuses = [one.status for one in broken.asked("/blobs/uploads/", "PATCH")]
        assert statuses[:2] == [202, 0]
        assert set(statuses[2:]) == {202}
    assert moved["diff"][0]["before"] == first["diff"][0]["after"]
    assert moved["diff"][0]["after"]["sha256"] == other
    assert node1.shell(script).stdout.split()[0] == other


def test_who_may_push_does_so_and_others_are_told(node2: Host) -> None:
    user = node2.as_user("hpc")
    assert user.sregistry("pull", IMAGE)["changed"]
    repository = f"secret/{uuid.uuid4().hex}"
    secure: dict[str, Any] = {"no_https": False, "ca_path": CA}
    login: dict[str, Any] = {"username": USER, "password": PASSWORD}
    for port in (5001, 5002):
        done = pushed(user, f"127.0.0.1:{port}/{repository}:1", **secure, **login)
        # all doors lead to one storage, so the second one only sees the same name again
        assert done["images"][0]["action"] == ("pushed" if port == 5001 else "present"), done
        assert PASSWORD not in str(done)
    other = pushed(user, f"127.0.0.1:5002/{repository}/other:1", **secure, **login)
    assert other["images"][0]["pushed"]["blobs"] == 1, other
    script = f"export SSL_CERT_FILE={CA} APPTAINER_DOCKER_USERNAME={USER} APPTAINER_DOCKER_PASSWORD={PASSWORD}; "
    script += f"apptainer pull --force ~/theirs.sif oras://127.0.0.1:5002/{repository}/other:1 >&2"
    assert "hello from tiny" in user.shell(f"{script} && apptainer run ~/theirs.sif; rm ~/theirs.sif").stdout

    refused = pushed(user, f"127.0.0.1:5001/{repository}:2", username="lab", password="quite-wrong", **secure)
    assert "check user name and password, and that this user may push it" in refused["msg"]
    assert "quite-wrong" not in str(refused)
    assert refused["images"][0]["action"] == "failed"
    logged = user.shell("grep -rlE 'lab-secret|quite-wrong' ~/.singularity ~/.apptainer", check=False)
    assert logged.stdout == ""
