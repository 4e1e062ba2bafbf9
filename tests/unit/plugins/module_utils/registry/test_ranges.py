# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A large blob that is slow comes in ranges, over several connections, and is the same as in one piece."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import DigestMismatch, Unreachable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.partial import Source
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry import ranges
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import response
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.response import CHUNK, chunks
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Fault, FaultyRegistry, faults
from tests.faults.server import Answer, Request, Upstream

STEP = 500_000
BLOB = r"/blobs/sha256:"


TRIAL = 300_000


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ranges half a megabyte, for a blob of three, and no server quick enough."""
    monkeypatch.setattr(ranges, "_RANGE", STEP)
    monkeypatch.setattr(ranges, "_LARGE", 2 * STEP)
    monkeypatch.setattr(ranges, "_TRIAL", TRIAL)
    monkeypatch.setattr(ranges, "_QUICK", float("inf"))


class Case:
    """The layer of ``team/big``, through a proxy that does as it is told."""

    def __init__(self, stored: Stored, faulty: FaultyRegistry, connect: Connect, directory: Path) -> None:
        self.content = stored.blob.blob
        self.descriptor = Descriptor(stored.blob.digest, len(self.content))
        self.registry = connect(faulty.address, retries=0)
        self.cache = BlobCache(str(directory))

    def source(self, connections: int = 4) -> Source:
        """Return the source of the blob."""
        slots = ranges.DownloadSlots(connections)
        return ranges.blob_in_ranges(self.registry, "team/big", self.descriptor, slots)

    def obtain(self, connections: int = 4) -> bytes:
        """Return all of it, by way of the cache."""
        obtained = self.cache.obtain(self.descriptor, self.source(connections), "the blob")
        return Path(obtained.path).read_bytes()


@pytest.fixture
def case(stored: Stored, faulty: FaultyRegistry, connect: Connect, tmp_path: Path) -> Case:
    return Case(stored, faulty, connect, tmp_path)


def asked(faulty: FaultyRegistry) -> list[str]:
    """Return the requests, in the order of the blob: ranges, or a dash for all of it."""
    given = [one.headers.get("range", "-") for one in faulty.asked(BLOB)]
    return sorted(given, key=lambda text: int(text.partition("=")[2].partition("-")[0] or -1))


def test_the_rest_of_a_slow_blob_is_asked_for_in_ranges_without_gap_or_overlap(
    case: Case, faulty: FaultyRegistry
) -> None:
    assert case.obtain() == case.content
    whole, *parts = asked(faulty)
    assert whole == "-"
    bounds = [tuple(map(int, part[len("bytes=") :].split("-"))) for part in parts]
    assert TRIAL <= bounds[0][0] < TRIAL + CHUNK
    assert bounds[-1][1] == len(case.content) - 1
    assert [first for first, _last in bounds[1:]] == [last + 1 for _first, last in bounds[:-1]]
    assert all(last - first < STEP for first, last in bounds)
    assert faulty.connections >= 3, "at the same time"


def test_a_quick_blob_comes_as_one_stream(case: Case, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_QUICK", 0)
    assert case.obtain() == case.content
    assert asked(faulty) == ["-"]


def test_a_slow_reader_does_not_make_a_server_slow(
    case: Case, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_QUICK", TRIAL)  # bytes a second, which the server exceeds a hundred times
    with case.source()(0) as (_begin, data):
        for number, _chunk in enumerate(data):
            time.sleep(0.7 if number < 2 else 0)
    assert asked(faulty) == ["-"]


def test_ranges_that_gain_nothing_give_way_to_one_stream(
    case: Case, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_ROUNDS", 1)
    monkeypatch.setattr(ranges, "_WORTH", float("inf"))
    assert case.obtain(connections=2) == case.content
    _whole, *parts, rest = asked(faulty)
    assert len(parts) == 4, "one round, and what was on its way"
    assert rest == f"bytes={int(parts[-1].rpartition('-')[2]) + 1}-"


def test_ranges_that_gain_something_stay(case: Case, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_ROUNDS", 1)
    monkeypatch.setattr(ranges, "_WORTH", 0)
    assert case.obtain(connections=2) == case.content
    assert not any(part.endswith("-") for part in asked(faulty)[1:])


@pytest.mark.parametrize("connections", [1, 2, 3, 9])
def test_no_more_connections_are_used_than_the_run_may_use(
    case: Case, faulty: FaultyRegistry, connections: int
) -> None:
    assert case.obtain(connections) == case.content
    assert faulty.connections <= min(connections, 4) + (connections > 1), "and the one that was too slow"


def test_what_is_left_of_a_broken_transfer_comes_in_ranges_too(case: Case, faulty: FaultyRegistry) -> None:
    with case.source()(1_000_001) as (begin, data):
        assert begin == 1_000_001
        assert b"".join(data) == case.content[1_000_001:]
    assert asked(faulty)[0] == "bytes=1000001-"
    assert len(asked(faulty)) > 3


def test_what_is_left_of_a_small_rest_comes_in_one(case: Case, faulty: FaultyRegistry) -> None:
    offset = len(case.content) - STEP
    with case.source()(offset) as (begin, data):
        assert (begin, b"".join(data)) == (offset, case.content[offset:])
    assert asked(faulty) == [f"bytes={offset}-"]


def test_a_registry_that_knows_no_ranges_sends_all_at_once_in_the_end(case: Case, faulty: FaultyRegistry) -> None:
    faulty.when(BLOB, faults.asks_for("Range", None))
    assert case.obtain() == case.content
    with case.source()(1_000_000) as (begin, data):
        assert (begin, b"".join(data)) == (0, case.content)


@pytest.mark.parametrize("fault", [faults.truncated(1000), faults.dropped()])
def test_a_range_that_breaks_off_is_fetched_again_and_nothing_before_it(
    case: Case, faulty: FaultyRegistry, fault: Fault
) -> None:
    faulty.when(BLOB, fault, times=1, after=3)
    assert case.obtain() == case.content
    assert asked(faulty).count("-") == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (faults.padded(b"more"), "has another length"),
        (faults.header("Content-Range", None), "does not send .* in parts"),
        (faults.header("Content-Range", "bytes 5-9/100"), "does not send .* in parts"),
    ],
)
def test_another_range_than_was_asked_for_is_an_interruption(
    case: Case, faulty: FaultyRegistry, fault: Fault, why: str
) -> None:
    faulty.when(BLOB, fault, times=1, after=2)
    with pytest.raises(Unreachable, match=why), case.source()(0) as (_begin, data):
        list(data)
    assert case.obtain() == case.content


def test_one_stream_that_becomes_slow_gives_way_to_ranges(
    case: Case, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_QUICK", 2 * TRIAL)  # bytes a second
    pauses = iter([0.0] * 4 + [0.6] * 3)

    def throttled(body: Any, what: object) -> Iterator[bytes]:
        for chunk in chunks(body, what):
            time.sleep(next(pauses, 0.0))
            yield chunk

    monkeypatch.setattr(response, "chunks", throttled)
    assert case.obtain() == case.content
    assert len(asked(faulty)) > 2, "the first look saw nothing"


@pytest.mark.parametrize("code", [503, 429])
def test_a_server_that_refuses_ranges_serves_it_by_one_in_the_end(
    case: Case, faulty: FaultyRegistry, code: int
) -> None:
    def refuse_parts(request: Request, upstream: Upstream) -> Answer:
        part = re.fullmatch(r"bytes=\d+-\d+", request.headers.get("range", ""))
        return Answer(code, {}, b"") if part else upstream(request)

    faulty.when(BLOB, refuse_parts)
    assert case.obtain() == case.content


PART = re.compile(r"bytes=\d+-\d+")


def of_parts(fault: Fault) -> Fault:
    """Return a fault that befalls ranges only."""
    return lambda request, upstream: (
        fault(request, upstream) if PART.fullmatch(request.headers.get("range", "")) else upstream(request)
    )


def test_a_range_is_on_its_way_while_another_one_is(case: Case, faulty: FaultyRegistry) -> None:
    both = threading.Barrier(2, timeout=20)

    def held(request: Request, upstream: Upstream) -> Answer:
        both.wait()  # until another one is asked for
        return upstream(request)

    faulty.when(BLOB, of_parts(held), times=2, after=1)
    assert case.obtain() == case.content
    assert not both.broken


@pytest.mark.parametrize(
    "fault",
    [faults.status(200), faults.status(416), faults.status(429, {"Retry-After": "0"}), faults.dropped()],
)
def test_what_never_sends_a_range_is_asked_for_the_rest_at_once(
    case: Case, faulty: FaultyRegistry, fault: Fault
) -> None:
    faulty.when(BLOB, of_parts(fault))
    assert case.obtain() == case.content


def test_a_wrong_range_is_found_and_all_begun_anew_as_one_stream(case: Case, faulty: FaultyRegistry) -> None:
    def wrong(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return replace(answer, body=bytes(len(answer.body)))

    faulty.when(BLOB, of_parts(wrong), times=1, after=1)
    assert case.obtain() == case.content
    given = [one.headers.get("range", "-") for one in faulty.asked(BLOB)]
    assert (given[0], given[-1]) == ("-", "-")
    assert given.count("-") == 2


def test_a_registry_that_damages_each_answer_is_asked_once_more(case: Case, faulty: FaultyRegistry) -> None:
    def wrong(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return replace(answer, body=bytes(len(answer.body)))

    faulty.when(BLOB, wrong)
    with pytest.raises(DigestMismatch, match="damages it"):
        case.obtain()
    assert [one.headers.get("range", "-") for one in faulty.asked(BLOB)].count("-") == 2


def test_each_range_is_led_to_an_address_of_its_own(case: Case, faulty: FaultyRegistry) -> None:
    numbers = itertools.count()

    def led(request: Request, _upstream: Upstream) -> Answer:
        return Answer(307, {"Location": f"{faulty.url}/signed/{next(numbers)}"})

    spent: set[str] = set()

    def signed(request: Request, _upstream: Upstream) -> Answer:
        if request.path in spent:
            return Answer(403)
        spent.add(request.path)
        return faults.served(case.content)(request, _upstream)

    faulty.when(BLOB, led)
    faulty.when("^/signed/", signed)
    assert case.obtain() == case.content
    assert len(spent) > 3


def test_blobs_of_a_run_share_its_connections_and_one_at_a_time_comes_in_ranges(case: Case) -> None:
    slots = ranges.DownloadSlots(3)
    with slots.one():
        assert slots.begin_dividing()
        assert not slots.begin_dividing(), "another one does"
        assert [slots.take(), slots.take(), slots.take()] == [True, True, False]
        slots.end_dividing()
        assert not slots.begin_dividing(), "all connections are in use"
        slots.give_back()
        assert slots.begin_dividing()


def test_a_blob_stays_one_stream_while_others_use_the_connections(case: Case, faulty: FaultyRegistry) -> None:
    slots = ranges.DownloadSlots(2)
    other = ranges.blob_in_ranges(case.registry, "team/big", case.descriptor, slots)
    with slots.one(), other(0) as (_begin, data):
        assert b"".join(data) == case.content
    assert asked(faulty) == ["-"]
    with other(0) as (_begin, data):
        assert b"".join(data) == case.content
    assert len(asked(faulty)) > 3


def test_ranges_are_given_out_from_the_beginning_without_holes(case: Case, faulty: FaultyRegistry) -> None:
    with case.source()(0) as (_begin, data):
        came = b"".join(itertools.islice(data, 12))
    assert came == case.content[: len(came)]
    assert case.obtain() == case.content


@pytest.mark.parametrize("broken", [False, True])
def test_connections_are_given_back(case: Case, faulty: FaultyRegistry, broken: bool) -> None:
    slots = ranges.DownloadSlots(4)
    source = ranges.blob_in_ranges(case.registry, "team/big", case.descriptor, slots)
    if broken:
        faulty.when(BLOB, of_parts(faults.dropped()))
    with suppress(Unreachable), source(0) as (_begin, data):
        for _chunk in data:
            pass
    assert [slots.take() for _time in range(5)] == [True] * 4 + [False]
    slots.give_back()
    assert slots.begin_dividing()
