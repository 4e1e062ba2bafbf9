# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine is to build: its definition, what that starts from and copies, and which of it decides the result."""

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
from . import inputs as material
from .request import Order

FREE = frozenset(("compression", "level"))
"""Inputs that may be anything where nothing is asked for."""
MAX_DEFINITION = 16 * 1024 * 1024  # bytes

_REMOTE = (DOCKER, "oras")
_ARCHIVES = ("oci-archive", "docker-archive")
_AGENTS = (*_REMOTE, *_ARCHIVES, LOCAL_IMAGE, "oci", "library", "shub", "docker-daemon")


@dataclass(frozen=True)
class Recipe:
    """What the engine is to build: its definition, and that text or else the source to hand to the engine.

    Relative names in it start from ``directory``, which is empty if nobody said where that is.
    """

    definition: Definition
    text: str | None
    source: str
    directory: str

    @property
    def files(self) -> tuple[str, ...]:
        """What is copied from the host, as it is written."""
        return tuple(name for stage in self.definition.stages for name in stage.files)

    @property
    def remotes(self) -> list[Reference]:
        """The images of registries that it starts from."""
        return [_remote(base) for base in self.definition.bases if base.agent in _REMOTE]

    def missing(self) -> list[str]:
        """What of the host is not there, but needed. Files that a script may make are not."""
        paths = (self._local(base) for base in self.definition.bases)
        missing = [path for path in paths if path and not os.path.exists(path)]
        if not any(stage.runs_on_host for stage in self.definition.stages):
            missing += material.missing(self.files, self.directory)
        return missing

    def check(self) -> list[str]:
        """Refuse names that start nowhere; returns warnings about what nobody will notice.

        :raises InvalidDefinition: if a name is relative to nothing.
        """
        local = [base.source for base in self.definition.bases if self._local(base)]
        relative = [name for name in (*local, *self.files) if not os.path.isabs(name) and material.is_plain(name)]
        if relative and not self.directory:
            raise InvalidDefinition(
                f"the name {relative[0]!r} in {self.source} is relative, and it is not said to what; give chdir, or "
                "write it with a leading '/'"
            )
        return [
            f"%files copies {name!r}, which only the engine's shell can read: nobody notices when that changes"
            for name in self.files
            if not material.is_plain(name)
        ]

    def needs_fakeroot(self, order: Order) -> bool:
        """Whether it is built with fakeroot: as was asked for, or where an ordinary user runs a definition."""
        if order.fakeroot is None:
            return self.text is not None and os.geteuid() != 0
        return order.fakeroot

    def origin(self, session: Session) -> dict[str, str]:
        """The input ``from``: what the stages start from, each with its digest now; nothing where nobody can tell it.

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
                yield base, material.digest_of_image(self._local(base))
            else:
                yield base, None

    def _local(self, base: Base) -> str:
        """The path of what tells a base on this host from another; empty if it is none. An OCI layout's index tells
        all.
        """
        if base.agent == LOCAL_IMAGE:
            return os.path.join(self.directory, base.source)
        if base.agent in (*_ARCHIVES, "oci"):
            path = os.path.join(self.directory, base.source.partition(":")[0])
            return os.path.join(path, "index.json") if base.agent == "oci" else path
        return ""


def _remote(base: Base) -> Reference:
    return Reference.parse(f"{DOCKER}://{base.source}")


def recipe_of(order: Order) -> Recipe | None:
    """What is to be built; None if its source is not there.

    :raises InvalidDefinition: if the engine would refuse it, or the source is nothing that can be built from.
    :raises StorageError: if it cannot be read.
    """
    if order.directory and not os.path.isabs(order.directory):
        raise StorageError(f"{order.directory!r} is no absolute path; write chdir with a leading '/'")
    if order.definition is not None:
        return _of_text(order, order.definition, "the definition", "the definition", order.directory or "")
    source = order.source or ""
    agent, colon, _rest = source.partition(":")
    if colon and agent in _AGENTS and not os.path.lexists(source):
        return _of_image(order, source, source, order.directory or "")
    if not os.path.isabs(source):
        raise InvalidDefinition(
            f"the source {source!r} is neither a URI that begins with {', '.join(f'{name}:' for name in _AGENTS)}, "
            "nor an absolute path; write docker:// before the name of an image in a registry, or give a definition's "
            "text with definition"
        )
    if not os.path.exists(source):
        return None
    if os.path.realpath(source) == os.path.realpath(order.path):
        raise StorageError(f"source and path are the same, {source}; give another path")
    directory = order.directory or os.path.dirname(source)
    if os.path.isdir(source) or is_image(source):
        return _of_image(order, f"{LOCAL_IMAGE}:{source}", source, directory)
    return _of_text(order, _read(source), f"the definition {source}", source, directory)


def _of_text(order: Order, text: str, what: str, source: str, directory: str) -> Recipe:
    text = text.replace("\r\n", "\n")
    return Recipe(parse(text, order.arguments, what), text, source, directory)


def _of_image(order: Order, uri: str, source: str, directory: str) -> Recipe:
    if order.arguments or order.sections:
        raise InvalidDefinition(
            f"{order.source} is an image and no definition: build_args and sections mean nothing for it"
        )
    return Recipe(of_uri(uri), None, source, directory)


def _read(path: str) -> str:
    try:
        return read_regular(os.path.realpath(path), MAX_DEFINITION).decode("utf-8")
    except OSError as error:
        raise StorageError(f"cannot read the definition {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDefinition(
            f"{path} is neither a definition in UTF-8 nor an image of a format that is known"
        ) from error


def inputs_of(session: Session, order: Order, recipe: Recipe) -> dict[str, str]:
    """What decides the result. The values of build arguments are part of the definition's digest alone.

    :raises RegistryError, StorageError: as ``Recipe.origin``.
    """
    inputs = {"format": order.format, "definition": material.digest_of_text(recipe.definition.text)}
    inputs.update(recipe.origin(session))
    if recipe.files:
        inputs["files"] = material.digest_of_files(recipe.files, recipe.directory)
    if order.sections:
        inputs["sections"] = ",".join(sorted(order.sections))
    inputs["fakeroot"] = "yes" if recipe.needs_fakeroot(order) else "no"
    kind = order.choice.engine_kind()
    if kind:
        inputs["engine"] = kind
    if order.format == SIF:
        inputs.update({name: value for name, value in order.choice.inputs.items() if name in FREE})
    return inputs


def agree(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a build now would have the inputs of one before. Where there is no engine now, any was right."""
    free = {name for name in (*FREE, "engine") if name not in now}
    return {name: value for name, value in before.items() if name not in free} == dict(now)


def login_for(session: Session, order: Order, recipe: Recipe) -> Login | None:
    """The login for the engine, which shows the one that it has to all registries.

    :raises CredentialsError: if it would be shown to one that it is not for, or is none that an engine takes.
    :raises CertificateError: if certificates need not be valid: no engine leaves them unverified.
    """
    registries = {reference.registry: reference for reference in recipe.remotes}
    if registries and not order.verify and not order.plain:
        raise CertificateError(
            f"the engine verifies the certificate of {', '.join(sorted(registries))}, whatever validate_certs says; "
            "give its certificate authority with ca_path"
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
