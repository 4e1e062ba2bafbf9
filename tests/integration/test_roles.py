# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles engine and mirror, on new hosts that have neither an engine nor a registry.

The hosts run no systemd, so the registries are started as the units would start them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import socket
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue, oci, paths, tree
from tests.lab import hosts as lab_hosts

from .conftest import LAB, Host
from .playbooks import run_playbook

ENGINE = "apptainer squashfs-tools squashfuse uidmap python3-requests"
PROGRAMS = "apptainer mksquashfs squashfuse newuidmap docker-registry htpasswd"
CACHES, TEMPORARY = "/var/cache/containers", "/var/tmp/containers"
ETC, UNITS = "/etc/sregistry-mirror", "/etc/systemd/system"
BINARY = "/usr/local/bin/registry"
CA = "/etc/ssl/lab-ca.pem"
PASSWORD, OF_BOB, OF_UPSTREAM = "correct horse, battery", "staple: of bob", "of-the-upstream-registry"


@dataclass(frozen=True)
class Site:
    """Two hosts, the inventory that says what they must become, and the ports of proxy and store."""

    first: Host
    second: Host
    inventory: Path
    package: Path
    proxy: int
    store: int


@dataclass(frozen=True)
class Run:
    """The report of one run of the play: its output, and the number of changed tasks of each host."""

    status: int
    output: str
    changed: dict[str, int]


@dataclass(frozen=True)
class Runs:
    """A dry run, what was there after it, the real run, and another one."""

    foreseen: Run
    there_after_it: str
    real: Run
    again: Run


def play(site: Site, *options: str) -> Run:
    """Apply both roles to both hosts."""
    names = f"{site.first.name},{site.second.name}"
    roles = ["hpc.sregistry.engine", "hpc.sregistry.mirror"]
    return run_play(site.inventory, {"hosts": names, "roles": roles}, *options)


def run_play(inventory: Path, content: dict[str, Any], *options: str) -> Run:
    """Run a play, with one inventory beside that of the lab."""
    arguments = ["-i", str(LAB / "inventory.yml"), "-i", str(inventory), *options, "/dev/stdin"]
    done = run_playbook(arguments, json.dumps([{"gather_facts": False, **content}]), 900)
    recap = re.findall(r"^(node\d+)\s*:.* changed=(\d+)", done.stdout, re.M)
    return Run(done.returncode, done.stdout + done.stderr, {host: int(changed) for host, changed in recap})


@pytest.fixture(scope="module")
def site(hosts: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield two new hosts without what the roles install; afterwards new ones are there, as all others are."""
    directory = tmp_path_factory.mktemp("roles")
    lab.renew(*(host.name for host in hosts))
    try:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(remove_engine, hosts[0])
            package = pool.submit(download_engine_and_remove_it, hosts[1], directory).result()
        assert [host.shell(f"ls -d /etc/apptainer; which {PROGRAMS}", check=False).stdout for host in hosts] == ["", ""]
        with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as store:
            ports = proxy.getsockname()[1], store.getsockname()[1]
        made = Site(*hosts, directory / "inventory.json", package, *ports)
        made.inventory.write_text(json.dumps({"all": {"hosts": wanted(made)}}), encoding="utf-8")
        yield made
    finally:
        lab.renew(*(host.name for host in hosts))


def remove_engine(host: Host) -> None:
    host.shell(f"DEBIAN_FRONTEND=noninteractive apt-get -qy purge --autoremove {ENGINE}")


def download_engine_and_remove_it(host: Host, directory: Path) -> Path:
    """Get the engine's package from Debian's mirror; put a registry's binary on the host."""
    host.shell("apt-get -q update && cd /root && apt-get -q download apptainer && mv apptainer_*.deb apptainer.deb")
    package = directory / "apptainer.deb"
    command = lab_hosts.ssh_command(lab_hosts.Host(int(host.name.removeprefix("node"))))
    with package.open("wb") as file:
        subprocess.run([*command, "cat /root/apptainer.deb"], stdout=file, timeout=1200, check=True)
    with Path("/usr/bin/docker-registry").open("rb") as file:
        subprocess.run([*command, f"cat > {BINARY} && chmod 755 {BINARY}"], stdin=file, timeout=1200, check=True)
    remove_engine(host)
    return package


def wanted(site: Site) -> dict[str, dict[str, Any]]:
    """Return variables by host: the first gets all from Debian's mirror, the second a package file and any binary."""
    of_bob = subprocess.run(["htpasswd", "-niBC", "5", "bob"], input=OF_BOB, capture_output=True, text=True, check=True)
    return {
        site.first.name: {
            "engine_cachedir": CACHES,
            "engine_tmpdir": TEMPORARY,
            "engine_settings": {"root default capabilities": "file", "bind path": "/srv, /opt", "mount slave": False},
            "mirror_mode": "proxy",
            "mirror_upstream": lab.REGISTRIES["plain"].url,
            "mirror_upstream_username": "lab",
            "mirror_upstream_password": OF_UPSTREAM,
            "mirror_port": site.proxy,
            "mirror_service": False,
        },
        site.second.name: {
            "engine_inflate_packages": ["no-distribution-has-this", "isal"],
            "engine_files": [{"src": str(site.package), "checksum": f"sha256:{sha256(site.package)}"}],
            "engine_settings": {"root default capabilities": "file"},
            "mirror_mode": "store",
            "mirror_address": "127.0.0.1",
            "mirror_port": site.store,
            "mirror_binary": BINARY,
            "mirror_tls_certificate_content": (paths.tls() / "server.pem").read_text(encoding="ascii"),
            "mirror_tls_key_content": (paths.tls() / "server.key").read_text(encoding="ascii"),
            "mirror_users": {"alice": PASSWORD, "bob": of_bob.stdout.strip().partition(":")[2]},
            "mirror_service": False,
        },
    }


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def runs(site: Site) -> Runs:
    """Check mode, the real run, and the same again."""
    foreseen = play(site, "--check", "--diff")
    look = f"ls -d {ETC} {UNITS}/sregistry* {CACHES} /etc/profile.d/sregistry* /etc/apptainer; which {PROGRAMS}"
    after = "".join(host.shell(look, check=False).stdout for host in (site.first, site.second))
    return Runs(foreseen, after, play(site, "--diff", "-vvv"), play(site))


def as_the_unit_says(unit: str) -> str:
    """Return the command of a unit, to be run as its user and group."""
    said = dict(re.findall(r"^(ExecStart|User|Group)=(.*)$", unit, re.M))
    return f"setpriv --reuid {said['User']} --regid {said['Group']} --init-groups {said['ExecStart']}"


@contextmanager
def running(host: Host, mode: str, *env: str) -> Iterator[None]:
    """Run the registry of that mode as its unit says: command and user, in an environment."""
    unit = f"{UNITS}/sregistry-mirror-{mode}.service"
    command = f"env {shlex.join(env)} {as_the_unit_says(host.shell(f'cat {unit}').stdout)}"
    log = f"/tmp/registry-{mode}.log"
    script = f"""
        {command} > {log} 2>&1 < /dev/null & echo $!
        address=$(sed -n 's/.*addr:.*:/127.0.0.1:/p' {ETC}/{mode}/config.yml)
        for i in $(seq 50); do curl -sko {log}.answer "$address" && exit; sleep 0.1; done
        cat {log}; exit 1"""
    pid = host.shell(script).stdout.split()[0]
    try:
        yield
    finally:
        host.shell(f"kill {pid}; tail --pid={pid} -s 0.1 -f /dev/null")


def test_a_dry_run_foresees_changes_and_makes_none(site: Site, runs: Runs) -> None:
    assert runs.foreseen.status == 0, runs.foreseen.output
    assert all(runs.foreseen.changed[host.name] > 5 for host in (site.first, site.second))
    assert runs.there_after_it == ""


def test_the_second_run_changes_nothing(site: Site, runs: Runs) -> None:
    assert (runs.real.status, runs.again.status) == (0, 0), runs.real.output + runs.again.output
    assert runs.again.changed == {site.first.name: 0, site.second.name: 0}, runs.again.output


def test_no_secret_is_shown_or_readable(site: Site, runs: Runs) -> None:
    key = (paths.tls() / "server.key").read_text(encoding="ascii").splitlines()[1]
    hashed = site.second.shell(f"cat {ETC}/store/htpasswd").stdout.split("$")[-1].strip()
    said = runs.foreseen.output + runs.real.output + runs.again.output
    assert [secret for secret in (PASSWORD, OF_UPSTREAM, key, hashed) if secret in said] == []
    for host, file in (
        (site.first, "proxy/config.yml"),
        (site.second, "store/htpasswd"),
        (site.second, "store/tls.key"),
    ):
        assert host.shell(f"stat -c '%a %U %G' {ETC}/{file}").stdout == "640 root sregistry-mirror\n"


def test_the_engine_comes_from_the_repositories_and_is_set_up(site: Site, runs: Runs) -> None:
    host = site.first
    image = host.sregistry("pull", "lab/tiny:1.0")["images"][0]
    assert host.shell(f"apptainer run {image['path']}").stdout == "hello from tiny 1.0\n"
    assert [each["name"] for each in image["builder"]["decoders"]] == ["isal"], "the distribution has it for Python"
    directives = ["sessiondir max size", "bind path", "mount slave"]
    read = [host.shell(f"apptainer config global --get '{name}'").stdout.strip() for name in directives]
    assert read == ["64", "/srv,/opt,/etc/localtime,/etc/hosts", "no"]
    assert host.shell(f"stat -c %a {CACHES} {TEMPORARY}").stdout.split() == ["1777", "1777"]


def test_those_who_log_in_have_their_own_cache(site: Site, runs: Runs) -> None:
    variables = "su - hpc -c 'echo $APPTAINER_CACHEDIR $APPTAINER_TMPDIR'"
    for _login in range(2):
        assert site.first.shell(variables).stdout.split() == [f"{CACHES}/hpc", TEMPORARY]
    assert site.first.shell(f"stat -c '%a %U' {CACHES}/hpc").stdout.split() == ["700", "hpc"]
    of_others = f"rm -r {CACHES}/hpc && install -d -m 777 {CACHES}/hpc"
    assert site.first.shell(f"{of_others} && {variables}").stdout.split() == [TEMPORARY]


def test_the_engine_comes_from_a_package_file(site: Site, runs: Runs) -> None:
    version = "dpkg-deb -W --showformat '${Version}'"
    fetched = "/var/cache/sregistry-engine/apptainer.deb"
    script = (
        f"sha256sum < {fetched}; {version} {fetched}; echo; dpkg-query {version[9:]} apptainer; echo; apptainer version"
    )
    checksum, _dash, of_file, installed, started = site.second.shell(script).stdout.split()
    assert checksum == sha256(site.package)
    assert of_file == installed
    assert started in installed


def test_of_what_inflates_faster_the_first_is_installed_that_there_is(site: Site, runs: Runs) -> None:
    installed = "dpkg-query --show --showformat '${Package} ' python3-isal isal 2>/dev/null"
    assert site.first.shell(installed, check=False).stdout.split() == ["python3-isal"]
    assert site.second.shell(installed, check=False).stdout.split() == ["isal"]
    assert site.second.shell("igzip --version", check=False).returncode == 0


def test_a_package_file_with_another_checksum_is_refused(site: Site, runs: Runs) -> None:
    given = {"engine_files": [{"src": "/root/apptainer.deb", "remote_src": True, "checksum": f"sha256:{'0' * 64}"}]}
    refused = play(site, "--limit", site.second.name, "--extra-vars", json.dumps(given))
    assert refused.status != 0
    assert f"/root/apptainer.deb has the checksum {sha256(site.package)} instead of sha256:0000" in refused.output


def test_systemd_finds_no_fault_with_the_units(site: Site, runs: Runs) -> None:
    for host, count in ((site.first, 1), (site.second, 3)):
        units = host.shell(f"ls {UNITS}/sregistry-mirror-*").stdout.split()
        assert len(units) == count
        verified = host.shell(f"systemd-analyze verify {' '.join(units)}", check=False)
        assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_the_check_of_the_service_knows_which_registry_answers(site: Site, runs: Runs) -> None:
    role = {"name": "hpc.sregistry.mirror", "tasks_from": "answer"}
    content = {"hosts": site.second.name, "tasks": [{"ansible.builtin.import_role": role}]}
    with running(site.second, "store"):
        ours = run_play(site.inventory, content)
    assert ours.status == 0, ours.output
    other = {"mirror_port": lab.REGISTRIES["private"].port, "_mirror_tries": 1}
    taken = run_play(site.inventory, content, "--extra-vars", json.dumps(other))
    assert taken.status != 0
    assert f"port {other['mirror_port']} is taken: something else than sregistry-mirror-store answers" in taken.output
    silent = run_play(site.inventory, content, "--extra-vars", json.dumps({"_mirror_tries": 1}))
    assert f"sregistry-mirror-store does not answer at port {site.store}: " in silent.output


# systemd does not run on the hosts of the lab. This starts and stops what units say, as they were when it last loaded
# them; a restart fails where a file of that name is.
SYSTEMCTL = r"""#!/usr/bin/python3
import os, re, shlex, shutil, signal, subprocess, sys, time
STATE, UNITS = "/run/standin/", "/etc/systemd/system/"
os.makedirs(STATE, exist_ok=True)
words = [word for word in sys.argv[1:] if not word.startswith("-")]
action, unit = words[0], words[1] if len(words) > 1 else ""
place = STATE + unit
running = os.path.exists(place + ".pid") and os.path.isdir("/proc/" + open(place + ".pid").read())
def commands(name):
    said = re.findall(rf"^{name}=\+?(.*)$", open(place).read(), re.M)
    return [shlex.split(one) for one in said]
def stop():
    if running:
        pid = int(open(place + ".pid").read())
        os.kill(pid, signal.SIGTERM)
        while os.path.isdir(f"/proc/{pid}"):
            time.sleep(0.02)
def start():
    if unit.endswith(".timer"):
        open(place + ".waits", "w")
        return
    for command in commands("ExecStartPre"):
        subprocess.run(command, check=True)
    log = open(STATE + "log", "ab")
    account = [f"--re{kind}={commands(name)[0][0]}" for kind, name in (("uid", "User"), ("gid", "Group"))]
    command = ["setpriv", *account, "--init-groups", *commands("ExecStart")[0]]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    open(place + ".pid", "w").write(str(run.pid))
if action == "daemon-reload":
    for name in os.listdir(UNITS):
        if name.startswith("sregistry-mirror-"):
            shutil.copy(UNITS + name, STATE + name)
elif action == "show":
    print("LoadState=" + ("loaded" if os.path.exists(place) else "not-found"))
    print("ActiveState=" + ("active" if running or os.path.exists(place + ".waits") else "inactive"))
elif action in ("is-enabled", "enable"):
    pass
elif action in ("start", "restart"):
    if os.path.exists(STATE + "broken"):
        sys.exit("it does not start today")
    stop()
    start()
elif action == "stop":
    stop()
else:
    sys.exit(f"unknown: {sys.argv}")
"""


@pytest.fixture
def systemctl(site: Site) -> Iterator[Path]:
    """Yield the stand-in for systemd on the second host, and the file with which it fails."""
    place = "/usr/local/bin/systemctl"
    site.second.shell(f"cat > {place} <<'END'\n{SYSTEMCTL}END\nchmod 755 {place}")
    yield Path("/run/standin/broken")
    site.second.shell(f"{place} stop sregistry-mirror-store.service; rm -r {place} /run/standin")


def test_what_runs_is_what_is_configured_however_a_run_ended(site: Site, runs: Runs, systemctl: Path) -> None:
    host, role = site.second, {"hosts": site.second.name, "roles": ["hpc.sregistry.mirror"]}

    def apply(word: str, service: bool = True, **more: object) -> Run:
        config = {"http": {"headers": {"X-Word": [word]}}}
        given = {"mirror_config": config, "mirror_service": service, **more}
        return run_play(site.inventory, role, "--extra-vars", json.dumps(given))

    def word() -> str:
        said = host.shell(f"curl -ski https://127.0.0.1:{site.store}/v2/").stdout
        return "".join(re.findall(r"^x-word: (\w+)", said, re.M | re.I))

    def process() -> str:
        pid = f"$(cat {systemctl.parent}/sregistry-mirror-store.service.pid)"
        return host.shell(f"tr '\\0' '\\n' < /proc/{pid}/cmdline | head -n1").stdout.strip()

    first = apply("one")
    assert (first.status, word()) == (0, "one"), first.output
    host.shell(f"touch {systemctl}")
    failed = apply("two")
    assert failed.status != 0
    assert word() == "one"
    assert "- two" in host.shell(f"grep -A1 X-Word {ETC}/store/config.yml").stdout
    host.shell(f"rm {systemctl}")
    made_up_for = apply("two")
    assert (made_up_for.changed, word()) == ({host.name: 1}, "two"), made_up_for.output
    again = apply("two")
    assert again.changed == {host.name: 0}, again.output

    # Files alone, as for an image of a host; here only the unit is another one.
    new = f"{BINARY}-new"
    host.shell(f"cp {BINARY} {new}")
    alone = apply("two", service=False, mirror_binary=new)
    assert (alone.status, process()) == (0, BINARY), alone.output
    started = apply("two", mirror_binary=new)
    assert (started.changed, process()) == ({host.name: 1}, new), started.output


OF_A_PATH, OF_A_USER = "is match(_mirror_path_form)", "mirror_users | reject('match', _mirror_login_form) | length == 0"
OF_AN_ADDRESS = "mirror_upstream is not defined or mirror_upstream is match(_mirror_address_form)"
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "a_storage_with_a_space": (f"mirror_storage {OF_A_PATH}", {"mirror_storage": "/srv/mir ror"}),
    "a_storage_with_a_specifier": (f"mirror_storage {OF_A_PATH}", {"mirror_storage": "/srv/%h"}),
    "a_storage_with_a_quote": (f"mirror_storage {OF_A_PATH}", {"mirror_storage": "/srv/o'neill"}),
    "a_relative_storage": (f"mirror_storage {OF_A_PATH}", {"mirror_storage": "srv"}),
    "a_binary_with_arguments": (f"_mirror_binary {OF_A_PATH}", {"mirror_binary": "/bin/registry;id"}),
    "a_user_in_a_comment": (OF_A_USER, {"mirror_users": {"#bob": "x"}}),
    "a_user_who_is_an_option": (OF_A_USER, {"mirror_users": {"-al": "x"}}),
    "a_user_with_a_colon": (OF_A_USER, {"mirror_users": {"bob:x": "x"}}),
    "a_name_of_two_lines": ("mirror_name is match(_mirror_name_form)", {"mirror_name": "store\nx"}),
    "an_upstream_with_a_specifier": (OF_AN_ADDRESS, {"mirror_mode": "proxy", "mirror_upstream": "https://x/%n"}),
    "an_upstream_without_scheme": (OF_AN_ADDRESS, {"mirror_mode": "proxy", "mirror_upstream": "quay.io"}),
    "an_upstream_with_a_login": (
        "'@' not in mirror_upstream | default('')",
        {"mirror_mode": "proxy", "mirror_upstream": f"https://bob:{OF_UPSTREAM}@quay.io"},
    ),
}


def test_what_cannot_stand_in_a_unit_or_a_file_of_passwords_is_refused(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    address = {"ansible_host": f"127.0.1.{hosts[0].name.removeprefix('node')}", "mirror_mode": "store"}
    names = {name: {**address, **values} for name, (_assertion, values) in ODD.items()}
    inventory = tmp_path / "odd.json"
    inventory.write_text(json.dumps({"all": {"children": {"lab": {"hosts": names}}}}), encoding="utf-8")
    content = {"hosts": ",".join(names), "roles": ["hpc.sregistry.mirror"]}
    done = run_play(inventory, content, "--check", "--forks", str(len(names)))
    refused = dict(re.findall(r'^fatal: \[(\w+)\]: FAILED! => \{"assertion": "(.*?)", "changed"', done.output, re.M))
    assert refused == {name: assertion for name, (assertion, _values) in ODD.items()}, done.output
    assert OF_UPSTREAM not in done.output


def test_what_is_pulled_through_the_proxy_is_fetched_from_upstream_once(site: Site, runs: Runs) -> None:
    name = f"test/mirrored-{uuid.uuid4().hex}"
    layer = oci.layer(tree.Tree().file("mark", name).tar())
    lab.push(f"{name}:1", catalogue.tiny_with(layer, Cmd=["/bin/busybox", "cat", "/mark"]))

    def asked_by_a_pull_of(host: Host) -> tuple[list[str], set[str]]:
        """Return the methods of the requests for manifests, and the blobs that were fetched."""
        begin = lab.log_offset("plain")
        image = host.sregistry("pull", f"127.0.0.1:{site.proxy}/{name}:1", disable_cache=True)["images"][0]
        assert host.shell(f"apptainer run {image['path']}").stdout == name
        asked = [(request.method, request.path) for request in lab.requests_of("plain", since=begin)]
        manifests = [method for method, path in asked if f"{name}/manifests" in path]
        return manifests, {path[-64:] for method, path in asked if method == "GET" and f"{name}/blobs" in path}

    with running(site.first, "proxy"):
        manifests, blobs = asked_by_a_pull_of(site.first)
        assert "GET" in manifests
        assert len(blobs) == 3
        # Distribution 2.8 does not store a blob whose client was quicker than its disk (its issue 3438).
        stored = f"/var/lib/sregistry-mirror/proxy/docker/registry/v2/repositories/{name}/_layers/sha256"
        url = f"http://127.0.0.1:{site.proxy}/v2/{name}/blobs/sha256"
        until_stored = (
            f"for try in $(seq 50); do [ -e {stored}/$blob/link ] && break; curl -so /dev/null {url}:$blob; done"
        )
        site.first.shell(f"for blob in {' '.join(blobs)}; do {until_stored}; done")
        assert asked_by_a_pull_of(site.second) == (["HEAD"], set())


def test_the_store_keeps_sif_files_for_its_users_and_collects_garbage(site: Site, runs: Runs) -> None:
    host, port = site.second, site.store
    path = host.sregistry("pull", "lab/tiny:2.0")["images"][0]["path"]
    name = f"127.0.0.1:{port}/sifs/tiny:2.0"

    def oras(action: str, user: str, password: str, name: str = name) -> int:
        login = f"APPTAINER_DOCKER_USERNAME={user} APPTAINER_DOCKER_PASSWORD='{password}' SSL_CERT_FILE={CA}"
        arguments = f"{path} oras://{name}" if action == "push" else f"-F --disable-cache /tmp/back.sif oras://{name}"
        return host.shell(f"{login} apptainer {action} {arguments}", check=False).returncode

    blobs = "find /var/lib/sregistry-mirror/store -type f -name data | wc -l"
    curl = f"curl -sf --cacert {CA} -u 'bob:{OF_BOB}' https://127.0.0.1:{port}/v2/sifs/tiny/manifests"
    with running(host, "store"):
        assert oras("push", "alice", OF_BOB) != 0
        assert oras("push", "alice", PASSWORD) == 0
        assert oras("pull", "bob", OF_BOB) == 0
        assert host.shell(f"cmp {path} /tmp/back.sif", check=False).returncode == 0
    unit = host.shell(f"cat {UNITS}/sregistry-mirror-store-gc.service").stdout
    collect = as_the_unit_says(unit)
    readonly = host.shell(f"grep ^REGISTRY {ETC}/store/readonly.env").stdout.strip()
    with running(host, "store", readonly):
        assert oras("push", "alice", PASSWORD, f"127.0.0.1:{port}/sifs/other:1") != 0
        host.shell(collect)
        assert oras("pull", "bob", OF_BOB) == 0
    assert host.shell(blobs).stdout.strip() == "3"
    with running(host, "store"):
        digest = "sed -n 's/^docker-content-digest: *//Ip' | tr -d '\\r'"
        host.shell(
            f"{curl}/$({curl}/2.0 -I -H 'Accept: application/vnd.oci.image.manifest.v1+json' | {digest}) -X DELETE"
        )
    host.shell(collect)
    assert host.shell(blobs).stdout.strip() == "0"
