# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking over what sregistry has: all of it, once, and without writing a byte to it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidDatabase
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import legacy
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.legacy import name_of, read_containers
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.import_sregistry import (
    Estate,
    Left,
    take_over,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.outcome import ChangeOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.documents import (
    SCHEMA,
    document,
    image_file,
)

from tests.lab.shelf import (
    LAUNCH,
    database,
    sif_bytes,
    squashfs_bytes,
    write,
)

AMD64 = Platform("linux", "amd64")
MD5 = "f8d7d2e9f5da3fa4112aab30105e2fcd"


class House:
    """A directory of sregistry, ``~/.singularity``, and a new inventory."""

    def __init__(self, root: Path) -> None:
        self.root = root / "singularity"
        self.shub = self.root / "shub"
        self.shub.mkdir(parents=True)
        self.database = self.root / "sregistry.db"
        self.inventory = Inventory(str(root / "inventory"))
        self.estate = Estate(str(self.database), str(self.shub), AMD64, False, lambda _path: None)

    def take(self) -> tuple[list[ChangeOutcome], list[Left]]:
        """Take it over, first in check mode, which must foretell it; nothing of sregistry's may change."""
        before, known = self.state(), self.inventory.rows()
        foretold = take_over(self.inventory, dataclasses.replace(self.estate, check=True))
        assert self.inventory.rows() == known
        done = take_over(self.inventory, self.estate)
        assert [(change.action, change.to_diff()) for change in foretold[0]] == [
            (change.action, change.to_diff()) for change in done[0]
        ]
        assert foretold[1] == done[1]
        assert self.state() == before
        return done

    def state(self) -> dict[str, tuple[int, str]]:
        """Return time and content of each file."""
        return {
            str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in self.root.rglob("*")
            if path.is_file()
        }

    def documents(self) -> list[dict[str, object]]:
        """Return the documents as they are stored, valid by the schema."""
        schema = json.loads(SCHEMA.read_text())
        stored = [
            json.loads(path.read_bytes()) for path in sorted(Path(self.inventory.directory, "images").glob("*.json"))
        ]
        for one in stored:
            jsonschema.validate(one, schema)
        return stored


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Return a home with nothing in it."""
    return House(tmp_path)


def test_every_container_is_taken_over_once(house: House) -> None:
    ubuntu = write(house.shub / "library-ubuntu:latest.simg", LAUNCH + squashfs_bytes("ubuntu"))
    arm = write(house.root / "elsewhere" / "arm.sif", sif_bytes("arm", "arm64"))
    database(
        house.database,
        [
            {"image": str(ubuntu), "version": MD5},
            {"collection": "vsoch", "name": "hello", "tag": "pancakes", "image": str(arm), "client": "google-drive"},
            {"collection": "continuumio", "name": "anaconda3", "created_at": "2018-01-15 00:00:01.123456"},
            {"collection": "quay.io", "name": "org/app", "tag": "Mixed-1.0", "image": str(house.shub / "gone.simg")},
        ],
    )  # fmt: skip
    changes, left = house.take()
    assert left == []
    assert [(str(change.reference), str(change.platform), change.action) for change in changes] == [
        ("library/ubuntu:latest", "linux/amd64", "added"),
        ("vsoch/hello:pancakes", "linux/arm64", "added"),
        ("continuumio/anaconda3:latest", "linux/amd64", "recorded"),
        ("quay.io/org/app:Mixed-1.0", "linux/amd64", "recorded"),
    ]
    by_name = {str(one["uri"]): one for one in house.documents()}
    taken = by_name["library/ubuntu:latest"]
    assert (taken["client"], taken["url"], taken["image"]) == ("dockerhub", "library/ubuntu:latest", str(ubuntu))
    assert (taken["created_at"], taken["digest"]) == ("2018-01-14T22:08:41Z", None)
    assert taken["version"] == hashlib.sha256(ubuntu.read_bytes()).hexdigest()
    assert taken["metrics"] == {
        "sregistry": [
            {
                "client": "dockerhub",
                "collection": "library",
                "collection_id": 1,
                "created_at": "2018-01-14 22:08:41",
                "id": 1,
                "image": str(ubuntu),
                "metrics": {"schemaVersion": 2},
                "name": "ubuntu",
                "tag": "latest",
                "uri": "library/ubuntu:latest",
                "url": "library/ubuntu:latest",
                "version": MD5,
            }
        ]
    }
    assert by_name["vsoch/hello:pancakes"]["client"] == "google-drive"
    assert by_name["continuumio/anaconda3:latest"]["created_at"] == "2018-01-15T00:00:01Z"

    again, _left = house.take()
    assert [(change.changed, change.action) for change in again] == [(False, "present")] * 4


def test_a_container_of_a_day_that_never_was_is_taken_over_all_the_same(house: House) -> None:
    database(house.database, [{"created_at": "0000-00-00 00:00:00", "image": str(house.shub / "gone.simg")}])
    changes, _left = house.take()
    assert [change.action for change in changes] == ["recorded"]
    (taken,) = house.documents()
    assert taken["created_at"] == "1970-01-01T00:00:00Z"


def test_versions_of_a_name_become_one_image_with_all_their_files(house: House) -> None:
    old = write(house.shub / "a@1.simg", squashfs_bytes("old"))
    new = write(house.shub / "a@2.simg", squashfs_bytes("new"))
    database(
        house.database, [{"image": str(old), "version": "1"}, {"image": str(new), "version": "2", "client": "hub"}]
    )
    changes, left = house.take()
    assert left == []
    assert [list(change.to_diff()["after"]["files"]) for change in changes] == [[str(old), str(new)]]
    (stored,) = house.documents()
    assert (stored["image"], stored["client"]) == (str(new), "hub")
    assert not house.take()[0][0].changed


def test_an_image_that_was_pulled_meanwhile_stays_the_newest(house: House) -> None:
    old = write(house.shub / "library-ubuntu:latest.simg", squashfs_bytes())
    database(house.database, [{"image": str(old)}])
    pulled = document("ubuntu", image_file("/store/ubuntu.sif"))
    house.inventory.put(pulled)
    (change,) = house.take()[0]
    assert list(change.to_diff()["after"]["files"]) == [str(old), "/store/ubuntu.sif"]
    (stored,) = house.documents()
    assert (stored["digest"], stored["image"], stored["client"]) == (pulled.digest, "/store/ubuntu.sif", "dockerhub")
    assert not house.take()[0][0].changed


def test_files_that_the_database_does_not_know_are_entered_by_their_paths(house: House) -> None:
    flat = write(house.shub / "library-centos:7.simg", squashfs_bytes("centos"))
    nested = write(house.shub / "vsoch" / "hello" / "latest@4a8c.sif", sif_bytes())
    doubtful = write(house.shub / "my-org-app:1.simg", squashfs_bytes("doubtful"))
    damaged = write(house.shub / "library-broken:1.simg", b"x")
    write(house.shub / ".hidden.sif", b"x")
    write(house.shub / "readme.txt", b"x")
    database(house.database, [])
    changes, left = house.take()
    assert [(str(change.reference), change.path) for change in changes] == [
        ("library/centos:7", str(flat)),
        ("vsoch/hello:latest", str(nested)),
    ]
    assert [(one.what, one.reason.partition(";")[0].replace(str(damaged), "it")) for one in left] == [
        (str(damaged), "it is not an image: it is neither a SIF nor one of Singularity 2 (squashfs or ext3)"),
        (str(doubtful), "its name cannot be told from its path"),
    ]
    again, _left = house.take()
    assert again == []


def test_a_file_that_was_renamed_since_is_not_entered_again(house: House) -> None:
    old = write(house.shub / "library-ubuntu:latest.simg", squashfs_bytes())
    database(house.database, [{"image": str(old)}])
    house.take()
    (taken,) = house.inventory.documents()
    renamed = dataclasses.replace(taken, reference=dataclasses.replace(taken.reference, tag="mine"))
    house.inventory.put(renamed)
    house.inventory.remove(taken.reference, taken.platform)
    house.take()
    assert [row["reference"] for row in house.inventory.rows() if row["path"]] == ["library/ubuntu:mine"]


def test_a_container_that_no_name_fits_and_one_that_is_no_image_are_listed(house: House) -> None:
    text = write(house.shub / "a.simg", b"text")
    database(house.database, [{"name": "has space"}, {"image": str(text)}])
    changes, left = house.take()
    assert changes == []
    assert [one.what for one in left] == ["library/has space:latest", str(text)]
    assert "invalid image name" in left[0].reason


@pytest.mark.parametrize(
    ("path", "collections", "name"),
    [
        ("library-ubuntu:latest.simg", [], "library/ubuntu:latest"),
        ("library-ubuntu:latest@f8d7.simg", [], "library/ubuntu:latest"),
        ("mso4sc-sregistry-cli:latest.simg", [], None),
        ("mso4sc-sregistry-cli:latest.simg", ["mso4sc"], "mso4sc/sregistry-cli:latest"),
        ("my-org-app:1.simg", ["my", "my-org"], None),
        ("library-ubuntu-latest.simg", [], "library/ubuntu:latest"),
        ("library-a-b-1.simg", ["library"], None),
        ("library-a-1.img", ["library"], "library/a:1"),
        ("library/plain/latest@4a.sif", [], "library/plain:latest"),
        ("org/deep/app/1.0.sif", [], "org/deep/app:1.0"),
        ("library/ubuntu-22.04.sif", [], None),
        ("-:.sif", [], None),
        ("x.sif", [], None),
    ],
)
def test_the_name_that_a_path_tells(path: str, collections: list[str], name: str | None) -> None:
    assert name_of(path, collections) == name


def _damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)


def _text(path: Path) -> None:
    path.write_text("no database " * 100)


def _empty(path: Path) -> None:
    path.touch()


def _other_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE something (id INTEGER)")
    connection.close()


def _other_columns(path: Path) -> None:
    database(path, [])
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE container RENAME COLUMN version TO revision")
    connection.close()


def _in_use(path: Path) -> None:
    database(path, [])
    Path(f"{path}-journal").write_bytes(b"x")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no database .*; give the path"),
        (_text, "cannot read the database .*: file is not a database"),
        (_damaged, "cannot read the database .*: "),
        (_empty, "is no database of sregistry: it has no table container"),
        (_other_tables, "is no database of sregistry: it has no table container"),
        (_other_columns, "is no database of sregistry: its table container has no version"),
        (_in_use, "is in use, or a run of sregistry was killed"),
    ],
)
def test_what_is_no_sound_database_is_one_clear_error(house: House, make: Callable[[Path], None], words: str) -> None:
    make(house.database)
    with pytest.raises(InvalidDatabase, match=words) as error:
        take_over(house.inventory, house.estate)
    assert str(house.database) in str(error.value)
    assert not os.path.exists(house.inventory.directory)


def test_a_database_that_is_written_to_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "_TIMEOUT", 0.05)
    database(house.database, [{}])
    writer = sqlite3.connect(house.database, isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InvalidDatabase, match="database is locked; it is in use"):
            read_containers(str(house.database))
        writer.execute("ROLLBACK")
    finally:
        writer.close()
    assert len(read_containers(str(house.database))) == 1


def test_a_directory_of_a_database_will_do(house: House) -> None:
    database(house.database, [{"metrics": ["ü"]}])
    (container,) = read_containers(str(house.root))
    assert container.row["metrics"] == ["ü"]


def test_a_python_without_sqlite_is_a_clear_error(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "HAS_SQLITE", False)
    with pytest.raises(InvalidDatabase, match="no module sqlite3; install it"):
        read_containers(str(house.database))


def test_a_path_that_is_none_is_listed(house: House) -> None:
    database(house.database, [{"name": "odd", "image": "/home/a\0b.simg"}])
    changes, (left,) = house.take()
    assert (changes, left.what) == ([], "/home/a\0b.simg")
    assert "is no path" in left.reason


def test_a_storage_that_is_not_there_is_listed(house: House) -> None:
    database(house.database, [])
    house.shub.rmdir()
    changes, (left,) = house.take()
    assert (changes, left.what) == ([], str(house.shub))
    assert "there is no such directory" in left.reason
    house.estate = dataclasses.replace(house.estate, directory=None)
    assert house.take() == ([], [])


def test_the_files_of_another_store_are_not_taken_over(house: House) -> None:
    house.estate = dataclasses.replace(house.estate, database=None)
    write(house.shub / "library-ubuntu:latest.simg", squashfs_bytes())
    write(house.shub / "team" / ".sregistry" / "images" / "a.json", b"{}")
    write(house.shub / "team" / "library-centos:7.simg", squashfs_bytes("centos"))
    changes, left = house.take()
    assert ([str(change.reference) for change in changes], left) == (["library/ubuntu:latest"], [])
