# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts: each an overlay on the common root file system in namespaces of its own, with an SSH daemon."""

from __future__ import annotations

import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.lab import commands, paths, processes, rootfs

SSH_PORT = 2222
START_VERSION = 3
START_SCRIPT = Path(__file__).with_name("node.sh")


@dataclass(frozen=True)
class Host:
    """Host number N."""

    number: int

    @property
    def name(self) -> str:
        """Its name: ``nodeN``."""
        return f"node{self.number}"

    @property
    def address(self) -> str:
        """Return the address where its SSH daemon listens."""
        return f"127.0.1.{self.number}"


def client_key() -> Path:
    """Return the key that opens every host, as root and as ``hpc``."""
    return paths.ssh() / "id_ed25519"


def known_hosts() -> Path:
    """Return the hosts' public keys."""
    return paths.ssh() / "known_hosts"


def running() -> list[Host]:
    """Return the hosts that run now."""
    found = [int(name[4:]) for name in processes.names() if name.startswith("node") and processes.recorded(name)]
    return [Host(number) for number in sorted(found)]


def ensure(count: int, keep: bool = False) -> list[Host]:
    """Start the first ``count`` hosts where they do not run; one that starts is new unless ``keep``.

    So is the directory that they share, where none runs. Returns all that run, which may be more.
    """
    if not running() and not keep:
        shutil.rmtree(paths.shared())
    tree = rootfs.host_tree()
    _ensure_key(client_key())
    hosts = [Host(number) for number in range(1, count + 1)]
    started = [(host, _ensure_host(host, tree, keep)) for host in hosts]
    for host, process in started:
        processes.wait_until(lambda host=host: _greets(host), process, host.name)  # type: ignore[misc]
    _write_known_hosts(running())
    return running()


def stop(host: Host) -> None:
    """Stop the host; ``unshare`` ignores SIGTERM, and takes all of the host's processes with it."""
    processes.stop(host.name, signal.SIGKILL)


def renew(host: Host) -> None:
    """Put a new host of the same name, address and key in the place of one that runs."""
    stop(host)
    process = _ensure_host(host, rootfs.host_tree(), keep=False)
    processes.wait_until(lambda: _greets(host), process, host.name)


def ssh_command(host: Host, user: str = "root") -> list[str]:
    """Return the start of a command line that runs something on the host."""
    return [
        "ssh", "-q", "-p", str(SSH_PORT), "-i", str(client_key()),
        "-o", f"UserKnownHostsFile={known_hosts()}", "-o", "BatchMode=yes", f"{user}@{host.address}",
    ]  # fmt: skip


def _ensure_host(host: Host, tree: Path, keep: bool) -> processes.Started:
    recipe = f"{tree.name} {START_VERSION}"
    process = processes.recorded(host.name)
    if process and process.recipe == recipe:
        return process
    stop(host)
    own = paths.host(host.name)
    if not keep:
        shutil.rmtree(own)
    for directory in ("upper", "work", "root"):
        (own / directory).mkdir(parents=True, exist_ok=True)
    paths.shared().chmod(0o1777)
    _ensure_key(_host_key(host))
    log = paths.logs() / f"{host.name}.log"
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
    return processes.start(
        host.name,
        [*namespaces, "sh", START_SCRIPT, tree, own, host.name, host.address, str(SSH_PORT), _host_key(host),
         f"{client_key()}.pub", paths.ca_certificate(), paths.shared()],
        log,
        log,
        recipe,
    )  # fmt: skip


def _greets(host: Host) -> bool:
    try:
        with socket.create_connection((host.address, SSH_PORT), timeout=2) as connection:
            return connection.recv(8).startswith(b"SSH-2.0")
    except OSError:
        return False


def _host_key(host: Host) -> Path:
    return paths.ssh() / f"host-{host.name}"


def _ensure_key(file: Path) -> None:
    if not file.with_name(f"{file.name}.pub").exists():
        file.unlink(missing_ok=True)
        commands.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hpc.sregistry lab", "-f", file], "ssh")


def _write_known_hosts(hosts: list[Host]) -> None:
    lines = []
    for host in hosts:
        key = _host_key(host).with_name(f"{_host_key(host).name}.pub").read_text(encoding="ascii")
        lines.append(f"[{host.address}]:{SSH_PORT} {' '.join(key.split()[:2])}\n")
    known_hosts().write_text("".join(lines), encoding="ascii")
