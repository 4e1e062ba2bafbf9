# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory for tests and demonstrations: real registries, real images, real hosts. See README.md here."""

from __future__ import annotations

from tests.lab.laboratory import Status, clean, delete, down, empty, move, push, renew, status, up
from tests.lab.registry import REGISTRIES, Registry, Request, log_offset, requests_of

__all__ = [
    "REGISTRIES",
    "Registry",
    "Request",
    "Status",
    "clean",
    "delete",
    "down",
    "empty",
    "log_offset",
    "move",
    "push",
    "renew",
    "requests_of",
    "status",
    "up",
]
