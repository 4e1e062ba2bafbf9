# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References to images: in Docker and OCI registries, as layers or as finished SIF files, and on web servers.

The grammar of a registry's names is that of the distribution project's ``reference`` package (section "Grammar" of its
documentation), with Docker's defaults: ``docker.io`` as registry, ``library/`` in front of a single component there,
``latest`` as tag. That of a web address is RFC 3986's; the digest that may follow is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from ..errors import InvalidReference
from ..text import MAX_SHOWN

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
DOCKER = "docker"
"""Layers of a container image, from which a file is built."""
ORAS = "oras"
"""A finished SIF file in a registry, as an artifact."""
WEB = frozenset({"https", "http"})
"""A finished SIF file on a web server."""
BUILD, LOCALHOST = "build", "localhost"
"""Scheme and registry of the name that the inventory gives to what was built on this host without one."""

_DOCKER_HUB_ALIASES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_DIGEST_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_MAX_REPOSITORY = 255  # characters, without the registry: RepositoryNameTotalLengthMax of distribution's package
_MAX_PORT = 65535

_OF_ENGINES = frozenset({"library", "shub"})
_LOCAL = re.compile(r"\A(docker-archive|docker-daemon|oci-archive|oci(?=:[^:]*[/:])):", re.IGNORECASE)
_SCHEME = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:]+(?:\.[0-9]{1,3}){0,3}\]"
    r"|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
    r"(?::([0-9]{1,5}))?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]+")
_BUILT = re.compile(rf"{BUILD}://{LOCALHOST}/([A-Za-z0-9/._~%-]+):{DEFAULT_TAG}")
_LOGIN = re.compile(r"\A.*@", re.DOTALL)
_PIN = re.compile(r"@(?:sha256|sha512):[^@/]*\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_CHARACTERS = "/%!$&'()*+,;=:~"  # of RFC 3986, section 3.3, without the "@", which begins a digest here
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


@dataclass(frozen=True)
class Reference:
    """One image in one registry, by tag or by digest; or a file on a web server, maybe by digest.

    In a registry exactly one of ``tag`` and ``digest`` is set: a digest wins over a tag, since it alone decides what is
    fetched. On a web server ``registry`` is the host, ``repository`` the path without its first slash, percent-encoded,
    and ``digest`` that of the file. ``query`` is only what to ask with: since it may be a secret, such as a signature,
    it is not part of the name, is never shown, and two references that differ only in it are equal.
    Parsing ``uri`` gives an equal reference back.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None
    scheme: str = DOCKER
    query: str = field(default="", repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, default_registry: str = DOCKER_HUB) -> Reference:
        """Read a reference as Docker, Singularity and sregistry write it.

        :param text: for example ``ubuntu``, ``docker://quay.io/org/app:1.0``, ``host:5000/a/b@sha256:…``,
            ``oras://ghcr.io/org/app:1.0`` or ``https://host/path/app.sif@sha256:…``.
        :param default_registry: the host of a name that names none.
        :raises InvalidReference: saying which part is wrong.
        """

        def refuse(why: str) -> InvalidReference:
            return InvalidReference(f"invalid image name {text[:MAX_SHOWN]!r}: {why}")

        rest = text.strip()
        if not rest:
            raise refuse("it is empty")
        _need_remote(rest, refuse)
        scheme, rest = _split_scheme(rest)
        if scheme in WEB:
            return _parse_web(cls, scheme, rest)
        if _holds_login(rest):  # the name is not shown: a password may be in it
            raise _with_login()
        _need_registry(scheme, refuse)
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
        if len(repository) > _MAX_REPOSITORY:
            raise refuse(f"the repository is longer than {_MAX_REPOSITORY} characters")
        if digest:
            return cls(registry, repository, digest=digest, scheme=scheme)
        return cls(registry, repository, tag=tag or DEFAULT_TAG, scheme=scheme)

    @classmethod
    def parse_known(cls, text: str, default_registry: str = DOCKER_HUB) -> Reference:
        """Read the name of an image of the inventory: also the one that a build without a name has there.

        :param text: as for ``parse``, or ``build://localhost/PATH:latest`` as the facts show it.
        :raises InvalidReference: as ``parse``.
        """
        built = _BUILT.fullmatch(text.strip())
        if built:
            return cls(LOCALHOST, built.group(1), DEFAULT_TAG, scheme=BUILD)
        return cls.parse(text, default_registry)

    @property
    def name(self) -> str:
        """The last component of the repository: ``ubuntu`` of ``library/ubuntu``."""
        return self.repository.rpartition("/")[2]

    @property
    def collection(self) -> str:
        """The repository without its last component; empty where there is only one."""
        return self.repository.rpartition("/")[0]

    @property
    def from_web(self) -> bool:
        """True if a web server has it, rather than a registry."""
        return self.scheme in WEB

    @property
    def is_sif(self) -> bool:
        """True if it names a finished SIF file, so that nothing has to be built."""
        return self.scheme != DOCKER

    @property
    def selector(self) -> str:
        """The last part of the manifest's address in the registry: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def path(self) -> str:
        """Registry and repository with neither tag nor digest, the registry left out for Docker Hub.

        It stays where the first component of the repository would be read as a host.
        """
        first, slash, _rest = self.repository.partition("/")
        if self.registry == DOCKER_HUB and not (slash and is_host(first)):
            return self.repository
        return f"{self.registry}/{self.repository}"

    @property
    def uri(self) -> str:
        """The canonical short form, for example ``library/ubuntu:22.04`` or ``quay.io/org/app@sha256:…``."""
        if self.from_web:
            return self.url
        scheme = "" if self.scheme == DOCKER else f"{self.scheme}://"
        return f"{scheme}{self.path}@{self.digest}" if self.digest else f"{scheme}{self.path}:{self.tag}"

    @property
    def url(self) -> str:
        """The full name, as Apptainer and SingularityCE take it: ``docker://docker.io/library/ubuntu:22.04``."""
        selector = f"@{self.digest}" if self.digest else "" if self.from_web else f":{self.tag}"
        return f"{self.scheme}://{self.registry}/{self.repository}{selector}"

    def at(self, digest: str) -> Reference:
        """Return the same repository, or web address, at one digest."""
        return Reference(self.registry, self.repository, digest=digest, scheme=self.scheme, query=self.query)

    def __str__(self) -> str:
        return self.uri


def _need_remote(text: str, refuse: Callable[[str], InvalidReference]) -> None:
    """Refuse what engines know and no registry has, with the module that takes it."""
    local = _LOCAL.match(text)
    if local:
        raise refuse(
            f"{local.group(1)}: names something on a host, which no registry has; to make a SIF file of it, give this "
            "name to sregistry_build as source"
        )


def _need_registry(scheme: str, refuse: Callable[[str], InvalidReference]) -> None:
    """Refuse a scheme that names no image of a registry."""
    if scheme == BUILD:
        raise refuse(
            "so the inventory calls a file that was built on this host without a name; no registry has it, and no "
            "other image can be called so; give a name such as docker://REGISTRY/REPOSITORY:TAG"
        )
    if scheme not in (DOCKER, ORAS):
        raise refuse(
            f"the scheme {scheme!r} is not served here; use docker:// or oras://REGISTRY/REPOSITORY[:TAG|@DIGEST], "
            "or https://HOST/PATH[@DIGEST]"
            + ("; sregistry_build takes this name as its source" if scheme in _OF_ENGINES else "")
        )


def _split_scheme(text: str) -> tuple[str, str]:
    match = _SCHEME.match(text)
    return (match.group(1).lower(), text[match.end() :]) if match else (DOCKER, text)


def _with_login() -> InvalidReference:
    return InvalidReference(
        "invalid image name: what stands before its '@' looks like a login, and there is no login in a name; "
        "give username and password. After a '@' belongs a digest, which begins with 'sha256:' or 'sha512:'"
    )


def _parse_web(kind: type[Reference], scheme: str, rest: str) -> Reference:
    """Read what follows ``https://``. No message shows a query."""
    pin = _PIN.search(rest)
    address, digest = (rest[: pin.start()], pin.group()[1:]) if pin else (rest, "")
    address, _hash, _fragment = address.partition("#")
    address, _mark, query = address.partition("?")
    host, _slash, path = address.partition("/")
    match = _HOST.fullmatch(host)
    if "@" in rest.partition("/")[0] or ("@" in address and not match):  # a password may hold any character
        raise _with_login()

    def refuse(why: str) -> InvalidReference:
        return InvalidReference(f"invalid image name {f'{scheme}://{address}'[:MAX_SHOWN]!r}: {why}")

    if pin:
        _check_digest(digest, refuse)
    if not match or int(match.group(1) or 0) > _MAX_PORT:
        raise refuse(f"the host {host!r} is not HOST or HOST:PORT")
    if _BAD_ESCAPE.search(path):
        raise refuse("a '%' in its path is not followed by two hexadecimal digits; write a '%' itself as '%25'")
    components = path.split("/")
    if not all(components):
        raise refuse("it must name a file: its path is empty, or has an empty part ('//' or a '/' at the end)")
    if any(unquote(component) in (".", "..") for component in components):
        raise refuse("its path has a part '.' or '..'")
    if any(not character.isprintable() for character in unquote(path)):
        raise refuse("its path has a character that does not print")
    path = re.sub("%[0-9a-f]{2}", lambda escape: escape.group().upper(), quote(path, safe=_PATH_CHARACTERS))
    host = host.lower()
    if host.endswith(_DEFAULT_PORTS[scheme]):
        host = host[: -len(_DEFAULT_PORTS[scheme])]
    return kind(host, path, digest=digest or None, scheme=scheme, query=query)


def parse_registry(text: str) -> str:
    """Read a registry as a host, or as the base address of its API: ``https://host:5000/v2/`` is ``host:5000``.

    :raises InvalidReference: if it is neither.
    """
    address = re.sub(r"\Ahttps?://", "", text.strip(), flags=re.IGNORECASE).rstrip("/")
    host = _normal_host(re.sub(r"/v[12]\Z", "", address))
    if host is None:
        raise InvalidReference(
            f"invalid registry {_LOGIN.sub('…@', text)[:MAX_SHOWN]!r}: write it as HOST or HOST:PORT"
        )
    return host


def check_digest(digest: str) -> str:
    """Return a digest if it has the form of the OCI image specification (descriptor.md, "Digests").

    :raises InvalidReference: if the algorithm is unknown or the hexadecimal part has the wrong length.
    """
    _check_digest(digest, lambda why: InvalidReference(f"invalid digest {digest[:MAX_SHOWN]!r}: {why}"))
    return digest


def is_digest(text: str) -> bool:
    """Tell whether a text is a digest, as ``check_digest`` wants it."""
    try:
        return bool(check_digest(text))
    except InvalidReference:
        return False


def _holds_login(text: str) -> bool:
    """Tell whether it is of the form ``USER:PASSWORD@HOST/…`` rather than ``NAME:TAG@DIGEST``."""
    before, at, after = text.partition("@")
    return (
        bool(at)
        and not after.startswith(tuple(f"{name}:" for name in _DIGEST_HEX_LENGTH))
        and ("/" in after or (":" in before and bool(after)))
    )


def is_host(first: str) -> bool:
    """Tell whether the first of several components is a registry, by Docker's rule."""
    return first == "localhost" or "." in first or ":" in first or first.startswith("[")


def _split_registry(text: str, default: str, refuse: Callable[[str], InvalidReference]) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    host, sign, path = text.partition("#")
    if sign and "/" not in host and is_host(host):
        raise refuse(f"after the registry comes a '/', and not a '#' as enroot writes it; write {host}/{path}")
    if not slash or not is_host(first):
        return default, text
    registry = _normal_host(first)
    if registry is None:
        raise refuse(f"the registry {first!r} is not HOST or HOST:PORT")
    return registry, rest


def _normal_host(text: str) -> str | None:
    """Return a registry's host in the one form that references hold; None if it is not one."""
    host = _HOST.fullmatch(text)
    if not host or int(host.group(1) or 0) > _MAX_PORT:
        return None
    registry = text.lower()
    return DOCKER_HUB if registry in _DOCKER_HUB_ALIASES else registry


def _check_digest(digest: str, refuse: Callable[[str], InvalidReference]) -> None:
    algorithm, colon, encoded = digest.partition(":")
    length = _DIGEST_HEX_LENGTH.get(algorithm)
    if not colon or length is None:
        raise refuse(f"the digest {digest[:MAX_SHOWN]!r} must begin with 'sha256:' or 'sha512:'")
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        raise refuse(
            f"the digest {digest[:MAX_SHOWN]!r} must have {length} lower-case hexadecimal digits after {algorithm!r}"
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
