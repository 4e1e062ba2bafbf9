# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that one host built and pushed come to others as they are: without layers and, if pinned, without asking."""

from __future__ import annotations

import shlex
import uuid
from typing import Any

import pytest

from tests import lab as laboratory
from tests.faults import FaultyRegistry, faults
from tests.lab import catalogue, oci, tree

from .conftest import REGISTRY, Host

IMAGE = f"sif-cache/{uuid.uuid4().hex}:1.0"
"""An image that only these tests pull, so that what its registry is asked comes from them."""


@pytest.fixture(scope="module", autouse=True)
def pushed() -> None:
    """Push the image to the registry."""
    mine = oci.layer(tree.Tree().file("mine", IMAGE.encode()).tar())
    laboratory.push(IMAGE, catalogue.tiny_with(mine, Cmd=["/bin/busybox", "echo", "hello from tiny"]))


@pytest.fixture
def cache() -> str:
    """Return a prefix that nobody used before."""
    return f"http://{REGISTRY}/sif/{uuid.uuid4().hex}"


def pull(host: Host, cache: str, check: bool = False, **how: Any) -> dict[str, Any]:
    """Pull the image into a store and a cache of layers that are the cache's own."""
    place = f"/tmp/sif-cache-{cache.rpartition('/')[2]}"
    options = {"storage": f"{place}/store", "cachedir": f"{place}/layers", "sif_cache": cache, **how}
    return host.sregistry("pull", IMAGE, check=check, diff=True, **options)


def image(result: dict[str, Any]) -> dict[str, Any]:
    """Return its only image."""
    (one,) = result["images"]
    return dict(one)


def heard(since: int) -> list[tuple[str, str]]:
    """Return the requests to the registry for the image itself: method and kind."""
    requests = laboratory.requests_of("plain", since=since)
    mine = [one for one in requests if one.path.startswith(f"/v2/{IMAGE.partition(':')[0]}/")]
    return [(one.method, one.path.split("/")[-2]) for one in mine]


def test_what_one_host_builds_the_other_fetches(node1: Host, node2: Host, cache: str) -> None:
    foreseen = pull(node1, cache, check=True, sif_cache_push=True)
    built = pull(node1, cache, sif_cache_push=True)
    assert (image(foreseen)["sif_cache"], image(built)["sif_cache"]) == ("pushed", "pushed")
    assert foreseen["diff"] == built["diff"]
    again = pull(node1, cache, sif_cache_push=True)
    assert not again["changed"]
    assert image(again)["sif_cache"] == "present"

    foreseen = pull(node2, cache, check=True, sif_cache_miss="fail")
    since = laboratory.log_offset("plain")
    fetched = pull(node2, cache, sif_cache_miss="fail")
    assert image(foreseen)["sif_cache"] == image(fetched)["sif_cache"] == "hit"
    assert foreseen["diff"] == fetched["diff"]
    assert heard(since).count(("GET", "blobs")) == 1, "the config, no layers"
    assert image(fetched)["sha256"] == image(built)["sha256"]
    rows = [result["ansible_facts"]["sregistry"]["images"][0] for result in (built, fetched)]
    for row in rows:
        del row["created_at"], row["updated_at"], row["mtime_ns"]
    assert rows[0] == rows[1], "nothing in the inventory tells them apart"
    assert "hello from tiny" in node2.shell(f"apptainer run --userns {image(fetched)['path']}").stdout
    assert not pull(node2, cache)["changed"]
    assert not node2.sregistry("pull", IMAGE, storage=fetched["ansible_facts"]["sregistry"]["storage"])["changed"]


def test_a_pinned_name_is_fetched_without_a_request_to_its_registry(node1: Host, node2: Host, cache: str) -> None:
    built = image(pull(node1, cache, sif_cache_push=True))
    pin = {"digest": built["digest"], "platforms": {built["platform"]: built["manifest_digest"]}}
    since = laboratory.log_offset("plain")
    fetched = pull(node2, cache, sif_cache_miss="fail", digests={f"{REGISTRY}/{IMAGE}": pin})
    assert image(fetched)["sif_cache"] == "hit", fetched
    assert heard(since) == []
    storage = fetched["ansible_facts"]["sregistry"]["storage"]
    facts = node2.sregistry("info", IMAGE, storage=storage, manifests=True)
    assert facts["images"][0]["metrics"]["config"]["config"], "the documents of the image came with the file"


def test_an_up_to_date_file_is_pushed_when_the_cache_lacks_it(node1: Host, cache: str) -> None:
    assert image(pull(node1, cache))["sif_cache"] == "miss"
    foreseen = pull(node1, cache, check=True, sif_cache_push=True)
    pushed = pull(node1, cache, sif_cache_push=True)
    assert [image(one)["action"] for one in (foreseen, pushed)] == ["pushed", "pushed"]
    assert foreseen["changed"] and pushed["changed"]
    assert not pull(node1, cache, sif_cache_push=True)["changed"]
    node1.shell(f"rm {image(pushed)['path']}")
    foreseen = pull(node1, cache, check=True, sif_cache_push=True)
    restored = pull(node1, cache, sif_cache_push=True)
    assert [(image(one)["action"], image(one)["sif_cache"]) for one in (foreseen, restored)] == [
        ("repaired", "present")
    ] * 2


def test_nothing_is_built_where_that_is_forbidden(node1: Host, node2: Host, cache: str) -> None:
    pull(node1, cache, sif_cache_push=True)
    path = image(pull(node2, cache, sif_cache_miss="fail"))["path"]
    # The copy that is kept is another name of the file, and so is damaged with it.
    node2.shell(f"head -c 4096 /dev/urandom | dd of={path} bs=4096 seek=100 conv=notrunc status=none; rm {path}")
    for force in (False, True):
        fetched = image(pull(node2, cache, sif_cache_miss="fail", force=force))
        assert (fetched["sif_cache"], fetched.get("builder")) == ("hit", None)


def test_other_inputs_are_another_file(node1: Host, node2: Host, cache: str) -> None:
    pull(node1, cache, sif_cache_push=True)
    failed = pull(node2, cache, use_cmd=True, sif_cache_miss="fail")
    assert f"has no file of {REGISTRY}/{IMAGE} (sha256:" in failed["msg"], failed
    assert "command: cmd" in failed["msg"]
    assert image(pull(node2, cache, use_cmd=True))["sif_cache"] == "miss"


def test_a_cache_in_trouble_is_done_without_unless_it_is_required(node1: Host, node2: Host, cache: str) -> None:
    pull(node1, cache, sif_cache_push=True)
    with FaultyRegistry(f"http://{REGISTRY}") as faulty:
        behind = cache.replace(REGISTRY, faulty.address)
        faulty.when("/blobs/sha256:", faults.corrupted())
        failed = pull(node2, behind, sif_cache_miss="fail")
        assert "digest mismatch" in failed["msg"], failed
        assert node2.shell(f"find /tmp/sif-cache-{cache.rpartition('/')[2]} -name '*.sif*'").stdout == ""
        built = pull(node2, behind)
        assert image(built)["sif_cache"] == "miss"
        assert any("could not be used: digest mismatch" in warning for warning in built["warnings"])
        faulty.calm()
        faulty.when("/v2/", faults.status(500))
        stays = pull(node2, behind, sif_cache_push=True, retries=0)
        assert "status 500" in stays["msg"], "who shall push must hear that it did not work"
        assert not stays["changed"]
        foreseen = pull(node2, behind, check=True, sif_cache_push=True, retries=0, force=True)
        assert "status 500" in foreseen["msg"], "who would push hears it in check mode, too"


def test_a_login_of_the_task_is_for_its_own_registry(node1: Host, cache: str) -> None:
    with FaultyRegistry(f"http://{REGISTRY}") as faulty:
        behind = cache.replace(REGISTRY, faulty.address)
        challenge = faults.challenged('Basic realm="cache"', [faults.basic("someone", "else")])
        faulty.when("/v2/", challenge)
        result = pull(node1, behind, username="lab", password="lab-secret")
        assert any("wants a login" in warning for warning in result["warnings"]), result
        assert all("authorization" not in one.headers for one in faulty.requests)
        login = {"auths": {faulty.address: {"auth": "c29tZW9uZTplbHNl"}}}
        node1.shell(f"echo {shlex.quote(str(login).replace(chr(39), chr(34)))} > /tmp/cache-auth.json")
        result = pull(node1, behind, force=True, authfile="/tmp/cache-auth.json")
        assert "warnings" not in result, result
