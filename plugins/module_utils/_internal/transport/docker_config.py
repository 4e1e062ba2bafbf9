# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's ``config.json``, as ``docker login``, ``podman login`` and ``apptainer registry login`` write it.

Three of its keys are about logins: ``auths`` holds entries, ``credHelpers`` names a program for a registry, and
``credsStore`` one for all registries. Source for the names of registries in it: docker/cli,
``cli/config/configfile/file.go`` (``getAuthConfigKey``) and ``cli/config/credentials/file_store.go``
(``ConvertToHostname``); for keys that hold a namespace or repository: containers/image,
``pkg/docker/config/config.go`` (``authKeyLookupOrder``) and containers-auth.json(5).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import CredentialsError
from ..oci.reference import DOCKER_HUB

_HUB_ADDRESS = "https://index.docker.io/v1/"  # Docker's own key for Docker Hub
_HUB_HOSTS = ("index.docker.io", DOCKER_HUB, "registry-1.docker.io")
_OLD_PATHS = ("/", "/v1", "/v1/", "/v2", "/v2/")  # of registries, not of repositories


@dataclass(frozen=True)
class Delegate:
    """A program that knows logins: ``docker-credential-NAME``.

    ``address`` is what it knows the registry by. ``sole`` tells whether it alone is responsible for this registry.
    """

    name: str
    address: str
    sole: bool


@dataclass(frozen=True)
class Authfile:
    """One file, its secrets included."""

    path: str
    auths: dict[str, object] = field(repr=False)
    helpers: dict[str, object]
    store: str

    @classmethod
    def read(cls, path: str) -> Authfile:
        """Read a file as Docker does: only its first JSON value counts, and nothing at all means no login.

        :raises CredentialsError: if the file cannot be read or understood.
        """
        try:
            with open(path, encoding="utf-8-sig", errors="replace") as stream:
                text = stream.read().strip()
            document = json.JSONDecoder().raw_decode(text)[0] if text else None
        except OSError as error:
            raise CredentialsError(f"cannot read the authfile {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise CredentialsError(
                f"the authfile {path} is not JSON; write it with docker login, podman login or apptainer registry login"
            ) from error
        document = {} if document is None else document
        auths = document.get("auths") if isinstance(document, dict) else []
        auths = {} if auths is None else auths
        if not isinstance(auths, dict):
            raise CredentialsError(f"the authfile {path} has no object 'auths'")
        helpers = document.get("credHelpers") or {}
        if not isinstance(helpers, dict):
            raise CredentialsError(f"the authfile {path} has no object 'credHelpers'")
        return cls(path, auths, helpers, str(document.get("credsStore") or ""))

    def delegate(self, registry: str) -> Delegate | None:
        """Return the program to ask for the login to a registry, or None where the file itself is to be read.

        :param registry: a host as it stands in a reference: ``docker.io``, ``host:port``.
        """
        for key in (_HUB_ADDRESS, *_HUB_HOSTS) if registry == DOCKER_HUB else (registry,):
            if key in self.helpers:  # an empty name takes the registry out of the care of credsStore
                name = str(self.helpers[key] or "")
                return Delegate(name, key, sole=True) if name else None
        address = _HUB_ADDRESS if registry == DOCKER_HUB else registry
        return Delegate(self.store, address, sole=False) if self.store else None

    def entries(self, registry: str, repository: str = "") -> Iterator[tuple[str, object]]:
        """Yield the keys that mean a repository, with their entries, the closest first.

        A key with a scheme means the whole registry, whatever its path, as for Docker. One without it may go on with
        a namespace or a repository, as podman writes it, and the longest one that matches comes first.
        """
        names = _HUB_HOSTS if registry == DOCKER_HUB else (registry,)
        parts = repository.split("/") if repository else []
        exact = [f"{name}/{'/'.join(parts[:length])}" for length in range(len(parts), 0, -1) for name in names]
        exact += [_HUB_ADDRESS] if registry == DOCKER_HUB else []
        exact += names
        seen = [key for key in exact if key in self.auths]
        seen += sorted((key for key in self.auths if _hostname(key) in names), key=_by_scheme)
        seen += [name + path for name in names for path in _OLD_PATHS if name + path in self.auths]
        for key in dict.fromkeys(seen):
            yield key, self.auths[key]


def _hostname(key: str) -> str:
    """Return the host, with its port, of a key that is a URL; empty otherwise."""
    try:
        parts = urlsplit(key)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""


def _by_scheme(key: str) -> bool:
    """Sort ``https:`` before ``http:``, and else leave the order of the file."""
    return not key.startswith("https:")
