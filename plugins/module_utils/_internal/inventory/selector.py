# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selectors of images of an inventory: names, patterns of names, and words to search for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..oci.reference import DOCKER_HUB, Reference, is_host, parse_registry

_WILD = re.compile(r"[*?]")  # no name holds one of these; '[' stands in addresses, and is meant as it is
_DOCKER = re.compile(r"\Adocker://", re.IGNORECASE)


@dataclass(frozen=True)
class Selector:
    """One name, or one pattern with ``*`` and ``?``, as it was written and as it is compared with a ``uri``."""

    text: str
    reference: Reference | None
    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, registry: str = DOCKER_HUB) -> Selector:
        """Read a name or pattern; what is left out of one is what is left out of the other.

        ``ubuntu:*`` is every tag of ``library/ubuntu``, and ``*`` everything.

        :param registry: the host of a name that names none.
        :raises InvalidReference: if it has no wildcard and is no name.
        """
        if not _WILD.search(text):
            return cls(text, Reference.parse_known(text, registry))
        pattern = _DOCKER.sub("", text.strip())
        if "://" in pattern:  # such names are never shortened
            return cls(text, None, (pattern.replace("[", "[[]"),))
        first, _slash, rest = pattern.partition("/")
        patterns = [pattern]
        if rest and not _WILD.search(first) and is_host(first):  # in a name it is one, and Docker Hub is left out
            registry = parse_registry(first)
            patterns.append(f"{registry}/{rest}")
            pattern = rest
        if registry != DOCKER_HUB:
            patterns.append(f"{registry}/{pattern}")
        else:
            patterns.append(pattern if "/" in pattern else f"library/{pattern}")
        return cls(text, None, tuple(dict.fromkeys(pattern.replace("[", "[[]") for pattern in patterns)))

    def includes(self, uri: str) -> bool:
        """Return whether it means the image of a canonical name."""
        if self.reference:
            return self.reference.uri == uri
        return any(fnmatchcase(uri, pattern) for pattern in self.patterns)


@dataclass(frozen=True)
class WordSearch:
    """Words to look for, as ``sregistry images`` does: parts of a name, or patterns that the whole name follows."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> WordSearch:
        """Return a search for some words. An empty word, like ``*``, finds everything."""
        return cls(tuple(_DOCKER.sub("", word.strip()).lower() for word in words))

    def finds(self, uri: str) -> bool:
        """Return whether one of the words is found in a canonical name."""
        return any(
            fnmatchcase(uri.lower(), word.replace("[", "[[]")) if _WILD.search(word) else word in uri.lower()
            for word in self.words
        )
