# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dialect of each engine and version: its options, the variables it reads, how a value is quoted.

Singularity up to 3.7 and SingularityCE from 3.8 on number their versions in one line, as does the Singularity 3.8 that
became Apptainer, and it knows the same options. Sources: ``cmd/internal/cli/*.go`` and
``internal/pkg/runtime/engine/*/process_linux.go`` of the releases of apptainer/apptainer and sylabs/singularity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import EngineError
from .executable import APPTAINER, SINGULARITY, SINGULARITY_CE

Version = tuple[int, ...]

_NAMES = {APPTAINER: "Apptainer", SINGULARITY_CE: "SingularityCE", SINGULARITY: "Singularity"}


@dataclass(frozen=True)
class Span:
    """The versions that know an option, of Singularity and of Apptainer; None stands for no version."""

    singularity: str | None = "3.5"
    apptainer: str | None = "1.0"
    singularity_until: str | None = None  # the first version without it


_ALWAYS = Span()
_NEW_KEYS = Span("3.11", "1.2")
_ACTION = {
    "--bind": _ALWAYS,
    "--cleanenv": _ALWAYS,
    "--compat": Span("3.9"),
    "--contain": _ALWAYS,
    "--containall": _ALWAYS,
    "--env": Span("3.6"),
    "--fakeroot": _ALWAYS,
    "--home": _ALWAYS,
    "--hostname": _ALWAYS,
    "--no-eval": Span("3.10", "1.1"),
    "--no-home": _ALWAYS,
    "--no-init": _ALWAYS,
    "--no-mount": Span("3.7"),
    "--no-umask": Span("3.7"),
    "--nv": _ALWAYS,
    "--nvccli": Span("3.9"),
    "--overlay": _ALWAYS,
    "--pwd": _ALWAYS,
    "--rocm": _ALWAYS,
    "--scratch": _ALWAYS,
    "--unsquash": Span(None, "1.1"),
    "--userns": _ALWAYS,
    "--workdir": _ALWAYS,
    "--writable": _ALWAYS,
    "--writable-tmpfs": _ALWAYS,
}

OPTIONS: dict[str, dict[str, Span]] = {
    "build": {
        "--arch": Span(None, "1.4"),  # Singularity has it for builds at a remote service alone
        "--build-arg-file": Span("4.0", "1.2"),
        "--disable-cache": _ALWAYS,
        "--fakeroot": _ALWAYS,
        "--fix-perms": _ALWAYS,
        "--force": _ALWAYS,
        "--mksquashfs-args": Span(None, "1.4"),
        "--no-https": Span("3.9"),
        "--nohttps": Span(apptainer=None, singularity_until="3.9"),
        "--notest": _ALWAYS,
        "--sandbox": _ALWAYS,
        "--section": _ALWAYS,
    },
    "inspect": {
        "--all": Span("3.6"),
        "--deffile": _ALWAYS,
        "--environment": _ALWAYS,
        "--helpfile": _ALWAYS,
        "--json": _ALWAYS,
        "--labels": _ALWAYS,
        "--runscript": _ALWAYS,
        "--test": _ALWAYS,
    },
    "sign": {"--key": _NEW_KEYS, "--keyidx": _ALWAYS},
    "verify": {
        "--certificate": _NEW_KEYS,
        "--certificate-intermediates": _NEW_KEYS,
        "--certificate-roots": _NEW_KEYS,
        "--json": _ALWAYS,
        "--key": _NEW_KEYS,
        "--local": _ALWAYS,
        "--ocsp-verify": _NEW_KEYS,
        "--url": _ALWAYS,
    },
    "key import": {},
    "key list": {"--secret": _ALWAYS},
    "exec": _ACTION,
    "run": _ACTION,
    "shell": _ACTION,
}

_PREFIX = {APPTAINER: "APPTAINER", SINGULARITY_CE: "SINGULARITY", SINGULARITY: "SINGULARITY"}
_KEYRING = {APPTAINER: "KEYSDIR", SINGULARITY_CE: "SYPGPDIR", SINGULARITY: "SYPGPDIR"}
VARIABLES = ("CACHEDIR", "DOCKER_PASSWORD", "DOCKER_USERNAME", "TMPDIR")

_ARGUMENT_NAME = re.compile(r"\w+\Z", re.ASCII)
_MAX_ARGUMENT = 60_000  # characters of a value; the engines read lines of 64 KiB


def version_tuple(version: str) -> Version:
    """Return the numbers of a version, for comparison: ``4.1.0-jammy`` is ``(4, 1, 0)``; nothing known is ``()``."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def fault_of(arguments: Mapping[str, str]) -> str | None:
    """Return why an engine, which reads build arguments as lines ``NAME=VALUE``, cannot take some; None if it can.
    No value is in it.
    """
    for name, value in arguments.items():
        if not _ARGUMENT_NAME.match(name):
            return f"{name!r} is not a name of a build argument: it has letters, digits and _ only"
        if not value or value != value.strip() or len(value.splitlines()) != 1 or len(value) > _MAX_ARGUMENT:
            return (
                f"the value of the build argument {name} cannot be passed on: it must be one line, not empty, "
                "without spaces around it"
            )
    return None


@dataclass(frozen=True)
class Dialect:
    """The options and variables of one version of one engine. Of a version that is not known, the newest is assumed."""

    kind: str
    version: Version

    def knows(self, command: str, option: str) -> bool:
        """Tell whether an option of the table may be given."""
        span = OPTIONS[command][option]
        since = span.apptainer if self.kind == APPTAINER else span.singularity
        until = None if self.kind == APPTAINER else span.singularity_until
        if since is None or (until and not self._before(until)):
            return False
        return not self._before(since)

    def option(self, command: str, option: str) -> str:
        """Return the option, where it may be given.

        :raises EngineError: saying which versions know it.
        """
        if self.knows(command, option):
            return option
        span = OPTIONS[command][option]
        newer = [
            f"{name} {since}"
            for name, since in (("SingularityCE", span.singularity), ("Apptainer", span.apptainer))
            if since
        ]
        raise EngineError(
            f"{self} does not know {option} of {command}; use {' or '.join(newer)} or newer, or do without"
        )

    def plain_http(self, command: str) -> str:
        """Return the option that allows HTTP without TLS."""
        return next(option for option in ("--no-https", "--nohttps") if self.knows(command, option))

    def variable(self, name: str) -> str:
        """Return the variable that sets what is in ``VARIABLES``."""
        return f"{_PREFIX[self.kind]}_{name}"

    @property
    def keyring(self) -> str:
        """The variable that names the directory of the PGP keyrings."""
        return self.variable(_KEYRING[self.kind])

    def inside(self, name: str) -> str:
        """Return the variable that sets one inside of the container, whatever else is kept out of it."""
        return f"{_PREFIX[self.kind]}ENV_{name}"

    def literal(self, name: str, value: str, no_eval: bool = False) -> str:
        """Escape a value, so that it reaches the container as it is: a shell reads it there between double quotes.

        :param no_eval: whether the engine runs with ``--no-eval``, and so puts it between single ones.
        :raises EngineError: naming the variable, if this version changes its value whatever is done.
        """
        if no_eval or (self.kind != APPTAINER and self._before("3.6")):
            return value
        if self.kind != APPTAINER and self._before("3.8.2"):  # quoted as Go does it, so nothing can be escaped
            if not value.isprintable() or set(value) & {"$", "`"}:
                raise EngineError(
                    f"{self} cannot pass on the variable {name} as it is: it has $, ` or control characters"
                )
            return value
        return re.sub(r"([\\$`])", r"\\\1", value)

    def environment(self, name: str, value: str, no_eval: bool = False) -> list[str]:
        """Return the options that set a variable inside of the container to this very value.

        What ``--env`` reads was a line of CSV; later it is one only where it has more than one equals sign, and loses
        quotation marks at both ends else (StringSlice and StringToString of spf13/pflag). So what CSV has to quote
        is said twice.

        :raises EngineError: if this version has no such option, or would change the value.
        """
        option = self.option("exec", "--env")
        pair = f"{name}={self.literal(name, value, no_eval)}"
        if any(character in pair for character in ',"\r\n'):
            quoted = '"{}"'.format(pair.replace('"', '""'))
            pair = f"{quoted},{quoted}"
        return [option, pair]

    def _before(self, version: str) -> bool:
        return bool(self.version) and self.version < version_tuple(version)

    def __str__(self) -> str:
        """Return the engine as its makers write it."""
        return f"{_NAMES[self.kind]} {'.'.join(map(str, self.version))}".rstrip()
