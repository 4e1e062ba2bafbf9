# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of one run: in parallel, each once, and the error of one is not that of another."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import NotFound
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import Obtained
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.record import each
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session

AMD64 = Platform("linux", "amd64")
ONE, TWO, THREE = (Reference.parse(f"org/app:{tag}") for tag in ("1", "2", "3"))
NONE = cast(Any, None)  # the means that a test does not use


def session(threads: int) -> Session:
    return Session(NONE, NONE, NONE, AMD64, threads)


def image_file(path: str, manifest: str) -> File:
    return File(path, 9, 1, "5" * 64, manifest, {"engine": "apptainer"}, "1.4.5", "mksquashfs 4.6.1", "stream", "")


def document(digest: str, *files: File) -> Document:
    return Document(ONE, AMD64, digest, f"{digest}-amd64", "", (), 77, {}, "", "", files)


def test_images_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    outcomes = each(session(3), [ONE, TWO, THREE], lambda _outcome: cast(None, meeting.wait(30)))
    assert [outcome.error for outcome in outcomes.values()] == [None, None, None]


@pytest.mark.parametrize("threads", [-1, 0, 1])
def test_with_one_thread_one_image_follows_the_other(threads: int) -> None:
    names: list[str] = []
    each(session(threads), [ONE, TWO, THREE], lambda _outcome: names.append(threading.current_thread().name))
    assert len(names) == 3
    assert len(set(names)) == 1


def test_an_image_that_is_named_twice_is_worked_on_once_and_the_order_is_kept() -> None:
    seen: list[Reference] = []
    outcomes = each(session(4), [TWO, ONE, TWO, ONE], lambda outcome: seen.append(outcome.reference))
    assert sorted(seen, key=str) == [ONE, TWO]
    assert list(outcomes) == [TWO, ONE]


def test_an_error_ends_only_its_own_image() -> None:
    def work(outcome: PullOutcome) -> None:
        outcome.changed, outcome.action = True, "pulled"
        if outcome.reference == TWO:
            raise NotFound("there is no org/app:2")

    outcomes = each(session(2), [ONE, TWO, THREE], work)
    assert [(o.changed, o.action) for o in outcomes.values()] == [(True, "pulled"), (False, "failed"), (True, "pulled")]
    assert isinstance(outcomes[TWO].error, NotFound)
    assert outcomes[TWO].to_result("app:2")["error"] == "there is no org/app:2"
    assert "error" not in outcomes[ONE].to_result("app:1")


def test_a_fault_of_the_program_ends_only_its_own_image_and_shows_where_it_is() -> None:
    def work(outcome: PullOutcome) -> None:
        if outcome.reference == ONE:
            raise ZeroDivisionError("oh")
        outcome.changed = True

    outcomes = each(session(2), [ONE, TWO], work)
    assert str(outcomes[ONE].error) == ("internal error, ZeroDivisionError: oh; please report it with the image's name")
    assert "ZeroDivisionError" in outcomes[ONE].to_result("one")["traceback"]
    assert outcomes[TWO].changed
    assert "traceback" not in outcomes[TWO].to_result("two")


def test_the_clock_adds_up_and_runs_also_where_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.25, 20.0, 20.5])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    outcome = PullOutcome(ONE, AMD64)
    with outcome.clock("fetch"):
        pass
    with pytest.raises(NotFound), outcome.clock("fetch"):
        raise NotFound
    assert outcome.seconds == {"fetch": 1.75}


def test_the_total_time_is_always_there() -> None:
    outcome = each(session(1), [ONE], lambda _outcome: None)[ONE]
    assert list(outcome.seconds) == ["total"]


def test_the_result_of_an_image() -> None:
    outcome = PullOutcome(ONE, AMD64, changed=True, action="pulled", path="/b.sif")
    outcome.before = document("old", image_file("/a.sif", "old-amd64"))
    outcome.after = document("new", image_file("/a.sif", "old-amd64"), image_file("/b.sif", "new-amd64"))
    outcome.obtained = [Obtained("/blob1", 100, 100), Obtained("/blob2", 40, 0), Obtained("/blob3", 50, 20)]
    outcome.seconds = {"total": 1.5}
    assert outcome.to_result("org/app:1") == {
        "name": "org/app:1",
        "reference": "org/app:1",
        "changed": True,
        "action": "pulled",
        "platform": "linux/amd64",
        "digest": "new",
        "manifest_digest": "new-amd64",
        "path": "/b.sif",
        "size": 9,
        "sha256": "5" * 64,
        "fetched": {"blobs": 2, "bytes": 120},
        "cached": {"blobs": 1, "bytes": 40},
        "seconds": {"total": 1.5},
    }


def test_the_result_names_the_builder_and_why_it_was_used() -> None:
    outcome = PullOutcome(ONE, AMD64)
    assert "builder" not in outcome.to_result("org/app:1")
    outcome.builder = {"name": "sandbox", "reason": "asked for"}
    assert outcome.to_result("org/app:1")["builder"] == {"name": "sandbox", "reason": "asked for"}


def test_the_result_of_an_image_of_which_nothing_is_known() -> None:
    result = PullOutcome(ONE, AMD64).to_result("org/app:1")
    assert (result["changed"], result["action"]) == (False, "none")
    assert [result[key] for key in ("digest", "manifest_digest", "path", "size", "sha256")] == [None] * 5


def test_the_difference_of_an_image() -> None:
    outcome = PullOutcome(ONE, AMD64, path="/b.sif")
    assert outcome.to_diff() == {"before_header": "org/app:1", "after_header": "org/app:1", "before": {}, "after": {}}
    outcome.after = document("new")
    new = {"digest": "new", "manifest_digest": "new-amd64", "path": "/b.sif", "size": 77}
    assert (outcome.to_diff()["before"], outcome.to_diff()["after"]) == ({}, new)
    outcome.before, outcome.path_before = document("old"), "/a.sif"
    old = {"digest": "old", "manifest_digest": "old-amd64", "path": "/a.sif", "size": 77}
    assert (outcome.to_diff()["before"], outcome.to_diff()["after"]) == (old, new)
    outcome.attributes = {"before": {"mode": "0644"}, "after": {"mode": "0600"}}
    assert outcome.to_diff()["before"] == {**old, "mode": "0644"}
    assert outcome.to_diff()["after"] == {**new, "mode": "0600"}


def test_the_difference_of_a_web_file_is_what_the_server_tells_of_it() -> None:
    reference = Reference.parse("https://host/a.sif")
    told = {"web": {"etag": '"one"', "size": 7}}
    known = Document(reference, AMD64, "sha256:1", "sha256:1", "", (), 7, told, "", "")
    outcome = PullOutcome(reference, AMD64, changed=True, after=known, path="/a.sif")
    assert outcome.to_diff()["after"] == {"etag": '"one"', "size": 7, "path": "/a.sif"}
