# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images onto many hosts: who goes first, what the others learn, and the summary."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.prestage_elect import prestage_elect
from ansible_collections.hpc.sregistry.plugins.filter.prestage_summary import prestage_summary
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.prestage.host import sees_all
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.prestage.leader import Group
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.prestage.result import StoreResult
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.prestage.run import (
    BUILD_ONCE,
    EACH,
    SHARED,
    first_result,
)

A, B = "quay.io/org/solver:2.4", "ubuntu:24.04"
NAMES = [A, B]
INDEX, MANIFEST = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
MIB = 1024 * 1024


def image(name: str, action: str = "present", **more: Any) -> dict[str, Any]:
    """Return one entry of a result of sregistry_pull."""
    return {
        "name": name,
        "reference": name,
        "action": action,
        "changed": action not in ("present", "failed"),
        "platform": "linux/amd64",
        "digest": INDEX,
        "manifest_digest": MANIFEST,
        "path": f"/store/{name}.sif",
        "size": 3 * MIB,
        "sha256": "c" * 64,
        "fetched": {"blobs": 1, "bytes": MIB if action == "pulled" else 0},
        **more,
    }


def failed(name: str, error: str, **more: Any) -> dict[str, Any]:
    return image(name, "failed", error=error, size=None, **more)


def result(*images: dict[str, Any]) -> dict[str, Any]:
    return {"images": list(images), "changed": any(one["changed"] for one in images)}


def wanted(*hosts: str, group: str = "x86_64") -> dict[str, dict[str, Any]]:
    return {host: {"group": group, "names": NAMES} for host in hosts}


GOOD = result(image(A, "pulled"), image(B, "pulled"))
UNREACHABLE = {"unreachable": True, "msg": "Task failed: no route to host"}
CRASHED = {"msg": "MODULE FAILURE", "failed": False}
NOTHING = result(failed(A, "no answer from quay.io"), failed(B, "no answer from docker.io"))


@pytest.mark.parametrize(
    ("results", "following", "leader"),
    [
        ({}, ["n1"], None),
        ({"n1": GOOD}, [], "n1"),
        ({"n1": result(image(A), failed(B, "no"))}, [], "n1"),
        ({"n1": UNREACHABLE}, ["n2"], None),
        ({"n1": CRASHED}, ["n2"], None),
        ({"n1": NOTHING}, ["n2"], None),
        ({"n1": UNREACHABLE, "n2": GOOD}, [], "n2"),
        ({"n1": UNREACHABLE, "n2": CRASHED, "n3": NOTHING}, [], None),
    ],
)
def test_the_next_host_gets_a_turn_where_nothing_is_in_place(
    results: dict[str, Any], following: list[str], leader: str | None
) -> None:
    found = prestage_elect(wanted("n1", "n2", "n3", "n4"), results)
    assert (found["next"], found["groups"]["x86_64"]["leader"]) == (following, leader)


def test_each_group_has_its_own_first_host_and_a_host_of_none_is_left_out() -> None:
    hosts = {**wanted("gone", group=""), **wanted("n1", "n2"), **wanted("arm1", group="aarch64")}
    found = prestage_elect(hosts, {"gone": UNREACHABLE})
    assert found["next"] == ["n1", "arm1"]
    assert list(found["groups"]) == ["x86_64", "aarch64"]


def test_chosen_hosts_go_in_their_own_order_and_nobody_else_does() -> None:
    hosts, leaders = wanted("n1", "n2", "n3", "n4", "n5"), ["n9", "n5", "n4", "n3", "n2"]
    gone = dict.fromkeys(["n5", "n4", "n3"], UNREACHABLE)
    assert prestage_elect(hosts, {}, leaders)["next"] == ["n5"]
    assert prestage_elect(hosts, gone, leaders)["next"] == ["n2"]
    nobody_left = prestage_elect(hosts, {**gone, "n2": UNREACHABLE}, leaders)
    assert nobody_left["next"] == []
    assert nobody_left["groups"]["x86_64"]["failed"] == dict.fromkeys(NAMES, "unreachable: no route to host")
    assert nobody_left["groups"]["x86_64"]["failed_on"] == "n[2-5]"


def test_without_a_chosen_host_in_the_play_the_others_try_all_and_fetch_what_is_there() -> None:
    group = prestage_elect(wanted("n1"), {}, leaders=[])["groups"]["x86_64"]
    assert (group["leader"], group["names"], group["failed"], group["digests"]) == (None, NAMES, {}, {})


def test_it_is_told_for_whom_nobody_could_go_first() -> None:
    hosts = {**wanted("n10", "n9"), **wanted("arm1", group="aarch64"), **wanted("gone", group="")}
    results = {"n10": GOOD, "n9": GOOD, "arm1": GOOD, "gone": UNREACHABLE}
    for leaders, told in [(["arm1"], "n[9-10]"), (["n9", "arm1"], None), (None, None), (["gone"], "arm1,n[9-10]")]:
        lines = of(BUILD_ONCE, results, election=prestage_elect(hosts, {}, leaders))["lines"]
        found = [line for line in lines if line.startswith("nobody went first for")]
        assert [line.partition(":")[0] for line in found] == ([f"nobody went first for {told}"] if told else [])


def test_who_was_asked_and_has_no_result_is_an_error_only_where_the_others_wait() -> None:
    with pytest.raises(AnsibleFilterError, match=r"n1 had to go first and has no result yet.*strategy linear"):
        prestage_elect(wanted("n1", "n2"), {}, asked=["n1"])
    assert prestage_elect(wanted("n1", "n2"), {}, asked=["n1"], patient=False)["next"] == []


def test_the_others_learn_digests_and_what_they_need_not_try() -> None:
    web = "https://example.org/x.sif"
    names = [A, B, web, "oras://ghcr.io/x:1"]
    first = result(image(A), failed(B, "manifest unknown"), image(web), image("oras://ghcr.io/x:1"))
    group = prestage_elect({"n1": {"group": "g", "names": names}}, {"n1": first})["groups"]["g"]
    assert group["names"] == [A, web, "oras://ghcr.io/x:1"]
    assert group["failed"] == {B: "manifest unknown"}
    assert group["digests"] == {
        A: {"digest": INDEX, "platforms": {"linux/amd64": MANIFEST}},
        "oras://ghcr.io/x:1": {"digest": INDEX},
    }


def test_what_a_host_says_is_no_template_for_others() -> None:
    evil = "{{ lookup('pipe', 'id') }}"
    first = result(image(A, path=evil, digest=evil, platform=evil), failed(B, evil + "{% if x %}{# y #}"))
    text = str(prestage_elect(wanted("n1"), {"n1": first}))
    assert "lookup" in text
    assert not any(mark in text.replace("{'", "") for mark in ("{{ ", "{% ", "{# "))
    lines = "".join(of(EACH, {"n1": first})["lines"])  # they become a variable as well
    assert "lookup" in lines
    assert not any(mark in lines for mark in ("{{", "{%", "{#"))
    assert prestage_elect(wanted("n1"), {"n1": first})["groups"]["x86_64"]["digests"] == {}


def of(strategy: str, results: dict[str, Any], names: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Return a summary of hosts that must all have the same images."""
    return prestage_summary(results, NAMES if names is None else names, strategy=strategy, **more)


def numbers(document: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(one["current"], one["updated"], one["failed"]) for one in document["images"]]


def test_each_image_counts_its_hosts() -> None:
    document = of(
        EACH,
        {
            "n1": result(image(A), image(B, "pulled")),
            "n2": result(image(A, "rebuilt"), failed(B, "no space left")),
            "n3": UNREACHABLE,
            "n4": {},
        },
    )
    assert numbers(document) == [(1, 1, 2), (0, 1, 3)]
    assert document["hosts"] == {"total": 4, "current": 0, "updated": 1, "cleaned": 0, "failed": 3, "unreachable": 1}
    assert document["failed"] == ["n2", "n3", "n4"]
    assert document["fetched"] == MIB
    assert document["lines"] == [
        "2 images on 4 hosts (strategy each): 1 updated, 2 lack something, 1 unreachable",
        "2 hosts built files",
        "image                         size  current  updated  failed",
        "quay.io/org/solver:2.4     3.0 MiB        1        1       2  (1 rebuilt)",
        "ubuntu:24.04               3.0 MiB        0        1       3  (1 pulled)",
        "all of them                6.0 MiB  1.0 MiB fetched by all hosts",
        "FAILED on 1 host, n2:",
        "  ubuntu:24.04: no space left",
        "FAILED on 1 host, n4:",
        "  nothing is known of it: it failed or could not be reached before",
        "FAILED on 1 host, n3:",
        "  unreachable: no route to host",
    ]


def test_the_same_reason_is_told_once_with_all_its_hosts_and_images() -> None:
    def full(host: int) -> dict[str, Any]:
        return result(
            *(
                failed(name, f"no space left in /tmp/x{host}: {name} needs {host}.5 GiB, node{host} has 2")
                for name in NAMES
            )
        )

    document = of(EACH, {f"node{host}": full(host) for host in (7, 3, 1, 2)})
    assert [(row["count"], row["hosts"], row["images"]) for row in document["causes"]] == [(4, "node[1-3,7]", NAMES)]
    assert document["lines"][-2:] == [
        "FAILED on 4 hosts, node[1-3,7]:",
        f"  every image: no space left in /tmp/x1: {A} needs 1.5 GiB, node1 has 2",
    ]


@pytest.mark.parametrize(
    "said",
    [
        (f"no space left in /s: of 2 images the largest is {B} with 1 GiB",) * 2,
        tuple(f"TLS failure while asking for oras://r:5/c/a:sif-{digit * 64}: …" for digit in "d4"),
    ],
    ids=["it names one of the images", "it names tags of a SIF cache"],
)
def test_what_is_of_all_images_is_told_once(said: tuple[str, str]) -> None:
    causes = of(EACH, {"n1": result(failed(A, said[0]), failed(B, said[1]))})["causes"]
    assert [row["images"] for row in causes] == [NAMES]


def test_hosts_that_lack_other_images_for_the_same_reason_are_told_apart() -> None:
    good, bad = image(A), failed(A, "permission denied")
    results = {"n1": result(bad, failed(B, "permission denied")), "n2": result(good, failed(B, "permission denied"))}
    causes = of(EACH, results)["causes"]
    assert [(row["hosts"], row["images"]) for row in causes] == [("n1", NAMES), ("n2", [B])]


def test_check_mode_says_what_would_be() -> None:
    document = of(EACH, {"n1": result(image(A), image(B, "pulled", size=None))}, check=True)
    assert document["lines"] == [
        "2 images on 1 host (strategy each): 1 would be updated",
        "1 host would build files",
        "image                         size  current  would be updated  failed",
        "quay.io/org/solver:2.4     3.0 MiB        1                 0       0",
        "ubuntu:24.04                     -        0                 1       0  (1 would be pulled)",
        "all of them                3.0 MiB",
    ]


def test_in_check_mode_with_differences_a_new_image_is_as_large_as_its_layers() -> None:
    new = {"after_header": B, "after": {"size": 7 * MIB}}
    for differences, size in [([new], 7 * MIB), ([], None), ("x", None), ([1, {"after": {"size": "x"}}], None)]:
        foreseen = {**result(image(A), image(B, "pulled", size=None)), "diff": differences}
        assert [one["size"] for one in of(EACH, {"n1": foreseen}, check=True)["images"]] == [3 * MIB, size]


GONE = {"images": [{"reference": "old:1", "changed": True}]}
BUSY = {"images": [{"reference": "old:1", "changed": False, "error": "busy"}], "msg": "busy"}


@pytest.mark.parametrize(
    ("pulled", "removed", "said", "foreseen"),
    [
        (image(A), {}, "1 current", "1 current"),
        (image(A, "pulled"), GONE, "1 updated", "1 would be updated"),
        (image(A), GONE, "1 cleaned", "1 would be cleaned"),
        (failed(A, "no"), {}, "1 lacks something", "1 would lack something"),
        (image(A, "pulled"), BUSY, "1 keeps what is to be removed", "1 would keep what is to be removed"),
        (image(A), UNREACHABLE, "1 unreachable", "1 unreachable"),
    ],
)
def test_the_first_line_says_the_worst_of_each_host(
    pulled: dict[str, Any], removed: dict[str, Any], said: str, foreseen: str
) -> None:
    for check, words in [(False, said), (True, foreseen)]:
        document = of(EACH, {"n1": result(pulled)}, [A], check=check, removed={"n1": removed})
        assert document["lines"][0] == f"1 image on 1 host (strategy each): {words}"


@pytest.mark.parametrize(("action", "words"), [("attributes", "got other attributes"), ("repaired", "repaired")])
def test_an_action_is_told_in_words(action: str, words: str) -> None:
    assert of(EACH, {"n1": result(image(A, action))}, [A])["lines"][-2].endswith(f"(1 {words})")


def test_it_is_told_from_where_nothing_was_removed_as_something_is_missing() -> None:
    results = {"n1": result(image(A), failed(B, "no")), "n2": result(image(A), image(B)), "n3": UNREACHABLE}
    told = "nothing was removed from n1: not every image is in its place"
    foreseen = "nothing would be removed from n1: not every image would be in its place"
    assert of(EACH, results, clean=True)["lines"][-1] == told
    assert of(EACH, results, clean=True, check=True)["lines"][-1] == foreseen
    assert not any(line.startswith("nothing") for line in of(EACH, results)["lines"])
    shared, way = followed(result(image(A), failed(B, "no")), {})
    assert of(SHARED, shared, clean=True, election=way, seen={"n2": {"images": [row(A)]}})["not_cleaned"] == ["n1"]


def test_it_is_told_why_nothing_was_removed_anywhere() -> None:
    results = {"n1": result(image(A))}
    keep_because = "hosts that --limit leaves out may need other images"
    assert (
        of(SHARED, results, clean=True, keep_because=keep_because)["lines"][-1]
        == f"nothing was removed: {keep_because}"
    )
    assert (
        of(SHARED, results, clean=True, keep_because=keep_because, check=True)["lines"][-1]
        == f"nothing would be removed: {keep_because}"
    )
    assert not any("removed" in line for line in of(SHARED, results, clean=True)["lines"])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "No start of json char found", "rc": 137, "module_stderr": "Killed"}, "it was killed, maybe for lack"),
        ({"msg": "No start of json char found", "rc": 1, "module_stderr": ""}, "it was killed, maybe for lack"),
        (
            {
                "msg": "The interpreter /opt/py was not found.",
                "rc": 127,
                "module_stderr": "sh: x\n/opt/py: not found\n",
            },
            "  The interpreter /opt/py was not found.: /opt/py: not found",
        ),
        (
            {"msg": "MODULE FAILURE", "rc": 1, "module_stderr": "", "module_stdout": "Welcome to cn17"},
            "  MODULE FAILURE",
        ),
    ],
)
def test_a_module_without_a_result_tells_what_is_known(result: dict[str, Any], words: str) -> None:
    lines = of(EACH, {"n1": {"failed": True, "module_stdout": "", **result}}, [A])["lines"]
    assert words in " ".join(lines)
    assert ("killed" in " ".join(lines)) == ("killed" in words)


OF_ROOT = "root's home, which nobody else can read; prestage_storage chooses another store"


def stored(store: Any) -> dict[str, Any]:
    return {**result(image(A)), "ansible_facts": {"sregistry": {"storage": store}}}


@pytest.mark.parametrize(
    ("results", "given", "line"),
    [
        ({"n1": stored("/s"), "n2": stored("/s"), "n3": {}}, {}, "store: /s"),
        ({"n1": stored("/s"), "n2": stored("/t")}, {}, None),
        ({"n1": stored("/s")}, {"n1": "/mnt/../s"}, "store: /s"),
        ({"n1": {}, "n2": {}}, {"n1": "/s", "n2": "/s"}, "store: /s"),
        ({"n1": {}}, {}, None),
        ({"n1": stored("/s"), "n2": UNREACHABLE}, {"n2": "/t"}, "store: /s"),
        ({"n1": stored(3)}, {}, None),
        ({"n1": {"ansible_facts": 3}}, {}, None),
        ({"n1": stored("/s\x1b")}, {}, r"store: /s\x1b"),
        ({"n1": stored("/rooted")}, {}, "store: /rooted"),
        (
            {"n1": stored("/root/.singularity/shub")},
            {},
            f"store: /root/.singularity/shub ({OF_ROOT})",
        ),
    ],
)
def test_the_store_is_told_where_it_is_the_same(results: dict[str, Any], given: dict[str, str], line: str) -> None:
    lines = of(EACH, results, [A], stores=given)["lines"]
    assert next((one for one in lines if one.startswith("store")), None) == line


@pytest.mark.parametrize(
    ("action", "locked", "check", "verdict"),
    [
        ("pulled", True, True, f"not as the lock says: {A} (would be pulled)"),
        ("repaired", True, True, f"not as the lock says: {A} (would be repaired)"),
        ("present", True, True, ""),
        ("attributes", True, True, ""),
        ("recorded", True, True, ""),
        ("pushed", True, True, ""),
        ("pulled", True, False, ""),
        ("pulled", False, True, ""),
    ],
)
def test_another_file_than_the_lock_says_is_a_failure_in_check_mode(
    action: str, locked: bool, check: bool, verdict: str
) -> None:
    assert of(EACH, {"n1": result(image(A, action))}, [A], check=check, locked=locked)["verdict"] == verdict


def test_what_was_removed_is_told_and_counts_as_a_difference() -> None:
    removed = {
        "images": [{"reference": "old:1", "changed": True}, {"reference": A, "changed": False}],
        "swept": ["/store/x.sif"],
    }
    results = {"n1": result(image(A)), "n2": result(image(A))}
    document = of(EACH, results, [A], check=True, locked=True, removed={"n1": removed, "n2": removed})
    assert document["removed"][1] == {"what": "old:1", "count": 2, "hosts": "n[1-2]"}
    assert "would be removed from n[1-2]: old:1" in document["lines"]
    assert document["verdict"] == "not as the lock says: old:1 (would be removed), /store/x.sif (would be removed)"
    assert document["lines"][-1] == f"FAILED on 2 hosts, n[1-2]: {document['verdict']}"


def test_a_removal_that_failed_is_a_failure_of_its_host() -> None:
    trouble = {"images": [{"reference": "old:1", "changed": False, "error": "busy"}], "msg": "busy"}
    assert of(EACH, {"n1": GOOD}, removed={"n1": trouble})["verdict"] == "busy"


def test_a_result_that_cannot_be_read_spoils_its_own_host_only() -> None:
    strange: list[dict[str, Any]] = [
        {"images": "x"},
        {"images": [1, 2]},
        {"images": [{"action": []}, {}]},
        result(image(A)),
        result(image(A, size=-1, fetched=3, reference=7, digest=[]), image(B, error={"a": "\x1b[1m"})),
    ]
    document = of(EACH, {"n9": GOOD, **{f"n{at}": one for at, one in enumerate(strange)}})
    assert document["failed"] == ["n0", "n1", "n2", "n3", "n4"]
    assert "\x1b" not in "".join(document["lines"])


def followed(first: dict[str, Any], *others: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    results = {"n1": first, **{f"n{at}": one for at, one in enumerate(others, 2)}}
    return results, prestage_elect(wanted(*results), {"n1": first})


def test_what_the_builder_could_not_build_has_the_same_reason_everywhere() -> None:
    first = result(image(A, "pulled"), failed(B, "manifest unknown"))
    results, way = followed(first, result(image(A, "pulled")), result(image(A)))
    document = of(BUILD_ONCE, results, election=way)
    assert numbers(document) == [(1, 2, 0), (0, 0, 3)]
    assert document["lines"][-2:] == ["FAILED on 3 hosts, n[1-3]:", f"  {B}: n1 failed: manifest unknown"]
    own = of(BUILD_ONCE, {"n2": results["n2"]}, election=way)
    assert own["verdict"] == f"{B}: n1 failed: manifest unknown"


def test_where_nobody_could_build_the_others_did_nothing_and_say_why() -> None:
    results, way = followed(NOTHING, {"skipped": True})
    document = of(BUILD_ONCE, results, election=way)
    assert numbers(document) == [(0, 0, 2), (0, 0, 2)]
    assert [(row["hosts"], row["text"]) for row in document["causes"]] == [
        ("n[1-2]", "n1 failed: no answer from docker.io"),
        ("n[1-2]", "n1 failed: no answer from quay.io"),
    ]


def test_a_builder_that_another_one_replaced_counts_what_it_did_itself() -> None:
    results = {"n1": NOTHING, "n2": result(image(A, "pulled"), failed(B, "gone")), "n3": result(image(A, "pulled"))}
    way = prestage_elect(wanted(*results), {"n1": NOTHING, "n2": results["n2"]})
    assert numbers(of(BUILD_ONCE, results, election=way)) == [(0, 2, 1), (0, 0, 3)]


def test_in_check_mode_a_miss_is_what_the_real_run_would_fetch() -> None:
    missing = failed(A, "the SIF cache has no file", sif_cache="miss")
    results, way = followed(result(image(A, "pulled"), image(B)), result(missing, image(B)))
    document = of(BUILD_ONCE, results, election=way, check=True)
    assert (numbers(document), document["verdict"]) == ([(0, 2, 0), (2, 0, 0)], "")
    assert of(BUILD_ONCE, results, election=way)["failed"] == ["n2"]
    without_leader = prestage_elect(wanted("n2"), {}, leaders=[])
    assert of(BUILD_ONCE, {"n2": results["n2"]}, election=without_leader, check=True)["failed"] == ["n2"]


HIT = {"sif_cache": "hit"}


@pytest.mark.parametrize(
    ("name", "action", "more", "made"),
    [
        (A, "pulled", {}, "built"),
        (A, "rebuilt", {"sif_cache": "miss"}, "built"),
        (A, "pulled", HIT, "fetched"),
        (A, "repaired", {}, "built"),
        (A, "repaired", {"seconds": {"restore": 0.1}}, ""),
        (A, "present", HIT, ""),
        (A, "attributes", {}, ""),
        (A, "recorded", {}, ""),
        ("oras://quay.io/org/x:1", "pulled", {}, "fetched"),
        ("https://example.org/x.sif", "pulled", {}, "fetched"),
    ],
)
def test_it_is_counted_who_built_and_who_fetched(name: str, action: str, more: dict[str, Any], made: str) -> None:
    document = of(EACH, {"n1": result(image(name, action, **more)), "n2": UNREACHABLE}, [name])
    assert document["made"] == {"built": int(made == "built"), "fetched": int(made == "fetched")}


def test_it_is_told_who_went_first() -> None:
    first = result(image(A, "pulled"), image(B, "pulled"))
    results, way = followed(first, *[result(image(A, "pulled", **HIT), image(B, "pulled", **HIT))] * 3)
    document = of(BUILD_ONCE, results, election=way)
    assert document["leaders"] == ["n1"]
    assert document["lines"][1] == "n1 went first; 1 host built files; 3 hosts fetched finished ones"
    missing = result(failed(A, "none", sif_cache="miss"), failed(B, "none", sif_cache="miss"))
    results, way = followed(first, missing)
    foreseen = of(BUILD_ONCE, results, election=way, check=True)["lines"][1]
    assert foreseen == "n1 would go first; 1 host would build files; 1 host would fetch finished ones"
    results, way = followed(result(image(A), image(B)), result(image(A), image(B)))
    assert of(BUILD_ONCE, results, election=way)["lines"][1] == "n1 went first"
    results, way = followed(UNREACHABLE, {"skipped": True})
    assert of(BUILD_ONCE, results, election=way)["leaders"] == []


def test_a_tag_that_moved_while_hosts_pulled_is_told_with_digests_and_hosts() -> None:
    other = f"sha256:{'e' * 64}"
    new, arm = (
        image(A, "pulled", manifest_digest=other),
        image(A, "pulled", manifest_digest=other, platform="linux/arm64"),
    )
    old = image(A, "pulled")
    results = {"n1": result(old), "n2": result(old), "n3": result(new), "n4": result(arm), "n5": UNREACHABLE}
    document = of(EACH, results, [A])
    told = f"hosts have different images of {A} for linux/amd64: {MANIFEST} on 2 hosts, n[1-2]; {other} on 1 host, n3"
    assert [line for line in document["lines"] if "NOT THE SAME" in line] == [f"NOT THE SAME: {told}"]
    assert document["verdict"] == "unreachable: no route to host"
    for same in ({"n1": result(old), "n2": result(image(A))}, {"n1": result(old), "n4": result(arm)}):
        assert of(EACH, same, [A])["mixed"] == []
    unknown = image(A, "pulled", manifest_digest=None, digest=None)
    assert of(EACH, {"n1": result(old), "n2": result(unknown)}, [A])["mixed"] == []


def test_a_name_whose_hosts_all_differ_is_one_line() -> None:
    results = {f"n{at}": result(image(A, "pulled", manifest_digest=f"sha256:{at:064}")) for at in range(600)}
    lines = of(EACH, results, [A])["lines"]
    assert len(lines) == 6
    assert max(map(len, lines)) < 1000
    assert "and 595 more" in lines[-1]


def test_what_was_kept_for_a_symlink_is_told() -> None:
    removed = {"images": [{"reference": "old:1", "changed": False, "action": "kept"}]}
    document = of(EACH, {"n1": result(image(A)), "n2": result(image(A))}, [A], removed={"n1": removed, "n2": removed})
    assert document["lines"][-1] == "kept on n[1-2], as a symlink leads to it: old:1"
    assert (document["failed"], document["removed"], document["hosts"]["current"]) == ([], [], 2)


def test_a_host_has_the_result_of_the_first_task_in_which_it_did_anything() -> None:
    idle, away = {"skipped": True, "changed": False}, {"unreachable": True}
    stages = [{"n1": {}, "n2": away}, {"n1": idle, "n2": idle, "n3": GOOD}, {"n1": NOTHING, "n3": idle, "n4": idle}]
    found = {host: first_result(host, stages) for host in ("n1", "n2", "n3", "n4", "n5")}
    assert found == {"n1": NOTHING, "n2": away, "n3": GOOD, "n4": idle, "n5": {}}


def test_who_did_nothing_yet_is_not_taken_for_one_that_had_its_turn() -> None:
    idle = {"skipped": True, "changed": False}
    found = prestage_elect(wanted("n1", "n2", "n3"), {"n1": UNREACHABLE, "n2": idle, "n3": idle}, asked=["n1"])
    assert (found["next"], found["candidates"]) == (["n2"], ["n2", "n3"])
    assert prestage_elect(wanted("n1", "n2"), {"n1": GOOD, "n2": idle}, asked=["n1"])["candidates"] == []


def row(name: str, state: str = "present", **more: Any) -> dict[str, Any]:
    """Return one entry of a result of sregistry_info."""
    return {"reference": name, "path": f"/store/{name}.sif", "sha256": "c" * 64, "state": state, **more}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(A)], ""),
        ([row(B), row(A)], ""),
        ([], "does not see .*is the file system mounted"),
        ([row(B)], "its inventory does not know .* is it the same file system"),
        ([row(A, path="/other.sif")], "its inventory does not know"),
        ([row(A, "missing")], "does not see .* though it sees the inventory"),
        ([row(A, "modified")], "another size or modification time"),
        ([row(A, sha256="d" * 64)], f"another file than on n1: the inventory says sha256 {'d' * 64}"),
        ([1], "its inventory does not know"),
        (5, "is the file system mounted"),
    ],
)
def test_who_shares_a_file_system_must_see_the_very_files(rows: Any, reason: str) -> None:
    results = {"n1": result(image(A, "pulled")), "n2": {}}
    way = prestage_elect({host: {"group": "g", "names": [A]} for host in results}, {"n1": results["n1"]})
    document = of(SHARED, results, [A], election=way, seen={"n2": {"images": rows}})
    assert sees_all([A], Group.of(way["groups"]["g"]), StoreResult.of({"images": rows})) == (not reason)
    if reason:
        assert (numbers(document), document["unseen"]) == ([(0, 1, 1)], [A])
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(document["verdict"])
    else:
        assert (numbers(document), document["unseen"], document["fetched"]) == ([(1, 1, 0)], [], MIB)


def inventory(*files: tuple[str, int]) -> dict[str, Any]:
    """Return the report of every module on a store with some files and their times."""
    rows = [{"reference": name, "path": f"/store/{name}.sif", "mtime_ns": time} for name, time in files]
    return {"sregistry": {"images": [*rows, {"reference": "recorded:1", "path": None, "mtime_ns": None}, 5]}}


@pytest.mark.parametrize(
    ("rows", "files", "reason"),
    [
        ([], [(B, 2)], "another run has removed /store/.* since it was there on n1"),
        ([row(A, path=None)], [("other:1", 3), (B, 2)], "another run has removed"),
        ([row(A, sha256="d" * 64)], [(A, 4), (B, 2)], "another run has replaced /store/.* that n1 had"),
        ([row(A)], [(A, 1), (B, 2)], ""),
        ([], [(B, 5)], "is the file system mounted, .*has another run removed them"),
        ([row(B)], [(B, 5)], "is it the same file system, or has another run removed it"),
        ([], [], "is the file system mounted"),
    ],
)
def test_what_another_run_removed_meanwhile_is_not_called_another_file_system(
    rows: list[dict[str, Any]], files: list[tuple[str, int]], reason: str
) -> None:
    first = {**result(image(A, "pulled")), "ansible_facts": inventory((A, 1), (B, 2))}
    way = prestage_elect({host: {"group": "g", "names": [A]} for host in ("n1", "n2")}, {"n1": first})
    seen = {"n2": {"images": rows, "ansible_facts": inventory(*files)}}
    document = of(SHARED, {"n1": first, "n2": {}}, [A], election=way, seen=seen)
    assert bool(document["verdict"]) is bool(reason)
    assert re.search(reason, document["verdict"]), document["verdict"]


def test_who_shares_what_could_not_be_filled_has_the_same_reason() -> None:
    first = result(image(A, "pulled"), failed(B, "manifest unknown"))
    results, way = followed(first, {}, {}, {})
    seen = {"n2": {"images": [row(A)]}, "n3": UNREACHABLE, "n4": {}}
    document = of(SHARED, results, election=way, seen=seen)
    assert numbers(document) == [(1, 1, 2), (0, 0, 4)]
    assert [(one["hosts"], one["text"]) for one in document["causes"]] == [
        ("n[1-2]", "n1 failed: manifest unknown"),
        ("n4", "nothing is known of it: it failed or could not be reached before"),
        ("n3", "unreachable: no route to host"),
    ]
    without_leader = prestage_elect(wanted("n1"), {}, leaders=[])
    absent = of(SHARED, {"n1": {}}, election=without_leader, seen={"n1": {"skipped": True}})
    assert absent["causes"][0]["text"] == "there is no host of its platform that went first and filled the store"
    nobody = prestage_elect(wanted("n1", "n2"), {"n1": NOTHING})
    assert of(SHARED, {"n1": NOTHING, "n2": {}}, election=nobody, seen={"n2": {"skipped": True}})["unseen"] == []


@pytest.mark.parametrize("check", [True, False])
def test_check_mode_counts_as_the_real_run_who_fills_and_who_will_see_it(check: bool) -> None:
    results, way = followed(result(image(A, "pulled"), image(B)), {})
    rows = [row(B)] if check else [row(A), row(B)]
    document = of(SHARED, results, election=way, check=check, seen={"n2": {"images": rows}})
    assert (numbers(document), document["verdict"]) == ([(1, 1, 0), (2, 0, 0)], "")
    assert document["made"] == {"built": 1, "fetched": 0}


def test_hosts_may_want_different_images() -> None:
    names = {"n1": [A], "n2": [B, A]}
    document = prestage_summary({"n1": result(image(A)), "n2": result(image(B), image(A))}, names)
    assert [(one["reference"], one["current"]) for one in document["images"]] == [(A, 2), (B, 1)]


def test_the_query_of_a_web_address_is_not_shown() -> None:
    name, digest = "https://example.org/x.sif?token=secret", f"@sha256:{'e' * 64}"
    results = {"n1": UNREACHABLE, "n2": result(failed(name, "gone", reference="https://example.org/x.sif")), "n3": {}}
    results["n4"] = result(image(name, "pulled", reference=None))
    document = of(EACH, results, [name + digest], check=True, locked=True)
    assert "secret" not in str(document)
    assert f"https://example.org/x.sif{digest}" in document["verdict"]


@pytest.mark.parametrize("what", [{"size": 10**400}, {"fetched": {"bytes": 10**400}}, {"size": 2**63}])
def test_a_number_beyond_all_bounds_is_none(what: dict[str, Any]) -> None:
    document = of(EACH, {"n1": result(image(A)), "n2": result(image(A, "pulled", **what))}, [A])
    assert document["bytes"] == 3 * MIB
    assert document["fetched"] in (0, MIB)
    assert document["lines"]


@pytest.mark.parametrize("rows", [[], [row(A)], [row(A, path="/s\x1b[2J\n", sha256="d"), row(A, "missing")]])
def test_what_the_first_host_says_cannot_move_the_cursor_of_others(rows: list[Any]) -> None:
    first = result(image(A, "pulled", path="/s\x1b[2J\n", sha256="\x1b[1m"))
    way = prestage_elect({host: {"group": "g", "names": [A]} for host in ("n1", "n2")}, {"n1": first})
    document = of(SHARED, {"n1": first, "n2": {}}, [A], election=way, seen={"n2": {"images": rows}})
    assert r"/s\x1b[2J\n" in document["verdict"]
    assert "".join([document["verdict"], *document["lines"]]).isprintable()


@pytest.mark.parametrize("pin", ["", f"@{INDEX}"])
@pytest.mark.parametrize("query", ["?sig=SECRET", "?sig=SEC@RET", "?a=1&sig=SECRET#SECRET"])
def test_the_query_of_a_web_address_is_not_told(query: str, pin: str) -> None:
    address = "https://example.org/app.sif"
    name = f"{address}{query}{pin}"
    bad = {"images": [{"action": "failed", "error": "not found"}]}
    document = of(
        EACH, {"n1": UNREACHABLE, "n2": bad, "n3": {"images": [{"action": "pulled", "changed": True}]}}, [name]
    )
    assert not re.search("SEC|RET", str(document))
    assert [one["name"] for one in document["images"]] == [address + pin]


def test_no_image_at_all_is_no_trouble() -> None:
    assert of(EACH, {"n1": result()}, [])["lines"] == ["0 images on 1 host (strategy each): 1 current"]


def test_hosts_whose_names_follow_no_rule_do_not_make_a_line_of_thousands_of_characters() -> None:
    hosts = [f"{(at * 7919) % 104729:x}-host.cluster.example" for at in range(600)]
    document = of(
        EACH, {host: UNREACHABLE if at % 2 else result(failed(A, "no")) for at, host in enumerate(hosts)}, [A]
    )
    assert max(map(len, document["lines"])) < 1100
    assert sum(line.endswith(" and more:") for line in document["lines"]) == 2
    assert len(document["causes"][0]["hosts"]) > 5000


def test_a_large_fleet_is_summed_up_in_seconds_and_few_lines() -> None:
    names = [f"quay.io/org/app{number}:1" for number in range(100)]
    results = {f"node{host:03}": result(*(image(name) for name in names)) for host in range(1, 500)}
    results["node500"] = result(*(failed(name, f"no space left for {name}") for name in names))
    document = of(EACH, results, names)
    assert len(document["lines"]) == 105
    assert max(map(len, document["lines"])) < 200
    assert document["lines"][-2:] == ["FAILED on 1 host, node500:", f"  every image: no space left for {names[0]}"]
