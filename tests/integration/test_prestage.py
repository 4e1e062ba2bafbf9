# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``prestage`` with each of its strategies, on hosts that have nothing yet, and on some that fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue, oci, tree

from .conftest import LAB, REGISTRY, Host
from .playbooks import run_playbook

STORE = "/tmp/sregistry-prestage"
QUIET = {
    "ANSIBLE_DISPLAY_OK_HOSTS": "no",
    "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "no",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
}


@dataclass(frozen=True)
class Run:
    """The report of one run: its status and output, the number of changed tasks by host, and the hosts that failed."""

    status: int
    output: str
    changed: dict[str, int]
    failed: list[str]

    def numbers(self, name: str) -> list[int]:
        """Count the hosts that have an image, got it, and failed, as the summary says."""
        found = re.search(rf"{re.escape(name)} +(?:-|[\d.]+ \w+) +(\d+) +(\d+) +(\d+)", self.output)
        assert found, self.output
        return [int(number) for number in found.groups()]


class Fleet:
    """Hosts in the order in which a play takes them, and how the role is applied to them."""

    def __init__(self, directory: Path, *hosts: str, **variables: dict[str, Any]) -> None:
        """Take hosts of the lab, and ``gone``, which does not answer; ``variables`` are those of single hosts."""
        self._hosts = hosts
        self._inventory = directory / "inventory.json"
        extra = {"gone": {"ansible_host": "127.0.1.250", "ansible_port": 9}, **variables}
        self._inventory.write_text(json.dumps({"all": {"hosts": extra}}), encoding="utf-8")

    def prestage(
        self,
        images: list[str] | str | None,
        *options: str,
        check: bool = False,
        serial: int = 0,
        quiet: bool = False,
        **role: Any,
    ) -> Run:
        """Apply the role; a task after it shows who got there.

        :param images: None for those of the hosts' own variables.
        :param serial: how many hosts a portion has, 0 for all in one.
        :param quiet: whether Ansible shows only what changed or failed, in YAML.
        :param role: its variables, without their prefix.
        """
        play = {**self._play(images, role), **({"serial": serial} if serial else {})}
        return self._run([play], *options, *["--check"] * check, quiet=quiet)

    def prestage_in_plays(self, *given: tuple[list[str], int, list[str]]) -> Run:
        """Apply the role in several plays, of each the hosts, how many a portion has, and the images."""
        plays = [
            {**self._play(images, {}), "name": ", ".join(hosts), "hosts": hosts, "serial": serial}
            for hosts, serial, images in given
        ]
        return self._run(plays)

    def refused(self, *cases: dict[str, Any]) -> list[str]:
        """Return the message about wrong variables, for each of the cases; the host of the play does not exist."""
        tasks = [
            {
                "vars": {f"prestage_{name}": value for name, value in role.items()},
                "block": [{"ansible.builtin.include_role": {"name": "hpc.sregistry.prestage"}}],
                "rescue": [{"ansible.builtin.debug": {"msg": "SAID {{ ansible_failed_result.msg }}"}}],
            }
            for role in cases
        ]
        output = self._run([{"hosts": "gone", "gather_facts": False, "tasks": tasks}]).output
        return re.findall(r'"msg": "SAID (.*)"', output)

    def _play(self, images: list[str] | str | None, role: dict[str, Any]) -> dict[str, Any]:
        given = {"no_https": True, "storage": STORE, **role, **({} if images is None else {"images": images})}
        return {
            "hosts": list(self._hosts),
            "gather_facts": False,
            "vars": {f"prestage_{name}": value for name, value in given.items()},
            "roles": ["hpc.sregistry.prestage"],
            "tasks": [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} goes on"}}],
        }

    def _run(self, plays: list[dict[str, Any]], *options: str, quiet: bool = False) -> Run:
        arguments = ["-i", str(LAB / "inventory.yml"), "-i", str(self._inventory), *options, "/dev/stdin"]
        text = json.dumps(plays)
        done = _run_quietly(arguments, text) if quiet else run_playbook(arguments, text, 120)
        recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.M)
        return Run(
            done.returncode,
            done.stdout + done.stderr,
            {host: int(changed) for host, changed, _unreachable, _failed in recap},
            sorted(host for host, _changed, unreachable, failed in recap if int(unreachable) + int(failed)),
        )


def _run_quietly(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible-playbook", *arguments],
        input=text,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


@pytest.fixture
def names(hosts: tuple[Host, Host]) -> Iterator[tuple[str, str]]:
    """Yield the names of two hosts that have nothing."""
    clear = f"umount {STORE} 2>/dev/null; rm -rf {STORE} ~/.apptainer ~/.singularity"
    for host in hosts:
        host.shell(clear, check=False)
    yield hosts[0].name, hosts[1].name
    for host in hosts:
        host.shell(clear, check=False)


def new_image(size: int = 0) -> str:
    """Push an image that nobody has; it has a layer of that many bytes which do not compress."""
    name = f"{REGISTRY}/test/prestage-{uuid.uuid4().hex}:1"
    push(name, "1", size)
    return name


def push(name: str, version: str, size: int = 0) -> None:
    """Let a name point at a version of an image."""
    content = os.urandom(size) + f"{name} {version}".encode()
    layer = oci.layer(tree.Tree().file("version", content).tar())
    lab.push(name.removeprefix(f"{REGISTRY}/"), catalogue.tiny_with(layer, Cmd=["/bin/busybox", "cat", "/version"]))


def asked(name: str, since: int) -> Counter[str]:
    """Return the requests to the images' own registry for a name: manifests by method, and blobs by digest."""
    repository = name.removeprefix(f"{REGISTRY}/").rpartition(":")[0]
    return Counter(
        request.method if "/manifests/" in request.path else request.path[-64:]
        for request in lab.requests_of("plain", since=since)
        if f"/{repository}/" in request.path
    )


def files(host: Host) -> list[str]:
    """Return the image files below the store."""
    found = host.shell(f"find {STORE} -name '*.sif'", check=False).stdout.split()
    return sorted(path.rpartition("/")[2] for path in found)


def file_of(name: str) -> str:
    return name.rpartition("/")[2].replace(":", "-") + ".sif"


def test_a_full_disk_stops_nobody_the_next_run_finishes_and_what_is_not_listed_goes_last(
    hosts: tuple[Host, Host], names: tuple[str, str], tmp_path: Path
) -> None:
    small, large = new_image(), new_image(6_000_000)
    missing = f"{REGISTRY}/test/prestage-{uuid.uuid4().hex}:1"
    first, second = names
    hosts[1].shell(f"mkdir -p {STORE} && mount -t tmpfs -o size=5m tmpfs {STORE}")
    fleet = Fleet(tmp_path, *names)

    said = tmp_path / "summary.txt"
    failing = fleet.prestage([small, large], summary_path=str(said))
    assert (failing.status != 0, failing.failed) == (True, [second]), failing.output
    assert f"{first} goes on" in failing.output
    assert failing.numbers(small) in ([0, 2, 0], [0, 1, 1])  # what does not fit may be refused as a whole
    assert failing.numbers(large) == [0, 1, 1]
    assert f"FAILED on 1 host, {second}:" in failing.output
    assert f"FAILED on 1 host, {second}:" in said.read_text(encoding="utf-8").splitlines()
    assert f"store: {STORE}" in failing.output
    # The summary is the last of the role; before it, the host has its reason in its own message.
    after = failing.output.partition(f"fatal: [{second}]: FAILED! => ")[2]
    assert re.match(r'\{\s+"msg": ".*no space left in ', after), failing.output
    assert ("2 images on 2 hosts" in after, after.count("fatal: [")) == (True, 0), failing.output

    hosts[1].shell(f"mount -o remount,size=50m {STORE}")
    finishing = fleet.prestage([small, large], keep_only=True)
    assert (finishing.status, finishing.changed) == (0, {first: 0, second: 1}), finishing.output
    assert finishing.numbers(large) == [1, 1, 0]

    careful = fleet.prestage([small, missing], keep_only=True)
    assert careful.failed == sorted(names)
    assert "nothing was removed from node[" in careful.output
    unmounted = fleet.prestage([small, large], require_mount=STORE)
    assert (unmounted.failed, unmounted.numbers(large)) == ([first], [1, 0, 1]), unmounted.output
    assert f"{STORE} is not a mount point (prestage_require_mount); nothing was fetched or made" in unmounted.output
    assert files(hosts[0]) == files(hosts[1]) == sorted([file_of(small), file_of(large)])

    foreseen = fleet.prestage([small], check=True, keep_only=True)
    assert re.search(rf"would be removed from node\S+: {large}", foreseen.output), foreseen.output
    removing = fleet.prestage([small], keep_only=True)
    assert (removing.status, removing.changed) == (0, foreseen.changed), removing.output
    assert files(hosts[0]) == files(hosts[1]) == [file_of(small)]
    again = fleet.prestage([small], keep_only=True)
    assert (again.status, set(again.changed.values())) == (0, {0}), again.output


def test_one_builds_and_the_others_fetch_what_it_built_or_know_why_it_could_not(
    hosts: tuple[Host, Host], names: tuple[str, str], tmp_path: Path
) -> None:
    image, missing = new_image(), f"{REGISTRY}/test/prestage-{uuid.uuid4().hex}:1"
    cache = f"{lab.REGISTRIES['store'].url}/prestage-{uuid.uuid4().hex}"
    fleet = Fleet(tmp_path, "gone", *names)
    # Where files lie does not tell hosts apart, and a list may be what somebody typed.
    storage = f"{STORE}/{{{{ inventory_hostname }}}}"
    how: dict[str, Any] = {"strategy": "build_once", "sif_cache": cache, "platform": "linux/amd64", "storage": storage}

    begin = lab.log_offset("plain")
    foreseen = fleet.prestage(f"{missing},{image}", check=True, **how)
    assert (foreseen.numbers(image), foreseen.numbers(missing)) == ([0, 2, 1], [0, 0, 3]), foreseen.output
    assert max(asked(image, begin).values()) == 1, "the others asked the registry as well"
    assert files(hosts[0]) == files(hosts[1]) == []
    begin = lab.log_offset("plain")
    # The host that does not answer would have been the first to build; the next one took over.
    real = fleet.prestage(f"{missing}\n {image}\n", **how)
    assert (real.numbers(image), real.numbers(missing)) == ([0, 2, 1], [0, 0, 3]), real.output
    assert (real.changed, real.failed) == (foreseen.changed, sorted(["gone", *names]))
    assert "FAILED on 2 hosts, node[" in real.output
    assert f"{names[0]} failed: name unknown" in real.output
    assert max(asked(image, begin).values()) == 1, "the others asked the registry as well"
    assert files(hosts[0]) == files(hosts[1]) == [file_of(image)]
    assert f"{names[0]} went first; 1 host built files; 1 host fetched finished ones" in real.output.splitlines()
    assert "included:" not in real.output.replace(
        f"pull_leaders.yml for {names[0]}", ""
    )  # where the next one took over
    again = fleet.prestage([image], quiet=True, **how)
    assert (again.numbers(image), set(again.changed.values())) == ([2, 0, 1], {0}), again.output
    lines = again.output.splitlines()
    assert "1 image on 3 hosts (strategy build_once): 2 current, 1 unreachable" in lines
    assert [line for line in lines if line.startswith(f"{image} ")], "the row of the image is broken"
    own = again.output.partition("fatal: [gone]: FAILED! =>")[2].splitlines()[1]
    assert own.strip().startswith("msg: 'unreachable: "), again.output
    assert len([line for line in lines if line.startswith("ok: ")]) == 0


def test_a_shared_file_system_is_filled_once_and_each_node_proves_that_it_sees_it(
    hosts: tuple[Host, Host], names: tuple[str, str], tmp_path: Path
) -> None:
    image, old = new_image(), new_image()
    storage = f"/shared/prestage-{uuid.uuid4().hex}"
    fleet = Fleet(tmp_path, *names)
    how: dict[str, Any] = {"strategy": "shared", "storage": storage, "visible_within": 0}
    try:
        foreseen = fleet.prestage([old], check=True, **how)
        assert (foreseen.status, foreseen.numbers(old)) == (0, [1, 1, 0]), foreseen.output
        assert "there is no inventory" not in foreseen.output
        filled = fleet.prestage([old], **how)
        assert (filled.numbers(old), filled.changed) == ([1, 1, 0], {names[0]: 1, names[1]: 0}), filled.output
        hosts[1].shell(f"mount -t tmpfs tmpfs {storage}")
        blind = fleet.prestage([image], keep_only=True, **how)
        assert (blind.failed, blind.numbers(image)) == ([names[1]], [0, 1, 1]), blind.output
        assert "is the file system mounted" in " ".join(blind.output.split())
        assert hosts[0].shell(f"find {storage} -name '*.sif'").stdout.split("/")[-1] == f"{file_of(image)}\n"
    finally:
        hosts[1].shell(f"umount {storage}", check=False)
        hosts[0].shell(f"rm -rf {storage}")


def test_a_shared_store_loses_nothing_that_any_host_lists(
    hosts: tuple[Host, Host], names: tuple[str, str], tmp_path: Path
) -> None:
    old, one, two = new_image(), new_image(), new_image()
    lists = {name: {"prestage_images": image} for name, image in zip(names, (one, two), strict=True)}
    fleet = Fleet(tmp_path, *names, **lists)
    storage = f"/shared/prestage-{uuid.uuid4().hex}"
    how: dict[str, Any] = {"strategy": "shared", "storage": storage, "keep_only": True}
    try:
        filled = fleet.prestage(old, **{**how, "keep_only": False})
        assert filled.numbers(old) == [1, 1, 0], filled.output
        limited = fleet.prestage(None, "--limit", names[0], **how)
        assert "nothing was removed: hosts that --limit leaves out may need other images" in limited.output
        portions = fleet.prestage(None, serial=1, **how)
        assert portions.status == 0, portions.output
        assert f"nothing was removed: it is not known what all hosts must have; {names[1]} failed" in portions.output
        assert f"removed from {names[1]}: {old}" in portions.output
        left = hosts[0].shell(f"find {storage} -name '*.sif'").stdout.split()
        assert {path.split("/")[-1] for path in left} == {file_of(one), file_of(two)}
        again = fleet.prestage(None, **how)
        assert (again.status, again.changed) == (0, dict.fromkeys(names, 0)), again.output
    finally:
        hosts[0].shell(f"rm -rf {storage}")


def test_each_play_tells_of_its_own_hosts_whatever_was_before(names: tuple[str, str], tmp_path: Path) -> None:
    first, second = new_image(), new_image()
    fleet = Fleet(tmp_path, **{names[1]: {}})
    plays = fleet.prestage_in_plays(([names[1]], 5, [first]), ([names[0], names[1], "gone"], 2, [second]))
    told = re.findall(r"(\d+) images? on (\d+) hosts? \(strategy each\): (.*)", plays.output)
    assert told == [
        ("1", "1", "1 updated"),
        ("1", "2", "2 updated"),
        ("1", "1", "1 unreachable"),
    ], plays.output


def test_a_host_without_a_list_is_not_taken_for_current(names: tuple[str, str], tmp_path: Path) -> None:
    image = new_image()
    one_sided = Fleet(tmp_path, *names, **{names[0]: {"prestage_images": image}}).prestage(None)
    assert one_sided.failed == [names[1]], one_sided.output
    assert "'prestage_images' is undefined" in one_sided.output
    assert one_sided.numbers(image) == [0, 1, 1]


def test_a_lock_wins_over_tags_and_check_mode_fails_where_nodes_differ_from_it(
    hosts: tuple[Host, Host], names: tuple[str, str], tmp_path: Path
) -> None:
    image = new_image()
    fleet, file = Fleet(tmp_path, *names), tmp_path / "images.lock.yml"

    def lock() -> None:
        more = {"lock_images": [image], "lock_file": str(file), "lock_options": {"no_https": True}}
        subprocess.run(
            ["ansible-playbook", "hpc.sregistry.lock", "-e", json.dumps(more)], capture_output=True, check=True
        )

    lock()
    push(image, "2")
    begin = lab.log_offset("plain")
    fleet.prestage(None, lock=str(file))
    assert asked(image, begin)["HEAD"] == 0, "a tag was asked for"
    for host in hosts:
        assert host.shell(f"apptainer run {STORE}/*/test/{file_of(image)}").stdout.endswith(f"{image} 1")
    begin = lab.log_offset("plain")
    same = fleet.prestage([image], check=True, lock=str(file))
    assert (same.status, asked(image, begin)) == (0, Counter()), same.output
    lock()
    differing = fleet.prestage([image], check=True, lock=str(file))
    assert (differing.status != 0, differing.failed) == (True, sorted(names)), differing.output
    assert f"not as the lock says: {image} (would be rebuilt)" in differing.output

    fleet.prestage([image], "--limit", names[0])
    divided = fleet.prestage([image], pull="not_present")
    assert (divided.status, divided.numbers(image)) == (0, [2, 0, 0]), divided.output
    told = re.findall(rf"^NOT THE SAME: hosts have different images of {image} for \S+: (.*)", divided.output, re.M)
    assert len(told) == 1, divided.output
    assert sorted(re.findall(r"sha256:[0-9a-f]{64} on 1 host, (\w+)", told[0])) == sorted(names)


def test_what_is_wrong_with_the_variables_is_said_before_any_host_is_asked(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    lock: dict[str, Any] = {"images": {"lab/some:1": {"digest": digest, "platforms": {"linux/amd64": digest}}}}
    said = Fleet(tmp_path).refused(
        {},
        {"images": " "},
        {"lock": 3},
        {"lock": "images.lok.yml"},
        {"lock": "/none/images.lok.yml"},
        {"lock": lock, "images": ["lab/none:1"]},
        {"lock": lock, "strategy": "build_once"},
        {"lock": lock, "strategy": "shared", "leaders": ["node1", "login1"]},
        {"lock": lock, "strategy": "build_once", "sif_cache": "r.example", "leaders": ["login1"]},
        {"lock": {"images": {}}},
        {"images": [], "keep_only": True},
        {"lock": lock, "summary_path": "/none/summary.txt"},
    )
    expected = [
        "prestage needs prestage_images, or prestage_lock, and gone has neither",
        "prestage_images is an empty text, which names no image; give names, or an empty list ([])",
        "prestage_lock is neither a path nor the content of a lock file",
        "no file images.lok.yml on the controller; it was looked for as /dev/files/images.lok.yml, /dev/images.lok.yml",
        "there is no file /none/images.lok.yml on the controller; it was looked for as /none/images.lok.yml",
        "prestage_lock does not know lab/none:1; lock them",
        "the strategy build_once needs prestage_sif_cache",
        "none of prestage_leaders (node1, login1) is a host of this play; the strategy shared needs one",
        "none of prestage_leaders (login1) is a host of this play; the strategy build_once needs one that builds",
        "prestage_lock names no image, so that nothing is locked; restore it, or write it again with the playbook",
        "prestage_keep_only with an empty list would remove every image",
        "prestage_summary_path: there is no directory /none on the controller",
    ]
    assert [one for one, words in zip(said, expected, strict=True) if words not in one] == [], said
