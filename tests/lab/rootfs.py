# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two Debian trees: the hosts' root file system with Apptainer, and the base layer of ``lab/debian``."""

from __future__ import annotations

from pathlib import Path

from tests.lab import debian, paths

HOST_VERSION = 2
HOST_SUITES = ["trixie", "sid"]
HOST_PACKAGES = [
    "apptainer",
    "attr",
    "ca-certificates",
    "containernetworking-plugins",
    "curl",
    "fuse2fs",
    "fuse3",
    "iproute2",
    "libcap2-bin",
    "libseccomp2",
    "libsqlite3-0",
    "openssh-server",
    "procps",
    "python3",
    "python3-requests",
    "skopeo",
    "squashfs-tools",
    "squashfs-tools-ng",
    "squashfuse",
    "sudo",
    "uidmap",
    "zstd",
]
# Apptainer is in sid only; nothing else is to come from there unless Apptainer needs it.
_PREFERENCES = (
    r"Package: *\nPin: release n=sid\nPin-Priority: 50\n\n"
    r"Package: apptainer\nPin: release n=sid\nPin-Priority: 990\n"
)

BASE_VERSION = 1
BASE_SUITE = "bookworm"


def host_tree() -> Path:
    """Return the hosts' root file system; about half a minute when it has to be built."""
    tree = paths.cache() / f"rootfs-{HOST_VERSION}"
    if not tree.exists():
        debian.bootstrap(
            tree,
            HOST_SUITES,
            [
                "--format=directory",
                f"--include={','.join(HOST_PACKAGES)}",
                '--setup-hook=mkdir -p "$1/etc/apt/preferences.d"',
                f"--setup-hook=printf '{_PREFERENCES}' > \"$1/etc/apt/preferences.d/sid\"",
                '--customize-hook=chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash --password "*" hpc',
                '--customize-hook=chroot "$1" usermod --password "*" root',
                '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
            ],
        )
    return tree


def base_tar() -> Path:
    """Return a minimal Debian as one tar, without device nodes; some twelve seconds when it has to be built."""
    tar = paths.cache() / f"base-{BASE_VERSION}.tar"
    if not tar.exists():
        debian.bootstrap(tar, [BASE_SUITE], ["--format=tar", "--skip=output/dev"])
    return tar
