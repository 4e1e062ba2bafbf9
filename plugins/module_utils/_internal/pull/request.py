# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request of a pull: how images are to be pulled, as the options say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..sif.toolchain import Toolchain
    from ..sif.trust import Trust
    from .sif_cache import SifCache

ALWAYS, NOT_PRESENT = "always", "not_present"
"""Policies: ask the registry each time; ask nobody where the file of the image is there."""


@dataclass(frozen=True)
class PullRequest:
    """The request of a pull.

    :ivar storage: the directory of the store.
    :ivar dest: a path, or a directory, that the user gave; None for the path in the store that follows from the name.
    :ivar policy: ``ALWAYS`` or ``NOT_PRESENT``.
    :ivar checksum: read all of a file to see that it is as recorded, instead of its size and time only.
    :ivar force: make each file anew, and replace what is at its path.
    :ivar toolchain: what files are built with.
    :ivar prepare: sets owner and mode of a finished file before it gets its name.
    :ivar trust: whose signature a file needs, if any.
    :ivar sif_cache: a registry with finished files that others have built.
    :ivar backup: keep what is replaced, under another name.
    """

    storage: str
    dest: str | None
    policy: str
    checksum: bool
    force: bool
    toolchain: Toolchain
    prepare: Callable[[str], None]
    trust: Trust | None = None
    sif_cache: SifCache | None = None
    backup: bool = False

    @property
    def searched_cache(self) -> SifCache | None:
        """The SIF cache, where a file may come from there: not by force, unless nothing may be built here."""
        cache = self.sif_cache
        return cache if cache and (cache.required or not self.force) else None

    @property
    def fills_cache(self) -> bool:
        """True if finished files are put into the SIF cache."""
        return self.sif_cache is not None and self.sif_cache.fills
