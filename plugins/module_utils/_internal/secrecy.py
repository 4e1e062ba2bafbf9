# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that no message may show: each login and token of this process, in whatever form somebody repeats it.

A server gets the login, so it can write it into any text that it sends: an error, a header, an address, a status line.
All of these texts are made fit for a message in one place (``text.shown``), which asks here. So code that makes a
secret does not have to know which text may repeat it.
"""

from __future__ import annotations

import base64
import threading
from urllib.parse import unquote, unquote_plus

STARS = "********"
"""What stands in the place of a secret."""

_DEPTH = 3  # an address within an address within an address
_lock = threading.Lock()
_hidden: list[str] = []  # the longest first, so that nothing is left of one that holds another


def hide(*secrets: str) -> None:
    """Show these texts never again in what came from outside; neither quoted as in a URL, nor in base64."""
    forms = {form for secret in secrets if secret for form in (secret, *_encoded(secret))}
    with _lock:
        _hidden[:] = sorted(forms.union(_hidden), key=len, reverse=True)


def forget() -> None:
    """Hide nothing any more: for tests, which do in one process what else takes many."""
    with _lock:
        _hidden.clear()


def hidden(shortest: int) -> set[str]:
    """Return all that is hidden and has at least so many characters."""
    with _lock:
        return {secret for secret in _hidden if len(secret) >= shortest}


def masked(text: str) -> str:
    """Return a text with stars in the place of each secret; URL quoting is undone where one is found in it."""
    with _lock:
        secrets = list(_hidden)
    if not secrets:
        return text
    text = _starred(text, secrets)
    for decode in (unquote, unquote_plus):
        plain = text
        for _level in range(_DEPTH):
            plain = decode(plain)
            if plain != text and any(secret in plain for secret in secrets):
                text = plain = _starred(plain, secrets)
    return text


def _starred(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, STARS)
    return text


def _encoded(secret: str) -> tuple[str, ...]:
    """Return both alphabets of base64, with and without the padding."""
    data = secret.encode("utf-8", "surrogateescape")
    padded = (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode())
    return (*padded, *(text.rstrip("=") for text in padded))
