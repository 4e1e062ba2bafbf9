# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In whose name a request was made, in the words of a message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """In whose name a request was made.

    ``login`` says where the login comes from that was sent, and is empty for an anonymous request. ``accepted`` tells
    that a token server knew it, ``given`` that it was given for this task. ``refused`` is a login that was tried
    before, with the answer to it; ``lacking`` says where none was found.
    """

    login: str = ""
    accepted: bool = False
    given: bool = False
    refused: str = ""
    lacking: str = ""
