# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place in a registry: where the repositories of something begin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidReference
from ..oci.reference import parse_registry

_FORM = re.compile(r"(?:(https?)://)?([^/@?#]+)((?:/[a-z0-9][a-z0-9._-]*)*)/?", re.IGNORECASE)


@dataclass(frozen=True)
class Location:
    """A registry, and what stands before the repositories there: ``prefix`` is empty or ends in a slash."""

    host: str
    http: bool = False
    prefix: str = ""

    @classmethod
    def parse(cls, text: str, what: str) -> Location:
        """Read ``[http[s]://]HOST[:PORT][/PREFIX]``, such as ``harbor.example.org/hub-proxy``.

        :param what: what it is the place of, for the error.
        :raises InvalidReference: if it is something else.
        """
        match = _FORM.fullmatch(text.strip())
        if not match:
            raise InvalidReference(
                f"invalid {what} {text.rpartition('@')[2][:300]!r}: write it as [http://]HOST[:PORT][/PREFIX]; a login "
                "for it belongs in the authfile"
            )
        scheme, host, path = match.groups()
        prefix = re.sub(r"\A/v2(?=/|\Z)", "", path).lstrip("/")
        return cls(parse_registry(host), (scheme or "").lower() == "http", f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"{'http://' if self.http else ''}{self.host}{'/' if self.prefix else ''}{self.prefix.rstrip('/')}"


def insecure_hosts(texts: Iterable[str]) -> dict[str, bool]:
    """Read registries that are reached without TLS, or without verifying it, each as ``[http://]HOST[:PORT]``.

    :returns: by host whether it speaks plain HTTP.
    :raises InvalidReference: if one is something else.
    """
    hosts = {}
    for text in texts:
        location = Location.parse(text, "insecure registry")
        if location.prefix:
            raise InvalidReference(
                f"invalid insecure registry {text!r}: write it as [http://]HOST[:PORT], without a path"
            )
        hosts[location.host] = location.http
    return hosts
