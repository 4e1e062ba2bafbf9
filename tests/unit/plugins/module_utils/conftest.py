# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real registry for the unit tests, Debian's, and the faulty one in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal import secrecy
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import executable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import mksquashfs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport

from tests.faults import FaultyRegistry
from tests.lab import certificates, oci, paths, single, tree

Connect = Callable[..., Registry]


@dataclass(frozen=True)
class Stored:
    """The real registry: where it is, and what it holds."""

    address: str
    tiny: oci.Image
    """``team/tiny``, tags 1.0 and latest, and 2.0 with other settings: Docker schema 2, two layers."""
    big: oci.Image
    """``team/big:1``: OCI, one uncompressed layer of 3 MiB."""
    multi: oci.Index
    """``team/multi:1``: amd64, arm64/v8 and an attestation."""

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.address}"

    @property
    def blob(self) -> oci.Layer:
        """The layer of ``team/big``."""
        return self.big.layers[0]

    def push(self, name: str, thing: oci.Image | oci.Index) -> str:
        """Push an image or index under ``repository:tag``; its digest."""
        with oci.Client(self.address) as client:
            return client.push(name, thing)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Start Debian's registry on a free port, with a few small images."""
    if not shutil.which("docker-registry"):
        pytest.skip("there is no docker-registry here; install the package docker-registry")
    directory = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{_free_port()}"
    with single.serving(directory, address):
        yield _filled(address)


@pytest.fixture
def faulty(stored: Stored) -> Iterator[FaultyRegistry]:
    """Yield a proxy in front of the real registry that does as it is told."""
    with FaultyRegistry(stored.url) as registry:
        yield registry


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with ``ca.pem``, and with ``server.pem`` and ``server.key`` for 127.0.0.1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SREGISTRY_LAB_DIR", str(tmp_path_factory.mktemp("authority")))
        certificates.ensure()
        return paths.tls()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make sessions to a registry, by its address; they are closed at the end."""
    sessions: list[Registry] = []

    def make(
        address: str, login: tuple[str, str] | None = None, keychain: Keychain | None = None, **how: object
    ) -> Registry:
        keychain = keychain or Keychain(Login(*login) if login else None)
        transport = Transport(**{"http": True, "timeout": 20.0, **how})  # type: ignore[arg-type]
        sessions.append(Registry(address, keychain, transport))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


@pytest.fixture(autouse=True)
def _secrets() -> Iterator[None]:
    """Forget after each test all that it hides: it must not be hidden in another one."""
    yield
    secrecy.forget()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the client would have slept; it does not."""
    recorded: list[float] = []
    monkeypatch.setattr(time, "sleep", recorded.append)
    return recorded


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _filled(address: str) -> Stored:
    base = oci.layer(tree.Tree().directory("etc").file("etc/name", "tiny\n").tar(), "ADD base")
    more = oci.layer(tree.Tree().file("more", Random(1).randbytes(100_000)).tar(), "ADD more")
    settings = {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}
    tiny = oci.Image((base, more), settings, docker=True, steps=(None, "ENV A=1", None))
    payload = tree.Tree().file("payload", Random(2).randbytes(3 << 20)).tar()
    big = oci.Image((oci.layer(payload, compression="none"),), settings)
    members = [oci.Image((base,), settings, architecture=name, variant=variant) for name, variant in _PLATFORMS]
    attestation = oci.Image((more,), architecture="unknown", os="unknown")
    multi = oci.Index((*oci.index(*members).members, (attestation, {"platform": attestation.platform})))
    stored = Stored(address, tiny, big, multi)
    for tag, image in {"1.0": tiny, "latest": tiny, "2.0": oci.Image((base,), settings, docker=True)}.items():
        stored.push(f"team/tiny:{tag}", image)
    stored.push("team/big:1", big)
    stored.push("team/multi:1", multi)
    return stored


_PLATFORMS = (("amd64", None), ("arm64", "v8"))


@pytest.fixture
def public() -> Iterator[Path]:
    """Yield a directory that other users can reach, unlike ``tmp_path``, which each run of pytest closes for them."""
    with tempfile.TemporaryDirectory(prefix="public-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 1 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no tmpfs can be mounted here; run this as root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory where programs are looked for."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(executable, "DIRECTORIES", ())
    monkeypatch.setattr(mksquashfs, "_SYSTEM_DIRECTORIES", ())
    return directory


@pytest.fixture
def install(programs: Path) -> Callable[[str, str], str]:
    """Put a shell script on the PATH; return its path."""

    def write(name: str, body: str) -> str:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write
