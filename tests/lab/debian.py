# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's Debian: its mirror, its keyring, and the packages that the lab needs."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab import commands

# program or file that proves the package is there -> package
NEEDED = {
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/docker-registry": "docker-registry",
    "/usr/bin/busybox": "busybox-static",
    "/usr/bin/zstd": "zstd",
    "/usr/bin/igzip": "isal",
    "/usr/bin/htpasswd": "apache2-utils",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/ssh": "openssh-client",
    "/usr/bin/unshare": "util-linux",
    "/usr/bin/curl": "curl",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/chromium-headless-shell": "chromium-headless-shell",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
    "/usr/bin/skopeo": "skopeo",
    "/usr/bin/mksquashfs": "squashfs-tools",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
POLICY = Path("/usr/sbin/policy-rc.d")


class NotAvailable(commands.CommandFailed):
    """This machine's mirror (or its keyring) does not have a suite."""


def install_needed() -> list[str]:
    """Install the packages that are missing and return their names; none of their services is started."""
    missing = sorted({package for proof, package in NEEDED.items() if not Path(proof).exists()})
    if missing:
        with _no_services():
            try:
                _install(missing)
            except commands.CommandFailed:
                commands.run(["apt-get", "-q", "update"], "apt")
                _install(missing)
        if "docker-registry" in missing and Path("/run/systemd/system").exists():
            commands.run(["systemctl", "disable", "docker-registry.service"], "apt")
    return missing


def _install(packages: list[str]) -> None:
    commands.run(
        ["apt-get", "-qy", "install", "--no-install-recommends", *packages],
        "apt",
        {"DEBIAN_FRONTEND": "noninteractive"},
    )


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep package installation from starting a service meanwhile (a policy that exists is left alone)."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def source(suite: str) -> str:
    """Return a one-line apt source of ``suite``, main, on the mirror this machine itself uses.

    The lab needs no fresh release, and a mirror may be frozen at some day: hence ``check-valid-until=no``.
    """
    return f"deb [check-valid-until=no signed-by={keyring()}] {mirror()} {suite} main"


def download(suite: str, packages: Sequence[str], apt: Path) -> list[Path]:
    """Let apt find and verify packages of ``suite`` and all that they depend on, apart from what is installed here.

    Returns the downloaded files, which lie below ``apt``, an empty directory.
    Raises :class:`NotAvailable` if this machine's mirror does not have them.
    """
    archives = apt / "cache" / "archives"
    for directory in (archives / "partial", apt / "state" / "lists" / "partial"):
        directory.mkdir(parents=True)
    status, sources = apt / "status", apt / "sources.list"
    status.touch()
    sources.write_text(source(suite) + "\n", encoding="utf-8")
    settings = {
        "Dir::State": apt / "state",
        "Dir::State::status": status,
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    apt_get = ["apt-get", "-qy", *(f"-o{name}={value}" for name, value in settings.items())]
    try:
        commands.run([*apt_get, "update"], "packages")
        commands.run([*apt_get, "install", "--no-install-recommends", "--download-only", *packages], "packages")
    except commands.CommandFailed as error:
        raise NotAvailable(f"Debian {suite}'s {packages[0]} cannot be had from {mirror()}: {error}") from error
    return sorted(archives.glob("*.deb"))


def gather_libraries(unpacked: Path, libraries: Path) -> str:
    """Copy the shared libraries of unpacked packages to a new flat directory; return the name of the dynamic linker."""
    libraries.mkdir(parents=True)
    # Of the libraries that lie directly in the architecture's directory, with or without /usr.
    for file in sorted({*unpacked.glob("lib*/**/*.so*"), *unpacked.glob("usr/lib*/**/*.so*")}):
        if file.is_file() and (file.parent.name.endswith("-linux-gnu") or file.name.startswith("ld-linux")):
            shutil.copy(file, libraries / file.name)
    linker = next(libraries.glob("ld-linux*.so*"))
    linker.chmod(0o755)
    return linker.name


def codename() -> str:
    """Return the codename of this machine's release (``bookworm``)."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.M)
    return found[1] if found else "bookworm"


def mirror() -> str:
    """Return the mirror from which apt takes this machine's own release."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(CODENAME)", "Created-By: Packages"]
    for line in commands.output_of(wanted).decode().splitlines():
        uri, *about = line.split()
        if about == ["Debian", codename()]:
            return uri
    for file in _apt_sources():
        found = re.search(r"(?:https?|file)://\S+/debian/?(?=\s|$)", file.read_text(encoding="utf-8"))
        if found:
            return found[0]
    raise commands.CommandFailed("apt has no source of Debian itself; the lab takes its mirror from there")


def keyring() -> str:
    """Return the keyring that apt trusts for this machine's release."""
    for file in _apt_sources():
        found = re.search(r"signed-by\s*[:=]\s*(/\S*debian\S*\.gpg)", file.read_text(encoding="utf-8"), re.I)
        if found and Path(found[1]).exists():
            return found[1]
    return DEFAULT_KEYRING


def _apt_sources() -> list[Path]:
    apt = Path("/etc/apt")
    return [file for file in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))] if file.is_file()]


def bootstrap(target: Path, suites: list[str], options: list[str]) -> None:
    """Run ``mmdebstrap`` for ``suites`` (the first is the main one) and put the finished result at ``target``.

    ``target`` is a directory, or a tar file when its name ends in ``.tar``. Nothing half-built is ever there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".building-{target.name}-"
    for interrupted in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(interrupted)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as building:
        built = Path(building) / target.name
        commands.run(
            [
                *_DIES_WITH_US,
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                *_LEAN,
                *options,
                suites[0],
                built,
                *map(source, suites),
            ],
            f"mmdebstrap-{target.stem}",
            {"SOURCE_DATE_EPOCH": "1735689600"},
        )
        built.rename(target)


# All processes of the build end, and its mounts go, as soon as this process is gone for whatever reason.
_DIES_WITH_US = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
]
_LEAN = [
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
]
