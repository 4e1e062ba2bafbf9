# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a registry, the network, a host or a playbook: reported in words that help, in bounded time,
and with nothing left behind. And that logins open what they should.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.faults import Fault, FaultyRegistry, faults
from tests.integration.conftest import REGISTRY, Host

WORK = "/tmp/bad-input"
PRIVATE, TOKEN = "127.0.0.1:5001", "127.0.0.1:5002"
SECURE: Mapping[str, Any] = {"no_https": False, "ca_path": "/etc/ssl/lab-ca.pem"}
LOGIN: Mapping[str, Any] = {"username": "lab", "password": "lab-secret"}
BOUND = 600  # seconds; generous, all of this should take a few

Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A store with one image in it, and a cache and a directory for temporary files that are empty before each test."""

    host: Host

    def run(self, action: str, *names: str, **arguments: Any) -> Result:
        """Run a module with this store, cache and temporary directory, unless told otherwise."""
        defaults: Result = {"storage": f"{WORK}/storage", "cachedir": f"{WORK}/cache", "tmpdir": f"{WORK}/tmp"}
        return self.host.sregistry(action, *names, **{**defaults, "timeout": 5, "retries": 1, **arguments})

    def refuse(self, parts: tuple[str, ...], *names: str, action: str = "pull", **arguments: Any) -> Result:
        """Run what must fail with a message of these parts, change nothing, leave nothing, and end in time."""
        before, begin = self.store(), time.monotonic()
        result = self.run(action, *names, **arguments)
        assert result.get("failed"), f"it did not fail: {result}"
        for part in parts:
            assert part in result["msg"]
        assert "Traceback" not in str(result), "an error of this collection is no crash"
        assert not result.get("changed")
        assert time.monotonic() - begin < BOUND
        assert self.store() == before
        assert self.leftovers() == []
        return result

    def store(self) -> str:
        """Return all files of the store and the inventory with their content; locks are for ever."""
        script = f"cd {WORK}/storage && find . -type f ! -path '*/locks/*' -exec sha256sum {{}} + | sort"
        return self.host.as_user("root").shell(script).stdout

    def leftovers(self) -> list[str]:
        """List files that a run should have taken away."""
        script = f"""
            find {WORK} /tmp -name '*.tmp' -o -path '*/blobs/*.lock' -o -name 'sregistry-*'
            find {WORK}/tmp -mindepth 1
        """
        return self.host.as_user("root").shell(script).stdout.splitlines()


@pytest.fixture(scope="module")
def shared_bench(hosts: tuple[Host, Host]) -> Iterator[Bench]:
    """Yield a bench whose store is made once."""
    root = hosts[1]
    clean = f"umount {WORK}/small 2>/dev/null; rm -rf {WORK}"
    root.shell(f"{clean}; mkdir -p {WORK}/small && chmod 755 {WORK}; rm -rf /tmp/sregistry-*")
    bench = Bench(root)
    root.shell(f"mkdir -p {WORK}/tmp")
    assert bench.run("pull", "lab/tiny:1.0").get("changed")
    yield bench
    root.shell(clean)


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """Return a store with one image; nothing cached."""
    shared_bench.host.shell(f"rm -rf {WORK}/cache {WORK}/tmp; mkdir {WORK}/tmp; chmod 1777 {WORK}/tmp")
    return shared_bench


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    """Yield a proxy in front of the plain registry that does as it is told."""
    with FaultyRegistry(f"http://{REGISTRY}") as registry:
        yield registry


@pytest.fixture
def small(bench: Bench) -> Iterator[str]:
    """Yield a directory on a file system of 512 KiB."""
    path = f"{WORK}/small"
    bench.host.shell(f"mount -t tmpfs -o size=512k tmpfs {path}")
    yield path
    bench.host.shell(f"umount {path}")


# Registries

MANIFESTS, BLOBS = "/manifests/", "/blobs/"
IMAGE = "lab/many11:latest"
HTML = faults.says(b"<html>welcome</html>", headers={"Content-Type": "text/html"})


@dataclass(frozen=True)
class Case:
    """One case: the registry's answer to a request, and the message that follows."""

    parts: tuple[str, ...]
    image: str = IMAGE
    pattern: str = MANIFESTS
    fault: Fault | None = None
    after: int = 0
    most: int = 12
    """Requests in all."""


def layers(fault: Fault, *parts: str) -> Case:
    """Return a case of something that happens to layers: the first blob is the config."""
    return Case(parts, pattern=BLOBS, fault=fault, after=1)


REGISTRY_CASES = {
    "unknown name": Case(("name unknown", "'lab/absent'", "404", "check the spelling"), "lab/absent:1"),
    "unknown tag": Case(("manifest unknown", "no tag '9'", "404", "it has 1.0, 2.0, latest"), "lab/tiny:9"),
    "unknown digest": Case(("manifest unknown", "no manifest sha256:000", "404"), f"lab/tiny@sha256:{64 * '0'}"),
    "401": Case(
        ("unauthorized", "wants a login", "status 401", "give username and password"),
        fault=faults.challenged('Basic realm="x"', set()),
    ),
    "403": Case(
        ("denied", "status 403", "DENIED no", "ask its owner"), fault=faults.status(403, word="DENIED", message="no")
    ),
    "404": Case(
        ("name unknown", "status 404", IMAGE, "log in if it is private"),
        fault=faults.status(404),
        pattern="/(manifests|tags)/",
    ),
    "429": Case(
        ("too many requests", "status 429", "100 pulls", "after 3600 s", "log in"),
        fault=faults.status(429, {"Retry-After": "3600", "ratelimit-limit": "100;w=21600"}),
        most=1,
    ),
    "500": Case(("failed to serve", "status 500", "tried 2 times"), fault=faults.status(500), most=2),
    "503": Case(("status 503", "try again after 3600 s"), fault=faults.status(503, {"Retry-After": "3600"}), most=1),
    "dropped": Case(("no answer from", "tried 2 times", "check the registry's name"), fault=faults.dropped(), most=2),
    "silent": Case(("no answer from", "timed out"), fault=faults.delayed(600), most=2),
    "redirects for ever": Case(("redirects", "more than 10 times"), fault=faults.redirected("")),
    "digest mismatch": Case(("digest mismatch for the manifest",), fault=faults.corrupted(30)),
    "wrong digest header": Case(
        ("digest mismatch", f"promised sha256:{64 * '1'}"),
        fault=faults.header("Docker-Content-Digest", f"sha256:{64 * '1'}"),
    ),
    "malformed manifest": Case(
        ("malformed manifest of", "it is not JSON"),
        fault=faults.says(b"{", headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}),
    ),
    "a page to log in with": Case(("sent a page for people in the place of", "try without it"), fault=HTML),
    "an artifact": Case(
        ("not a container image", "application/x-model"),
        fault=faults.document(
            {
                "schemaVersion": 2,
                "config": {"mediaType": "application/x-model", "size": 2, "digest": f"sha256:{64 * '0'}"},
                "layers": [],
            }
        ),
    ),
    "damaged config": Case(("digest mismatch for the config",), pattern=BLOBS, fault=faults.corrupted(5)),
    "missing layer": layers(faults.status(404), "not found: the blob sha256:", "status 404"),
    "forbidden layer": layers(faults.status(403), "denied", "status 403"),
    "damaged layer": layers(faults.corrupted(5), "digest mismatch for the layer sha256:", IMAGE),
    "layer larger than its size": layers(
        faults.padded(b"more"), "digest mismatch for the layer", "more than its", IMAGE
    ),
    "truncated layer": layers(
        faults.together(faults.truncated(100), faults.asks_for("Range", None)), "broke while reading", "sha256:"
    ),
    "stalling layer": layers(
        faults.together(faults.truncated(100, stall=600), faults.asks_for("Range", None)),
        "broke while reading",
        "timed out",
    ),
}


@pytest.mark.parametrize("case", REGISTRY_CASES.values(), ids=REGISTRY_CASES.keys())
def test_a_registry_that_fails_is_named_with_the_way_out(case: Case, bench: Bench, faulty: FaultyRegistry) -> None:
    if case.fault:
        faulty.when(case.pattern, case.fault, after=case.after)
    repository = case.image.partition(":")[0].partition("@")[0]
    bench.refuse((*case.parts, f"{faulty.address}/{repository}"), f"{faulty.address}/{case.image}")
    assert len(faulty.requests) <= case.most


@pytest.mark.parametrize("action", ["record", "pull"])
def test_a_failure_of_what_is_in_the_store_leaves_it_as_it_was(
    action: str, bench: Bench, faulty: FaultyRegistry
) -> None:
    image = f"{faulty.address}/lab/tiny:1.0"
    assert bench.run(action, image)["changed"]
    faulty.when(MANIFESTS, faults.status(500))
    bench.refuse(("status 500",), image, action=action)
    faulty.calm()
    assert not bench.run(action, image)["changed"]


def test_one_image_that_fails_does_not_stop_the_others(bench: Bench, faulty: FaultyRegistry) -> None:
    faulty.when("many12/manifests", faults.status(403))
    names = [f"{faulty.address}/lab/many{number}:latest" for number in (11, 12, 13)]
    result = bench.run("pull", *names)
    assert result["failed"]
    assert "1 of 3 images failed, the others are done" in result["msg"]
    assert f"{names[1]}: denied" in result["msg"]
    assert [each["action"] for each in result["images"]] == ["pulled", "failed", "pulled"]
    assert bench.leftovers() == []


def test_a_break_in_a_layer_is_mended_without_a_word(bench: Bench, faulty: FaultyRegistry) -> None:
    faulty.when(BLOBS, faults.truncated(300_000), times=2, after=1)
    result = bench.run("pull", f"{faulty.address}/lab/tiny:2.0")
    assert result["changed"]
    assert any(each.status == 206 for each in faulty.requests)
    assert bench.leftovers() == []


@pytest.mark.parametrize(
    ("image", "listed"),
    [("lab/multi:latest", "linux/amd64, linux/arm64, linux/arm"), ("lab/tiny:1.0", "linux/amd64")],
    ids=["index", "single image"],
)
def test_a_missing_platform_lists_those_that_exist(image: str, listed: str, bench: Bench) -> None:
    parts = (f"no linux/s390x in {REGISTRY}/{image}", f"it has {listed}", "platform")
    bench.refuse(parts, image, platform="linux/s390x")


# Network

NETWORK_CASES: Mapping[str, tuple[str, Mapping[str, Any], tuple[str, ...]]] = {
    "refused": ("127.0.0.1:1/a/b", {}, ("no answer from 127.0.0.1:1", "refused", "tried 2 times")),
    "no such host": ("registry.invalid:443/a/b", {}, ("no answer from registry.invalid", "check the registry's name")),
    "no route": ("192.0.2.1:5000/a/b", {"timeout": 1}, ("no answer from 192.0.2.1:5000", "the network")),
    "unknown CA": (
        f"{PRIVATE}/lab/tiny",
        {"no_https": False},
        ("TLS failure at 127.0.0.1:5001", "certificate", "ca_path"),
    ),
    "plain http": (
        f"{REGISTRY}/lab/tiny",
        {"no_https": False},
        (f"TLS failure at {REGISTRY}", f"insecure_registries as http://{REGISTRY}"),
    ),
    "plain http of a store": (
        f"{PRIVATE}/lab/tiny",
        {**SECURE, **LOGIN, "sif_cache": f"{REGISTRY}/sif", "sif_cache_miss": "fail"},
        (f"TLS failure at {REGISTRY}", "write http:// before its name; no_https does not count"),
    ),
    "TLS": (f"{PRIVATE}/lab/tiny", {}, ("status 400 from 127.0.0.1:5001", "leave out no_https")),
    "no such CA file": (
        f"{PRIVATE}/lab/tiny",
        {**SECURE, "ca_path": "/nonexistent.pem"},
        ("ca_path /nonexistent.pem",),
    ),
}


@pytest.mark.parametrize(("image", "how", "parts"), NETWORK_CASES.values(), ids=NETWORK_CASES.keys())
def test_a_registry_that_cannot_be_reached_is_named(
    image: str, how: Mapping[str, Any], parts: tuple[str, ...], bench: Bench
) -> None:
    bench.refuse(parts, image, **how)


# Hosts


def test_an_engine_that_does_not_exist_is_named(bench: Bench, faulty: FaultyRegistry) -> None:
    parts = ("the engine /nonexistent is not an executable",)
    bench.refuse(parts, f"{faulty.address}/{IMAGE}", engine="/nonexistent")
    assert len(faulty.asked(BLOBS)) <= 1, "found out before any layer is fetched"


def interpreter(bench: Bench, script: str) -> Bench:
    """Return the same bench with a Python of its own."""
    path = f"{WORK}/python"
    bench.host.shell(f"cat >{path} <<'END'\n#!/bin/sh\n{script}\nEND\nchmod 755 {path}")
    return replace(bench, host=bench.host.with_python(path))


def test_a_host_without_an_engine_says_what_to_install(bench: Bench, faulty: FaultyRegistry) -> None:
    hide = (
        'for engine in apptainer singularity; do mount --bind /dev/null "$(readlink -f "$(command -v $engine)")"; done'
    )
    bare = interpreter(bench, f'exec unshare -m sh -c \'{hide}; exec /usr/bin/python3 "$@"\' sh "$@"')
    parts = ("there is neither apptainer nor singularity on this host", "install the package")
    bare.refuse(parts, f"{faulty.address}/{IMAGE}")
    assert len(faulty.asked(BLOBS)) <= 1, "found out before any layer is fetched"


@pytest.mark.parametrize("action", ["pull", "record"])
def test_a_host_without_requests_says_what_to_install(action: str, bench: Bench, faulty: FaultyRegistry) -> None:
    bench.host.shell(f"test -e {WORK}/venv || python3 -m venv --without-pip {WORK}/venv")
    bare = interpreter(bench, f'exec {WORK}/venv/bin/python "$@"')
    parts = ("requests is missing", f"{WORK}/venv/bin/python", "install the package python3-requests")
    bare.refuse(parts, f"{faulty.address}/{IMAGE}", action=action)
    assert faulty.requests == []


@pytest.mark.parametrize("option", ["storage", "tmpdir", "cachedir", "database"])
def test_a_directory_that_may_not_be_written_is_named(option: str, bench: Bench) -> None:
    bench.host.shell(f"rm -rf {WORK}/hpc; install -d -o hpc {WORK}/hpc; install -d -m 755 {WORK}/root")
    ordinary = replace(bench, host=bench.host.as_user("hpc"))
    own = {"storage": f"{WORK}/hpc/storage", "cachedir": f"{WORK}/hpc/cache", "tmpdir": f"{WORK}/tmp"}
    arguments = {**own, option: f"{WORK}/root/below"}
    ordinary.refuse((f"{WORK}/root", "Permission denied", "this user may write"), IMAGE, **arguments)


@pytest.mark.parametrize("option", ["storage", "tmpdir", "cachedir"])
def test_a_file_in_place_of_a_directory_is_named(option: str, bench: Bench) -> None:
    bench.host.shell(f"touch {WORK}/plain")
    bench.refuse((f"{WORK}/plain", "Not a directory"), IMAGE, **{option: f"{WORK}/plain/below"})


@pytest.mark.parametrize(
    ("option", "image"),
    [
        ("storage", "lab/tiny:2.0"),
        ("tmpdir", "lab/tiny:2.0"),
        ("cachedir", "lab/tiny:2.0"),
        ("cachedir", "lab/schema1:latest"),
    ],
    ids=["storage", "tmpdir", "cachedir", "cachedir, size unknown"],
)
def test_a_disk_without_room_is_named(option: str, image: str, bench: Bench, small: str) -> None:
    builder = "sandbox" if option == "tmpdir" else "auto"  # nothing else needs much of it
    bench.refuse(("no space left", small), image, builder=builder, **{option: f"{small}/below"})
    left = bench.host.shell(f"find {small} -type f ! -path '*/locks/*' ! -name .sregistry.lock").stdout
    assert all("/blobs/" in name for name in left.splitlines()), "only whole blobs stay, for the next try"


@pytest.mark.parametrize("action", ["pull", "record"])
def test_an_inventory_without_room_is_named(action: str, bench: Bench, small: str) -> None:
    bench.host.shell(
        f"mkdir -p {small}/db/images {small}/db/locks; dd if=/dev/zero of={small}/filler bs=4k 2>/dev/null; true"
    )
    arguments = {"database": f"{small}/db", "storage": f"{WORK}/other"}
    bench.refuse(("no space left", f"{small}/db"), "lab/tiny:1.0", action=action, **arguments)
    assert bench.host.shell(f"find {small}/db -type f ! -path '*/locks/*'").stdout == ""


# Playbooks


@pytest.mark.parametrize(
    "name", ["lab/Tiny:1.0", "lab//tiny", "lab/tiny:-1", "lab/tiny@sha256:abc", "lab/tiny:1 0", ""]
)
@pytest.mark.parametrize("action", ["record", "pull"])
def test_a_bad_name_is_refused_before_the_network_is_used(
    action: str, name: str, bench: Bench, faulty: FaultyRegistry
) -> None:
    good, bad = f"{faulty.address}/{IMAGE}", f"{faulty.address}/{name}"
    bench.refuse(("invalid", repr(bad)), good, bad, action=action)
    assert faulty.requests == []


ARGUMENT_CASES: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "platform": ({"platform": "linux"}, ("platform", "'linux'", "os/architecture")),
    "platform with a blank": ({"platform": "linux/amd 64"}, ("platform", "'linux/amd 64'")),
    "no threads": ({"threads": 0}, ("threads is 0", "give 1 to 256")),
    "half a login": ({"username": "lab"}, ("no password", "both username and password")),
    "no such authfile": ({"authfile": "/nonexistent.json"}, ("cannot read the authfile /nonexistent.json",)),
}


@pytest.mark.parametrize(("arguments", "parts"), ARGUMENT_CASES.values(), ids=ARGUMENT_CASES.keys())
def test_a_bad_argument_is_refused(
    arguments: Mapping[str, Any], parts: tuple[str, ...], bench: Bench, faulty: FaultyRegistry
) -> None:
    if "authfile" in arguments:  # read when a registry asks for a login
        faulty.when("", faults.challenged("Basic realm=x", set()))
    bench.refuse(parts, f"{faulty.address}/{IMAGE}", **arguments)
    assert [each for each in faulty.requests if each.status != 401] == []


def test_one_login_for_two_registries_is_refused(bench: Bench, faulty: FaultyRegistry) -> None:
    parts = ("one login for 2 registries", REGISTRY, faulty.address, "authfile")
    bench.refuse(parts, f"{faulty.address}/{IMAGE}", f"{REGISTRY}/{IMAGE}", **LOGIN)
    assert faulty.requests == []


# Logins


@pytest.fixture
def authfile(bench: Bench) -> str:
    """Return an authfile as ``docker login`` writes it, with logins for both registries that want one."""
    auth = base64.b64encode(b"lab:lab-secret").decode()
    document = json.dumps({"auths": {PRIVATE: {"auth": auth}, f"https://{TOKEN}": {"auth": auth}}})
    bench.host.shell(f"umask 077; echo '{document}' >{WORK}/auth.json")
    return f"{WORK}/auth.json"


LOGIN_CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "private, by password": (f"{PRIVATE}/lab/tiny:1.0", {**SECURE, **LOGIN}),
    "private, without verifying": (f"{PRIVATE}/lab/tiny:2.0", {**LOGIN, "no_https": False, "validate_certs": False}),
    "private, by authfile": (f"{PRIVATE}/secret/tiny", {**SECURE, "authfile": "yes"}),
    "token, anonymous": (f"{TOKEN}/lab/tiny:1.0", SECURE),
    "token, by password": (f"{TOKEN}/secret/tiny", {**SECURE, **LOGIN}),
    "token, by authfile": (f"{TOKEN}/secret/tiny:latest", {**SECURE, "authfile": "yes"}),
}


@pytest.mark.parametrize(("image", "how"), LOGIN_CASES.values(), ids=LOGIN_CASES.keys())
def test_a_login_opens_a_registry(image: str, how: Mapping[str, Any], bench: Bench, authfile: str) -> None:
    arguments = {**how, **({"authfile": authfile} if "authfile" in how else {}), "storage": f"{WORK}/tmp/opened"}
    result = bench.run("pull", image, **arguments)
    assert not result.get("failed"), result
    assert result["images"][0]["action"] == "pulled"
    assert result["images"][0]["fetched"]["blobs"] == 2
    assert "lab-secret" not in json.dumps({key: value for key, value in result.items() if key != "invocation"})


REFUSED_LOGINS: Mapping[str, tuple[str, Mapping[str, Any], tuple[str, ...]]] = {
    "private, none": (f"{PRIVATE}/lab/tiny", SECURE, ("wants a login", "status 401", "give username and password")),
    "private, wrong": (
        f"{PRIVATE}/lab/tiny",
        {**SECURE, "username": "lab", "password": "another"},
        ("did not accept the user name and password of the task", "status 401", "check user name and password"),
    ),
    "token, none": (f"{TOKEN}/secret/tiny", SECURE, ("wants a login", "status 401", "give username and password")),
    "token, wrong": (
        f"{TOKEN}/secret/tiny",
        {**SECURE, "username": "lab", "password": "another"},
        ("did not accept the user name and password of the task", "status 401", "check user name and password"),
    ),
}


@pytest.mark.parametrize(("image", "how", "parts"), REFUSED_LOGINS.values(), ids=REFUSED_LOGINS.keys())
def test_a_login_that_is_missing_or_wrong_is_said_so(
    image: str, how: Mapping[str, Any], parts: tuple[str, ...], bench: Bench
) -> None:
    result = bench.refuse((*parts, image), image, **how)
    assert "another" not in result["msg"]
