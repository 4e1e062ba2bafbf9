# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module, run by root on a store and cache of another user, and everything that this user could have put there.

Nothing outside of store and cache may change, be read out, or be deleted for it. The user is the number 1000.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible.module_utils import basic
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.storage import file_name
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import resolve_image
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif import container as sif
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import sif_inputs
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.sif_files import written

from tests.lab import shelf

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be made to act for others")

pytest_plugins = ["ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest"]

MODULES = "ansible_collections.hpc.sregistry.plugins.modules.sregistry_"
USER = 1000
SECRET = "the secret of root"
NAME, HEX = "tools/secret:1", "ab" * 32
OLD = 1_500_000_000  # the mtime of what is old, in seconds
Run = tuple[str, dict[str, Any]]


@dataclass
class World:
    """A user's home with a store and a cache, and what is none of his business."""

    root: Path
    address: str

    @property
    def store(self) -> Path:
        """The store in the user's home."""
        return self.root / "home" / "store"

    @property
    def cache(self) -> Path:
        """The engine's cache in the user's home."""
        return self.root / "home" / "cache"

    @property
    def canary(self) -> Path:
        """Return a file that only root may read and write."""
        return self.root / "canary"

    @property
    def secret(self) -> Path:
        """An image of root."""
        return self.canary / "secret.sif"

    @property
    def place(self) -> Path:
        """Return the place of the pulled image in the store."""
        return self.store / file_name(Reference.parse(self.app))

    @property
    def app(self) -> str:
        """An image in the registry."""
        return f"oras://{self.address}/planted/app:1"

    def build(self) -> None:
        """Make all of it, as it is before anybody plants anything."""
        for path in (self.secret, self.canary / "sha256" / HEX, self.canary / HEX, self.canary / "app-1.sif"):
            shelf.write(path, _secret_image(path.name))
        shelf.write(self.canary / "notes", f"{SECRET}\n".encode())
        shelf.write(self.canary / "tree" / ".singularity.d" / "Singularity", f"# {SECRET}\n".encode())
        left = f".app-1.sif.{stale.prefix()}old{stale.SUFFIX}"
        shelf.write(self.canary / left, SECRET.encode())
        shelf.write(self.canary / f"{stale.prefix()}old" / "part", SECRET.encode())
        for path in [*self.canary.rglob("*"), self.canary]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            os.utime(path, (OLD, OLD))
        for directory in (self.store, self.cache):
            directory.mkdir(parents=True)
        (self.root / "key.pem").write_text("no key")
        self.give(self.root / "home")

    def give(self, path: Path) -> None:
        """Let a tree be the user's, as if he had made it; links to what is another's inode are left as they are."""
        for one in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
            if one.is_symlink() or one.is_dir() or one.stat().st_nlink == 1:
                os.lchown(one, USER, USER)

    def link(self, path: Path, target: Path) -> None:
        """Make a symlink of the user, with the directories to it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        self.give(self.root / "home")

    def hard_link(self, path: Path, target: Path) -> None:
        """Make a second name of a file, in the user's home."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(target, path)
        self.give(self.root / "home")

    def document(self, path: str, looks_like: Path, sha256: str | None = None) -> None:
        """Write a document as the user would by hand: his image has its file at a path."""
        status = looks_like.stat()
        right = hashlib.sha256(looks_like.read_bytes()).hexdigest() if looks_like.is_file() else ""
        file = File(
            path,
            status.st_size,
            status.st_mtime_ns,
            right if sha256 is None else sha256,
            None,
            {"format": "sif" if right else "sandbox"},
            None,
            None,
            None,
            "2026-01-01T00:00:00Z",
        )
        Inventory(str(self.store / ".sregistry")).put(
            Document.local(Reference.parse(NAME), Platform("linux", "amd64"), file)
        )
        self.give(self.root / "home")

    def look(self) -> dict[str, tuple[Any, ...]]:
        """Return all of the canary, but the number of a file's names, which the user can change."""
        seen = {}
        for path in sorted([self.canary, *self.canary.rglob("*")]):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else sorted(os.listdir(path))
            seen[str(path)] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)
        return seen

    def leaks(self) -> list[str]:
        """List files outside of the canary that hold the secret, and that the user can read."""
        found = []
        own = {(path.stat().st_dev, path.stat().st_ino) for path in self.canary.rglob("*")}
        for path in self.root.rglob("*"):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) in own:
                continue
            if (status.st_uid == USER or status.st_mode & 0o044) and SECRET.encode() in path.read_bytes():
                found.append(str(path))
        return found

    def run(self, module: str, **given: Any) -> tuple[dict[str, Any], str]:
        """Run a module as Ansible does; its result, and all that it says."""
        cached = module in ("pull", "record", "remove", "sign", "build")
        options = {"storage": str(self.store), **({"cachedir": str(self.cache)} if cached else {}), **given}
        options["_ansible_diff"] = True
        said = io.StringIO()
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode()
        basic._ANSIBLE_PROFILE = "legacy"
        main = importlib.import_module(MODULES + module).main
        with redirect_stdout(said), suppress(SystemExit):
            main()
        return json.loads(said.getvalue().strip().splitlines()[-1]), said.getvalue()


# What the user plants


def _document(world: World) -> None:
    world.document(str(world.secret), world.secret)


def _document_of_text(world: World) -> None:
    world.document(str(world.canary / "notes"), world.canary / "notes", sha256="0" * 64)


def _document_of_a_tree(world: World) -> None:
    world.document(str(world.canary / "tree"), world.canary / "tree")


def _document_with_a_path_for_a_digest(world: World) -> None:
    way = os.path.relpath(world.secret, world.cache / "cache" / "blob" / "blobs" / "sha256")
    (world.cache / "cache" / "blob" / "blobs" / "sha256").mkdir(parents=True)
    world.document(str(world.store / "gone.sif"), world.secret, sha256=way)


def _document_through_a_link(world: World) -> None:
    world.link(world.store / "mine", world.canary)
    world.document(str(world.store / "mine" / "secret.sif"), world.secret)


def _document_with_dots(world: World) -> None:
    world.document(f"{world.store}/../../canary/secret.sif", world.secret)


def _document_of_a_link(world: World) -> None:
    world.link(world.store / "tools" / "secret-1.sif", world.secret)
    world.document(str(world.store / "tools" / "secret-1.sif"), world.secret)


def _document_of_a_second_name(world: World) -> None:
    world.hard_link(world.store / "tools" / "secret-1.sif", world.secret)
    world.document(str(world.store / "tools" / "secret-1.sif"), world.secret)


def _document_of_a_pipe(world: World) -> None:
    world.document(str(world.store / "tools" / "secret-1.sif"), world.secret)
    (world.store / "tools").mkdir(exist_ok=True)
    os.mkfifo(world.store / "tools" / "secret-1.sif")
    world.give(world.root / "home")


def _linked(where: str, what: str = "") -> Callable[[World], None]:
    return lambda world: world.link(world.root / "home" / where, world.canary / what)


def _linked_place(world: World) -> None:
    world.link(world.place.parent, world.canary)


def _linked_registry(world: World) -> None:
    (world.canary / "planted").mkdir(mode=0o700)
    world.link(world.place.parent.parent, world.canary)


def _second_name(where: str, what: str = "secret.sif") -> Callable[[World], None]:
    return lambda world: world.hard_link(world.root / "home" / where, world.canary / what)


def _second_name_at_the_place(world: World) -> None:
    world.hard_link(world.place, world.secret)


def _present_under_a_second_name(world: World) -> None:
    """Give another file the name and the time of an image that is there, as it was pulled."""
    world.run("pull", name=[world.app], no_https=True)
    document = next(Path(world.store, ".sregistry", "images").glob("*.json"))
    data = json.loads(document.read_text())
    status = world.secret.stat()
    data["files"][0].update(size=status.st_size, mtime_ns=status.st_mtime_ns)
    document.write_text(json.dumps(data))
    world.place.unlink()
    world.hard_link(world.place, world.secret)


def _partial(make: str) -> Callable[[World], None]:
    def plant(world: World) -> None:
        digest = hashlib.sha256(_image()).hexdigest()
        path = world.cache / "cache" / "blob" / "blobs" / "sha256" / f".{digest}.partial"
        (world.link if make == "link" else world.hard_link)(path, world.secret)

    return plant


def _locks(make: str) -> Callable[[World], None]:
    """Put files of root in the place of the pulled image's locks; another for each, or none would be free."""

    def plant(world: World) -> None:
        world.run("pull", name=[world.app], no_https=True)
        locks = [*(world.store / ".sregistry" / "locks").iterdir(), world.cache / "cache/blob/.sregistry.lock"]
        files = [path for path in sorted(world.canary.rglob("*")) if path.is_file()]
        for lock, file in zip(locks, files, strict=False):
            lock.unlink()
            (world.link if make == "link" else world.hard_link)(lock, file)
        world.place.unlink()

    return plant


PLANTS: dict[str, Callable[[World], None]] = {
    "document of a file of root": _document,
    "document of a text of root": _document_of_text,
    "document of a directory of root": _document_of_a_tree,
    "document with a path for a digest": _document_with_a_path_for_a_digest,
    "document through a linked directory": _document_through_a_link,
    "document with dots": _document_with_dots,
    "document of a link": _document_of_a_link,
    "document of a second name": _document_of_a_second_name,
    "document of a pipe": _document_of_a_pipe,
    "linked inventory": _linked("store/.sregistry"),
    "linked documents": _linked("store/.sregistry/images"),
    "linked locks": _linked("store/.sregistry/locks"),
    "linked store": lambda world: (world.store.rmdir(), world.link(world.store, world.canary))[0],  # type: ignore[func-returns-value]
    "linked registry": _linked_registry,
    "linked place": _linked_place,
    "linked cache": lambda world: (world.cache.rmdir(), world.link(world.cache, world.canary))[0],  # type: ignore[func-returns-value]
    "linked layout": _linked("cache/cache"),
    "linked blobs": _linked("cache/cache/blob/blobs"),
    "linked algorithm": _linked("cache/cache/blob/blobs/sha256", "sha256"),
    "linked stranger among the blobs": _linked("cache/cache/blob/blobs/evil"),
    "linked partial blob": _partial("link"),
    "partial blob of a second name": _partial("second name"),
    "linked place of a file": lambda world: world.link(world.place, world.secret),
    "second name at a place": _second_name_at_the_place,
    "second name of what is present": _present_under_a_second_name,
    "linked lock files": _locks("link"),
    "lock files of a second name": _locks("second name"),
    "second name of the cache's lock": _second_name("cache/cache/blob/.sregistry.lock", "notes"),
    "file to add that is a link": _linked("add.sif", "secret.sif"),
    "file to add that is a second name": _second_name("add.sif"),
}


# What root does

ATTRIBUTES = {"mode": "0666", "owner": str(USER), "group": str(USER)}


def _runs(world: World) -> dict[str, list[Run]]:
    stolen = f"oras://{world.address}/stolen/{world.root.name}:1"
    registry: dict[str, Any] = {"no_https": True}
    pulled: dict[str, Any] = {"name": [world.app], **registry}
    add = str(world.root / "home" / "add.sif")
    place = str(world.store / "tools" / "secret-1.sif")
    database = str(world.root / "home" / "sregistry.db")
    key = str(world.root / "key.pem")
    return {
        "facts": [("facts", {"checksum": True})],
        "info": [("info", {"checksum": True, "inspect": True, "manifests": True})],
        "record": [("record", pulled)],
        "pull": [("pull", {**pulled, **ATTRIBUTES}), ("pull", {**pulled, **ATTRIBUTES})],
        "pull by force": [("pull", {**pulled, **ATTRIBUTES, "force": True, "checksum": True})],
        "pull with a backup": [("pull", {**pulled, **ATTRIBUTES, "force": True, "backup": True})],
        "pull to a path": [("pull", {**pulled, **ATTRIBUTES, "dest": place, "force": True})],
        "build": [("build", {"source": world.app, "path": add, **registry, "force": True})],
        "remove": [("remove", {"name": [NAME]})],
        "remove by force": [("remove", {"name": [NAME], "force": True})],
        "remove all": [("remove", {"name": ["*"], "force": True, "sweep": True, "cache": "prune"})],
        "unbuild": [("remove", {"name": [NAME], "force": True, "state": "recorded"})],
        "sweep": [("remove", {"sweep": True})],
        "prune": [("remove", {"cache": "prune"})],
        "move": [("rename", {"name": NAME, "dest": str(world.store / "x.sif"), **ATTRIBUTES})],
        "rename": [("rename", {"name": NAME, "new_name": "tools/other:1", **ATTRIBUTES})],
        "push": [("push", {"name": NAME, "to": stolen, **registry})],
        "push by force": [("push", {"name": NAME, "to": stolen, "force": True, **registry})],
        "push a path": [("push", {"path": path, "to": stolen, **registry}) for path in (place, add, str(world.place))],
        "sign": [("sign", {"name": [NAME], "key": key}), ("sign", {"path": [place, add], "key": key})],
        "verify": [("verify", {"name": [NAME], "keys": [key]}), ("verify", {"path": [place, add], "keys": [key]})],
        "add": [("add", {"name": "mine:1", "path": add, **ATTRIBUTES})],
        "add by moving": [("add", {"name": "mine:1", "path": add, "method": "move", **ATTRIBUTES})],
        "add in place": [
            ("add", {"name": "mine:1", "path": path, "method": "in_place", **ATTRIBUTES}) for path in (add, place)
        ],
        "take over": [
            ("add", {"takeover": {"database": database, "directory": str(world.store)}, **ATTRIBUTES}),
        ],
    }


TASKS = (
    "facts",
    "info",
    "record",
    "pull",
    "pull by force",
    "pull with a backup",
    "pull to a path",
    "build",
    "remove",
    "remove by force",
    "remove all",
    "unbuild",
    "sweep",
    "prune",
    "move",
    "rename",
    "push",
    "push by force",
    "push a path",
    "sign",
    "verify",
    "add",
    "add by moving",
    "add in place",
    "take over",
)


def _image() -> bytes:
    return written() + b"an application"


def _secret_image(name: str) -> bytes:
    """Return a SIF that says the secret wherever something of it could be shown."""
    told = json.dumps({"data": {"attributes": {"labels": {"secret": SECRET}}}}).encode()
    objects = (
        sif.DataObject(sif.DEFINITION, "", SECRET.encode()),
        sif.DataObject(sif.JSON, "inspect-metadata.json", told),
    )
    return written(objects) + f"{name} {SECRET}".encode()


@pytest.fixture(scope="module")
def address(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push the image that is pulled, and return the registry's address."""
    directory = tmp_path_factory.mktemp("app")
    (directory / "app.sif").write_bytes(_image())
    world = World(directory, stored.address)
    result, said = world.run("push", path=str(directory / "app.sif"), to=world.app, no_https=True)
    assert result.get("failed") is not True, said
    return stored.address


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what modules do with signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("plant", PLANTS)
def test_no_module_of_root_reaches_beyond_a_users_store_and_cache(
    tmp_path: Path, address: str, handlers: None, plant: str
) -> None:
    for task in TASKS:
        one = World(tmp_path / task.replace(" ", "-"), address)
        one.build()
        PLANTS[plant](one)
        before = one.look()
        if task == "take over":
            container = {"name": "stolen", "collection": "old", "image": str(one.secret)}
            one.give(shelf.database(one.root / "home" / "sregistry.db", [container]))
        for module, options in _runs(one)[task]:
            _result, said = one.run(module, **options)
            assert "internal error" not in said, (task, said)
            assert SECRET not in said, (task, said)
        assert one.look() == before, task
        assert one.leaks() == [], task
        url = f"http://{one.address}/v2/stolen/{one.root.name}/manifests/1"
        manifest = requests.get(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}, timeout=30)
        secrets = {hashlib.sha256(path.read_bytes()).hexdigest() for path in one.canary.rglob("*") if path.is_file()}
        assert not any(secret in manifest.text for secret in secrets), task


@pytest.fixture
def world(tmp_path: Path, address: str, handlers: None) -> World:
    """Return a world in which the user has planted nothing yet."""
    made = World(tmp_path, address)
    made.build()
    return made


@pytest.mark.parametrize(
    ("plant", "module", "options", "words"),
    [
        (_document, "rename", {"name": NAME, "dest": "STORE/x.sif"}, ("SECRET", "user 1000", "move the file yourself")),
        (_document, "remove", {"name": [NAME], "force": True}, ("SECRET", "user 1000", "state: forgotten")),
        (_document, "push", {"name": NAME, "to": "REGISTRY/stolen/x:1"}, ("SECRET", "does not read it out")),
        (_document, "sign", {"name": [NAME], "key": "/key"}, ("SECRET", "does not read it out")),
        (_linked("cache/cache/blob/blobs"), "remove", {"cache": "prune"}, ("'blobs'", "could have made")),
        (_linked("store/.sregistry/locks"), "pull", {"name": ["APP"]}, ("'locks'", "could have made", "remove it")),
        (_linked_place, "pull", {"name": ["APP"]}, ("'planted'", "could have made", "remove it")),
        (_present_under_a_second_name, "pull", {"name": ["APP"], "mode": "0644"}, ("app-1.sif has 2 names",)),
    ],
)
def test_what_is_refused_names_the_cause_and_the_way_out(
    world: World, plant: Callable[[World], None], module: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    plant(world)
    said = {"STORE": str(world.store), "REGISTRY": f"oras://{world.address}", "APP": world.app}
    text = json.dumps(options)
    for mark, meant in said.items():
        text = text.replace(mark, meant)
    given = json.loads(text)
    if module in ("pull", "push"):
        given["no_https"] = True
    for check in (True, False):
        result, _all = world.run(module, _ansible_check_mode=check, **given)
        assert result["failed"]
        for word in words:
            assert word.replace("SECRET", str(world.secret)) in result["msg"], result["msg"]


def test_what_a_user_says_of_a_file_does_not_bring_it_into_the_cache_of_all(
    world: World, stored: Stored, connect: Connect
) -> None:
    reference, platform = Reference.parse(f"{stored.address}/team/multi:1"), Platform("linux", "amd64")
    image = resolve_image(connect(stored.address), BlobCache(str(world.root / "blobs")), reference, platform)
    path = world.store / file_name(reference)
    path.parent.mkdir(parents=True)
    path.write_bytes(_image())
    inputs = sif_inputs("entrypoint", "gzip", 9, True, "apptainer")
    sha256 = hashlib.sha256(_image()).hexdigest()
    file = dataclasses.replace(
        File.at(str(path), sha256, inputs),
        manifest_digest=image.manifest_digest,
        builder="stream",
    )
    document = Document.local(reference, platform, file, url=reference.url, client="dockerhub")
    told: dict[str, Any] = {
        "digest": image.digest,
        "manifest_digest": image.manifest_digest,
        "metrics": image.documents,
    }
    Inventory(str(world.store / ".sregistry")).put(dataclasses.replace(document, **told))
    for writer, pushed in ((USER, False), (0, True)):
        for path in (world.store / ".sregistry" / "images").iterdir():
            os.chown(path, writer, writer)
        cache = f"http://{stored.address}/of-{writer}"
        options = {"no_https": True, "sif_cache": cache, "sif_cache_push": True}
        result, said = world.run("pull", name=[reference.uri], **options)
        assert not result.get("failed"), said
        catalogue = requests.get(f"http://{stored.address}/v2/_catalog?n=1000", timeout=30).json()
        assert any(name.startswith(f"of-{writer}/") for name in catalogue["repositories"]) is pushed


def _take_a_group_as_store(world: World) -> None:
    os.chown(world.store, 0, USER)
    world.store.chmod(0o2775)


def _take_a_link_of_root(world: World) -> None:
    lustre = world.root / "lustre"
    lustre.mkdir()
    world.place.parent.parent.mkdir()
    world.place.parent.symlink_to(lustre)


def _take_a_link_of_the_user(world: World) -> None:
    scratch = world.root / "scratch"
    world.store.rename(scratch)
    world.link(world.store, scratch)


@pytest.mark.parametrize(
    "site", [lambda world: None, _take_a_group_as_store, _take_a_link_of_root, _take_a_link_of_the_user]
)
def test_root_manages_the_stores_that_sites_have(world: World, site: Callable[[World], None]) -> None:
    site(world)
    pulled = {"name": [world.app], "no_https": True, "mode": "0640"}
    steps: list[tuple[str, dict[str, Any], bool]] = [
        ("pull", pulled, True),
        ("pull", pulled, False),
        ("pull", {**pulled, "mode": "0755"}, True),  # the cache keeps the file under another name
        ("pull", {**pulled, "mode": "0755", "checksum": True, "force": True}, True),
        ("push", {"name": world.app, "to": f"{world.app}-again", "no_https": True}, False),
        ("rename", {"name": world.app, "new_name": "tools/app:1", "mode": "0644"}, True),
        ("rename", {"name": "tools/app:1", "dest": str(world.store / "app.sif")}, True),
        ("remove", {"name": ["tools/app:1"], "cache": "prune"}, True),
    ]
    for module, options, changed in steps:
        result, said = world.run(module, **options)
        assert not result.get("failed"), said
        if module != "push":
            assert result["changed"] is changed, said
    assert not world.place.exists()
