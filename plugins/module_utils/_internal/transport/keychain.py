# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logins to registries: which one belongs to which repository, and where it comes from."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field

from ..errors import CredentialsError
from ..secrecy import hide
from . import credential_helper
from .docker_config import Authfile, Delegate

HELPER_TIMEOUT = 20.0  # seconds; some ask a cloud's own service

_IDENTITY = "<token>"  # the user name with which a helper says that the secret is an identity token


@dataclass(frozen=True)
class Login:
    """A login to a registry; nothing of it shows in a representation, nor, from now on, in what servers say.

    ``identity_token`` is an OAuth2 refresh token, which a token server takes instead of a password.
    ``registry_token`` is a bearer token, which goes to the registry as it is.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        encoded = (self.basic or "").partition(" ")[2]
        hide(self.password, encoded, self.identity_token, self.registry_token)

    @classmethod
    def given(cls, username: str | None, password: str | None) -> Login | None:
        """Return the login of two options; None if neither is given.

        :raises CredentialsError: if only one of them is.
        """
        if bool(username) != bool(password):
            missing = "password" if username else "username"
            raise CredentialsError(f"there is no {missing} for the login; give both username and password, or neither")
        return cls(username, password) if username and password else None

    @property
    def basic(self) -> str | None:
        """The ``Authorization`` of user name and password (RFC 7617); None without a user name."""
        if not self.username:
            return None
        login = f"{self.username}:{self.password}".encode("utf-8", "surrogateescape")
        return "Basic " + base64.b64encode(login).decode("ascii")


@dataclass(frozen=True)
class Credentials:
    """A login and where it comes from, or none and why; the words are for messages.

    ``given`` tells a login that was given for this very task from one that was found in a file.
    """

    login: Login | None = None
    source: str = ""
    given: bool = False
    lacking: str = ""


class Keychain:
    """The logins of a run: it answers one question, which login for this registry, or none.

    The order is: the given login; the program that the authfile's ``credHelpers`` names for this registry, and nothing
    else then; the program of its ``credsStore``; its ``auths``. Docker's is the same, but it never reads ``auths`` if
    there is a ``credsStore``. Podman does, and a file that both have written would else lose logins.

    Source: docker/cli, ``cli/config/configfile/file.go`` (``GetCredentialsStore``, ``getConfiguredCredentialStore``)
    and ``cli/config/credentials/native_store.go``; containers/image, ``pkg/docker/config/config.go``
    (``findCredentialsInFile``).
    """

    def __init__(
        self, login: Login | None = None, authfile: str | None = None, helper_timeout: float = HELPER_TIMEOUT
    ) -> None:
        """
        :param login: used for every registry asked about, over the authfile.
        :param authfile: path of a Docker ``config.json``; read when first needed.
        :param helper_timeout: seconds that a credential helper may take.
        """
        self._login = login
        self._path = authfile
        self._timeout = helper_timeout
        self._lock = threading.Lock()
        self._authfile: Authfile | None = None
        self._asked: dict[Delegate, Login | CredentialsError | None] = {}

    def without_given(self) -> Keychain:
        """Return the same without the login that was given: for other servers than the registry of the task."""
        return Keychain(None, self._path, self._timeout)

    def credentials(self, registry: str, repository: str = "") -> Credentials:
        """Return the login for a repository.

        :param registry: a host as it stands in a reference: ``docker.io``, ``host:port``.
        :param repository: without it, only logins for the whole registry count.
        :raises CredentialsError: if the authfile cannot be read or understood. A helper that fails gives no login.
        """
        if self._login:
            return Credentials(self._login, "the user name and password of the task", given=True)
        if not self._path:
            return Credentials(lacking="no login and no authfile is given")
        with self._lock:  # each helper is asked once, whoever comes first
            if self._authfile is None:
                self._authfile = Authfile.read(self._path)
            return self._look_up(self._authfile, registry, repository)

    def _look_up(self, authfile: Authfile, registry: str, repository: str) -> Credentials:
        lacking: list[str] = []
        delegate = authfile.delegate(registry)
        if delegate:
            program = credential_helper.program(delegate.name)
            found = self._ask(delegate)
            if isinstance(found, Login):
                return Credentials(found, f"the login that {program} gave (authfile {authfile.path})")
            lacking.append(str(found) if found else f"{program} has no login for {delegate.address}")
            if delegate.sole:
                return Credentials(lacking=f"{lacking[0]} (authfile {authfile.path})")
        for key, entry in authfile.entries(registry, repository):
            login = _decoded(entry, key, authfile.path)
            if login:
                return Credentials(login, f"the login of the authfile {authfile.path}, key {key!r}")
        return Credentials(lacking=", ".join([*lacking, f"the authfile {authfile.path} has no login for {registry}"]))

    def _ask(self, delegate: Delegate) -> Login | CredentialsError | None:
        if delegate not in self._asked:
            try:
                self._asked[delegate] = _login_of(credential_helper.ask(delegate.name, delegate.address, self._timeout))
            except CredentialsError as error:
                self._asked[delegate] = error
        return self._asked[delegate]


def _login_of(pair: tuple[str, str] | None) -> Login | None:
    if pair is None:
        return None
    username, secret = pair
    return Login(identity_token=secret) if username == _IDENTITY else Login(username, secret)


def _decoded(entry: object, key: str, path: str) -> Login | None:
    """Return the login of one entry of ``auths``; None if it is empty, as Docker leaves it for a helper.

    Source: docker/cli, ``cli/config/configfile/file.go`` (``LoadFromReader``, ``decodeAuth``): ``auth`` counts before
    user name and password, and line breaks in it do not count.
    """
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise CredentialsError(f"the authfile {path} has no object at auths[{key!r}]")
    identity_token, registry_token = (str(entry.get(name) or "") for name in ("identitytoken", "registrytoken"))
    username = password = ""
    if entry.get("auth"):
        username, password = _split(str(entry["auth"]), key, path)
    elif entry.get("username") and entry.get("password"):
        username, password = str(entry["username"]), str(entry["password"])
    if not (username or identity_token or registry_token):
        return None
    return Login(username, password, identity_token, registry_token)


def _split(encoded: str, key: str, path: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        decoded = b""
    # A password is bytes, which go to the registry as they are, whatever they mean.
    username, colon, password = decoded.decode("utf-8", "surrogateescape").partition(":")
    if not colon or (password and not username):
        raise CredentialsError(f"the authfile {path} has no base64 of USER:PASSWORD at auths[{key!r}].auth")
    return username, password.strip("\0")  # as Docker does, which once padded it
