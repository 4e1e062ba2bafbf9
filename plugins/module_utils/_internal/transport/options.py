# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options for reaching servers. Who asks nobody imports no library for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Transport:
    """The way to reach a registry. ``timeout`` is in seconds, for connecting and for each wait for data.

    ``by_prefix``: what stands before the registry's name decides between TLS and plain HTTP, not an option.
    ``insecure``: the hosts that are reached in another way than the others, each with whether it speaks plain HTTP;
    the certificate of one that does not is not verified.
    """

    http: bool = False
    by_prefix: bool = False
    verify: bool | str = True
    timeout: float = 30.0
    retries: int = 3
    connections: int = 9
    user_agent: str = "hpc.sregistry"
    insecure: Mapping[str, bool] = field(default_factory=dict)

    def to(self, host: str) -> Transport:
        """Return how one host is reached, such as ``localhost:5000``."""
        if host not in self.insecure:
            return self
        return replace(self, http=True) if self.insecure[host] else replace(self, verify=False)
