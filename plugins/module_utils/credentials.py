# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logins to registries: which one belongs to which host.

The authfile is Docker's ``config.json``, as ``docker login``, ``podman login`` and ``apptainer registry login`` write
it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from .errors import CredentialsError
from .reference import DOCKER_HUB

_HUB_KEYS = (
    "https://index.docker.io/v1/",
    "https://index.docker.io/v1",
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
)


@dataclass(frozen=True)
class Login:
    """A user name with its password; neither shows in a representation."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class Keychain:
    """Answers one question: which login for this registry, or none."""

    def __init__(self, login: Login | None = None, authfile: str | None = None) -> None:
        """
        :param login: used for every registry asked about, over the authfile.
        :param authfile: path of a Docker ``config.json``; read when first needed.
        """
        self._login = login
        self._authfile = authfile
        self._auths: dict[str, object] | None = None

    @property
    def source(self) -> str:
        """What was consulted, for error messages."""
        if self._login:
            return "the given user name and password"
        return f"the authfile {self._authfile}" if self._authfile else "no login"

    def login(self, registry: str) -> Login | None:
        """The login for a registry host as it stands in a reference (``docker.io``, ``host:port``).

        :raises CredentialsError: if the authfile cannot be read or understood.
        """
        if self._login:
            return self._login
        if not self._authfile:
            return None
        if self._auths is None:
            self._auths = _read_auths(self._authfile)
        for key in _keys(registry):
            if key in self._auths:
                return _decode(self._auths[key], key, self._authfile)
        return None


def _keys(registry: str) -> tuple[str, ...]:
    if registry == DOCKER_HUB:
        return _HUB_KEYS
    bare = (registry, f"https://{registry}", f"http://{registry}")
    return bare + tuple(f"{key}{path}" for key in bare for path in ("/", "/v2/", "/v1/"))


def _read_auths(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except OSError as error:
        raise CredentialsError(f"cannot read the authfile {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CredentialsError(
            f"the authfile {path} is not JSON; write it with docker login, podman login or apptainer registry login"
        ) from error
    auths = document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise CredentialsError(f"the authfile {path} has no object 'auths'")
    return auths


def _decode(entry: object, key: str, path: str) -> Login | None:
    if not isinstance(entry, dict):
        raise CredentialsError(f"the authfile {path} has no object at auths[{key!r}]")
    if entry.get("username") and entry.get("password"):
        return Login(str(entry["username"]), str(entry["password"]))
    encoded = entry.get("auth")
    if not encoded:
        return None
    try:
        username, colon, password = base64.b64decode(str(encoded), validate=True).decode("utf-8").partition(":")
    except ValueError:  # no base64, or no UTF-8 in it
        colon = ""
    if not colon:
        raise CredentialsError(f"the authfile {path} has no base64 of USER:PASSWORD at auths[{key!r}].auth")
    return Login(username, password)
