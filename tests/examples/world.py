# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The world that the documents tell of, on two hosts of the lab.

The names of the examples stay as they are: for these hosts, and for one ``ansible-playbook`` in a mount namespace of
its own, ``quay.io``, ``registry.example.org`` and the others are addresses of this machine, where a registry answers by
TLS, with a certificate of the lab's authority. One of them wants a login.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import shlex
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.examples.blocks import ROOT
from tests.lab import catalogue, certificates, commands, hosts, oci, paths, shelf, single, tree

OPEN = ("registry-1.docker.io", "index.docker.io", "quay.io", "ghcr.io", "mirror.example.org")
PRIVATE = ("registry.example.org",)
WEB = ("downloads.example.org",)
USER, PASSWORD = "ci", "correct horse"
PASSPHRASE = "open sesame"
AUTHS = {"auths": {PRIVATE[0]: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class World:
    """The surroundings of examples: two hosts of the lab as ``node1`` and ``login1``, and names that lead here."""

    directory: Path
    hosts: tuple[hosts.Host, hosts.Host]
    digests: Mapping[str, str]

    @property
    def inventory(self) -> Path:
        """The inventory that the examples are played with."""
        return self.directory / "inventory.json"

    def play(self, plays: list[dict[str, Any]], timeout: float = 7200) -> subprocess.CompletedProcess[str]:
        """Run one playbook of these plays. The callback writes what comes of it to ``self.results``."""
        book = self.directory / "book.yml"
        book.write_text(yaml.safe_dump(plays, sort_keys=False, allow_unicode=True), encoding="utf-8")
        self.results.write_text("", encoding="utf-8")
        digests = json.dumps({"digests": self.digests})
        command = ["ansible-playbook", "-i", str(self.inventory), "-e", digests, str(book)]
        inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(self._names)]
        return subprocess.run(
            [*inside, *command],
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @property
    def results(self) -> Path:
        """Return the file to which the callback writes."""
        return self.directory / "results"

    @property
    def _names(self) -> Path:
        return self.directory / "hosts"

    def _environment(self) -> dict[str, str]:
        return {
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/examples/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "example_results",
            "ANSIBLE_DIFF_ALWAYS": "1",
            "ANSIBLE_NOCOLOR": "1",
            "EXAMPLE_RESULTS_FILE": str(self.results),
            "REQUESTS_CA_BUNDLE": str(paths.ca_certificate()),
            "REGISTRY_USER": USER,
            "REGISTRY_PASSWORD": PASSWORD,
            "DOCKER_AUTH_CONFIG": json.dumps(AUTHS),
        }


@contextmanager
def world(directory: Path, first: int, second: int) -> Iterator[World]:
    """Make the world of the examples from two hosts of the lab, by their numbers, and take it down in the end."""
    two = (hosts.Host(first), hosts.Host(second))
    addresses = {f"127.0.{3 + number}.{first}": names for number, names in enumerate((OPEN, PRIVATE, WEB))}
    names = "".join(f"{address} {' '.join(names)}\n" for address, names in addresses.items())
    (directory / "hosts").write_text(Path("/etc/hosts").read_text(encoding="utf-8") + names, encoding="utf-8")
    certificates.issue(directory, "server", *OPEN, *PRIVATE, *WEB)
    with ExitStack() as stack:
        everybody, members, web = addresses
        for address, login in ((f"{everybody}:443", False), (f"{everybody}:5001", False), (f"{members}:443", True)):
            stack.enter_context(_registry(directory, address, login))
        stack.enter_context(_web_server(directory, web))
        digests = _push(everybody)
        own = f"examples-{first}"
        for host in two:
            stack.callback(_run, host, "undo.sh", own)
            _run(host, "undo.sh", own)  # what a test that was killed has left; both share /shared
        for host in two:
            _run(host, "prepare.sh", own, names, json.dumps(AUTHS))
        made = World(directory, two, digests)
        made.inventory.write_text(json.dumps(_inventory(two)), encoding="utf-8")
        _write_files(directory, digests)
        yield made


def _run(host: hosts.Host, script: str, *arguments: str) -> None:
    command = [*hosts.ssh_command(host), shlex.join(["sh", "-s", "--", *arguments])]
    done = subprocess.run(command, stdin=(HERE / script).open("rb"), capture_output=True, timeout=1200, check=False)
    assert done.returncode == 0, f"{script} on {host.name}: {done.stderr.decode(errors='replace')}"


def _inventory(two: tuple[hosts.Host, hosts.Host]) -> dict[str, Any]:
    """Return the groups that the documents name, with the variables of the lab."""
    lab = json.loads(paths.inventory().read_text(encoding="utf-8"))["lab"]
    node, login = ({name: {"ansible_host": host.address}} for name, host in zip(("node1", "login1"), two, strict=True))
    groups = {"compute": node, "nodes": node, "login": login, "build": login}
    return {"all": {"vars": lab["vars"], "children": {name: {"hosts": members} for name, members in groups.items()}}}


def _write_files(directory: Path, digests: Mapping[str, str]) -> None:
    """Put what examples read on the controller beside their playbook."""
    for file in (HERE / "files").iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    (directory / "www").mkdir()
    _make_keys(directory)
    _make_store_of_sregistry(directory / "sregistry")
    images = {name: digests[name] for name in ("quay.io/org/solver:2.4", "docker.io/library/ubuntu:24.04")}
    lock = {"images": {name: {"digest": digest} for name, digest in images.items()}}
    (directory / "images.lock.yml").write_text(yaml.safe_dump(lock), encoding="utf-8")


def _make_keys(directory: Path) -> None:
    """Make pairs of PEM keys, and PGP keys, which have a passphrase."""
    home = str(directory / "gnupg")
    Path(home).mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE]
    for name in ("site", "alice", "bob"):
        key, address = str(directory / f"{name}.key"), f"{name}@example.org"
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        _openssl("pkey", "-in", key, "-pubout", "-out", str(directory / f"{name}.pem"))
        commands.output_of([*gpg, "--quick-generate-key", address, "rsa2048", "default", "never"])
        (directory / f"{name}.asc").write_bytes(commands.output_of([*gpg, "--armor", "--export", address]))
        secret = commands.output_of([*gpg, "--armor", "--export-secret-keys", address])
        (directory / f"{name}.secret.asc").write_bytes(secret)
    commands.output_of(["gpgconf", "--homedir", home, "--kill", "all"])


def _openssl(*words: str) -> None:
    commands.output_of(["openssl", *words])


def _make_store_of_sregistry(directory: Path) -> None:
    """Make what sregistry leaves in ``~/.singularity``."""
    home = "/root/.singularity"
    shelf.write(directory / "shub" / "library-ubuntu:latest.simg", shelf.LAUNCH + shelf.squashfs_bytes())
    known = [
        {"image": f"{home}/shub/library-ubuntu:latest.simg", "version": "f8d7d2e9f5da3fa4112aab30105e2fcd"},
        {"collection": "continuumio", "name": "anaconda3", "url": "continuumio/anaconda3:latest"},
    ]
    shelf.database(directory / "sregistry.db", known)


@contextmanager
def _registry(directory: Path, address: str, login: bool) -> Iterator[None]:
    """Serve the images at an address, ``HOST:PORT``."""
    tls = {"certificate": str(directory / "server.pem"), "key": str(directory / "server.key")}
    auth = None
    if login:
        users = directory / "htpasswd"
        users.write_bytes(commands.output_of(["htpasswd", "-nbBC", "5", USER, PASSWORD]))
        auth = {"htpasswd": {"realm": "the site's registry", "path": str(users)}}
    with single.serving(directory, address, {"tls": tls}, auth):
        yield


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def _web_server(directory: Path, address: str) -> Iterator[None]:
    """Serve ``web/`` at an address, port 443."""
    (directory / "web").mkdir()
    server = http.server.ThreadingHTTPServer((address, 443), partial(_Quiet, directory=directory / "web"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


IMAGES = {
    "docker.io/": (
        "library/ubuntu:24.04 library/ubuntu:22.04 library/rockylinux:9 library/debian:12 library/debian:trixie "
        "library/alpine:3.22 org/solver:2.4 godlovedc/lolcow:latest continuumio/anaconda3:latest ilumb/mylolcow:latest"
    ),
    "quay.io/": (
        "org/solver:2.4 org/solver:2.3 org/solver:1.9 org/mesher:1.9 "
        "biocontainers/samtools:1.21--h50ea8bc_0 biocontainers/bwa:0.7.18--he4a0461_0 "
        "prometheus/node-exporter:v1.9.1"
    ),
    "ghcr.io/": "example/mesher:1.0",
    "registry.example.org/": "team/solver:2.4 team/base:1 team/licensed:7 team/app:1",
}


def _push(address: str) -> dict[str, str]:
    """Push the images that the documents name; give their digests, by the full name."""
    digests = {}
    # It has the certificate of the names that examples have for it.
    context = ssl.create_default_context(cafile=str(paths.ca_certificate()))
    context.check_hostname = False
    with oci.Client(f"{address}:443", context) as client:
        for host, names in IMAGES.items():
            for name in names.split():
                digests[host + name] = client.push(name, oci.index(_image(name, "amd64"), _image(name, "arm64")))
    return digests


def _image(name: str, architecture: str) -> oci.Image:
    """Return a small image that says which it is, with the programs that examples run, for either platform."""
    title = name.rpartition("/")[2].replace(":", " ")
    own = tree.Tree().directory("etc").file("etc/issue", f"{title}\n")
    own.file("etc/os-release", f'PRETTY_NAME="{title}"\n')
    for program in ("sh", "cat", "true", "ls", "mkdir", "echo"):
        own.symlink(f"bin/{program}", "busybox")
    solver = f"#!/bin/sh\necho {title}\n"
    for path in ("opt", "opt/solver", "opt/solver/bin", "usr", "usr/local", "usr/local/bin"):
        own.directory(path)
    own.file("opt/solver/bin/solver", solver, 0o755).file("usr/local/bin/solver", solver, 0o755)
    own.file("usr/local/bin/solve", '#!/bin/sh\ncat "$1"\n', 0o755)
    image = catalogue.tiny_with(oci.layer(own.tar(), "ADD what examples run"), Cmd=["/bin/sh"])
    return oci.Image(image.layers, image.settings, architecture=architecture)
