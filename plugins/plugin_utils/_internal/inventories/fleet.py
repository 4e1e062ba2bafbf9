# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventories of many hosts, compared: the images that each host has, and their problems.

A report shows what is decided here, as ``docs/report.md`` describes it. Hosts are not trusted: what one of them returns
can spoil its own row only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ....module_utils._internal.text import shown
from ..display.hostlist import fold, natural

SCHEMA_VERSION = 1

CURRENT, LOCAL, RECORDED, OUTDATED = "current", "local", "recorded", "outdated"
DIFFERENT, MODIFIED, MISSING, ABSENT, UNKNOWN = "different", "modified", "missing", "absent", "unknown"

# The letter of each state, the worst first: an image with several files on a host is in the state of the worst.
LETTERS = {
    MISSING: "m",
    MODIFIED: "x",
    DIFFERENT: "d",
    OUTDATED: "o",
    CURRENT: "c",
    LOCAL: "l",
    RECORDED: "r",
    ABSENT: "-",
    UNKNOWN: "?",
}
PROBLEMS = (MISSING, MODIFIED, DIFFERENT, OUTDATED)

OK, UNREACHABLE, FAILED, SILENT = "ok", "unreachable", "failed", "silent"

_RANK = {state: rank for rank, state in enumerate(LETTERS)}
_FILE_STATES = ("present", "modified", "missing", "remote")  # of sregistry_facts
_TIME = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_LARGEST = 2**53  # what JavaScript can count to
_MAX_MESSAGE = 2000


@dataclass(frozen=True)
class FileRow:
    """One row of the facts of a host: a file of an image, or an image without one (times in s since the epoch)."""

    uri: str
    platform: str
    digest: str | None
    manifest_digest: str | None
    updated: int
    path: str | None
    sha256: str
    size: int
    created: int
    built_from: str | None
    state: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> FileRow:
        """Read a row.

        :raises ValueError: if it is not a row.
        """
        state = _text(row, "state")
        if state not in _FILE_STATES:
            raise ValueError(f"{state[:80]!r} is not a state of a file")
        return cls(
            uri=_text(row, "reference"),
            platform=_text(row, "platform"),
            digest=_text_or_none(row, "digest"),
            manifest_digest=_text_or_none(row, "manifest_digest"),
            updated=_seconds(_text(row, "updated_at")),
            path=_text_or_none(row, "path"),
            sha256=_text(row, "sha256"),
            size=_size(row.get("size")),
            created=_seconds(_text(row, "created_at")),
            built_from=_text_or_none(row, "built_from"),
            state=state,
        )

    @property
    def there(self) -> bool:
        """True if there is a file."""
        return self.state in ("present", "modified")


@dataclass(frozen=True)
class Host:
    """A host of the play: its status, why it has no facts, and the rows of its inventory."""

    name: str
    status: str
    message: str = ""
    storage: str = ""
    images: dict[str, list[FileRow]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, result: Any) -> Host:
        """Read the result of ``sregistry_facts``, which may be anything; nothing in it raises an exception."""
        name = shown(str(name), len(str(name)))
        if not isinstance(result, Mapping):
            return cls(
                name, FAILED, f"its result cannot be read: {shown(result, 80)!r} is not a result of sregistry_facts"
            )
        message = shown(" ".join(str(result.get("msg") or "").split()), _MAX_MESSAGE)
        if result.get("unreachable"):
            return cls(name, UNREACHABLE, message or "it cannot be reached")
        if result.get("failed"):
            return cls(name, FAILED, message or "it gave no reason")
        if "images" not in result:
            return cls(name, SILENT, "it was not asked: it had failed or could not be reached before, or comes later")
        try:
            rows = [FileRow.of(row) for row in result["images"]]
            storage = _text(result["ansible_facts"]["sregistry"], "storage")
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            return cls(name, FAILED, shown(f"its facts cannot be read: {error}", _MAX_MESSAGE))
        images: dict[str, list[FileRow]] = {}
        for row in rows:
            images.setdefault(row.uri, []).append(row)
        return cls(name, OK, storage=storage, images=images)

    @property
    def space(self) -> int:
        """The bytes of all files; a file with two names counts once."""
        return sum({row.path: row.size for row in self.rows() if row.there}.values())

    @property
    def oldest(self) -> int | None:
        """The time when the oldest file was built."""
        return min((row.created for row in self.rows() if row.there), default=None)

    def rows(self) -> Iterable[FileRow]:
        """Return all rows."""
        return (row for rows in self.images.values() for row in rows)


@dataclass(frozen=True)
class Standard:
    """The image and the file that those of a platform are compared with.

    ``manifest_digest`` is that of the current image, None for an image that comes from no registry. ``sha256`` is that
    of the file that most hosts have of the current image, None if no file is on more hosts than any other.
    """

    manifest_digest: str | None
    digest: str | None
    given: bool
    updated: int | None
    sha256: str | None


def compare(
    facts: Mapping[str, Any],
    now: str,
    expected: Sequence[str] | None = None,
    digests: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compare the inventories of hosts.

    :param facts: the result of ``sregistry_facts`` of each host, an empty one for a host that was not asked.
    :param now: the time of the report, as ``2026-11-22T06:40:00Z``.
    :param expected: canonical names of the images that each host must have; None if nothing is expected.
    :param digests: by canonical name, what it points at now, an index or a manifest; for others the newest that any
        host knows is taken for current.
    :raises ValueError: if ``now`` is not such a time.
    """
    _seconds(now)
    hosts = sorted((Host.of(name, result) for name, result in facts.items()), key=lambda host: natural(host.name))
    wanted = None if expected is None else set(expected)
    names = sorted({name for host in hosts for name in host.images} | (wanted or set()))
    labels, known = _labels(names), digests or {}
    columns = [_Column(name, hosts, known.get(name), None if wanted is None else name in wanted) for name in names]
    rows = [_HostCells.of(host, columns, at) for at, host in enumerate(hosts)]
    groups = _groups(rows)
    group_of = {member: number for number, members in enumerate(groups) for member in members}
    return {
        "schema_version": SCHEMA_VERSION,
        "time": now,
        "letters": {letter: state for state, letter in LETTERS.items()},
        "problems": list(PROBLEMS),
        "columns": {
            "images.files": ["platform", "built_from", "sha256", "size", "path"],
            "hosts.files": ["state", "file", "created_at", "updated_at"],
        },
        "counts": _counts(rows),
        "images": [column.to_json(labels[name]) for name, column in zip(names, columns)],
        "hosts": [row.to_json(group_of[at]) for at, row in enumerate(rows)],
        "groups": [_group(names, [rows[member] for member in members]) for members in groups],
    }


class _Column:
    """One image on all hosts: its state and its files on each; distinct files have numbers.

    :ivar states: of the image on each host.
    :ivar files: on each host; of each file its letter, its number, and when it was built and updated.
    """

    def __init__(self, name: str, hosts: Sequence[Host], digest: str | None, expected: bool | None) -> None:
        self._name = name
        self._hosts = hosts
        self._expected = expected
        self._rows = [row for host in hosts for row in host.images.get(name, ())]
        self._standards = {
            platform: _standard([row for row in self._rows if row.platform == platform], digest)
            for platform in sorted({row.platform for row in self._rows})
        }
        self._files: dict[tuple[str, str | None, str, int, str | None], int] = {}
        self._digests: dict[str, int] = {}
        self._paths: dict[str, int] = {}
        cells = [self._cell(host) for host in hosts]
        self.states = [state for state, _files in cells]
        self.files = [files for _state, files in cells]

    def _cell(self, host: Host) -> tuple[str, list[list[Any]]]:
        if host.status != OK:
            return UNKNOWN, []
        rows = host.images.get(self._name, [])
        states = [_judge(row, self._standards[row.platform]) for row in rows]
        state = min(states, key=_RANK.__getitem__, default=ABSENT)
        if self._expected and state in (ABSENT, RECORDED):
            state = MISSING
        files = [
            [LETTERS[each], self._number(row, host.storage), row.created, row.updated]
            for each, row in zip(states, rows)
        ]
        return state, files

    def _number(self, row: FileRow, storage: str) -> int:
        path = row.path
        if path and path.startswith(f"{storage}/"):
            path = path[len(storage) + 1 :]  # so that it is the same wherever the store lies
        key = (row.platform, row.built_from, row.sha256, row.size, path)
        return self._files.setdefault(key, len(self._files))

    def to_json(self, label: str) -> dict[str, Any]:
        """Return the image's part of the document."""
        there = [row for row in self._rows if row.there]
        counts = Counter(self.states)
        sizes = Counter(row.size for row in there)
        return {
            "reference": self._name,
            "label": label,
            "expected": self._expected,
            "current": [
                {
                    "platform": platform,
                    "digest": standard.digest,
                    "manifest_digest": standard.manifest_digest,
                    "given": standard.given,
                    "updated_at": _date(standard.updated),
                    "sha256": standard.sha256,
                }
                for platform, standard in self._standards.items()
            ],
            "counts": {state: counts[state] for state in LETTERS},
            "variants": len({(row.platform, row.sha256) for row in there}),
            "size": max(sizes, key=lambda size: (sizes[size], size), default=None),
            "space": sum(row.size for row in there),
            "oldest_at": _date(min((row.created for row in there), default=None)),
            "newest_at": _date(max((row.created for row in there), default=None)),
            "files": [
                [platform, _intern(self._digests, built_from), sha256, size, _intern(self._paths, path)]
                for platform, built_from, sha256, size, path in self._files
            ],
            "digests": list(self._digests),
            "paths": list(self._paths),
            "exceptions": [
                {
                    "state": problem,
                    "count": counts[problem],
                    "hosts": fold(host.name for host, state in zip(self._hosts, self.states) if state == problem),
                }
                for problem in PROBLEMS
                if counts[problem]
            ],
        }


def _standard(rows: Sequence[FileRow], digest: str | None) -> Standard:
    """Return what is current for one platform of an image: as given, else the newest entry that any host has."""
    known = [row for row in rows if row.manifest_digest]
    manifest: str | None
    if digest:
        # A host that has asked since knows which manifest an index leads to.
        manifest = next((row.manifest_digest for row in known if row.digest == digest), None) or digest
        newest = None
    else:
        spread = Counter(row.manifest_digest for row in known)
        newest = max(
            known, key=lambda row: (row.updated, spread[row.manifest_digest], row.manifest_digest or ""), default=None
        )
        manifest = newest.manifest_digest if newest else None
    alike = Counter(row.sha256 for row in rows if row.state == "present" and row.built_from in (manifest, None))
    return Standard(
        manifest_digest=manifest,
        digest=digest or (newest.digest if newest else None),
        given=bool(digest),
        updated=newest.updated if newest else None,
        sha256=_commonest(alike),
    )


def _judge(row: FileRow, standard: Standard) -> str:
    """Return the state of one file."""
    if row.state == "remote":
        return RECORDED
    if row.state != "present":
        return MISSING if row.state == "missing" else MODIFIED
    if row.built_from and row.built_from != standard.manifest_digest:
        return OUTDATED
    if row.sha256 != standard.sha256:
        return DIFFERENT
    return CURRENT if row.built_from else LOCAL


def _commonest(counter: Counter[str]) -> str | None:
    """Return the text that was counted most often; None if two share the first place."""
    first = counter.most_common(2)
    return first[0][0] if first and (len(first) == 1 or first[0][1] > first[1][1]) else None


@dataclass(frozen=True)
class _HostCells:
    """All images on one host: the state of each, and its files."""

    host: Host
    states: Sequence[str]
    files: Sequence[Sequence[Sequence[Any]]]

    @classmethod
    def of(cls, host: Host, columns: Sequence[_Column], at: int) -> _HostCells:
        """Take the cells of a host from all columns."""
        return cls(host, [column.states[at] for column in columns], [column.files[at] for column in columns])

    @property
    def letters(self) -> str:
        return "".join(LETTERS[state] for state in self.states)

    def to_json(self, group: int) -> dict[str, Any]:
        """Return the host's part of the document."""
        host = self.host
        return {
            "name": host.name,
            "status": host.status,
            "message": host.message,
            "storage": host.storage,
            "space": host.space,
            "problems": _problems(self.states),
            "oldest_at": _date(host.oldest),
            "group": group,
            "states": self.letters,
            "files": self.files,
        }


def _groups(rows: Sequence[_HostCells]) -> list[list[int]]:
    """Return the numbers of the hosts that are alike: the same states and the same files, whenever these were built.

    The largest group comes first.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for at, row in enumerate(rows):
        contents = tuple(tuple(file[1] for file in cell) for cell in row.files)
        alike.setdefault((row.host.status, row.host.storage, tuple(row.states), contents), []).append(at)
    return sorted(alike.values(), key=lambda members: (-len(members), members[0]))


def _group(names: Sequence[str], rows: Sequence[_HostCells]) -> dict[str, Any]:
    """Return a group's part of the document."""
    first = rows[0]
    return {
        "hosts": fold(row.host.name for row in rows),
        "count": len(rows),
        "status": first.host.status,
        "problems": _problems(first.states),
        "states": first.letters,
        "summary": {
            problem: [name for name, state in zip(names, first.states) if state == problem]
            for problem in PROBLEMS
            if problem in first.states
        },
    }


def _counts(rows: Sequence[_HostCells]) -> dict[str, Any]:
    cells = Counter(state for row in rows for state in row.states)
    statuses = Counter(row.host.status for row in rows)
    return {
        "hosts": {status: statuses[status] for status in (OK, UNREACHABLE, FAILED, SILENT)},
        "hosts_with_problems": sum(1 for row in rows if _problems(row.states)),
        "cells": {state: cells[state] for state in LETTERS},
        "space": sum(row.host.space for row in rows),
    }


def _problems(states: Iterable[str]) -> int:
    return sum(state in PROBLEMS for state in states)


def _labels(uris: Sequence[str]) -> dict[str, str]:
    """Return for each name its shortest end, cut at slashes, that no other name has, with digests shortened."""
    ends = Counter(end for uri in uris for end in set(_ends(uri)))
    chosen = {uri: next((end for end in _ends(uri) if ends[end] == 1), uri) for uri in uris}
    short = {uri: _short(label) for uri, label in chosen.items()}
    taken = Counter(short.values())
    return {uri: label if taken[label] == 1 else chosen[uri] for uri, label in short.items()}


def _ends(uri: str) -> list[str]:
    parts = uri.split("/")
    return ["/".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def _short(label: str) -> str:
    name, at, digest = label.partition("@")
    return f"{name}@{digest.partition(':')[2][:8]}" if at else label


def _intern(numbers: dict[str, int], text: str | None) -> int | None:
    return None if text is None else numbers.setdefault(text, len(numbers))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text")
    # Escape characters that move a terminal's cursor or turn letters around, and those that UTF-8 does not have.
    return str(value) if value.isprintable() else shown(value, len(value))


def _text_or_none(row: Mapping[str, Any], key: str) -> str | None:
    return None if row.get(key) is None else _text(row, key)


def _size(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError("size is not a number of bytes")
    return int(value)


def _seconds(text: str) -> int:
    """Return the seconds since the epoch of a time in UTC.

    :raises ValueError: if it is not a time.
    """
    try:
        if _TIME.match(text):
            return int(datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc).timestamp())
    except ValueError:
        pass  # such as month 13
    raise ValueError(f"{text[:80]!r} is not a time of the form 2026-11-22T06:40:00Z")


def _date(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
