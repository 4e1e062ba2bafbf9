# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts for messages: what others wrote, made fit to be shown, and sizes as people read them."""

from __future__ import annotations

from .secrecy import masked

MAX_SHOWN = 300
"""Characters of a foreign text in a message."""


def shown(text: object, limit: int = MAX_SHOWN) -> str:
    """Return a text that somebody else wrote, fit for a message and a terminal: without secrets, and printable.

    Secrets are hidden before it is cut: nobody would recognise one that is cut.

    :param limit: characters after which it is cut.
    """
    return printable(masked(str(text)), limit)


def printable(text: object, limit: int = MAX_SHOWN) -> str:
    """Return a text that somebody else wrote, and that is used as well as shown, such as a media type.

    What does not print, such as escape sequences and marks that turn the direction of writing, is escaped as in Python.

    :param limit: characters after which it is cut.
    """
    whole = str(text)
    safe = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in whole[:limit]
    )
    return safe + ("…" if len(whole) > limit else "")


def in_words(size: int) -> str:
    """Return a size in bytes as people read it: ``1.5 GiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
