# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places of the lab's files: everything lives under one directory outside of the tree."""

from __future__ import annotations

import os
from pathlib import Path

PARTS = (
    "cache",
    "config",
    "hosts",
    "images",
    "inventory.yml",
    "lock",
    "logs",
    "run",
    "shared",
    "ssh",
    "storage",
    "storage-of",
    "tls",
)
"""Everything that the lab makes in its directory."""


def home() -> Path:
    """Return the directory of all that tests make: ``hpc.sregistry`` in the user's cache directory."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "hpc.sregistry"


def lab_dir() -> Path:
    """Return the lab directory: ``$SREGISTRY_LAB_DIR``, or ``lab`` beside all else."""
    chosen = os.environ.get("SREGISTRY_LAB_DIR")
    return Path(chosen).absolute() if chosen else home() / "lab"


def _within(*parts: str) -> Path:
    directory = lab_dir().joinpath(*parts)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def logs() -> Path:
    """Return the directory of all logs: ``registry-<name>.log`` are the access logs."""
    return _within("logs")


def run() -> Path:
    """Return the directory of one record for each process that ``up`` started."""
    return _within("run")


def cache() -> Path:
    """Return the directory of parts that are slow to build: the hosts' root file system, the Debian base tar."""
    return _within("cache")


def tls() -> Path:
    """Return the lab's own CA (``ca.pem``) and the servers' certificates."""
    return _within("tls")


def ssh() -> Path:
    """Return the client key, the hosts' keys and ``known_hosts``."""
    return _within("ssh")


def storage() -> Path:
    """Return the one storage directory that the registries ``plain``, ``private`` and ``token`` serve."""
    return _within("storage")


def storage_of(name: str) -> Path:
    """Return the storage of a registry that has one of its own."""
    return _within("storage-of", name)


def shared() -> Path:
    """Return the directory that every host has as ``/shared``."""
    return _within("shared")


def images() -> Path:
    """Return the directory of one record for each image recipe that was pushed."""
    return _within("images")


def config() -> Path:
    """Return the directory of written configuration: one file a registry, and the password file."""
    return _within("config")


def host(name: str) -> Path:
    """Return a host's own files: its overlay directories."""
    return _within("hosts", name)


def inventory() -> Path:
    """Return the Ansible inventory that ``up`` writes."""
    return lab_dir() / "inventory.yml"


def ca_certificate() -> Path:
    """Return the certificate of the CA that signed the ``private`` and ``token`` registries' certificates."""
    return tls() / "ca.pem"
