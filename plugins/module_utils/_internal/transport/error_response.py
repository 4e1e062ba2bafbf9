# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The response of a server that refuses a request, and the error that this is for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Denied, NotFound, RateLimited, RegistryError, Unauthorized
from ..text import shown
from .challenge import parse_challenge
from .http import RETRIED
from .response import error_words
from .url import host_of

if TYPE_CHECKING:
    import requests

    from .identity import Identity


@dataclass(frozen=True)
class ErrorResponse:
    """A response with which a server refuses a request. ``rightless``: the login is known, but has no right to this.
    ``clear``: it was asked for without TLS, and what came is not in a registry's words.
    """

    status: int
    words: str
    rightless: bool
    clear: bool
    retry_after: str
    limit: str

    @classmethod
    def of(cls, response: requests.Response) -> ErrorResponse:
        """Read a response."""
        theirs = error_words(response)
        challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
        insufficient = challenge is not None and challenge.parameters.get("error") == "insufficient_scope"
        return cls(
            status=response.status_code,
            words=f"status {response.status_code} from {host_of(response.url)}" + (f": {theirs}" if theirs else ""),
            rightless=insufficient or "DENIED" in theirs.split(),
            clear=response.url.startswith("http:") and not theirs,
            retry_after=shown(response.headers.get("Retry-After", ""), 40),
            limit=shown(response.headers.get("ratelimit-limit", "").partition(";")[0], 20),
        )

    def error(self, registry: str, what: str, identity: Identity, tries: int, action: str = "pull") -> RegistryError:
        """Return what this means to a user who wanted to pull ``what`` from a registry, or push it, and the way out."""
        error = self._error(registry, what, identity, tries, action)
        return error if isinstance(error, NotFound) else error.independent_of(what)

    def _error(self, registry: str, what: str, identity: Identity, tries: int, action: str) -> RegistryError:
        if self.status == 403 or (self.status == 401 and identity.accepted and self.rightless):
            return self._denied(what, identity, action)
        if self.status == 401:
            return self._unauthorized(registry, what, identity, action)
        if self.status == 404 and action == "push":
            return NotFound(
                f"not found: {registry} has no place for {what} ({self.words}); some registries want a project or "
                "repository made first"
            )
        if self.status == 404:
            return NotFound(f"not found: {what} ({self.words})")
        later = ""
        if self.status in RETRIED:
            seconds = " s" if self.retry_after.isdigit() else ""
            later = f"; try again after {self.retry_after}{seconds}" if self.retry_after else "; try again later"
        if self.status == 429:
            more = (f"; the limit is {self.limit} pulls" if self.limit else "") + later
            return RateLimited(
                f"too many requests: {registry} serves no more for now, wanted {what} ({self.words}){more}; "
                "log in for a higher limit, or use a mirror"
            )
        tried = f", tried {tries} times" if tries > 1 else ""
        if self.status == 405 and action == "push":
            later = "; it may be a mirror, which only passes on what other registries have"
        if self.status == 400 and self.clear:
            later = "; it was asked in plain HTTP and may want TLS: leave out no_https, or http:// before its name"
        failed = "failed to serve" if action == "pull" else "did not take"
        return RegistryError(f"{registry} {failed} {what} ({self.words}{tried}){later}")

    def _denied(self, what: str, identity: Identity, action: str) -> Denied:
        who = f"anonymous users to {action} {what}"
        if identity.login:
            who = f"this login to {action} {what} with {identity.login}"
        before = f"; it did not accept {identity.refused}" if identity.refused else ""
        return Denied(
            f"denied: the registry does not allow {who} ({self.words}){before}; ask its owner for access, "
            "and check the spelling, since some registries also answer so when the repository does not exist"
        )

    def _unauthorized(self, registry: str, what: str, identity: Identity, action: str) -> Unauthorized:
        if identity.login:
            way_out = (
                f"check user name and password, and that this user may {action} it"
                if identity.given
                else "log in again there, for it may have expired, or give username and password"
            )
            return Unauthorized(
                f"unauthorized: {registry} did not accept {identity.login} for {what} ({self.words}); {way_out}"
            )
        if identity.refused:
            nor = f"serve {what} to" if action == "pull" else f"take {what} from"
            return Unauthorized(
                f"unauthorized: {registry} did not accept {identity.refused}, and does not {nor} anonymous users "
                f"({self.words}); log in again there, for it may have expired, or give username and password"
            )
        return Unauthorized(
            f"unauthorized: {registry} wants a login for {what} ({self.words}); tried as anonymous, for "
            f"{identity.lacking}; give username and password, or an authfile with a login for it. Some registries also "
            "answer so when the repository does not exist"
        )
