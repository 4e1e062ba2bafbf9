# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of a managed host, and the options that win over them, by what comes of them there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue

from .conftest import REGISTRY, Host

MODULE = "hpc.sregistry.sregistry_pull"
CA = "/etc/ssl/lab-ca.pem"


def output(host: Host, path: str) -> str:
    """Run an image, and return its output."""
    return host.shell(f"apptainer run --userns {path}").stdout.strip()


def test_variables_say_where_everything_lies_and_comes_from(node1: Host) -> None:
    env = {
        "SREGISTRY_CLIENT": "dockerhub",
        "SREGISTRY_DOCKERHUB_BASE": f"http://{REGISTRY}/v2/",
        "SREGISTRY_DOCKERHUB_VERSION": "v2",
        "SREGISTRY_DOCKERHUB_NOHTTPS": "t",
        "SREGISTRY_PYTHON_THREADS": "2",
        "SREGISTRY_STORAGE": "/root/sif/store",
        "SREGISTRY_DATABASE": "/root/sif/database",
        "APPTAINER_CACHEDIR": "/root/sif/cache",
        "SINGULARITY_CACHEDIR": "/root/sif/not-this-cache",
        "APPTAINER_TMPDIR": "/root/sif/tmp",
    }
    image = node1.module(MODULE, env=env, name="lab/tiny:2.0")["images"][0]
    assert image["path"] == f"/root/sif/store/{REGISTRY.replace(':', '_')}/lab/tiny-2.0.sif"
    assert image["reference"] == f"{REGISTRY}/lab/tiny:2.0"
    assert output(node1, image["path"]) == "hello from tiny 2.0"
    listed = node1.shell(
        "cd /root/sif; ls; ls database/images; ls cache/cache/blob/blobs/sha256 | wc -l"
    ).stdout.split()
    assert listed[:4] == ["cache", "database", "store", "tmp"]
    assert listed[4].endswith("tiny=2.0,linux+amd64.json")
    assert int(listed[5]) > 1
    facts = node1.module("hpc.sregistry.sregistry_info", env=env, name="lab/tiny:2.0")
    assert [(found["path"], found["state"]) for found in facts["images"]] == [(image["path"], "present")]
    given = node1.module(MODULE, env=env, name="lab/tiny:2.0", storage="/root/sif/given", cachedir="/root/sif/mine")
    assert given["images"][0]["path"].startswith("/root/sif/given/")
    assert node1.shell("ls /root/sif/mine/cache").stdout.split() == ["blob"]


@pytest.mark.parametrize("variable", ["APPTAINER_DISABLE_CACHE", "SINGULARITY_DISABLE_CACHE"])
def test_a_disabled_cache_leaves_nothing_but_the_image(node1: Host, variable: str) -> None:
    result = node1.sregistry("pull", "lab/tiny:1.0", env={variable: "true"}, storage="/root/sif")
    assert result["changed"]
    found = node1.shell("find ~/.apptainer ~/.singularity -name cache -o -type f 2>/dev/null", check=False).stdout
    assert found == ""  # the engine makes an empty directory of its own


def test_another_system_or_architecture_is_chosen(node1: Host) -> None:
    name = "lab/multi:latest"
    cases: list[tuple[dict[str, str], dict[str, Any], str]] = [
        ({"SREGISTRY_DOCKER_ARCHITECTURE": "arm64"}, {}, "linux/arm64"),
        ({"SREGISTRY_DOCKER_OS": "linux", "SREGISTRY_DOCKER_ARCHITECTURE": "arm/v7"}, {}, "linux/arm"),
        ({"SREGISTRY_DOCKER_ARCHITECTURE": "arm64"}, {"architecture": "amd64"}, "linux/amd64"),
        ({"SREGISTRY_DOCKER_OS": "windows"}, {"platform": "linux/arm64/v8"}, "linux/arm64"),
    ]
    for env, given, platform in cases:
        assert node1.sregistry("record", name, env=env, **given)["images"][0]["platform"] == platform
    wrong = node1.sregistry("record", name, env={"SREGISTRY_DOCKER_OS": "windows"})
    assert "no windows/amd64 in" in wrong["msg"]
    assert "linux/arm64" in wrong["msg"]


def test_the_command_can_take_the_place_of_the_entry_point(node1: Host) -> None:
    entry, command = ["/bin/busybox", "echo", "entry point"], ["/bin/busybox", "echo", "command"]
    lab.push("test/command:1", catalogue.tiny_with(Entrypoint=entry, Cmd=command))
    path = node1.sregistry("pull", "test/command:1")["images"][0]["path"]
    assert output(node1, path) == "entry point /bin/busybox echo command"
    foreseen = node1.sregistry("pull", "test/command:1", check=True, use_cmd=True)
    rebuilt = node1.sregistry("pull", "test/command:1", use_cmd=True)
    assert [result["images"][0]["action"] for result in (foreseen, rebuilt)] == ["rebuilt", "rebuilt"]
    assert output(node1, path) == "command"
    assert not node1.sregistry("pull", "test/command:1", env={"SREGISTRY_DOCKER_CMD": "yes"})["changed"]
    back = node1.sregistry("pull", "test/command:1", env={"SREGISTRY_DOCKER_CMD": "yes"}, use_cmd=False)
    assert back["images"][0]["action"] == "rebuilt"
    assert output(node1, path) == "entry point /bin/busybox echo command"


def test_a_login_comes_from_the_environment_and_options_win(node1: Host) -> None:
    right, wrong = ("lab", "lab-secret"), ("lab", "wrong")
    prefixes = ["SREGISTRY_DOCKERHUB", "APPTAINER_DOCKER", "SINGULARITY_DOCKER"]
    name = "127.0.0.1:5001/lab/tiny:1.0"

    def variables(prefix: str, login: tuple[str, str]) -> dict[str, str]:
        return {f"{prefix}_USERNAME": login[0], f"{prefix}_PASSWORD": login[1]}

    for first, second in [prefixes[:2], prefixes[1:]]:
        env = {**variables(second, wrong), **variables(first, right)}
        result = node1.sregistry("record", name, env=env, no_https=False, ca_path=CA)
        assert result["images"][0]["digest"].startswith("sha256:"), first
    env = {**variables(prefixes[0], right), **variables(prefixes[1], right)}
    refused = node1.sregistry("pull", name, env=env, no_https=False, ca_path=CA, username="lab", password="wrong")
    assert refused["msg"].startswith("unauthorized: ")


def test_each_registry_of_a_task_is_reached_in_its_own_way(node1: Host) -> None:
    login: dict[str, Any] = {"authfile": "/tmp/sregistry-two-registries.json"}
    logins = {"auths": {"127.0.0.1:5001": {"username": "lab", "password": "lab-secret"}}}
    node1.shell(f"umask 077; echo '{json.dumps(logins)}' > {login['authfile']}")
    names = ("127.0.0.1:5000/lab/tiny:1.0", "127.0.0.1:5001/lab/tiny:1.0")
    ways = ["http://127.0.0.1:5000", "127.0.0.1:5001"]
    done = node1.sregistry("record", *names, no_https=False, insecure_registries=ways, **login)
    assert [image.get("error") for image in done["images"]] == [None, None]
    refused = node1.sregistry("record", *names, no_https=False, insecure_registries=ways[:1], **login)
    assert [image["action"] for image in refused["images"]] == ["present", "failed"]
    assert "TLS failure at 127.0.0.1:5001" in refused["images"][1]["error"]
    refused = node1.sregistry("record", *names, no_https=False, tls_verify=False, **login)
    assert "name it in insecure_registries as http://127.0.0.1:5000" in refused["images"][0]["error"]
    node1.shell(f"rm {login['authfile']}")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"SREGISTRY_DOCKERHUB_NOHTTPS": "perhaps"}, ["no_https", "perhaps"]),
        ({"SREGISTRY_CLIENT": "google-storage"}, ["client", "google-storage", "dockerhub"]),
        ({"SREGISTRY_DOCKERHUB_VERSION": "v1"}, ["api_version", "v1", "v2"]),
        ({"SREGISTRY_DOCKERHUB_BASE": "not a host/at all"}, ["invalid registry", "not a host"]),
    ],
    ids=["boolean", "client", "version", "base"],
)
def test_a_variable_that_cannot_be_honoured_is_a_clear_error(
    node1: Host, env: dict[str, str], words: list[str]
) -> None:
    message = node1.module(MODULE, env=env, name="ubuntu")["msg"]
    assert [word for word in words if word not in message] == []


def test_a_mirror_serves_what_its_registry_cannot(node1: Host) -> None:
    mirrors = {"registry.invalid": ["http://127.0.0.1:1", f"http://{REGISTRY}"]}
    name = "docker://registry.invalid/lab/tiny:2.0"
    how: dict[str, Any] = {"no_https": False, "mirrors": mirrors, "retries": 0}
    result = node1.sregistry("pull", name, **how)
    assert result["images"][0]["reference"] == "registry.invalid/lab/tiny:2.0"
    assert output(node1, result["images"][0]["path"]) == "hello from tiny 2.0"
    assert any("the mirror http://127.0.0.1:1 could not be used: no answer" in text for text in result["warnings"])
    assert not node1.sregistry("pull", name, **how)["changed"]
    wrong = node1.sregistry("pull", name, no_https=False, mirrors={"registry.invalid": 5})
    assert "the mirrors of registry.invalid are no address" in wrong["msg"]
