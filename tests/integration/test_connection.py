# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks inside an image: Ansible on this machine, images and the engine on a host, and all of it on one host."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import LAB, Host
from .playbooks import run_playbook

PLUGIN = "hpc.sregistry.singularity"
WORK = "/tmp/sregistry-inside"
SIF = f"{WORK}/python.sif"
SANDBOX = f"{WORK}/python.d"

# An image of what the host has of Python, so that no module runs in it by the host's own. It says what it is.
_PACKAGES = (
    "base-files libc6 libgcc-s1 dash coreutils libacl1 libattr1 libgmp10 libselinux1 libpcre2-8-0 libssl3t64 zlib1g "
    "libexpat1 libffi8 libzstd1 libbz2-1.0 liblzma5 libuuid1 libcap2 libcrypt1 libsystemd0 "
    "libpython3.13-minimal libpython3.13-stdlib python3.13-minimal python3.13 python3-minimal python3"
)
_MAKE = f"""
set -e
rm -rf {WORK}; mkdir -m 0755 -p {SANDBOX}/etc {SANDBOX}/opt
dpkg -L {_PACKAGES} 2> /dev/null | sort -u | grep -v '^/usr/share' > {WORK}/names || true
tar -C / --no-recursion --ignore-failed-read -cf - -T {WORK}/names 2> /dev/null | tar -C {SANDBOX} -xf -
cp -a /bin /sbin /lib /lib64 {SANDBOX}
cp /etc/passwd /etc/group {SANDBOX}/etc/
echo inside > {SANDBOX}/WHERE
apptainer --silent build --mksquashfs-args '-comp zstd -Xcompression-level 1' {SIF} {SANDBOX}
chown -R hpc {WORK}
"""
_UNDO = f"rm -rf {WORK} /tmp/sregistry-odd /dev/shm/sregistry-inside"


@pytest.fixture(scope="module")
def host(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """Yield the first host, with an image that has a Python as a SIF file and as a sandbox of the ordinary user."""
    hosts[0].shell(_MAKE)
    yield hosts[0]
    hosts[0].shell(_UNDO)


def play(host: Host, *tasks: dict[str, Any], **variables: Any) -> list[dict[str, Any]]:
    """Run tasks inside an image, the SIF file unless told otherwise, and return the result of each."""
    marker = "RESULTS-OF-THE-TASKS"
    registered = [
        {"ignore_errors": True, "ignore_unreachable": True, **task, "register": f"result_{number}"}
        for number, task in enumerate(tasks)
    ]
    names = ", ".join(f"result_{number}" for number in range(len(tasks)))
    report = {"ansible.builtin.debug": {"msg": f"{marker}{{{{ [{names}] | to_json | b64encode }}}}{marker}"}}
    plays = [
        {
            "hosts": host.name,
            "gather_facts": False,
            "vars": {
                "ansible_connection": PLUGIN,
                "ansible_singularity_image": SIF,
                "ansible_user": host.user,
                **variables,
            },
            "tasks": [*registered, report],
        }
    ]
    done = run_playbook(["-i", str(LAB / "inventory.yml"), "/dev/stdin"], json.dumps(plays), 300)
    found = re.search(f"{marker}([A-Za-z0-9+/=]+){marker}", done.stdout)
    assert found, f"no results: {done.stdout}{done.stderr}"
    return list(json.loads(base64.b64decode(found.group(1))))


def raw(script: str, **rest: Any) -> dict[str, Any]:
    return {"ansible.builtin.raw": script, **rest}


def command(*argv: str, **rest: Any) -> dict[str, Any]:
    return {"ansible.builtin.command": {"argv": argv}, **rest}


ODD = bytes(range(256)) * 40 + b"\r\n\x00\x04\x1a"


def test_a_whole_play_runs_in_a_sif_file(host: Host, tmp_path: Path) -> None:
    user = host.as_user("hpc")
    (tmp_path / "odd bytes'").write_bytes(ODD)
    (tmp_path / "hello.j2").write_text("hello from {{ ansible_facts.distribution }}\n")
    target = "/home/hpc/it's `odd`"
    results = play(
        user,
        raw("cat /WHERE; id -un; pwd"),
        {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "distribution"]}},
        {"ansible.builtin.copy": {"src": f"{tmp_path}/odd bytes'", "dest": target, "mode": "0640"}},
        {"ansible.builtin.fetch": {"src": target, "dest": f"{tmp_path}/back", "flat": True}},
        {"ansible.builtin.template": {"src": f"{tmp_path}/hello.j2", "dest": "/home/hpc/hello", "mode": "0600"}},
        command("sh", "-c", 'printf %s "$1"; printenv A; exit 3', "sh", "a 'b' $c `d` \\e", environment={"A": "\"'"}),
        raw("echo out; echo err >&2; exit 255"),
        command("touch", "/opt/x"),
    )
    said, copied, fetched, status, status_255, read_only = (results[number] for number in (0, 2, 3, 5, 6, 7))
    assert said["stdout_lines"] == ["inside", "hpc", "/home/hpc"]
    assert copied["checksum"] == hashlib.sha1(ODD).hexdigest() and copied["mode"] == "0640"
    assert fetched["changed"] and (tmp_path / "back").read_bytes() == ODD
    assert (status["rc"], status["stdout"]) == (3, "a 'b' $c `d` \\e\"'")
    assert status_255["rc"] == 255 and not status_255.get("unreachable") and "out" in status_255["stdout_lines"]
    assert not any("hpc.sregistry" in status_255[where] for where in ("stdout", "stderr"))
    assert read_only["rc"] == 1 and "Read-only" in read_only["stderr"]
    assert user.shell("cat ~/hello; test ! -e /WHERE && rm ~/hello ~/it*odd*").stdout == "hello from Debian\n"


def test_root_without_pipelining(host: Host, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(ODD)
    said, odd, fetched = play(
        host,
        command("cat", "/WHERE"),
        {"ansible.builtin.copy": {"src": f"{tmp_path}/odd", "dest": "/tmp/sregistry-odd", "mode": "0640"}},
        {"ansible.builtin.fetch": {"src": "/tmp/sregistry-odd", "dest": f"{tmp_path}/back", "flat": True}},
        ansible_pipelining=False,
        ansible_singularity_userns=True,
    )
    assert said["stdout"] == "inside"
    assert odd["checksum"] == hashlib.sha1(ODD).hexdigest() and odd["owner"] == "root"
    assert fetched["changed"] and (tmp_path / "back").read_bytes() == ODD


def test_what_an_overlay_keeps(host: Host) -> None:
    user = host.as_user("hpc")
    # An overlay lies on no overlay file system, as that of the lab's hosts is.
    user.shell("mkdir -p /dev/shm/sregistry-inside/kept")
    overlay = {"ansible_singularity_overlay": "/dev/shm/sregistry-inside/kept"}
    read_only = {"ansible_singularity_overlay": ["/dev/shm/sregistry-inside/kept:ro"]}
    write = {"ansible.builtin.copy": {"content": "kept", "dest": "/opt/kept", "mode": "0644"}}
    written, read, without, cannot = play(
        user,
        {**write, "vars": overlay},
        command("cat", "/opt/kept", vars=read_only),
        command("test", "-e", "/opt/kept"),
        command("touch", "/opt/other", vars=read_only),
    )
    assert written["changed"] and read["stdout"] == "kept"
    assert without["rc"] == 1
    assert cannot["rc"] == 1 and "Read-only" in cannot["stderr"]


def test_a_sandbox_can_be_changed_by_who_asks_for_it(host: Host) -> None:
    user = host.as_user("hpc")
    write = {"ansible.builtin.copy": {"content": "changed", "dest": "/opt/changed", "mode": "0644"}}
    refused, written, root = play(
        user,
        write,
        {**write, "vars": {"ansible_singularity_writable": True}},
        command("id", "-un", vars={"ansible_singularity_fakeroot": True}),
        ansible_singularity_image=SANDBOX,
    )
    assert refused["failed"] and written["changed"] and root["stdout"] == "root"
    assert user.shell(f"cat {SANDBOX}/opt/changed").stdout == "changed"


def test_files_go_into_an_instance_that_shares_nothing(host: Host, tmp_path: Path) -> None:
    user = host.as_user("hpc")
    content = random.Random("instance").randbytes((16 << 20) + 1)  # more than one piece
    (tmp_path / "large").write_bytes(content)
    user.shell(f"apptainer --silent instance start --contain --writable-tmpfs {SIF} inside")
    try:
        copied, fetched, listed, refused = play(
            user,
            {"ansible.builtin.copy": {"src": f"{tmp_path}/large", "dest": "/tmp/large", "mode": "0600"}},
            {"ansible.builtin.fetch": {"src": "/tmp/large", "dest": f"{tmp_path}/back", "flat": True}},
            command("ls", "/tmp"),
            raw("true", vars={"ansible_singularity_writable": True}),
            ansible_singularity_image="instance://inside",
        )
    finally:
        user.shell("apptainer --silent instance stop inside")
    assert copied["checksum"] == fetched["checksum"] == hashlib.sha1(content).hexdigest()
    assert (tmp_path / "back").read_bytes() == content
    assert "large" in listed["stdout_lines"]
    assert "instance start" in refused["msg"] and not refused.get("unreachable")
    user.shell("test ! -e /tmp/large")


def test_what_stands_in_the_way_is_named(host: Host) -> None:
    unreachable: dict[str, dict[str, Any]] = {
        "sregistry_pull": {"ansible_singularity_image": f"{WORK}/missing.sif"},
        "apptainer instance start": {"ansible_singularity_image": "instance://missing"},
        "SIF file or a sandbox": {"ansible_singularity_image": "/etc/passwd"},
        "ansible_singularity_exec_args": {"ansible_singularity_exec_args": ["--no-such-option"]},
        "ansible_singularity_executable": {"ansible_singularity_executable": "no-such-engine"},
        "ansible_singularity_overlay": {"ansible_singularity_overlay": [f"{WORK}/missing"]},
        "Connection refused": {"ansible_port": 1},
    }
    failed: dict[str, dict[str, Any]] = {
        "neither an absolute path": {"ansible_singularity_image": "docker://debian"},
        "ansible_singularity_transport": {"ansible_singularity_transport": "no-such-plugin"},
        "ansible_singularity_image is not set": {"ansible_singularity_image": ""},
    }
    ways = {**unreachable, **failed}
    results = play(
        host,
        *(raw("true", vars=variables) for variables in ways.values()),
        *({"ansible.builtin.ping": {}, "vars": variables} for variables in ways.values()),
    )
    for (word, variables), result in zip([*ways.items()] * 2, results, strict=True):
        assert word in result["msg"], result
        assert bool(result.get("unreachable")) == (word in unreachable)
        image = str(variables.get("ansible_singularity_image", SIF))
        assert image in result["msg"] or word in failed or word == "Connection refused"
        assert word == "Connection refused" or ("\n" not in result["msg"] and "\x1b" not in result["msg"])


def test_a_console_inside(host: Host) -> None:
    typed = "cat /WHERE\nraw id -un\nexit\n"
    options = ["-c", PLUGIN, "-e", f"ansible_singularity_image={SIF}", "-u", "root"]
    done = subprocess.run(
        ["ansible-console", "-i", str(LAB / "inventory.yml"), *options, host.name],
        input=typed,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert re.search(r"rc=0 >>\ninside\n", done.stdout), done.stdout + done.stderr
    assert re.search(r"rc=0 >>\nroot", done.stdout)


def test_an_image_on_the_controller(host: Host, tmp_path: Path) -> None:
    """Ansible runs on the host itself, since this machine need not have an engine."""
    user = host.as_user("hpc")
    collection = Path(__file__).parents[2]
    needed = ("ansible-core", "jinja2", "PyYAML", "MarkupSafe", "packaging", "resolvelib")
    for name in needed:
        for file in importlib.metadata.files(name) or ():
            if file.suffix != ".so" and ".." not in file.parts and "__pycache__" not in file.parts:
                _copy(Path(str(file.locate())), tmp_path / file)
    for name in ("plugins/connection/singularity.py", "meta/runtime.yml", "galaxy.yml"):
        _copy(collection / name, tmp_path / "ansible_collections/hpc/sregistry" / name)
    user.copy_directory(str(tmp_path), f"{WORK}/ansible")
    variables = {
        "ansible_connection": PLUGIN,
        "ansible_singularity_transport": "local",
        "ansible_singularity_image": SIF,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    tasks = [
        {"ansible.builtin.copy": {"content": "local", "dest": "/home/hpc/local", "mode": "0600"}},
        {"ansible.builtin.command": "cat /WHERE /home/hpc/local", "register": "said"},
        {"ansible.builtin.raw": "exit 255", "register": "ended", "failed_when": "ended.rc != 255"},
        {"ansible.builtin.debug": {"msg": "SAID {{ said.stdout_lines }}"}},
    ]
    plays = json.dumps([{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}])
    environment = f"PYTHONPATH={WORK}/ansible ANSIBLE_COLLECTIONS_PATH={WORK}/ansible LC_ALL=C.UTF-8"
    done = user.shell(
        f"printf %s {shlex.quote(plays)} > {WORK}/play.json && env {environment} PYTHONPATH_OF_THE_HOST=1 "
        f"python3 -m ansible.cli.playbook {WORK}/play.json && rm ~/local"
    )
    assert "SAID ['inside', 'local']" in done.stdout


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
