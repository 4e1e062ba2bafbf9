# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finished files: from the cache into their place, and by the whole way from a web server into the inventory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    DigestMismatch,
    InvalidSif,
    PlatformNotFound,
    Unsigned,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.links import Places
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.sweep import sweep_store
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache, Obtained
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull import disk_space
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.pull import pull
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.record import record
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.request import PullRequest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.sif_download import (
    Fetched,
    Placed,
    SifDownload,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.artifact import Artifact
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import Toolchain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.trust import Trust
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

from tests.faults import FaultyRegistry, faults, odd

AMD64 = Platform("linux", "amd64")
NAME = Reference.parse("oras://host/org/app:1")
SIF = written()


class Case:
    """A cache with a file in it, and a shipment that places this file."""

    def __init__(self, directory: Path, content: bytes = SIF, algorithm: str = "sha256") -> None:
        self.digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        self.cache = BlobCache(str(directory / "cache"))
        self.blob = Path(self.cache.path(self.digest))
        self.blob.parent.mkdir(parents=True)
        self.place = directory / "store" / "image.sif"
        self._content = content
        self.put(content)
        self.fetches = 0

    def put(self, content: bytes) -> None:
        """Put something where the blob lies."""
        self.blob.write_bytes(content)
        self.blob.chmod(0o600)

    def sif_download(self, again: bytes | None = None) -> SifDownload:
        """Return a download that fetches the right content, or other content, again."""
        layer = Descriptor(self.digest, len(self._content), "application/vnd.sylabs.sif.layer.v1.sif")
        image = Artifact(NAME, "sha256:0", "", "sha256:0", Descriptor("sha256:1", 2), layer, {})
        session = Session(cast(Any, None), self.cache, cast(Any, None), AMD64, 1)

        source = self

        def unused(_offset: int) -> Any:
            raise AssertionError("it is fetched in another way here")

        class Again(SifDownload):
            """Without a registry."""

            def _fetch(self) -> Fetched:
                source.fetches += 1
                source.put(source._content if again is None else again)
                return source.fetched

        return Again(session, image, PullOutcome(NAME, AMD64), unused)

    @property
    def fetched(self) -> Fetched:
        """The blob, whatever is in it by now."""
        return Fetched(self.digest, Obtained(str(self.blob), len(self._content), 0))

    def into_place(self, prepare: Any = lambda _path: None, again: bytes | None = None) -> Placed:
        """Place it."""
        return self.sif_download(again).place(self.fetched, str(self.place), prepare)

    @property
    def store(self) -> list[str]:
        """All names beside the place."""
        return sorted(os.listdir(self.place.parent))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_is_another_name_of_the_one_in_the_cache(tmp_path: Path, algorithm: str) -> None:
    case = Case(tmp_path, algorithm=algorithm)
    placed = case.into_place()
    mtime_ns = case.place.stat().st_mtime_ns
    assert placed == Placed(len(SIF), mtime_ns, hashlib.sha256(SIF).hexdigest(), case.digest)
    assert case.place.samefile(case.blob)
    assert case.store == ["image.sif"]


def test_two_places_share_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.into_place()
    first, case.place = case.place, case.place.with_name("second.sif")
    case.into_place()
    assert not case.place.samefile(first)
    assert case.place.read_bytes() == SIF
    assert case.place.stat().st_mode & 0o111 == first.stat().st_mode & 0o111 != 0


def test_what_another_run_removed_from_the_cache_is_fetched_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.blob.unlink()
    case.into_place()
    assert case.place.read_bytes() == SIF
    assert case.fetches == 1


def test_what_is_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(SIF[:-1] + b"?")
    case.into_place()
    assert case.place.read_bytes() == SIF
    assert case.fetches == 1


def test_what_is_damaged_again_is_not_placed(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(SIF[:-1] + b"?")
    with pytest.raises(DigestMismatch, match="damaged in the cache, again and again"):
        case.into_place(again=SIF[:-1] + b"!")
    assert case.store == []


@pytest.mark.parametrize("linked", [True, False])
def test_who_refuses_a_file_leaves_all_as_it_was(tmp_path: Path, linked: bool) -> None:
    case = Case(tmp_path)
    if not linked:
        os.link(case.blob, tmp_path / "other")
    case.place.parent.mkdir()
    case.place.write_bytes(b"before")
    seen: list[bytes] = []

    def refuse(path: str) -> None:
        seen.append(Path(path).read_bytes())
        raise Unsigned("no signatures found")

    with pytest.raises(Unsigned):
        case.into_place(refuse)
    assert seen == [SIF]
    assert case.place.read_bytes() == b"before"
    assert case.store == ["image.sif"]


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        (
            b"<html>" * 100,
            InvalidSif,
            "is no sound SIF file: what was sent is not a SIF image (600 B of ",
        ),
        (SIF[:-1], InvalidSif, "is no sound SIF file: what was sent is truncated"),
        (
            written(architecture="arm64"),
            PlatformNotFound,
            "no linux/amd64 in oras://host/org/app:1 (it has linux/arm64)",
        ),
    ],
)
def test_what_is_no_sif_of_the_platform_is_not_placed(
    tmp_path: Path, content: bytes, kind: type[Exception], why: str
) -> None:
    case = Case(tmp_path, content)
    with pytest.raises(kind) as error:
        case.into_place()
    assert why in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert case.store == []


class _Unpacked(Toolchain):
    """The toolchain of a host with an engine, where nothing must be packed."""

    @property
    def engine(self) -> Any:
        """Any."""
        return object()

    @property
    def packer(self) -> Any:
        """An error."""
        raise AssertionError("nothing is packed")


class Site:
    """A host that pulls one name from a web server, by the whole use-case."""

    def __init__(self, server: FaultyRegistry, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.name = Reference.parse(f"{server.url}/team/app.sif?signature=secret")
        self.verified: list[str] = []
        self.trusted = True

    def serve(self, content: bytes, etag: str | None) -> None:
        """Put a file there; who asks without the query gets nothing."""
        self.server.calm()
        self.server.when(r"/team/app\.sif\?signature=secret$", faults.served(content, etag))

    def trust(self, mark: str | None = "mark") -> Trust:
        """Return a trust that counts what it verifies."""
        site = self

        class Counting(Trust):
            """Without an engine."""

            def verify(self, path: str, what: object) -> Any:
                site.verified.append(str(what))
                if not site.trusted:
                    raise Unsigned(f"verification failed: {what}: no signatures found")

        return Counting((), mark)

    def pull(self, check: bool = False, name: Reference | None = None, **how: Any) -> PullOutcome:
        """Make one run; the engine that verifies needs to be there, the packer not."""
        registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0))
        inventory = Inventory(str(self.directory / "inventory"))
        session = Session(registries, BlobCache(str(self.directory / "cache")), inventory, AMD64, 2, check)
        toolchain = _Unpacked(str(self.directory))
        wanted = {"dest": None, "policy": "always", "checksum": False, "force": False, **how}
        name = name or self.name
        prepare = cast(Any, lambda _path: None)
        asked = PullRequest(storage=str(self.directory / "store"), toolchain=toolchain, prepare=prepare, **wanted)
        outcome = pull(session, asked, [name])[name]
        registries.close()
        return outcome

    def record(self, check: bool = False) -> PullOutcome:
        """Make one run that only looks."""
        registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0))
        inventory = Inventory(str(self.directory / "inventory"))
        session = Session(registries, BlobCache(str(self.directory / "cache")), inventory, AMD64, 2, check)
        outcome = record(session, [self.name])[self.name]
        registries.close()
        return outcome

    @property
    def requests(self) -> list[str]:
        """The methods of all requests since the file was put there."""
        return [request.method for request in self.server.requests]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with FaultyRegistry() as server:
        there = Site(server, tmp_path)
        there.serve(SIF, '"one"')
        yield there


def summary(outcome: PullOutcome) -> tuple[str, bool, str | None]:
    return outcome.action, outcome.changed, str(outcome.error) if outcome.error else None


def test_a_web_file_is_pulled_once_for_each_change(site: Site) -> None:
    foreseen, first = site.pull(check=True), site.pull()
    assert foreseen.to_diff() == first.to_diff()
    assert summary(first) == ("pulled", True, None)
    place = Path(str(first.path))
    assert place.read_bytes() == SIF
    site.server.calm()
    site.serve(SIF, '"one"')
    assert [summary(site.pull(check=check)) for check in (True, False)] == [("present", False, None)] * 2
    assert site.requests == ["HEAD", "HEAD"]
    assert summary(site.pull(policy="not_present")) == ("present", False, None)
    assert site.requests == ["HEAD", "HEAD"]

    other = written(squashfs=b"hsqs" + bytes(9000))
    site.serve(other, '"two"')
    assert site.pull(check=True).to_diff() == site.pull().to_diff()
    assert place.read_bytes() == other
    modified = place.stat().st_mtime_ns
    site.serve(other, '"three"')
    again = site.pull()
    assert summary(again) == ("present", False, None)
    assert again.to_diff()["before"] == again.to_diff()["after"]
    assert place.stat().st_mtime_ns == modified
    begun = len(site.requests)
    assert summary(site.pull()) == ("present", False, None)
    assert site.requests[begun:] == ["HEAD"], "what the server told last is remembered"
    place.unlink()
    site.serve(other, '"three"')
    assert summary(site.pull()) == ("repaired", True, None)
    assert site.requests == ["GET"]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("row", odd.WEB)
def test_a_file_of_an_odd_web_server_is_pulled_once(site: Site, row: str) -> None:
    content = written(squashfs=b"hsqs" + bytes(9000))
    site.server.calm()
    site.server.when(r"/team/app\.sif\?signature=secret$", odd.WEB[row](content))
    foreseen, first = site.pull(check=True), site.pull()
    assert [summary(foreseen), summary(first)] == [("pulled", True, None)] * 2
    place = Path(str(first.path))
    assert place.read_bytes() == content
    modified = place.stat().st_mtime_ns
    for check in (True, False, True):
        assert summary(site.pull(check=check)) == ("present", False, None)
        assert summary(site.record(check=check)) == ("present", False, None)
    assert place.stat().st_mtime_ns == modified

    other = bytes(len(content) - 4) + b"more"
    site.serve(other[:200] + content[200:], '"new"')
    assert site.pull(check=True).changed, "another content of the same size is one"


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("row", odd.WEB)
def test_a_file_of_an_odd_web_server_is_recorded_once_and_pulled_by_its_digest(site: Site, row: str) -> None:
    site.server.calm()
    site.server.when(r"/team/app\.sif\?signature=secret$", odd.WEB[row](SIF))
    assert summary(site.record()) == ("recorded", True, None)
    assert [summary(site.record(check=check)) for check in (True, False)] == [("present", False, None)] * 2
    pinned = site.name.at(f"sha256:{hashlib.sha256(SIF).hexdigest()}")
    assert [summary(site.pull(name=pinned)) for _time in range(2)] == [
        ("pulled", True, None),
        ("present", False, None),
    ]


def test_what_is_replaced_is_kept_where_a_backup_is_asked_for(site: Site) -> None:
    first = site.pull(backup=True)
    place = Path(str(first.path))
    assert ("backup_file" in first.to_result("app"), os.listdir(place.parent)) == (False, [place.name])
    assert site.pull(backup=True).backup_file is None

    other = written(squashfs=b"hsqs" + bytes(9000))
    site.serve(other, '"two"')
    foreseen = site.pull(check=True, backup=True)
    assert (summary(foreseen), foreseen.backup_file) == (("rebuilt", True, None), None)
    replaced = site.pull(backup=True)
    assert replaced.to_diff() == foreseen.to_diff()
    backup = Path(replaced.to_result("app")["backup_file"])
    assert (place.read_bytes(), backup.read_bytes(), backup.parent) == (other, SIF, place.parent)
    assert backup.name.startswith(f"{place.name}.{os.getpid()}.")

    place.write_text("somebody's work")
    mended = site.pull(backup=True)
    assert summary(mended) == ("repaired", True, None)
    assert Path(str(mended.backup_file)).read_text() == "somebody's work"
    place.unlink()
    assert site.pull(backup=True).backup_file is None

    site.serve(SIF, '"three"')
    site.trusted = False
    refused = site.pull(backup=True, trust=site.trust())
    assert (refused.backup_file, place.read_bytes()) == (None, other)
    assert len(os.listdir(place.parent)) == 3
    places = Places(str(place.parent), str(site.directory / "inventory"))
    swept = sweep_store(Inventory(places.inventory), places, [], True)
    assert (swept.gone, swept.strangers) == ([], [])


def test_a_name_with_a_digest_asks_nothing_when_it_is_there(site: Site) -> None:
    pinned = site.name.at(f"sha256:{hashlib.sha256(SIF).hexdigest()}")
    assert summary(site.pull(name=pinned))[0] == "pulled"
    site.server.calm()
    assert summary(site.pull(name=pinned))[0] == "present"
    assert site.requests == []
    wrong = site.name.at(f"sha256:{'0' * 64}")
    site.serve(SIF, '"one"')
    refused = site.pull(name=wrong)
    assert isinstance(refused.error, DigestMismatch)
    assert not os.path.exists(str(refused.path))


def test_a_server_that_tells_no_validator_is_warned_of(site: Site) -> None:
    site.serve(SIF, None)
    (warning,) = site.pull().warnings
    assert warning.startswith("the web server tells neither ETag nor Last-Modified")
    assert summary(site.pull())[0] == "present"


def test_what_is_not_signed_replaces_nothing(site: Site) -> None:
    place = Path(str(site.pull().path))
    site.serve(written(squashfs=b"hsqs" + bytes(9000)), '"two"')
    site.trusted = False
    refused = site.pull(trust=site.trust())
    assert summary(refused) == ("failed", False, f"verification failed: {site.name}: no signatures found")
    assert place.read_bytes() == SIF
    assert os.listdir(place.parent) == [place.name]
    assert isinstance(site.pull(trust=site.trust()).error, Unsigned)
    site.trusted = True
    assert summary(site.pull(trust=site.trust()))[0] == "rebuilt"


def test_a_file_that_is_there_is_verified_once_for_each_trust(site: Site) -> None:
    place = str(site.pull().path)
    assert summary(site.pull(check=True, trust=site.trust())) == ("present", False, None)
    for mark in ("mark", "mark", "other", "other"):
        assert summary(site.pull(trust=site.trust(mark))) == ("present", False, None)
    assert site.verified == [place] * 3
    site.pull(trust=site.trust(None))
    site.pull(trust=site.trust(None))
    assert site.verified == [place] * 5
    site.trusted = False
    assert isinstance(site.pull(trust=site.trust("third"), check=True).error, Unsigned)


def test_what_was_verified_when_it_came_is_not_verified_again(site: Site) -> None:
    site.pull(trust=site.trust())
    site.pull(trust=site.trust())
    assert site.verified == [str(site.name)]


@pytest.mark.parametrize("content", [b"precious", SIF], ids=["text", "added"])
def test_what_nobody_can_fetch_again_is_replaced_by_force_alone(site: Site, content: bytes) -> None:
    dest = site.directory / "dest"
    dest.write_bytes(content)
    if content == SIF:
        status = dest.stat()
        added = File(
            str(dest), status.st_size, status.st_mtime_ns, "0" * 64, None, {}, None, None, None, "2026-01-01T00:00:00Z"
        )
        owner = Document.local(Reference.parse("vendor/solver:1"), AMD64, url="").with_file(added)
        Inventory(str(site.directory / "inventory")).put(owner)
    for check in (True, False):
        refused = site.pull(check=check, dest=str(dest))
        assert "force: true to replace it" in str(refused.error)
    assert dest.read_bytes() == content
    assert summary(site.pull(dest=str(dest), force=True)) == ("pulled", True, None)
    assert dest.read_bytes() == SIF


def test_an_image_that_no_inventory_knows_is_replaced_with_a_warning(site: Site) -> None:
    dest = site.directory / "dest"
    dest.write_bytes(written(squashfs=b"hsqs" + bytes(9000)))
    for check in (True, False):
        (warning,) = site.pull(check=check, dest=str(dest)).warnings
        assert warning == f"{dest} was there and is replaced; the inventory does not know it"
    assert dest.read_bytes() == SIF
    assert site.pull(dest=str(dest)).warnings == []


@pytest.mark.parametrize("platform", [AMD64, Platform("linux", "arm64")], ids=["added", "of another platform"])
def test_what_another_run_put_there_meanwhile_is_not_replaced(
    site: Site, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory, locked_path = Inventory(str(site.directory / "inventory")), Inventory.locked_path
    own = platform == AMD64
    path = Path(str(site.pull(check=True).path))

    def meddled(self: Inventory, place: str, timeout: float) -> Any:
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(SIF)
            status = path.stat()
            file = File(
                str(path),
                status.st_size,
                status.st_mtime_ns,
                "0" * 64,
                None if own else "sha256:1",
                {},
                None,
                None,
                None,
                "2026-01-01T00:00:00Z",
            )
            document = Document.local(Reference.parse("vendor/solver:1") if own else site.name, platform, url="")
            inventory.put(document.with_file(file))
        return locked_path(self, place, timeout)

    monkeypatch.setattr(Inventory, "locked_path", meddled)
    refused = site.pull()
    assert refused.action == "failed"
    assert not refused.changed
    assert f"{path} is the file of " in str(refused.error)
    assert "force: true" in str(refused.error)
    assert path.read_bytes() == SIF
    (owner,) = inventory.owners(str(path))
    assert owner.platform == platform


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize(("owner", "mode"), [(4711, 0o755), (0, 0o775), (0, 0o757)])
def test_a_file_that_somebody_else_could_change_is_verified_each_time(site: Site, owner: int, mode: int) -> None:
    place = Path(str(site.pull(trust=site.trust()).path))
    place.chmod(mode)
    os.chown(place, owner, 0)
    for _time in range(2):
        assert summary(site.pull(trust=site.trust())) == ("present", False, None)
    assert site.verified == [str(site.name), str(place), str(place)]
    site.trusted = False
    assert isinstance(site.pull(trust=site.trust()).error, Unsigned)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_nothing_is_verified_where_another_user_can_swap_files(site: Site) -> None:
    store = site.directory / "store"
    store.mkdir()
    os.chown(store, 4711, 0)
    refused = site.pull(trust=site.trust())
    assert f"cannot be verified where another user can put another file in its place meanwhile: {store}" in str(
        refused.error
    )
    assert site.requests == ["GET"]
    assert list(store.iterdir()) == []
    assert summary(site.pull()) == ("pulled", True, None)


def test_what_is_built_here_is_refused_where_a_signature_is_asked_for(site: Site) -> None:
    refused = site.pull(name=Reference.parse(f"{site.server.address}/team/app:1"), trust=site.trust())
    assert "sign its file with sregistry_sign after the pull" in str(refused.error)
    assert site.requests == []


def test_what_a_killed_run_left_takes_no_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(str(site.pull(check=True).path))
    left = place.with_name(f"{stale.prefix(str(place))}x.tmp")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)
    monkeypatch.setattr(disk_space, "free_space", lambda _directory: 0 if left.exists() else len(SIF))
    assert summary(site.pull()) == ("pulled", True, None)
    assert not left.exists()
