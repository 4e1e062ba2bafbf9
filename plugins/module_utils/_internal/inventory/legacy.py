# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remains of sregistry on a host: its SQLite database, and the names of the files in its storage.

Source: ``sregistry/database/models.py``, ``sregistry/utils/names.py`` and ``get_storage_name`` of all releases of
singularityhub/sregistry-cli.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..errors import InvalidDatabase
from ..fs.files import storage_error
from .document import is_time

try:
    import sqlite3
except ImportError:  # Python can be built without it
    HAS_SQLITE = False
else:
    HAS_SQLITE = True

DATABASE = "sregistry.db"

_TIMEOUT = 5.0  # seconds that sregistry may take to finish a write
_COLUMNS = (
    "id",
    "created_at",
    "metrics",
    "name",
    "tag",
    "image",
    "url",
    "uri",
    "client",
    "version",
    "collection_id",
)
_CREATED_AT = re.compile(r"\A(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_IMAGE = re.compile(r"\.(sif|simg|img)\Z")


@dataclass(frozen=True)
class Container:
    """A container of sregistry. Its version is what its client called so: a checksum, or nothing.

    ``created_at`` is in UTC as RFC 3339 writes it, ``row`` all that the database says of it.
    """

    collection: str
    name: str
    tag: str
    version: str
    image: str | None
    url: str
    client: str
    created_at: str
    row: dict[str, Any] = field(repr=False)

    @property
    def uri(self) -> str:
        """The name that sregistry gives it, without the version."""
        return f"{self.collection}/{self.name}:{self.tag}"


def read_containers(path: str) -> list[Container]:
    """Return all containers of a database, in the order in which they were entered. Nothing is written.

    :param path: of the database, or of the directory with it.
    :raises InvalidDatabase: if it is none of sregistry's, is damaged, or is being written to.
    """
    if not HAS_SQLITE:
        raise InvalidDatabase(
            f"cannot read {path}: this host's Python has no module sqlite3; install it (python3-libs or "
            "libsqlite3-0), or give another interpreter with ansible_python_interpreter"
        )
    if os.path.isdir(path):
        path = os.path.join(path, DATABASE)
    if not os.path.isfile(path):
        raise InvalidDatabase(f"there is no database {path}; give the path of sregistry's database with database")
    for suffix in ("-journal", "-wal"):
        if os.path.exists(path + suffix) and os.path.getsize(path + suffix):
            raise InvalidDatabase(
                f"the database {path} is in use, or a run of sregistry was killed: there is {path + suffix}; let "
                "sregistry finish, or run 'sregistry images' once to mend it"
            )
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=_TIMEOUT)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            _check_schema(connection, path)
            columns = ", ".join(f"container.{column}" for column in _COLUMNS)
            rows = connection.execute(
                f"SELECT {columns}, collection.name FROM container LEFT JOIN collection "  # noqa: S608 (constants)
                "ON collection.id = container.collection_id ORDER BY container.id"
            ).fetchall()
    except sqlite3.Error as error:
        raise InvalidDatabase(f"cannot read the database {path}: {_why(error)}") from error
    except OSError as error:
        raise storage_error(error, path) from error
    return [_container(dict(zip((*_COLUMNS, "collection"), row))) for row in rows]


def _why(error: Exception) -> str:
    words = str(error)
    if "locked" in words or "busy" in words:
        return f"{words}; it is in use, let sregistry finish first"
    if "unable to open" in words or "authoriz" in words or "permission" in words.lower():
        return f"{words}; let this user read it"
    return f"{words}; restore it from a backup, or add the files one by one with images"


def _check_schema(connection: sqlite3.Connection, path: str) -> None:
    known = {"container": _COLUMNS, "collection": ("id", "name")}
    for table, columns in known.items():
        have = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        missing = [column for column in columns if column not in have]
        if missing:
            what = f"its table {table} has no {', '.join(missing)}" if have else f"it has no table {table}"
            raise InvalidDatabase(
                f"{path} is no database of sregistry: {what}; give the path of the right one with database"
            )


def _container(columns: dict[str, Any]) -> Container:
    row = {key: os.fsdecode(value) if isinstance(value, bytes) else value for key, value in columns.items()}
    row["metrics"] = _json(row["metrics"])
    created = _CREATED_AT.match(str(row["created_at"] or ""))
    moment = f"{created.group(1)}T{created.group(2)}Z" if created else ""
    return Container(
        collection=str(row["collection"] or ""),
        name=str(row["name"]),
        tag=str(row["tag"]),
        version=str(row["version"] or ""),
        image=str(row["image"]) if row["image"] else None,
        url=str(row["url"] or ""),
        client=str(row["client"] or "") or "unknown",
        created_at=moment if is_time(moment) else "1970-01-01T00:00:00Z",
        row=dict(sorted(row.items())),
    )


def _json(text: object) -> Any:
    """Return the metrics, which sregistry keeps as JSON; what is not JSON stays as it is."""
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        return text


def name_of(path: str, collections: Collection[str]) -> str | None:
    """Return the name that a file in sregistry's storage has, as ``collection/name:tag``, told by its path.

    Releases wrote ``collection-name:tag``, then ``collection-name-tag``, then ``collection/name/tag``, each with or
    without ``@version``. Where the first two could be read in two ways, the collection must be one that is known.

    :param path: relative to the storage.
    :param collections: that are known.
    :returns: None where the name is not certain.
    """
    stem = _IMAGE.sub("", path).partition("@")[0]
    directory, slash, rest = stem.rpartition("/")
    if slash:
        parts = directory.split("/")
        return f"{directory}:{rest}" if len(parts) > 1 and rest else None
    flat, colon, tag = rest.partition(":")
    known = [collection for collection in collections if flat.startswith(f"{collection.replace('/', '-')}-")]
    if len(known) == 1:
        collection, name = known[0], flat[len(known[0]) + 1 :]
    else:
        collection, _dash, name = flat.partition("-")
    if not colon:
        name, _dash, tag = name.rpartition("-")
    certain = "-" not in name or (colon and len(known) == 1)
    return f"{collection}/{name}:{tag}" if certain and collection and name and tag else None
