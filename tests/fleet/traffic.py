# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic of registries: requests and bytes sent, from their access logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.lab.registry import Request


@dataclass(frozen=True)
class Traffic:
    """The answers of one registry about some repositories.

    ``blobs`` says for each digest how often it was sent, whole or in parts that make up a whole; ``sent`` and
    ``received`` are bytes of blobs; manifests are requests.
    """

    blobs: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    manifest_gets: int = 0
    manifest_heads: int = 0
    pushes: int = 0
    requests: int = 0


def traffic(requests: Iterable[Request], sizes: dict[str, int]) -> Traffic:
    """Sum requests up.

    :param sizes: bytes of the blobs that count, by digest; the sizes of others are taken from their longest answer.
    """
    requests = list(requests)
    served = [each for each in requests if _is_blob(each) and each.method == "GET" and each.status in (200, 206)]
    sent: Counter[str] = Counter()
    longest = dict(sizes)
    for each in served:
        digest = each.path.rpartition("/")[2].partition("?")[0]
        sent[digest] += each.size
        if digest not in sizes:
            longest[digest] = max(longest.get(digest, 1), each.size)
    manifests = [each for each in requests if "/manifests/" in each.path]
    return Traffic(
        blobs={digest: round(total / longest[digest], 3) for digest, total in sorted(sent.items())},
        sent=sum(sent.values()),
        manifest_gets=sum(each.method == "GET" for each in manifests),
        manifest_heads=sum(each.method == "HEAD" for each in manifests),
        pushes=sum(each.method == "PUT" and each.status == 201 for each in manifests),
        requests=len(requests),
    )


def _is_blob(request: Request) -> bool:
    return "/blobs/" in request.path and "/uploads/" not in request.path
