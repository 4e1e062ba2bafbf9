# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container engine of the host: the ``apptainer`` or ``singularity`` executable."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from .. import programs
from ..errors import EngineError
from ..fs.files import storage_error
from ..text import shown
from ..transport.keychain import Login
from .dialect import Dialect, Version, fault_of, version_tuple
from .executable import home_of, kind_and_version, locate

_TIMEOUT = 600  # seconds, where the engine only reads an image, or writes metadata
_BUILD_TIMEOUT = 6 * 3600.0  # seconds; what a definition compiles may take its time
_LAST_WORDS = 1500  # characters
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = re.compile(  # bars and counts of mksquashfs and unsquashfs
    r"\[[=|/\\ -]*\]\s+\d+/\d+\s+\d+%"
    r"|created \d+ (?:files?|director(?:y|ies)|symlinks?|devices?|fifos?|sockets?|hardlinks?)"
    r"|Parallel (?:un|mk)squashfs: Using \d+ processors?"
    r"|\d+ inodes \(\d+ blocks\) to write"
)
_INSPECTED = ("--labels", "--deffile", "--runscript", "--test", "--environment", "--helpfile")

_ADVICE = (
    (
        re.compile(r"no mapping entry found|not listed in /etc/subuid|could not use fakeroot", re.I),
        "give this user a range in /etc/subuid and /etc/subgid, or build as root",
    ),
    (
        re.compile(
            r"must be the root user|required? to build this source as a non-root user|root or some kind of fake"
        ),
        "build as root, or with fakeroot",
    ),
    (
        re.compile(r"^(?:set_attributes|create_inode|write_xattr): .*Operation not permitted", re.M),  # unsquashfs
        "root is confined on this host: unpack as an ordinary user, or build the sandbox from docker://",
    ),
    (re.compile(r"Requesting capability set"), "root lacks capabilities on this host: build with fakeroot"),
    (
        re.compile(r"user namespace", re.I),
        "allow user namespaces to ordinary users (sysctl user.max_user_namespaces), or run it as root",
    ),
    (re.compile(r"server gave HTTP response to HTTPS client"), "set no_https for a registry without TLS"),
    (re.compile(r"x509: .*unknown authority"), "give the registry's certificate authority with ca_path"),
    (re.compile(r"unauthorized|authentication required", re.I), "give a login that may read this image"),
    (re.compile(r"private key checksum failure"), "give the passphrase of the key"),
    (re.compile(r"no space left on device", re.I), "free some room, or give another tmpdir"),
)


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build.

    :ivar sandbox: make a directory instead of a SIF.
    :ivar force: replace what is there; without, a target that exists is an error.
    :ivar fix_permissions: make everything in a sandbox writable and removable by its owner.
    :ivar sections: which sections of a definition to run: ``setup``, ``post``, …, or one of ``all`` and ``none``.
    :ivar arguments: values for ``{{ name }}`` in a definition. They are part of the definition in the image.
    :ivar packer_arguments: for ``mksquashfs``, as one string that the engine splits.
    :ivar architecture: of the image in the registry, by OCI's name.
    :ivar login: goes to every registry that the source names.
    :ivar ca_path: certificates in PEM that are trusted, with those in the system's directory.
    :ivar cachedir: of the engine; None means that nothing is cached.
    :ivar directory: that relative names in a definition start from; None is the caller's own.
    :ivar timeout: seconds.
    """

    sandbox: bool = False
    fakeroot: bool = False
    force: bool = False
    fix_permissions: bool = False
    no_test: bool = False
    sections: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict, repr=False)
    packer_arguments: str | None = None
    architecture: str | None = None
    login: Login | None = None
    no_https: bool = False
    ca_path: str | None = None
    cachedir: str | None = None
    tmpdir: str | None = None
    directory: str | None = None
    timeout: float = _BUILD_TIMEOUT


@dataclass(frozen=True)
class Setting:
    """The setting that the engine runs in.

    :ivar directory: that it runs in; None for the caller's own.
    :ivar variables: by the names that this version reads; no other setting of the caller reaches the engine.
    :ivar typed: the text that it reads where it asks for something.
    :ivar hidden: secrets that its messages must not show.
    :ivar timeout: seconds; None for those that reading an image takes at most.
    """

    tmpdir: str | None = None
    directory: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    typed: str | None = field(default=None, repr=False)
    hidden: Collection[str] = field(default=(), repr=False)
    timeout: float | None = None


@dataclass(frozen=True)
class EngineResult:
    """The result of a run of the engine: its status, and what it wrote."""

    status: int
    output: str
    errors: str = field(repr=False)

    @property
    def message(self) -> str:
        """The message of an error: without progress and colours, and of a long one the end."""
        lines = (line.rstrip() for line in self._lines())
        told = (line for line in lines if line and not line.startswith("INFO:") and not _PROGRESS.fullmatch(line))
        return "\n".join(told).strip()[-_LAST_WORDS:]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each line that the engine marked as a warning, without the mark."""
        return tuple(line.partition(":")[2].strip() for line in self._lines() if line.startswith("WARNING:"))

    def _lines(self) -> Iterator[str]:
        """Yield each line as it can be shown: among them is what the scripts of a definition wrote."""
        for line in self.errors.splitlines():
            plain = _ANSI.sub("", line).replace("\t", " ")
            yield shown(plain, len(plain))


@dataclass(frozen=True)
class Engine:
    """An executable, which engine it is, and its version; an empty version stands for the newest."""

    path: str
    kind: str
    version: str

    @property
    def home(self) -> str:
        """The name of the engine's directory in a user's home: ``.apptainer`` or ``.singularity``."""
        return home_of(self.kind)

    @property
    def version_tuple(self) -> Version:
        """The numbers of the version, for comparison."""
        return version_tuple(self.version)

    @property
    def dialect(self) -> Dialect:
        """The options and variables that this version understands."""
        return Dialect(self.kind, self.version_tuple)

    def build(self, target: str, source: str, options: BuildOptions | None = None) -> tuple[str, ...]:
        """Build an image from a definition file, a sandbox, another image, or a URI such as ``oci:PATH``.

        It writes to ``target`` itself, so give a temporary name, and rename it when this returns.

        :returns: the engine's warnings.
        :raises EngineError: if this version cannot do what the options ask for, before it is run; or with its own
            words. The login and the values of arguments are not in them.
        """
        options = options or BuildOptions()
        say = self.dialect.option
        command = ["build"]
        command += [say("build", "--disable-cache")] * (options.cachedir is None)
        command += [say("build", "--sandbox")] * options.sandbox
        command += [say("build", "--fakeroot")] * options.fakeroot
        command += [say("build", "--force")] * options.force
        command += [say("build", "--fix-perms")] * options.fix_permissions
        command += [say("build", "--notest")] * options.no_test
        command += [self.dialect.plain_http("build")] * options.no_https
        for section in options.sections:
            command += [say("build", "--section"), section]
        if options.packer_arguments:
            command += [say("build", "--mksquashfs-args"), options.packer_arguments]
        if options.architecture:
            command += [say("build", "--arch"), options.architecture]
        with self._argument_file(options) as argument_file:
            if argument_file:
                command += [say("build", "--build-arg-file"), argument_file]
            setting = Setting(
                options.tmpdir,
                options.directory,
                self._build_variables(options),
                hidden=_secrets(options),
                timeout=options.timeout,
            )
            return self.run([*command, target, source], setting).warnings

    def build_sandbox(self, source: str, target: str, tmpdir: str) -> None:
        """``build --sandbox`` from a source URI such as ``oci:PATH``, without touching the engine's cache.

        :raises EngineError: with the engine's own words.
        """
        self.build(target, source, BuildOptions(sandbox=True, tmpdir=tmpdir, timeout=_TIMEOUT))

    def inspect(self, image: str, tmpdir: str | None = None) -> dict[str, Any]:
        """Return all that ``inspect --all --json`` tells of a SIF or sandbox: the object ``data.attributes``.

        :raises EngineError: with the engine's own words.
        """
        what = ("--all",) if self.dialect.knows("inspect", "--all") else _INSPECTED
        output = self.run(["inspect", *what, "--json", image], Setting(tmpdir)).output
        try:
            return dict(json.loads(output)["data"]["attributes"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{self.path} inspect answered what is not its JSON: {output[:200]!r}") from error

    def inside(self, variables: Mapping[str, str], no_eval: bool = False) -> dict[str, str]:
        """Return the variables to run the engine with, so that these reach the container as they are.

        :param no_eval: whether it is run with that option.
        :raises EngineError: naming a variable that this version would change.
        """
        spoken = self.dialect
        return {spoken.inside(name): spoken.literal(name, value, no_eval) for name, value in variables.items()}

    def run(self, arguments: Sequence[str], setting: Setting | None = None, check: bool = True) -> EngineResult:
        """Run the engine.

        :param check: whether a status other than 0 is an error.
        :raises EngineError: with the engine's own words.
        """
        setting = setting or Setting()
        command = [self.path, *arguments]
        environment = {**programs.inherited(LC_ALL="C", TZ="UTC"), **setting.variables}
        if setting.tmpdir:
            environment.update({"TMPDIR": setting.tmpdir, self.dialect.variable("TMPDIR"): setting.tmpdir})
        status, output, errors = _run(command, environment, setting)
        result = EngineResult(status, output, _redact(errors, setting.hidden))
        if check and status != 0:
            advice = next((f"; {what}" for pattern, what in _ADVICE if pattern.search(result.errors)), "")
            said = f". It said: {result.message}" if result.message else ""
            raise EngineError(f"{' '.join(command)} failed with status {status}{advice}{said}")
        return result

    def _build_variables(self, options: BuildOptions) -> dict[str, str]:
        name = self.dialect.variable
        variables = {}
        if options.cachedir:
            variables[name("CACHEDIR")] = options.cachedir
        if options.login:
            variables[name("DOCKER_USERNAME")] = options.login.username
            variables[name("DOCKER_PASSWORD")] = options.login.password
        if options.ca_path:
            # Go's crypto/x509
            variables["SSL_CERT_DIR" if os.path.isdir(options.ca_path) else "SSL_CERT_FILE"] = options.ca_path
        return variables

    @contextmanager
    def _argument_file(self, options: BuildOptions) -> Iterator[str | None]:
        """Give a file of ``NAME=VALUE`` lines that nobody else can read; None where there are no arguments."""
        if not options.arguments:
            yield None
            return
        self.dialect.option("build", "--build-arg-file")
        fault = fault_of(options.arguments)
        if fault:
            raise EngineError(fault)
        text = "".join(f"{name}={value}\n" for name, value in options.arguments.items())
        place = options.tmpdir or tempfile.gettempdir()
        try:
            stream = tempfile.NamedTemporaryFile("wb", buffering=0, prefix="sregistry-", dir=place)  # noqa: SIM115
        except OSError as error:
            raise storage_error(error, os.path.join(place, "arguments")) from error
        with stream:
            rest = memoryview(text.encode("utf-8"))
            try:
                while rest:
                    rest = rest[stream.write(rest) :]
            except OSError as error:
                raise storage_error(error, stream.name) from error
            yield stream.name


def find_engine(given: str | None = None) -> Engine:
    """Return the engine of this host.

    :param given: a path or name to use instead of looking for one.
    :raises EngineError: saying where was looked and what to install.
    """
    path = locate(given)
    if path:
        return Engine(path, *kind_and_version(path))
    if given:
        raise EngineError(f"the engine {given} is not an executable file on this host")
    raise EngineError(
        "there is neither apptainer nor singularity on this host; install the package apptainer or singularity-ce, "
        "or give the executable's path with engine"
    )


def _run(command: list[str], environment: dict[str, str], setting: Setting) -> tuple[int, str, str]:
    timeout = setting.timeout or _TIMEOUT
    with _input(setting.typed) as stream:
        try:
            process = subprocess.Popen(
                command,
                stdin=stream,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment,
                cwd=setting.directory,
                umask=0o022,
                start_new_session=True,  # so that what a build has started can be ended with it
            )
        except OSError as error:
            raise EngineError(f"cannot run {command[0]}: {error.strerror}") from error
        with process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"{' '.join(command)} did not end within {timeout:g} s") from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, errors


@contextmanager
def _input(typed: str | None) -> Iterator[int]:
    """Give the descriptor of what the engine reads: a file in memory, where it reads one line at a time."""
    if typed is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("answers"), "w+", encoding="utf-8") as stream:
        stream.write(typed)
        stream.flush()
        stream.seek(0)
        yield stream.fileno()


def _secrets(options: BuildOptions) -> list[str]:
    login = [options.login.username, options.login.password] if options.login else []
    return [*login, *options.arguments.values()]


def _redact(text: str, hidden: Collection[str]) -> str:
    """Hide secrets, short ones only where they are whole words, so that a value such as 1 leaves the text readable."""
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) > 3 else rf"(?<!\w){pattern}(?!\w)", "********", text)
    return text
