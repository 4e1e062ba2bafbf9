# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requests to a registry and the bytes that it sent."""

from __future__ import annotations

import pytest

from tests.fleet.traffic import Traffic, traffic
from tests.lab.registry import Request

LAYER, CONFIG = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def request(method: str, path: str, status: int = 200, size: int = 0) -> Request:
    return Request("127.0.0.1", "", method, f"/v2/bench/image/{path}", status, size, "hpc.sregistry")


WHOLE = request("GET", f"blobs/{LAYER}", size=1000)


@pytest.mark.parametrize(
    ("requests", "blobs", "sent"),
    [
        ([], {}, 0),
        ([WHOLE], {LAYER: 1.0}, 1000),
        ([WHOLE] * 16, {LAYER: 16.0}, 16000),
        ([request("GET", f"blobs/{LAYER}", 206, 400), request("GET", f"blobs/{LAYER}", 206, 600)], {LAYER: 1.0}, 1000),
        ([WHOLE, request("GET", f"blobs/{LAYER}", 206, 250)], {LAYER: 1.25}, 1250),
        ([request("GET", f"blobs/{CONFIG}", size=7)] * 2, {CONFIG: 2.0}, 14),
        ([request("GET", f"blobs/{LAYER}", 404, 90), request("GET", f"blobs/{LAYER}", 307)], {}, 0),
        ([request("HEAD", f"blobs/{LAYER}", size=1000)], {}, 0),
        ([request("GET", "blobs/uploads/1", 204)], {}, 0),
    ],
)
def test_each_blob_is_counted_by_its_bytes(requests: list[Request], blobs: dict[str, float], sent: int) -> None:
    found = traffic(requests, {LAYER: 1000})
    assert (found.blobs, found.sent, found.requests) == (blobs, sent, len(requests))


def test_manifests_are_counted_by_method() -> None:
    requests = [request("HEAD", "manifests/latest"), request("GET", "manifests/latest")]
    requests += [request("PUT", "manifests/latest", 201), request("PUT", "manifests/latest", 405)]
    found = traffic(requests, {})
    assert found == Traffic(manifest_gets=1, manifest_heads=1, pushes=1, requests=4)
