# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: up, down, clean, status, and changing what the registries hold."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import certificates, debian, hosts, images, inventory, oci, paths, processes, registry, rootfs


class NotRoot(Exception):
    """The lab makes namespaces and mounts: it needs root."""


@dataclass(frozen=True)
class Status:
    """The state of the lab: what runs and what is there."""

    registries: dict[str, bool]
    tokens: bool
    hosts: list[hosts.Host]
    images: list[str]


def up(host_count: int = 2, keep: bool = False) -> Status:
    """Bring up what does not run and build what is missing; does nothing when all is there."""
    with _locked():
        debian.install_needed()
        certificates.ensure()
        registry.ensure()
        with ThreadPoolExecutor(2) as pool:
            tree, pushed = pool.submit(rootfs.host_tree), pool.submit(images.ensure)
            tree.result()
            pushed.result()
        inventory.write(hosts.ensure(host_count, keep))
        return status()


def install() -> list[str]:
    """Install the Debian packages that lab and tests need; returns the names of those that were missing."""
    with _locked():
        return debian.install_needed()


def push_images(repositories: list[str]) -> list[str]:
    """Push images that are made on demand; return the pushed names."""
    with _locked():
        return images.ensure(repositories)


def renew(*names: str) -> None:
    """Put new hosts in the place of those that have these names, for tests that change a host as a whole."""
    with _locked():
        for host in hosts.running():
            if host.name in names:
                hosts.renew(host)


def empty(*names: str) -> None:
    """Let registries with a storage of their own (``mirror``, ``store``) begin again with nothing in it."""
    with _locked():
        for name in names:
            registry.empty(name)


def down() -> list[str]:
    """Stop what ``up`` started; what was built stays. Returns the names of what ran."""
    with _locked():
        members = hosts.running()
        for host in members:
            hosts.stop(host)
        return [*(host.name for host in members), *(name for name in processes.names() if processes.stop(name))]


def clean() -> None:
    """Stop everything and remove what the lab made; a lab directory that holds nothing else goes too."""
    down()
    for part in paths.PARTS:
        entry = paths.lab_dir() / part
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if not any(paths.lab_dir().iterdir()):
        paths.lab_dir().rmdir()


def status() -> Status:
    """Return the state of the lab now."""
    return Status(
        {name: processes.recorded(f"registry-{name}") is not None for name in registry.REGISTRIES},
        processes.recorded("tokens") is not None,
        hosts.running(),
        images.names(),
    )


def push(name: str, thing: oci.Image | oci.Index) -> str:
    """Push an image or index as ``repository:tag``; return its digest."""
    with oci.Client() as client:
        return client.push(name, thing)


def move(target: str, source: str) -> str:
    """Make ``target`` (``repository:tag``) name what ``source`` names; return the digest."""
    with oci.Client() as client:
        return client.move(target, source)


def delete(name: str) -> None:
    """Delete the manifest that ``name`` names, and so each tag of it."""
    with oci.Client() as client:
        client.delete(name)


@contextmanager
def _locked() -> Iterator[None]:
    """Let one command at a time work on a lab directory."""
    if os.geteuid() != 0:
        raise NotRoot("the lab makes namespaces, mounts and Debian trees; run it as root")
    paths.lab_dir().mkdir(parents=True, exist_ok=True)
    with (paths.lab_dir() / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
