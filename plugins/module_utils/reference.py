# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References to images in Docker and OCI registries.

The grammar is that of the distribution project's ``reference`` package (section "Grammar" of its documentation), with
Docker's defaults: ``docker.io`` as registry, ``library/`` in front of a single component there, ``latest`` as tag.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from .errors import InvalidReference

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
DOCKER = "docker"

_DOCKER_HUB_ALIASES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_DIGEST_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_MAX_NAME = 255
_MAX_PORT = 65535
_MAX_FILE_NAME = 255  # bytes, on all usual file systems

_MAX_SHOWN = 300  # characters of a foreign text in a message

_SCHEME = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
    r"(?::([0-9]{1,5}))?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]+")
_LOGIN = re.compile(r"\A.*@", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """One image in one registry, by tag or by digest.

    Exactly one of ``tag`` and ``digest`` is set: a digest wins over a tag, since it alone decides what is fetched.
    Parsing ``uri`` gives an equal reference back.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None
    scheme: str = DOCKER

    @classmethod
    def parse(cls, text: str, default_registry: str = DOCKER_HUB) -> Reference:
        """Read a reference as Docker, Singularity and sregistry write it.

        :param text: for example ``ubuntu``, ``docker://quay.io/org/app:1.0`` or ``host:5000/a/b@sha256:…``.
        :param default_registry: the host of a name that names none.
        :raises InvalidReference: saying which part is wrong.
        """

        def refuse(why: str) -> InvalidReference:
            return InvalidReference(f"invalid image name {text[:_MAX_SHOWN]!r}: {why}")

        rest = text.strip()
        if not rest:
            raise refuse("it is empty")
        scheme = _SCHEME.match(rest)
        if _holds_login(rest[scheme.end() :] if scheme else rest):  # the name is not shown: a password may be in it
            raise InvalidReference(
                "invalid image name: what stands before its '@' looks like a login, and there is no login in a name; "
                "give username and password. After a '@' belongs a digest, which begins with 'sha256:' or 'sha512:'"
            )
        if scheme:
            if scheme.group(1).lower() != DOCKER:
                raise refuse(
                    f"the scheme {scheme.group(1)!r} is not served here; use docker://REGISTRY/REPOSITORY[:TAG|@DIGEST]"
                )
            rest = rest[scheme.end() :]

        rest, at, digest = rest.partition("@")
        if at:
            _check_digest(digest, refuse)
        registry, rest = _split_registry(rest, default_registry, refuse)
        repository, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise refuse(
                f"the tag {tag!r} must be 1 to 128 letters, digits, '_', '.' or '-', and not begin with '.' or '-'"
            )
        _check_repository(repository, refuse)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if len(registry) + 1 + len(repository) > _MAX_NAME:
            raise refuse(f"registry and repository together are longer than {_MAX_NAME} characters")
        if digest:
            return cls(registry, repository, digest=digest)
        return cls(registry, repository, tag=tag or DEFAULT_TAG)

    @property
    def name(self) -> str:
        """The last component of the repository: ``ubuntu`` of ``library/ubuntu``."""
        return self.repository.rpartition("/")[2]

    @property
    def collection(self) -> str:
        """The repository without its last component; empty where there is only one."""
        return self.repository.rpartition("/")[0]

    @property
    def selector(self) -> str:
        """What the registry's manifest endpoint is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def path(self) -> str:
        """Registry and repository with neither tag nor digest, the registry left out for Docker Hub.

        It stays where the first component of the repository would be read as a host.
        """
        first, slash, _rest = self.repository.partition("/")
        if self.registry == DOCKER_HUB and not (slash and _is_host(first)):
            return self.repository
        return f"{self.registry}/{self.repository}"

    @property
    def uri(self) -> str:
        """The canonical short form, for example ``library/ubuntu:22.04`` or ``quay.io/org/app@sha256:…``."""
        scheme = "" if self.scheme == DOCKER else f"{self.scheme}://"
        return f"{scheme}{self.path}@{self.digest}" if self.digest else f"{scheme}{self.path}:{self.tag}"

    @property
    def url(self) -> str:
        """The full name, as Apptainer and SingularityCE take it: ``docker://docker.io/library/ubuntu:22.04``."""
        selector = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.scheme}://{self.registry}/{self.repository}{selector}"

    @property
    def file_name(self) -> str:
        """Path of the image below a store, relative and with no colon: ``library/ubuntu-22.04.sif``.

        A last component that is too long for a file system is cut and ends in a hash.
        """
        path = self.path.replace(":", "_").replace("[", "").replace("]", "")
        parent, slash, name = path.rpartition("/")
        name = f"{name}-{self.selector.replace(':', '-')}.sif"
        if len(name) > _MAX_FILE_NAME:
            name = f"{name[:180]}-{hashlib.sha256(self.uri.encode()).hexdigest()}.sif"
        return parent + slash + name

    def at(self, digest: str) -> Reference:
        """The same repository at one digest."""
        return Reference(self.registry, self.repository, digest=digest, scheme=self.scheme)

    def __str__(self) -> str:
        return self.uri


def parse_registry(text: str) -> str:
    """Read a registry as a host, or as the base address of its API: ``https://host:5000/v2/`` is ``host:5000``.

    :raises InvalidReference: if it is neither.
    """
    address = re.sub(r"\Ahttps?://", "", text.strip(), flags=re.IGNORECASE).rstrip("/")
    host = _normal_host(re.sub(r"/v[12]\Z", "", address))
    if host is None:
        raise InvalidReference(
            f"invalid registry {_LOGIN.sub('…@', text)[:_MAX_SHOWN]!r}: write it as HOST or HOST:PORT"
        )
    return host


def check_digest(digest: str) -> str:
    """Return a digest if it has the form of the OCI image specification (descriptor.md, "Digests").

    :raises InvalidReference: if the algorithm is unknown or the hexadecimal part has the wrong length.
    """
    _check_digest(digest, lambda why: InvalidReference(f"invalid digest {digest[:_MAX_SHOWN]!r}: {why}"))
    return digest


def shown(text: object, limit: int = _MAX_SHOWN) -> str:
    """A text that somebody else wrote, fit for a message and a terminal.

    What does not print, such as escape sequences and marks that turn the direction of writing, is escaped as in Python.

    :param limit: characters after which it is cut.
    """
    whole = str(text)
    safe = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in whole[:limit]
    )
    return safe + ("…" if len(whole) > limit else "")


def _holds_login(text: str) -> bool:
    """Whether it is of the form ``USER:PASSWORD@HOST/…`` rather than ``NAME:TAG@DIGEST``."""
    before, at, after = text.partition("@")
    return (
        bool(at)
        and not after.startswith(tuple(f"{name}:" for name in _DIGEST_HEX_LENGTH))
        and ("/" in after or (":" in before and bool(after)))
    )


def _is_host(first: str) -> bool:
    """Whether the first of several components is a registry, by Docker's rule."""
    return first == "localhost" or "." in first or ":" in first or first.startswith("[")


def _split_registry(text: str, default: str, refuse: Callable[[str], InvalidReference]) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not _is_host(first):
        return default, text
    registry = _normal_host(first)
    if registry is None:
        raise refuse(f"the registry {first!r} is not HOST or HOST:PORT")
    return registry, rest


def _normal_host(text: str) -> str | None:
    """A registry's host in the one form that references hold; None if it is none."""
    host = _HOST.fullmatch(text)
    if not host or int(host.group(1) or 0) > _MAX_PORT:
        return None
    registry = text.lower()
    return DOCKER_HUB if registry in _DOCKER_HUB_ALIASES else registry


def _check_digest(digest: str, refuse: Callable[[str], InvalidReference]) -> None:
    algorithm, colon, encoded = digest.partition(":")
    length = _DIGEST_HEX_LENGTH.get(algorithm)
    if not colon or length is None:
        raise refuse(f"the digest {digest[:_MAX_SHOWN]!r} must begin with 'sha256:' or 'sha512:'")
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        raise refuse(
            f"the digest {digest[:_MAX_SHOWN]!r} must have {length} lower-case hexadecimal digits after {algorithm!r}"
        )


def _check_repository(repository: str, refuse: Callable[[str], InvalidReference]) -> None:
    if not repository:
        raise refuse("there is no repository name")
    for component in repository.split("/"):
        if not component:
            raise refuse("the repository has an empty component ('//' or a '/' at an end)")
        if not _COMPONENT.fullmatch(component):
            lower = component.lower()
            if lower != component and _COMPONENT.fullmatch(lower):
                raise refuse(f"the repository component {component!r} must be lower case ({lower!r})")
            raise refuse(
                f"the repository component {component!r} must be lower-case letters and digits, "
                "separated by '.', '_', '__' or '-'"
            )
