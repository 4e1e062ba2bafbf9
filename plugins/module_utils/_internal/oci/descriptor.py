# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptors: pointers to content, by its digest (OCI image specification, descriptor.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .platform import Platform


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content; ``size`` in bytes is None only where schema 1 does not tell it.

    ``urls`` are other places where the content is, ``data`` is the content itself, proven, where the descriptor holds
    it (OCI image specification, descriptor.md).
    """

    digest: str
    size: int | None
    media_type: str = ""
    platform: Platform | None = None
    attestation: bool = False
    urls: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)
