# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The job of pulling one image: what it needs, and its state from the request to the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..inventory.document import Document
from .outcome import PullOutcome
from .request import PullRequest
from .session import Session

if TYPE_CHECKING:
    from .sif_cache import CacheEntry

HIT, MISS, PUSHED, THERE = "hit", "miss", "pushed", "present"
"""States of an image in the SIF cache: its file came from there, was not there, was put there, or was there."""


@dataclass(frozen=True)
class CacheResult:
    """The result of asking the SIF cache: its state, and the file that it has; no state if it did not answer."""

    state: str | None = None
    entry: CacheEntry | None = None


@dataclass(frozen=True)
class Replaced:
    """The thing that a file replaces: at a path, or None for nothing; its owner, if that is another image."""

    path: str | None = None
    owner: Document | None = None


@dataclass(eq=False)
class Job:
    """The job of pulling one image.

    :ivar outcome: gets times, warnings, what was fetched, and the error; the rest of it follows in the end.
    :ivar path: of the file of the image.
    :ivar before, after: the documents of the image; ``after`` is None where it is as before.
    :ivar builder: the name of the builder that was used, the reason for it, and what decompressed the layers.
    :ivar backup_file: the path that a replaced file has now.
    """

    session: Session
    request: PullRequest
    outcome: PullOutcome
    path: str
    before: Document | None = None
    after: Document | None = None
    replaced: Replaced = field(default_factory=Replaced)
    cached: CacheResult = field(default_factory=CacheResult)
    builder: dict[str, Any] | None = None
    backup_file: str | None = None
