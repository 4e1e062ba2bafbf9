# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An answer that is none: what a server said instead, and the error that this is for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Denied, NotFound, RateLimited, RegistryError, Unauthorized
from ..text import shown
from .challenge import parse_challenge
from .http import RETRIED
from .response import said
from .url import host_of

if TYPE_CHECKING:
    import requests

    from .auth import Asker


@dataclass(frozen=True)
class Refusal:
    """A response that is not what was asked for. ``rightless``: the login is known, but has no right to this.
    ``clear``: it was asked for without TLS, and what came is not in a registry's words.
    """

    status: int
    words: str
    rightless: bool
    clear: bool
    retry_after: str
    limit: str

    @classmethod
    def of(cls, response: requests.Response) -> Refusal:
        """Read a response."""
        theirs = said(response)
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

    def error(self, registry: str, what: str, asker: Asker, tries: int, deed: str = "pull") -> RegistryError:
        """What this means to the user who wanted to pull ``what`` from a registry, or to push it, and the way out."""
        error = self._error(registry, what, asker, tries, deed)
        return error if isinstance(error, NotFound) else error.whatever(what)

    def _error(self, registry: str, what: str, asker: Asker, tries: int, deed: str) -> RegistryError:
        if self.status == 403 or (self.status == 401 and asker.accepted and self.rightless):
            return self._denied(what, asker, deed)
        if self.status == 401:
            return self._unauthorized(registry, what, asker, deed)
        if self.status == 404 and deed == "push":
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
        if self.status == 405 and deed == "push":
            later = "; it may be a mirror, which only passes on what other registries have"
        if self.status == 400 and self.clear:
            later = "; it was asked in plain HTTP and may want TLS: leave out no_https, or http:// before its name"
        failed = "failed to serve" if deed == "pull" else "did not take"
        return RegistryError(f"{registry} {failed} {what} ({self.words}{tried}){later}")

    def _denied(self, what: str, asker: Asker, deed: str) -> Denied:
        who = f"this login to {deed} {what} with {asker.login}" if asker.login else f"anonymous users to {deed} {what}"
        before = f"; it did not accept {asker.refused}" if asker.refused else ""
        return Denied(
            f"denied: the registry does not allow {who} ({self.words}){before}; ask its owner for access, "
            "and check the spelling, since some registries also answer so when the repository does not exist"
        )

    def _unauthorized(self, registry: str, what: str, asker: Asker, deed: str) -> Unauthorized:
        if asker.login:
            way_out = (
                f"check user name and password, and that this user may {deed} it"
                if asker.given
                else "log in again there, for it may have expired, or give username and password"
            )
            return Unauthorized(
                f"unauthorized: {registry} did not accept {asker.login} for {what} ({self.words}); {way_out}"
            )
        if asker.refused:
            nor = f"serve {what} to" if deed == "pull" else f"take {what} from"
            return Unauthorized(
                f"unauthorized: {registry} did not accept {asker.refused}, and does not {nor} anonymous users "
                f"({self.words}); log in again there, for it may have expired, or give username and password"
            )
        return Unauthorized(
            f"unauthorized: {registry} wants a login for {what} ({self.words}); tried as anonymous, for "
            f"{asker.lacking}; give username and password, or an authfile with a login for it. Some registries also "
            "answer so when the repository does not exist"
        )
