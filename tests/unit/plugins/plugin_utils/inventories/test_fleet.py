# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports on each image on each host, and the reasons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.filter.fleet import fleet
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.inventories.fleet import LETTERS, compare
from hypothesis import given
from hypothesis import strategies as st

NOW = "2026-11-22T06:40:00Z"
STORE = "/store"
URI = "library/app:1"
A, B, C = ("sha256:" + letter * 64 for letter in "abc")
INDEX_A, INDEX_B = ("sha256:" + digit * 64 for digit in "12")


def row(
    built_from: str | None = A,
    *,
    known: str | None = "",
    file: str = "f",
    state: str = "present",
    day: int = 1,
    **other: Any,
) -> dict[str, Any]:
    """Return a row of the facts: a file built from a manifest, on a host that knows another one or the same."""
    manifest = built_from if known == "" else known
    return {
        "reference": URI,
        "platform": "linux/amd64",
        "digest": {A: INDEX_A, B: INDEX_B}.get(str(manifest)),
        "manifest_digest": manifest,
        "updated_at": f"2026-11-{day:02}T00:00:00Z",
        "path": f"{STORE}/app-1.sif",
        "sha256": file * 64,
        "size": 1000,
        "created_at": f"2026-11-{day:02}T00:00:00Z",
        "built_from": built_from,
        "state": state,
        **other,
    }


def recorded(known: str = A, day: int = 1) -> dict[str, Any]:
    return row(None, known=known, file="", state="remote", day=day, path=None, size=None)


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"images": list(rows), "ansible_facts": {"sregistry": {"storage": STORE}}}


UNREACHABLE = {"unreachable": True, "msg": "no route to host"}
FAILED = {"failed": True, "msg": "the inventory is not JSON"}


def states(document: dict[str, Any], uri: str = URI) -> list[str]:
    """Return the state of an image on each host."""
    at = [image["reference"] for image in document["images"]].index(uri)
    return [document["letters"][host["states"][at]] for host in document["hosts"]]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # the same file everywhere
        ([result(row()), result(row())], ["current", "current"]),
        # the newest entry of any host is current, whoever pulled it
        ([result(row(A, day=1)), result(row(B, file="g", day=2))], ["outdated", "current"]),
        ([result(row(A, day=2)), result(row(B, file="g", day=1))], ["current", "outdated"]),
        # a host has recorded that the tag moved and still has the old file
        ([result(row(A, known=B, day=2)), result(row(A, day=1))], ["outdated", "outdated"]),
        ([result(row(A, day=1)), result(recorded(B, day=2))], ["outdated", "recorded"]),
        # of entries written in the same second, what more hosts know
        ([result(row(A)), result(row(B, file="g")), result(row(B, file="g"))], ["outdated", "current", "current"]),
        # a file of the current image that is not the usual one
        ([result(row()), result(row()), result(row(file="g"))], ["current", "current", "different"]),
        # nobody can say which of two is the usual one
        ([result(row()), result(row(file="g"))], ["different", "different"]),
        # old files do not vote on which is the usual one
        (
            [result(row(B, day=2)), result(row(A, file="g")), result(row(A, file="g"))],
            ["current", "outdated", "outdated"],
        ),
        # neither do damaged ones
        ([result(row()), result(row(file="g", state="modified"))], ["current", "modified"]),
        ([result(row()), result(row(state="missing"))], ["current", "missing"]),
        ([result(row()), result(recorded())], ["current", "recorded"]),
        ([result(row()), result()], ["current", "absent"]),
        ([result(row()), UNREACHABLE, FAILED, {}], ["current", "unknown", "unknown", "unknown"]),
        # from no registry: only files can be compared
        ([result(row(None)), result(row(None))], ["local", "local"]),
        ([result(row(None)), result(row(None)), result(row(None, file="g"))], ["local", "local", "different"]),
        # several files of one image: the worst counts
        ([result(row(), row(state="missing", path="/other.sif"))], ["missing"]),
        ([result(row(), {**recorded(), "platform": "linux/arm64"})], ["current"]),
        # each platform has its own current image
        ([result(row(A)), result(row(C, file="g", platform="linux/arm64"))], ["current", "current"]),
    ],
)
def test_the_state_of_an_image(facts: Sequence[dict[str, Any]], expected: list[str]) -> None:
    assert states(compare({f"node{number}": each for number, each in enumerate(facts)}, NOW)) == expected


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (None, ["current", "outdated"]),
        (A, ["outdated", "current"]),  # the manifest itself
        (INDEX_A, ["outdated", "current"]),  # an index that a host knows
        (C, ["outdated", "outdated"]),  # nobody has it yet
    ],
)
def test_a_given_digest_decides_what_is_current(digest: str | None, expected: list[str]) -> None:
    facts = {"node0": result(row(B, file="g", day=2)), "node1": result(row(A, day=1))}
    document = compare(facts, NOW, digests={URI: digest} if digest else {})
    assert states(document) == expected
    assert document["images"][0]["current"][0]["given"] is bool(digest)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([], "missing"), ([recorded()], "missing"), ([row()], "current"), ([row(state="missing")], "missing")],
)
def test_an_expected_image_must_have_a_file(rows: list[dict[str, Any]], expected: str) -> None:
    document = compare({"node1": result(*rows), "node2": UNREACHABLE}, NOW, expected=[URI])
    assert states(document) == [expected, "unknown"]
    assert document["images"][0]["expected"] is True


def test_an_image_that_nobody_expects_is_extra() -> None:
    facts = {"node1": result(row(), row(reference="library/other:1", path="/store/other"))}
    assert [image["expected"] for image in compare(facts, NOW, expected=[URI])["images"]] == [True, False]
    assert [image["expected"] for image in compare(facts, NOW)["images"]] == [None, None]


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (UNREACHABLE, "unreachable", "no route to host"),
        (FAILED, "failed", "the inventory is not JSON"),
        ({"failed": True, "msg": "a\nb\x1b[2J"}, "failed", "a b\\x1b[2J"),
        ({}, "silent", "it was not asked"),
        ({"images": 5}, "failed", "its facts cannot be read"),
        *((odd, "failed", "its result cannot be read") for odd in (None, 5, "x", ["x"], [])),
        ({"images": [5]}, "failed", "its facts cannot be read"),
        ({"images": [], "ansible_facts": []}, "failed", "its facts cannot be read"),
        (result(row(state="good")), "failed", "'good' is not a state of a file"),
        (result(row(size="10")), "failed", "size is not a number of bytes"),
        (result(row(size=-1)), "failed", "size is not a number of bytes"),
        (result(row(reference=None)), "failed", "reference is not a text"),
        (result(row(created_at="2026-13-01T00:00:00Z")), "failed", "is not a time"),
        (result(row(created_at="yesterday")), "failed", "is not a time"),
    ],
)
def test_a_host_without_facts_says_why_and_spoils_no_other(answer: Any, status: str, message: str) -> None:
    document = fleet({"bad": answer, "good": result(row())}, NOW)
    bad, good = document["hosts"]
    assert (bad["status"], bad["problems"], bad["space"]) == (status, 0, 0)
    assert message in bad["message"]
    assert states(document) == ["unknown", "current"]
    assert good["status"] == "ok"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*row(), "x"]), inner, max_size=4),
        max_leaves=12,
    )
)
def test_whatever_a_host_returns_there_is_a_report(nonsense: Any) -> None:
    for answer in (
        nonsense,
        {"images": nonsense},
        result(nonsense),
        result({**row(), "size": nonsense, "reference": nonsense}),
    ):
        document = compare({"bad": answer, "good": result(row())}, NOW)
        assert document["hosts"][1]["status"] == "ok"
        json.dumps(document).encode("ascii")


def test_what_does_not_print_is_escaped() -> None:
    uri = "library/\x1b[31m\u202eapp\udcff:1\n"
    document = compare({"node\t1": result(row(reference=uri))}, NOW)
    assert document["hosts"][0]["name"] == "node\\t1"
    assert document["images"][0]["reference"] == "library/\\x1b[31m\\u202eapp\\udcff:1\\n"


def test_counts_add_up() -> None:
    facts = {
        "node1": result(row(B, file="g", day=2)),
        "node2": result(row(A)),
        "node3": result(row(A)),
        "node4": result(),
        "node5": UNREACHABLE,
    }
    document = compare(facts, NOW)
    image = document["images"][0]
    assert {state: count for state, count in image["counts"].items() if count} == {
        "current": 1,
        "outdated": 2,
        "absent": 1,
        "unknown": 1,
    }
    assert list(image["counts"]) == list(LETTERS)
    assert image["exceptions"] == [{"state": "outdated", "count": 2, "hosts": "node[2-3]"}]
    assert (image["variants"], image["size"], image["space"]) == (2, 1000, 3000)
    assert (image["oldest_at"], image["newest_at"]) == ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    counts = document["counts"]
    assert counts["hosts"] == {"ok": 4, "unreachable": 1, "failed": 0, "silent": 0}
    assert (counts["hosts_with_problems"], counts["space"], sum(counts["cells"].values())) == (2, 3000, 5)
    assert [host["problems"] for host in document["hosts"]] == [0, 1, 1, 0, 0]


def test_space_is_that_of_files_that_are_there_each_path_once() -> None:
    rows = [
        row(),
        row(reference="library/same:1"),
        row(path="/lost", state="missing"),
        row(path="/changed", state="modified"),
    ]
    assert compare({"node1": result(*rows)}, NOW)["hosts"][0]["space"] == 2000


def test_hosts_are_alike_if_they_have_the_same_whenever_they_got_it() -> None:
    facts = {f"node{number}": result(row(day=number)) for number in range(1, 12)}
    facts["node5"] = result(row(file="g"))
    facts["node7"] = UNREACHABLE
    groups = compare(facts, NOW)["groups"]
    assert [(group["count"], group["hosts"], group["status"], group["problems"]) for group in groups] == [
        (9, "node[1-4,6,8-11]", "ok", 0),
        (1, "node5", "ok", 1),
        (1, "node7", "unreachable", 0),
    ]
    assert groups[1]["summary"] == {"different": [URI]}


def test_a_cell_leads_to_its_file() -> None:
    document = compare({"node1": result(row(day=3))}, NOW)
    image, host = document["images"][0], document["hosts"][0]
    ((letter, number, created, updated),) = host["files"][0]
    platform, built_from, sha256, size, path = image["files"][number]
    assert (letter, created, updated) == ("c", 1793664000, 1793664000)
    assert (platform, image["digests"][built_from], sha256, size) == ("linux/amd64", A, "f" * 64, 1000)
    assert (host["storage"], image["paths"][path]) == (STORE, "app-1.sif")


def test_labels_are_short_and_differ() -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    uris = ["library/app:1", "quay.io/org/app:1", "quay.io/org/tool:2", f"quay.io/org/tool@{digest}"]
    facts = {"node1": result(*(row(reference=uri, path=f"/{uri}") for uri in uris))}
    labels = [image["label"] for image in compare(facts, NOW)["images"]]
    assert labels == ["library/app:1", "org/app:1", "tool:2", "tool@01234567"]


def test_hosts_are_in_their_natural_order() -> None:
    names = ["node10", "node9", "login"]
    assert [host["name"] for host in compare({name: {} for name in names}, NOW)["hosts"]] == [
        "login",
        "node9",
        "node10",
    ]


def test_a_report_of_nothing() -> None:
    document = compare({}, NOW)
    assert (document["hosts"], document["images"], document["groups"]) == ([], [], [])


def test_the_time_must_be_one() -> None:
    with pytest.raises(ValueError, match="'now' is not a time of the form"):
        compare({}, "now")
