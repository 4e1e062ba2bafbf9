# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sessions of one run with all registries that it needs."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from ..late import importing
from ..oci.reference import Reference
from ..transport.keychain import Keychain, Login

if TYPE_CHECKING:
    from ..transport.options import Transport
    from .client import Registry
    from .location import Location
    from .mirror import Mirrors
    from .web import Web


class Registries:
    """The sessions of one run: one ``Registry`` for each host, made when first asked for."""

    def __init__(self, keychain: Keychain, transport: Transport, mirrors: Mirrors | None = None) -> None:
        self._keychain = keychain
        self._transport = transport
        self._mirrors = mirrors or {}
        self._lock = threading.Lock()
        self._sessions: dict[str, Registry] = {}
        self._origins: dict[str, Registry] = {}
        self._others: list[Registry] = []
        self._web: Web | None = None

    @property
    def web(self) -> Web:
        """The session with all web servers that are not registries."""
        with importing:
            from .web import Web

        with self._lock:
            if self._web is None:
                self._web = Web(self._keychain, self._transport)
            return self._web

    def of(self, reference: Reference) -> Registry:
        """Return the session to the registry of a reference."""
        with self._lock:
            if reference.registry not in self._sessions:
                self._sessions[reference.registry] = self._open(reference.registry, self._keychain, self._transport)
            return self._sessions[reference.registry]

    def origin_of(self, reference: Reference) -> Registry:
        """Return the session to the registry itself, whatever mirrors it has: only there one can write."""
        if not self._mirrors.get(reference.registry):
            return self.of(reference)
        with importing:
            from .client import Registry

        with self._lock:
            if reference.registry not in self._origins:
                self._origins[reference.registry] = Registry(reference.registry, self._keychain, self._transport)
            return self._origins[reference.registry]

    def warnings(self, reference: Reference) -> list[str]:
        """Return what the user must know of an image though it was served; empty if its registry was not asked."""
        with self._lock:
            session = self._sessions.get(reference.registry)
        return session.warnings(reference.repository) if session else []

    def reach(self, reference: Reference) -> Transport:
        """Return how the registry of a reference is reached."""
        return self._transport.to(reference.registry)

    def login(self, reference: Reference) -> Login | None:
        """Return the login that belongs to an image's registry, for a program that speaks to it itself.

        :raises CredentialsError: if the authfile cannot be used.
        """
        return self._keychain.credentials(reference.registry, reference.repository).login

    def at(self, location: Location, given_for: Collection[str]) -> Registry:
        """Open a session with a registry, or its mirrors, for a purpose of its own.

        :param given_for: the registries that the login of the task is for; no other one gets it.
        """
        keychain = self._keychain if location.host in given_for else self._keychain.without_given()
        registry = self._open(location.host, keychain, replace(self._transport, http=location.http, by_prefix=True))
        with self._lock:
            self._others.append(registry)
        return registry

    def _open(self, host: str, keychain: Keychain, transport: Transport) -> Registry:
        mirrors = self._mirrors.get(host)
        if mirrors:
            with importing:
                from .mirror import MirroredRegistry

            return MirroredRegistry(host, keychain, transport, mirrors)
        with importing:
            from .client import Registry

        return Registry(host, keychain, transport)

    def close(self) -> None:
        """Close every session."""
        for session in (*self._sessions.values(), *self._origins.values(), *self._others):
            session.close()
        if self._web:
            self._web.close()
