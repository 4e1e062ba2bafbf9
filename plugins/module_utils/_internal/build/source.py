# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source of a build: its definition, what that starts from and copies, and which of it decides the result."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..engine.definition import DOCKER, LOCAL_IMAGE, Base, Definition, of_uri, parse
from ..errors import CertificateError, CredentialsError, InvalidDefinition, StorageError
from ..fs.files import read_regular
from ..oci.reference import Reference
from ..pull.session import Session
from ..sif.formats import SIF, is_image
from ..transport.keychain import Login
from .inputs import digest_of_files, digest_of_image, digest_of_text, is_plain, missing_files
from .request import BuildRequest

FREE = frozenset(("compression", "level"))
"""Inputs that may be anything where nothing is asked for."""
MAX_DEFINITION = 16 * 1024 * 1024  # bytes

_REMOTE = (DOCKER, "oras")
_ARCHIVES = ("oci-archive", "docker-archive")
_AGENTS = (*_REMOTE, *_ARCHIVES, LOCAL_IMAGE, "oci", "library", "shub", "docker-daemon")


@dataclass(frozen=True)
class BuildSource:
    """The source of a build by the engine.

    :ivar text: the definition as it was read; None for an image, which the engine gets by its name alone.
    :ivar named: the URI or the path, as messages and the engine get it.
    :ivar directory: relative names in the definition start from it; empty if it is not known.
    """

    definition: Definition
    text: str | None
    named: str
    directory: str

    @property
    def files(self) -> tuple[str, ...]:
        """The sources of ``%files`` on the host, as they are written."""
        return tuple(name for stage in self.definition.stages for name in stage.files)

    @property
    def remotes(self) -> list[Reference]:
        """The images of registries that it starts from."""
        return [_remote(base) for base in self.definition.bases if base.agent in _REMOTE]

    def missing(self) -> list[str]:
        """Return the paths on the host that are needed and not there. Files that a script may make are not."""
        paths = (self._local(base) for base in self.definition.bases)
        missing = [path for path in paths if path and not os.path.exists(path)]
        if not any(stage.runs_on_host for stage in self.definition.stages):
            missing += missing_files(self.files, self.directory)
        return missing

    def check(self) -> list[str]:
        """Refuse relative names that start nowhere, and return warnings about changes that will not be noticed.

        :raises InvalidDefinition: if a name is relative to nothing.
        """
        local = [base.source for base in self.definition.bases if self._local(base)]
        relative = [name for name in (*local, *self.files) if not os.path.isabs(name) and is_plain(name)]
        if relative and not self.directory:
            raise InvalidDefinition(
                f"the name {relative[0]!r} in {self.named} is relative, and it is not said to what; give chdir, or "
                "write it with a leading '/'"
            )
        return [
            f"%files copies {name!r}, which only the engine's shell can read: nobody notices when that changes"
            for name in self.files
            if not is_plain(name)
        ]

    def needs_fakeroot(self, request: BuildRequest) -> bool:
        """Tell whether it is built with fakeroot: as asked for, or where an ordinary user runs a definition."""
        if request.fakeroot is None:
            return self.text is not None and os.geteuid() != 0
        return request.fakeroot

    def origin(self, session: Session) -> dict[str, str]:
        """Return the input ``from``: the images that the stages start from, with their digests; nothing without any.

        :raises RegistryError: as a registry raises it.
        :raises StorageError: if a base on this host cannot be read.
        """
        found = [f"{base.uri}@{digest}" for base, digest in self._bases(session) if digest]
        return {"from": " ".join(found)} if found else {}

    def _bases(self, session: Session) -> Iterator[tuple[Base, str | None]]:
        for base in self.definition.bases:
            if base.agent in _REMOTE:
                reference = _remote(base)
                yield base, reference.digest or session.registries.of(reference).digest(reference)
            elif self._local(base):
                yield base, digest_of_image(self._local(base))
            else:
                yield base, None

    def _local(self, base: Base) -> str:
        """Return the path of a base on this host, or of the index of an OCI layout; empty if it is elsewhere."""
        if base.agent == LOCAL_IMAGE:
            return os.path.join(self.directory, base.source)
        if base.agent in (*_ARCHIVES, "oci"):
            path = os.path.join(self.directory, base.source.partition(":")[0])
            return os.path.join(path, "index.json") if base.agent == "oci" else path
        return ""


def _remote(base: Base) -> Reference:
    return Reference.parse(f"{DOCKER}://{base.source}")


def read_build_source(request: BuildRequest) -> BuildSource | None:
    """Return the source of a build; None if it is not there.

    :raises InvalidDefinition: if the engine would refuse it, or nothing can be built from it.
    :raises StorageError: if it cannot be read.
    """
    if request.directory and not os.path.isabs(request.directory):
        raise StorageError(f"{request.directory!r} is not an absolute path; write chdir with a leading '/'")
    if request.definition is not None:
        return _of_text(request, request.definition, "the definition", "the definition", request.directory or "")
    source = request.source or ""
    agent, colon, _rest = source.partition(":")
    if colon and agent in _AGENTS and not os.path.lexists(source):
        return _of_image(request, source, source, request.directory or "")
    if not os.path.isabs(source):
        raise InvalidDefinition(
            f"the source {source!r} is neither a URI that begins with {', '.join(f'{name}:' for name in _AGENTS)}, "
            "nor an absolute path; write docker:// before the name of an image in a registry, or give a definition's "
            "text with definition"
        )
    if not os.path.exists(source):
        return None
    if os.path.realpath(source) == os.path.realpath(request.path):
        raise StorageError(f"source and path are the same, {source}; give another path")
    directory = request.directory or os.path.dirname(source)
    if os.path.isdir(source) or is_image(source):
        return _of_image(request, f"{LOCAL_IMAGE}:{source}", source, directory)
    return _of_text(request, _read(source), f"the definition {source}", source, directory)


def _of_text(request: BuildRequest, text: str, what: str, source: str, directory: str) -> BuildSource:
    text = text.replace("\r\n", "\n")
    return BuildSource(parse(text, request.arguments, what), text, source, directory)


def _of_image(request: BuildRequest, uri: str, source: str, directory: str) -> BuildSource:
    if request.arguments or request.sections:
        raise InvalidDefinition(
            f"{request.source} is an image, not a definition: build_args and sections mean nothing for it"
        )
    return BuildSource(of_uri(uri), None, source, directory)


def _read(path: str) -> str:
    try:
        return read_regular(os.path.realpath(path), MAX_DEFINITION).decode("utf-8")
    except OSError as error:
        raise StorageError(f"cannot read the definition {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDefinition(
            f"{path} is neither a definition in UTF-8 nor an image of a format that is known"
        ) from error


def inputs_of(session: Session, request: BuildRequest, source: BuildSource) -> dict[str, str]:
    """Return the inputs, which decide the result. Values of build arguments are part of the definition's digest alone.

    :raises RegistryError, StorageError: as ``BuildSource.origin``.
    """
    inputs = {"format": request.format, "definition": digest_of_text(source.definition.text)}
    inputs.update(source.origin(session))
    if source.files:
        inputs["files"] = digest_of_files(source.files, source.directory)
    if request.sections:
        inputs["sections"] = ",".join(sorted(request.sections))
    inputs["fakeroot"] = "yes" if source.needs_fakeroot(request) else "no"
    kind = request.toolchain.engine_kind
    if kind:
        inputs["engine"] = kind
    if request.format == SIF:
        inputs.update({name: value for name, value in request.toolchain.asked.items() if name in FREE})
    return inputs


def agree(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Tell whether a build now would have the inputs of an earlier one. Without an engine, any engine was right."""
    free = {name for name in (*FREE, "engine") if name not in now}
    return {name: value for name, value in before.items() if name not in free} == dict(now)


def login_for(session: Session, source: BuildSource) -> Login | None:
    """Return the login for the engine, which shows it to all registries.

    :raises CredentialsError: if it would be shown to a registry that it is not for, or the engine does not take it.
    :raises CertificateError: if certificates need not be valid: no engine leaves them unverified.
    """
    registries = {reference.registry: reference for reference in source.remotes}
    reach = {registry: session.registries.reach(reference) for registry, reference in registries.items()}
    unverified = sorted(registry for registry, how in reach.items() if not how.verify and not how.http)
    if unverified:
        raise CertificateError(
            f"the engine verifies the certificate of {', '.join(unverified)}, whatever validate_certs and "
            "insecure_registries say; give its certificate authority with ca_path"
        )
    if len({how.http for how in reach.values()}) > 1:
        plain = sorted(registry for registry, how in reach.items() if how.http)
        raise CertificateError(
            f"the engine would take plain HTTP from all of {', '.join(sorted(registries))}, where only "
            f"{', '.join(plain)} may speak it; pull the image from there in a task before, and start from its file "
            "with Bootstrap: localimage"
        )
    logins = {registry: session.registries.login(reference) for registry, reference in registries.items()}
    if len(logins) > 1 and any(logins.values()):
        raise CredentialsError(
            f"the definition starts from images of {len(logins)} registries ({', '.join(sorted(logins))}), and the "
            "engine would show one login to all of them; pull the private image in a task before, and start from its "
            "file with Bootstrap: localimage"
        )
    login = next(iter(logins.values()), None)
    if login and not login.username:
        raise CredentialsError(
            f"the login for {next(iter(logins))} is a token, and the engine takes user name and password only; give "
            "these, or pull the image in a task before, and start from its file with Bootstrap: localimage"
        )
    return login
