# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry that misbehaves as it is told: a proxy in front of a real one, or answering by itself.

with FaultyRegistry("http://127.0.0.1:5000") as registry:
    registry.when("/blobs/", faults.truncated(1000), times=1)
    …                       # something that pulls from registry.address
    registry.requests       # what it was asked, and what it answered
"""

from __future__ import annotations

from tests.faults import faults
from tests.faults.server import Answer, Fault, FaultyRegistry, Request

__all__ = ["Answer", "Fault", "FaultyRegistry", "Request", "faults"]
