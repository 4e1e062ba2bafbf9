# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The place of a measurement: the machine, its file system, and the versions of what ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from tests.lab import commands, hosts, paths
from tests.measure.command import ROOT
from tests.measure.remote import shell


def machine(host: hosts.Host) -> dict[str, str]:
    """Describe the machine, by the name of each property; ``host`` stands for all hosts of the lab."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.M)
    packages = {"Apptainer": "apptainer", "squashfs-tools": "squashfs-tools", "skopeo": "skopeo", "gzip": "gzip"}
    return {
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{int(memory[1]) / (1 << 20):.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "file system": f"overlayfs on {_file_system()}",
        "host": re.sub(r'PRETTY_NAME="?|"?\n', "", shell(host, "grep PRETTY_NAME /etc/os-release")),
        "Python of the host": shell(host, "python3 -c 'import platform; print(platform.python_version())'").strip()
        + _decompressors(host),
        **{name: _package(host, package) for name, package in packages.items()},
        "ansible-core": f"{importlib.metadata.version('ansible-core')} on Python {platform.python_version()}",
        "hpc.sregistry": _collection(),
    }


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _file_system() -> str:
    return commands.output_of(["findmnt", "-n", "-o", "FSTYPE", "--target", paths.lab_dir()]).decode().strip()


def _package(host: hosts.Host, package: str) -> str:
    return shell(host, f"dpkg-query --show --showformat '${{Version}}' {package}")


def _decompressors(host: hosts.Host) -> str:
    """Return the libraries that the modules use when they find them."""
    there = "import importlib.util as u; print(*[m for m in ('isal', 'zstandard') if u.find_spec(m)])"
    found = shell(host, f'python3 -c "{there}"').split()
    return f", with {' and '.join(found)}" if found else ", without isal"


def _collection() -> str:
    """Return the commit of the work tree, and whether it was changed since."""
    done = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "describe", "--always", "--dirty=, changed since"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "unknown"
