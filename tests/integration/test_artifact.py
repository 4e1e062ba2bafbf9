# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finished SIF files, fetched as they are: from a real registry where Apptainer has put them, and from a web server."""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import lab as laboratory
from tests.faults import FaultyRegistry, faults

from .conftest import LAB, REGISTRY, Host

IMAGE = "lab/tiny:1.0"
SIGNED = r"/a/solver\.sif\?signature=QUITE-A-SECRET$"
CA = "/etc/ssl/lab-ca.pem"


@pytest.fixture(scope="module")
def sif(hosts: tuple[Host, Host]) -> bytes:
    """Build a real SIF on a host."""
    made = hosts[0].sregistry("pull", IMAGE, dest="/tmp/artifact.sif")
    assert made["changed"], made
    command = [*hosts[0]._ssh(), "cat /tmp/artifact.sif"]
    return subprocess.run(command, capture_output=True, check=True, timeout=1200).stdout


def put(host: Host, content: bytes, path: str) -> None:
    """Bring bytes to a host."""
    subprocess.run([*host._ssh(), f"cat > {path}"], input=content, check=True, timeout=1200)


def push(host: Host, content: bytes, name: str) -> None:
    """Let Apptainer push a file."""
    put(host, content, "/tmp/push.sif")
    host.shell(f"apptainer push --no-https /tmp/push.sif oras://{REGISTRY}/{name}")


def sha256(host: Host, path: str) -> str:
    return host.shell(f"sha256sum {path}").stdout.split()[0]


def resigned(content: bytes) -> bytes:
    """Make another file of the same image: its identifier is another one."""
    return content[:48] + uuid.uuid4().bytes + content[64:]


def test_what_apptainer_pushed_is_pulled_byte_by_byte(node1: Host, sif: bytes) -> None:
    repository = f"oras/{uuid.uuid4().hex}"
    name = f"oras://{REGISTRY}/{repository}:1"
    push(node1, sif, f"{repository}:1")
    recorded = node1.sregistry("record", name)
    assert recorded["changed"], recorded
    before = node1.sregistry("pull", name, check=True, diff=True)
    first = node1.sregistry("pull", name, diff=True)
    assert first["changed"], first
    assert before["diff"] == first["diff"]
    image = first["images"][0]
    assert image["action"] == "pulled"
    assert image["path"].endswith(f"/127.0.0.1_5000/{repository}-1.sif")
    assert image["fetched"] == {"blobs": 1, "bytes": len(sif)}
    assert sha256(node1, image["path"]) == hashlib.sha256(sif).hexdigest() == image["sha256"]
    (row,) = first["ansible_facts"]["sregistry"]["images"]
    assert (row["client"], row["outdated"], row["reference"]) == ("oras", False, name)
    assert "hello from tiny" in node1.shell(f"apptainer run --userns {image['path']}").stdout

    offset = laboratory.log_offset("plain")
    assert not node1.sregistry("pull", name)["changed"]
    heard = [one.method for one in laboratory.requests_of("plain", since=offset) if repository in one.path]
    assert heard == ["HEAD"]

    moved = resigned(sif)
    push(node1, moved, f"{repository}:1")
    rebuilt = node1.sregistry("pull", name)
    assert rebuilt["images"][0]["action"] == "rebuilt"
    assert sha256(node1, image["path"]) == hashlib.sha256(moved).hexdigest()

    node1.shell(f"rm {image['path']}")
    repaired = node1.sregistry("pull", name)["images"][0]
    assert (repaired["action"], repaired["fetched"]["bytes"]) == ("repaired", 0)

    by_digest = f"oras://{REGISTRY}/{repository}@{first['images'][0]['digest']}"
    assert node1.sregistry("pull", by_digest)["images"][0]["sha256"] == image["sha256"]
    offset = laboratory.log_offset("plain")
    assert not node1.sregistry("pull", by_digest)["changed"]
    assert not [one for one in laboratory.requests_of("plain", since=offset) if repository in one.path]

    confused = node1.sregistry("pull", f"docker://{REGISTRY}/{repository}:1", f"oras://{REGISTRY}/{IMAGE}")
    errors = [each["error"] for each in confused["images"]]
    assert "with oras:// before its name" in errors[0]
    assert "name it with docker:// instead of oras://" in errors[1]

    elsewhere = node1.sregistry("pull", name, platform="linux/arm64", dest="/tmp/arm64.sif")
    assert "no linux/arm64 in" in elsewhere["msg"]
    assert node1.shell("ls /tmp/arm64.sif", check=False).returncode != 0


def test_a_file_of_a_web_server_is_pulled_once_for_each_change(node1: Host, sif: bytes) -> None:
    tls = LAB / "tls"
    moved = resigned(sif)
    with FaultyRegistry(certificate=(Path(tls / "server.pem"), Path(tls / "server.key"))) as server:
        server.when(SIGNED, faults.served(sif, '"one"'))
        name = f"https://{server.address}/a/solver.sif?signature=QUITE-A-SECRET"
        shown = f"https://{server.address}/a/solver.sif"
        secure: dict[str, Any] = {"no_https": False, "ca_path": CA}

        before = node1.sregistry("pull", name, check=True, diff=True, **secure)
        first = node1.sregistry("pull", name, diff=True, **secure)
        assert first["changed"], first
        assert first["diff"] == before["diff"]
        image = first["images"][0]
        assert image["name"] == image["reference"] == shown
        assert image["path"].endswith("/127.0.0.1_" + server.address.split(":")[1] + "/a/solver.sif")
        assert image["sha256"] == hashlib.sha256(sif).hexdigest() == sha256(node1, image["path"])
        assert image["digest"] == "sha256:" + image["sha256"]
        assert "QUITE-A-SECRET" not in str(first)
        assert node1.shell("grep -r QUITE-A-SECRET ~/.singularity ~/.apptainer", check=False).returncode == 1

        server.calm()
        server.when(SIGNED, faults.served(sif, '"one"'))
        assert not node1.sregistry("pull", name, **secure)["changed"]
        assert [one.method for one in server.requests] == ["HEAD"]

        server.calm()
        server.when(
            SIGNED,
            faults.together(faults.truncated(100_000), faults.served(moved, '"two"')),
            "GET",
            1,
            after=3,  # of one byte, by which record and pull make sure of what a HEAD says
        )
        server.when(SIGNED, faults.served(moved, '"two"'))
        outdated = node1.sregistry("record", name, **secure)
        assert [row["outdated"] for row in outdated["ansible_facts"]["sregistry"]["images"]] == [True]
        second = node1.sregistry("pull", name, **secure)
        assert second["images"][0]["action"] == "rebuilt", second
        assert sha256(node1, image["path"]) == hashlib.sha256(moved).hexdigest()
        ranges = [one.headers.get("range") for one in server.asked("/a/solver", "GET")]
        assert ranges == ["bytes=0-0", "bytes=0-0", "bytes=0-0", None, "bytes=100000-"]

        server.calm()
        server.when(SIGNED, faults.served(b"x" * 200_000, '"four"'))
        rubbish = node1.sregistry("pull", name, **secure)
        assert (
            "is no sound SIF file: what was sent is not a SIF image (195.3 KiB of application/octet-stream)"
            in rubbish["msg"]
        )
        assert sha256(node1, image["path"]) == hashlib.sha256(moved).hexdigest()
        assert node1.shell(f"ls -A $(dirname {image['path']}) | wc -l").stdout.strip() == "1"
