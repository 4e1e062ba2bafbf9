# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The challenge of a registry, which asks for a login or token: its ``WWW-Authenticate``, read."""

from __future__ import annotations

import re
from dataclasses import dataclass

BASIC, BEARER = "basic", "bearer"

_MAX_LENGTH = 4096  # characters
_PART = re.compile(
    r"(?<![A-Za-z0-9_-])"  # whole words only, else a long one is searched again from each of its letters
    r"(?:([A-Za-z][A-Za-z0-9_-]*)\s+(?=[A-Za-z])|([A-Za-z_]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,]+)))"
)


@dataclass(frozen=True)
class Challenge:
    """A scheme, ``basic`` or ``bearer``, with its parameters, the names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenge(header: str) -> Challenge | None:
    """Read WWW-Authenticate: a Bearer or else a Basic challenge, parameters in any order; None if there is neither.

    Source: RFC 9110, section 11.6.1.
    """
    if len(header) > _MAX_LENGTH:
        return None
    offers: list[Challenge] = []
    for match in _PART.finditer(header):
        if match.group(1):
            offers.append(Challenge(match.group(1).lower(), {}))
        elif offers:
            value = match.group(3) if match.group(3) is not None else match.group(4)
            offers[-1].parameters[match.group(2).lower()] = re.sub(r"\\(.)", r"\1", value)
    by_scheme = {offer.scheme: offer for offer in reversed(offers)}
    return by_scheme.get(BEARER) or by_scheme.get(BASIC) or (Challenge(BASIC, {}) if "asic" in header else None)
