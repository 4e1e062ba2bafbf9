# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision table of a pull: what is done, by what the inventory knows, what lies there, and what is asked for.

A real registry has the image. Each row is one situation on a host; nothing is fetched but manifests, and nothing is
written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.pins import Pins
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.job import Job
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.plan import Decision, decide
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.request import PullRequest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import Toolchain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

from tests.faults import FaultyRegistry
from tests.lab import oci

AMD64 = Platform("linux", "amd64")
OTHER_DIGEST = f"sha256:{'0' * 64}"
SIF = written()
TIME = "2026-01-01T00:00:00Z"


class Programs(Toolchain):
    """The toolchain of a host that has all programs."""

    engine_kind = cast(Any, "apptainer")
    engine = packer = cast(Any, None)


@dataclass
class Host:
    """A host with a store; the registry that it pulls from counts what it is asked."""

    registry: FaultyRegistry
    directory: Path
    digest: str  # of the manifest of the image, which has no index

    def __post_init__(self) -> None:
        self.reference = Reference.parse(f"{self.registry.address}/team/tiny:1.0")
        self.path = self.directory / "store" / "tiny.sif"
        self.path.parent.mkdir()
        self.inventory = Inventory(str(self.directory / "inventory"))

    def document(self, known: str, file: str) -> Document | None:
        """Return what the inventory knows of the image, with the file that it tells of."""
        digest, manifest_digest = {
            "current": (self.digest, self.digest),
            "old": (OTHER_DIGEST, OTHER_DIGEST),
            "old index": (OTHER_DIGEST, self.digest),
        }.get(known, ("", ""))
        if not digest:
            return None
        files = () if file == "none" else (self.file(file, manifest_digest),)
        return Document(self.reference, AMD64, digest, manifest_digest, "", (), 1, {}, TIME, TIME, files)

    def file(self, kind: str, manifest_digest: str) -> File:
        """Put a file there, and return what is recorded of it."""
        self.path.write_bytes(SIF)
        inputs = {"command": "cmd" if kind == "other inputs" else "entrypoint", "reproducible": "yes"}
        sha256 = hashlib.sha256(SIF).hexdigest()
        origin = {"added": None, "of an older image": OTHER_DIGEST}.get(kind, manifest_digest)
        recorded = dataclasses.replace(
            File.at(str(self.path), sha256, {**inputs, "engine": "apptainer"}),
            manifest_digest=origin,
        )
        if kind == "missing":
            self.path.unlink()
        elif kind == "modified":
            self.path.write_bytes(SIF + b"more")
        return recorded

    def decide(self, before: Document | None, pinned: bool = False, **how: Any) -> tuple[Decision, PullOutcome]:
        """Decide on the image; nothing but warnings, times and what was fetched may change by that."""
        options = {"dest": None, "policy": "always", "checksum": False, "force": False, **how}
        request = PullRequest(
            storage=str(self.path.parent),
            toolchain=Programs(str(self.directory)),
            prepare=cast(Any, lambda _path: None),
            **options,
        )
        registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0))
        pins = Pins.parse({self.reference.uri: self.digest}) if pinned else Pins()
        session = Session(registries, BlobCache(str(self.directory / "c")), self.inventory, AMD64, 1, pins=pins)
        outcome = PullOutcome(self.reference, AMD64)
        job = Job(session, request, outcome, str(self.path), before)
        state = sorted(os.listdir(self.path.parent)), vars(job).copy()
        try:
            decision = decide(job)
        finally:
            registries.close()
            assert (sorted(os.listdir(self.path.parent)), vars(job)) == state
        log = {"warnings": outcome.warnings, "seconds": outcome.seconds, "obtained": outcome.obtained}
        assert outcome == PullOutcome(self.reference, AMD64, **cast(Any, log), progress=outcome.progress)
        return decision, outcome

    @property
    def asked(self) -> str:
        """The kind of thing that the registry was asked for."""
        methods = {request.method for request in self.registry.requests if "/manifests/" in request.path}
        return "documents" if "GET" in methods else "digest" if methods else "nothing"


@pytest.fixture
def host(faulty: FaultyRegistry, stored: Stored, tmp_path: Path) -> Host:
    return Host(faulty, tmp_path, oci.digest_of(stored.tiny.manifest()))


DECISIONS = [
    # inventory, file, policy, pin, force, what the registry is asked for, action, whether a file is made
    # The image is not there yet.
    ("nothing", "none", "always", False, False, "documents", "pulled", True),
    ("nothing", "none", "not_present", False, False, "documents", "pulled", True),
    ("current", "none", "always", False, False, "documents", "pulled", True),
    ("nothing", "none", "always", True, False, "documents", "pulled", True),
    # It is there, and is what its name points at.
    ("current", "whole", "always", False, False, "digest", "present", False),
    ("current", "whole", "not_present", False, False, "nothing", "present", False),
    ("current", "whole", "always", True, False, "nothing", "present", False),
    ("current", "whole", "not_present", True, False, "nothing", "present", False),
    # The file was lost or changed: it is made again, whatever the policy.
    ("current", "missing", "always", False, False, "documents", "repaired", True),
    ("current", "missing", "not_present", False, False, "documents", "repaired", True),
    ("current", "modified", "always", False, False, "documents", "repaired", True),
    ("current", "modified", "not_present", False, False, "documents", "repaired", True),
    # The file would be built in another way now.
    ("current", "other inputs", "always", False, False, "documents", "rebuilt", True),
    ("current", "other inputs", "not_present", False, False, "documents", "rebuilt", True),
    # The name points at another image by now: not_present does not want to know, but a pin counts.
    ("old", "whole", "always", False, False, "documents", "rebuilt", True),
    ("old", "whole", "not_present", False, False, "nothing", "present", False),
    ("old", "whole", "not_present", True, False, "documents", "rebuilt", True),
    ("old", "missing", "not_present", False, False, "documents", "repaired", True),
    # sregistry_record wrote down that the name has moved; the file is still that of the image before.
    ("current", "of an older image", "always", False, False, "documents", "rebuilt", True),
    ("current", "of an older image", "not_present", False, False, "nothing", "present", False),
    # The index of all platforms changed, but not the image of this one: the file stays.
    ("old index", "whole", "always", False, False, "documents", "recorded", False),
    ("old index", "whole", "not_present", False, False, "nothing", "present", False),
    # Force makes each file anew, also one that nobody pulled.
    ("current", "whole", "always", False, True, "documents", "rebuilt", True),
    ("current", "whole", "not_present", False, True, "documents", "rebuilt", True),
    ("current", "missing", "always", False, True, "documents", "repaired", True),
    ("current", "added", "always", False, True, "documents", "rebuilt", True),
    # Without it, what nobody could pull again stays, and nobody is asked.
    ("current", "added", "always", False, False, "nothing", "refused", False),
    ("current", "added", "not_present", False, False, "nothing", "refused", False),
]


@pytest.mark.parametrize(("known", "file", "policy", "pinned", "force", "asked", "action", "make"), DECISIONS)
def test_the_decision(
    host: Host,
    known: str,
    file: str,
    policy: str,
    pinned: bool,
    force: bool,
    asked: str,
    action: str,
    make: bool,
) -> None:
    before = host.document(known, file)
    if action == "refused":
        with pytest.raises(StorageError, match="added or built here"):
            host.decide(before, pinned, policy=policy, force=force)
    else:
        decision, _outcome = host.decide(before, pinned, policy=policy, force=force)
        assert (decision.action, bool(decision.plan and decision.plan.make)) == (action, make)
        assert (decision.plan is None) == (action == "present")
    assert host.asked == asked


@pytest.mark.parametrize(
    ("known", "file", "force", "kept"),
    [
        ("current", "missing", False, True),
        ("current", "modified", False, True),
        ("current", "missing", True, False),
        ("old", "missing", False, False),
        ("current", "other inputs", False, False),
    ],
)
def test_the_cache_may_give_back_a_file_that_a_build_would_give_again(
    host: Host, known: str, file: str, force: bool, kept: bool
) -> None:
    before = host.document(known, file)
    decision, _outcome = host.decide(before, force=force)
    assert decision.plan
    assert decision.plan.lost == (before.file(str(host.path)) if before and kept else None)


@pytest.mark.parametrize(
    ("there", "dest", "force", "result"),
    [
        ("nothing", False, False, "pulled"),
        ("an image", False, False, "pulled, with a warning"),
        ("text", False, False, "refused"),
        ("text", False, True, "pulled, with a warning"),
        ("a directory", True, True, "refused"),
        ("another image's file", False, False, "refused"),
        ("another image's file", False, True, "taken over"),
        ("another image's file", True, False, "taken over"),
        ("another image's added file", True, False, "refused"),
        ("another image's added file", True, True, "taken over"),
    ],
)
def test_what_is_in_the_place_of_a_new_file(host: Host, there: str, dest: bool, force: bool, result: str) -> None:
    if there == "a directory":
        host.path.mkdir()
    elif there != "nothing":
        host.path.write_bytes(b"text" if there == "text" else SIF)
    if "another" in there:
        other = Reference.parse("host/other:1")
        file = dataclasses.replace(
            File.at(str(host.path), "5" * 64, {}),
            manifest_digest=None if "added" in there else OTHER_DIGEST,
        )
        host.inventory.put(Document(other, AMD64, OTHER_DIGEST, OTHER_DIGEST, "", (), 1, {}, TIME, TIME, (file,)))
    how: dict[str, Any] = {"dest": str(host.path) if dest else None, "force": force}
    if result == "refused":
        with pytest.raises(StorageError):
            host.decide(None, **how)
        return
    decision, outcome = host.decide(None, **how)
    assert decision.action == "pulled"
    assert decision.replaced.path == (None if there == "nothing" else str(host.path))
    assert bool(decision.replaced.owner) == (result == "taken over")
    assert [str(host.path) in warning for warning in outcome.warnings] == [True] * result.endswith("warning")
