# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images onto many hosts: which host goes first, what the others learn from it, and what became of all of them.

The role ``prestage`` does the work and decides nothing that stands here. Hosts are not trusted: what one of them
returns can spoil its own row, and, where it went first for others, theirs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import check_digest, shown

from .hostlist import fold, natural

EACH, BUILD_ONCE, SHARED = "each", "build_once", "shared"
STRATEGIES = (EACH, BUILD_ONCE, SHARED)

CURRENT, UPDATED, FAILED = "current", "updated", "failed"

_NOT_THE_FILE = ("attributes", "recorded", "pushed")
"""Actions that change something and leave what is in the file."""

_WEB = ("https://", "http://")
_PLATFORM = re.compile(r"\A[a-z0-9]+(/[a-z0-9._-]+){1,2}\Z", re.ASCII)
_QUERY = re.compile(r"[?#].*?(?=(?:@sha(?:256|512):[0-9a-f]+)?\Z)", re.DOTALL)
_SAID = "Task failed: "
"""What Ansible puts before the reason."""
_MAX_CAUSE = 2000
_MAX_COUNT = 2**63 - 1
_MAX_NAMED = 5
_MAX_REASONS = 5
_MAX_TRIED = 3

_VARYING = re.compile(r"\bsif-[0-9a-f]{64}\b|\d+(?:\.\d+)?|/tmp/\S+|\bsregistry-[A-Za-z0-9_]+", re.ASCII)
"""What differs in messages that mean the same: tags of a SIF cache, figures, and temporary directories."""


@dataclass(frozen=True)
class Image:
    """What a host says of one image, of which it was given the name (sizes in bytes).

    ``missed`` means that the cache of finished files did not have it.
    """

    name: str
    uri: str
    action: str
    changed: bool
    platform: str
    digest: str | None
    manifest_digest: str | None
    path: str | None
    size: int | None
    sha256: str | None
    fetched: int
    error: str | None
    missed: bool

    @classmethod
    def of(cls, name: str, value: Any) -> Image:
        """Read one entry of the result of ``sregistry_pull``.

        :raises ValueError: if it is none.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("action"), str):
            raise ValueError("an image without an action")
        failed = value["action"] == FAILED or value.get("error") is not None
        fetched = value.get("fetched")
        return cls(
            name=name,
            uri=shown(_text(value.get("uri")) or _told(name), 1000),
            action=shown(value["action"], 40),
            changed=value.get("changed") is True,
            platform=_text(value.get("platform")) or "",
            digest=_digest(value.get("digest")),
            manifest_digest=_digest(value.get("manifest_digest")),
            path=_text(value.get("path")),
            size=_count(value.get("size")),
            sha256=_text(value.get("sha256")),
            fetched=(_count(fetched.get("bytes")) or 0) if isinstance(fetched, Mapping) else 0,
            error=_line(value.get("error"), "it gave no reason") if failed else None,
            missed=value.get("sif_cache") == "miss",
        )


@dataclass(frozen=True)
class Work:
    """What a host did: its ``images`` by their names, or why there is nothing of it to tell (``lost``)."""

    images: dict[str, Image] = field(default_factory=dict)
    lost: str | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any], names: Sequence[str]) -> Work:
        """Read the result of ``sregistry_pull``; nothing that is in it raises an exception.

        :param names: which the task was given, in their order.
        """
        if result.get("unreachable"):
            return cls(lost=_unreachable(result))
        if result.get("skipped"):
            return cls()
        images = result.get("images")
        if not isinstance(images, Sequence) or isinstance(images, str):
            return cls(
                lost=_line(result.get("msg"), "nothing is known of it: it failed or could not be reached before")
            )
        if len(images) != len(names):
            return cls(lost=f"its result tells of {len(images)} images, and it was asked for {len(names)}")
        try:
            return cls({name: Image.of(name, image) for name, image in zip(names, images)})
        except ValueError as error:
            return cls(lost=f"its result cannot be read: {error}")

    @property
    def useless(self) -> bool:
        """Whether not a single image is in its place."""
        return self.lost is not None or (bool(self.images) and all(one.error for one in self.images.values()))


def course(
    wanted: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    leaders: Sequence[str] | None = None,
    asked: Sequence[str] = (),
    patient: bool = True,
) -> dict[str, Any]:
    """Decide which host of each group goes first, or next, and what follows from what those did who went.

    If nothing of what the first one tried is in its place, the next host of its group gets a turn. Without
    ``leaders``, at most three do: what three hosts cannot do, more would not.

    :param wanted: by the name of each host of the play, in its order, its ``group`` (empty if it is not known) and the
        ``names`` of the images that it shall have, which are the same in a group.
    :param results: by host, the result of ``sregistry_pull``; an empty one for a host that did nothing yet.
    :param leaders: the hosts that may go first, in this order; None for all.
    :param asked: those who were asked to go, and must have a result by now.
    :param patient: whether the others depend on it. If not, a host that was asked and has none is not waited for.
    :raises ValueError: if one that was asked to go has no result.
    """
    group_of = {host: str(entry.get("group") or "") for host, entry in wanted.items()}
    pending = [host for host in asked if not results.get(host)]
    if pending and patient:
        raise ValueError(
            f"{fold(pending)} had to go first and has no result yet; hosts must take their steps together, with the "
            "strategy linear of the play"
        )
    following: list[str] = []
    groups: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(found for found in group_of.values() if found):
        order = [host for host in (wanted if leaders is None else leaders) if group_of.get(host) == group]
        names = next(list(wanted[host]["names"]) for host in wanted if group_of[host] == group)
        limit = _MAX_TRIED if leaders is None else len(order)
        tried = {host: Work.of(results[host], names) for host in order if results.get(host)}
        leader = next((host for host, work in tried.items() if not work.useless), None)
        fresh = [host for host in order if host not in tried and host not in pending]
        waiting = any(group_of.get(host) == group for host in pending)
        if leader is None and fresh and len(tried) < limit and not waiting:
            following.append(fresh[0])
        groups[group] = _group(leader, tried, names)
    return {"next": following, "group_of": group_of, "groups": groups}


def _group(leader: str | None, tried: Mapping[str, Work], names: Sequence[str]) -> dict[str, Any]:
    """What the other hosts of a group learn from its leader, None if no host could or may lead.

    ``names`` are the images that they shall try, ``failed`` tells by name why not the others, in the words of the
    ``speaker``, which need not be a leader. ``digests`` is what names point at, ``images`` what the leader has in its
    place. It becomes a variable, so nothing in it may be a template.
    """
    work = tried[leader] if leader is not None else Work()
    speaker = leader or next((host for host, one in tried.items() if one.images), None)
    if speaker is not None:
        spoken = tried[speaker].images.values()
        failed = {one.name: _inert(one.error) for one in spoken if one.error}
    else:
        speaker = fold(tried)
        words = "; ".join(dict.fromkeys(str(one.lost) for one in tried.values()))
        failed = dict.fromkeys(names, _inert(words)) if tried else {}
    there = [image for image in work.images.values() if not image.error]
    return {
        "leader": leader,
        "speaker": speaker,
        "names": [name for name in names if name not in failed],
        "failed": failed,
        "digests": {image.name: _pin(image) for image in there if _can_be_pinned(image)},
        "images": {image.name: {key: _inert(value) for key, value in vars(image).items()} for image in there},
    }


def _inert(value: Any) -> Any:
    """A text that Ansible before 2.19 takes for no template, which another host could have written."""
    return re.sub(r"\{(?=[{%#])", "{ ", value) if isinstance(value, str) else value


def _can_be_pinned(image: Image) -> bool:
    """A file on a web server is pinned by its name alone."""
    return image.digest is not None and not image.name.startswith(_WEB)


def _pin(image: Image) -> dict[str, Any]:
    pin: dict[str, Any] = {"digest": image.digest}
    if image.manifest_digest and _PLATFORM.match(image.platform) and not image.name.startswith("oras://"):
        pin["platforms"] = {image.platform: image.manifest_digest}
    return pin


@dataclass(frozen=True)
class Cell:
    """One image on one host; ``cause`` is set if it failed, and empty if the host as a whole did.

    ``speaker`` is the host that has failed, if it is another one.

    ``unseen`` means that another host has put a file there which this one does not see.
    """

    state: str
    action: str = ""
    cause: str = ""
    speaker: str = ""
    image: Image | None = None
    unseen: bool = False


@dataclass(frozen=True)
class Stand:
    """What became of one host: a cell for each image by its name, and ``lost`` if there is one reason for all.

    ``removed`` was what it should not have, and ``trouble`` is what went wrong with that.
    """

    host: str
    cells: dict[str, Cell]
    lost: str | None = None
    removed: tuple[str, ...] = ()
    trouble: str | None = None

    @property
    def state(self) -> str:
        """Of the host: failed if anything did, updated if anything changed."""
        states = {cell.state for cell in self.cells.values()}
        if self.lost or self.trouble or FAILED in states:
            return FAILED
        return UPDATED if UPDATED in states or self.removed else CURRENT

    @property
    def differences(self) -> list[str]:
        """What is, or was, another file than it shall be, or one that shall not be there."""
        words = [
            f"{name} ({cell.action})"
            for name, cell in self.cells.items()
            if cell.state == UPDATED and cell.action not in _NOT_THE_FILE
        ]
        return [*words, *(f"{what} (removed)" for what in self.removed)]

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """Why it failed: the reason, who gave it, and the image, empty for a reason of the host itself."""
        whole = [(text, "", "") for text in (self.lost, self.trouble) if text]
        return whole + [(cell.cause, cell.speaker, name) for name, cell in self.cells.items() if cell.cause]


@dataclass(frozen=True)
class Order:
    """What was to be done: by host the ``names`` of the images, in which way, and whether it was only tried.

    ``locked`` means that a file which is not what it shall be is a failure where it is only tried.
    """

    names: Mapping[str, Sequence[str]]
    strategy: str = EACH
    check: bool = False
    locked: bool = False
    course: Mapping[str, Any] = field(default_factory=dict)

    def group_of(self, host: str) -> Mapping[str, Any]:
        """What its group learnt from the host that went first."""
        found: Mapping[str, Any] = self.course.get("groups", {}).get(self.course.get("group_of", {}).get(host), {})
        return found


def summary(
    order: Order,
    pulled: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]] | None = None,
    removed: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """What became of all images on all hosts, as a document with a text for people in ``lines``.

    :param pulled: by host, the result of ``sregistry_pull``; an empty one for a host that was not asked.
    :param seen: by host, the result of ``sregistry_facts``, of those who only look (``SHARED``).
    :param removed: by host, the result of ``sregistry_remove``.
    """
    stands = [
        _stand(order, host, pulled[host], (seen or {}).get(host) or {}, (removed or {}).get(host) or {})
        for host in sorted(pulled, key=natural)
    ]
    names = list(dict.fromkeys(name for stand in stands for name in stand.cells))
    images = [_column(name, [stand.cells[name] for stand in stands if name in stand.cells]) for name in names]
    hosts = Counter(stand.state for stand in stands)
    document: dict[str, Any] = {
        "strategy": order.strategy,
        "check": order.check,
        "locked": order.locked,
        "hosts": {"total": len(stands), **{state: hosts[state] for state in (CURRENT, UPDATED, FAILED)}},
        "images": images,
        "causes": _causes(names, stands),
        "removed": _removed(stands),
        "bytes": sum(image["size"] or 0 for image in images),
        "fetched": sum(cell.image.fetched for stand in stands for cell in stand.cells.values() if cell.image),
        "failed": [stand.host for stand in stands if stand.state == FAILED],
        "differs": [stand.host for stand in stands if stand.differences],
        "unseen": [name for name in names if any(name in stand.cells and stand.cells[name].unseen for stand in stands)],
    }
    document["verdict"] = _verdict(order, names, document["causes"], stands)
    document["lines"] = list(_lines(document))
    return document


def _stand(
    order: Order, host: str, pulled: Mapping[str, Any], seen: Mapping[str, Any], removed: Mapping[str, Any]
) -> Stand:
    group, names = order.group_of(host), order.names.get(host, ())
    if order.strategy == SHARED and not pulled:
        cells, lost = _look(order.check, names, group, seen)
    else:
        foreseen = order.check and order.strategy == BUILD_ONCE and host != group.get("leader")
        cells, lost = _cells(order.strategy, names, group, pulled, foreseen)
    gone, trouble = _gone(removed)
    return Stand(host, {_told(name): cell for name, cell in cells.items()}, lost, gone, trouble)


def _told(name: str) -> str:
    """A name as it may be shown: the query of a web address may be a secret."""
    return _QUERY.sub("", name) if name.startswith(_WEB) else name


def _cells(
    strategy: str, names: Sequence[str], group: Mapping[str, Any], pulled: Mapping[str, Any], foreseen: bool
) -> tuple[dict[str, Cell], str | None]:
    """What a host says that was to have the images by itself.

    :param foreseen: whether what the cache of finished files misses will be there in the real run.
    """
    given = names
    failed: Mapping[str, Cell] = {}
    if strategy == BUILD_ONCE and group.get("failed"):
        # Who followed was given the names that did not fail, and nothing at all if all did.
        told = pulled.get("images")
        if pulled.get("skipped") or (isinstance(told, Sequence) and len(told) == len(group["names"])):
            given, failed = group["names"], _of_another(group)
    work = Work.of(pulled, given)
    if work.lost is not None:
        return {name: Cell(FAILED) for name in names}, work.lost
    images = {name: _as_foreseen(image) if foreseen else image for name, image in work.images.items()}
    return {name: failed.get(name) or _cell(images.get(name)) for name in names}, None


def _as_foreseen(image: Image) -> Image:
    """What would be, once the leader has built and pushed."""
    return replace(image, action="pulled", changed=True, error=None) if image.error and image.missed else image


def _of_another(group: Mapping[str, Any]) -> dict[str, Cell]:
    """The images that failed on the host that went first."""
    return {
        name: Cell(FAILED, cause=cause, speaker=str(group["speaker"]))
        for name, cause in group.get("failed", {}).items()
    }


def _cell(image: Image | None) -> Cell:
    if image is None:
        return Cell(FAILED, cause="nothing was done for it")
    if image.error:
        return Cell(FAILED, image.action, image.error, image=image)
    return Cell(UPDATED if image.changed else CURRENT, image.action, image=image)


def _look(
    check: bool, names: Sequence[str], group: Mapping[str, Any], seen: Mapping[str, Any]
) -> tuple[dict[str, Cell], str | None]:
    """What a host sees of what the leader of its group has filled."""
    lost = None if "images" in seen else Work.of(seen, ()).lost
    if lost is not None:
        return {name: Cell(FAILED) for name in names}, lost
    failed = _of_another(group)
    filled = {name: replace(Image(**image), fetched=0) for name, image in group.get("images", {}).items()}
    cells = {}
    for name in names:
        image = filled.get(name)
        if image is None:
            cells[name] = failed.get(name) or _cell(None)
        elif check and image.changed and image.action not in _NOT_THE_FILE:
            cells[name] = Cell(UPDATED, image.action, image=image)
        else:
            blindness = _blindness(group["leader"], image, seen.get("images"))
            cells[name] = Cell(FAILED, cause=blindness, unseen=True) if blindness else Cell(CURRENT, image=image)
    return cells, None


def _blindness(leader: str, image: Image, rows: Any) -> str | None:
    """Why a host does not see the file of another one; None if it does."""
    listed = rows if isinstance(rows, list) else []
    known = [row for row in listed if isinstance(row, Mapping) and row.get("uri") == image.uri]
    path = shown(image.path, 1000)
    if not listed:
        return (
            f"it does not see {path}, which is there on {leader}, and its inventory has none of the images; "
            "is the file system mounted, and is the inventory on it?"
        )
    row = next((row for row in known if row.get("image") == image.path), None)
    if row is None:
        return f"its inventory does not know {path}, which is there on {leader}; is it the same file system?"
    state = row.get("state")
    if state == "missing":
        return f"it does not see {path}, which is there on {leader}, though it sees the inventory"
    if row.get("version") != image.sha256:
        sha256 = shown(row.get("version"), 80)
        return (
            f"{path} is another file than on {leader}: the inventory says sha256 {sha256} instead of "
            f"{shown(image.sha256, 80)}; is it the same file system?"
        )
    if state != "present":
        return f"{path} has another size or modification time than the inventory of {leader} says"
    return None


def _gone(result: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """What was removed from a host, and what went wrong with that."""
    if result.get("unreachable"):
        return (), f"while images were to be removed: {_unreachable(result)}"
    if not result or result.get("skipped"):
        return (), None
    images = result.get("images")
    listed = [one for one in images if isinstance(one, Mapping)] if isinstance(images, list) else []
    gone = [shown(str(one.get("uri")), 1000) for one in listed if one.get("changed") is True]
    swept = result.get("swept")
    gone += [shown(str(path), 1000) for path in swept] if isinstance(swept, list) else []
    failed = not isinstance(images, list) or bool(result.get("msg"))
    return tuple(dict.fromkeys(gone)), _line(result.get("msg"), "nothing is known of it") if failed else None


def _column(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """One image on all hosts."""
    states = Counter(cell.state for cell in cells)
    actions = Counter(cell.action for cell in cells if cell.state == UPDATED)
    known = [cell.image for cell in cells if cell.image]
    sizes = Counter(image.size for image in known if image.size is not None)
    return {
        "name": name,
        "uri": next((image.uri for image in known), name),
        "size": max(sizes, key=lambda size: (sizes[size], size), default=None),
        **{state: states[state] for state in (CURRENT, UPDATED, FAILED)},
        "actions": {action: actions[action] for action in sorted(actions)},
    }


@dataclass
class _Cause:
    text: str
    hosts: dict[str, set[str]] = field(default_factory=dict)
    """By host, the images; none if it is the cause for the whole host."""


def _causes(names: Sequence[str], stands: Sequence[Stand]) -> list[dict[str, Any]]:
    """Why what failed has failed: the same reason once, with all hosts that gave it, the most frequent first."""
    found: dict[str, _Cause] = {}
    known: dict[str, str] = {}
    for stand in stands:
        for reason, speaker, name in stand.reasons:
            text = f"{speaker} failed: {reason}" if speaker else reason
            # The same words are the same reason for all images, also if they name one of them, such as the largest.
            if text not in known:
                known[text] = _alike(reason, speaker or stand.host, name)
            cause = found.setdefault(known[text], _Cause(text))
            cause.hosts.setdefault(stand.host, set()).update({name} - {""})
    rows = []
    for cause in found.values():
        # Hosts that lack the same images for the same reason are told of together.
        together: dict[frozenset[str], list[str]] = {}
        for host, images in cause.hosts.items():
            together.setdefault(frozenset(images), []).append(host)
        rows += [_row(names, cause.text, images, hosts) for images, hosts in together.items()]
    return sorted(rows, key=lambda row: (-row["count"], -len(row["images"]), row["text"]))


def _row(names: Sequence[str], text: str, images: frozenset[str], hosts: Sequence[str]) -> dict[str, Any]:
    return {
        "text": text,
        "count": len(hosts),
        "hosts": fold(hosts),
        "images": [name for name in names if name in images],
    }


def _alike(text: str, host: str, name: str) -> str:
    """A message without what is of one host or one image only."""
    plain = name.split("://")[-1].split("@")[0]
    parts = [host, name, plain, plain.rpartition(":")[0] if ":" in plain.rpartition("/")[2] else ""]
    if "/" in plain and ("." in plain.split("/")[0] or ":" in plain.split("/")[0]):
        parts += [part.split("/", 1)[1] for part in parts[2:] if "/" in part]
    for part in sorted({part for part in parts if part}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(part)}(?![\w-])", "…", text)
    return _VARYING.sub("#", re.sub(r"/\S+\.sif\b", "…", text))


def _removed(stands: Sequence[Stand]) -> list[dict[str, Any]]:
    hosts: dict[str, list[str]] = {}
    for stand in stands:
        for what in stand.removed:
            hosts.setdefault(what, []).append(stand.host)
    return [{"what": what, "count": len(hosts[what]), "hosts": fold(hosts[what])} for what in sorted(hosts)]


def _verdict(order: Order, names: Sequence[str], causes: Sequence[Mapping[str, Any]], stands: Sequence[Stand]) -> str:
    """Why it is a failure, in a few words; empty if it is none."""
    reasons = [_with_images(row, len(names)) for row in causes]
    differences = [words for stand in stands for words in stand.differences] if order.check and order.locked else []
    if differences:
        reasons.append(f"not as the lock says: {_first(list(dict.fromkeys(differences)))}")
    more = f"; and {len(reasons) - _MAX_REASONS} more reasons" if len(reasons) > _MAX_REASONS else ""
    return "; ".join(reasons[:_MAX_REASONS]) + more


def _lines(document: Mapping[str, Any]) -> Iterable[str]:
    """The document for people: a line for each image, and below them what needs somebody."""
    hosts, images, would = document["hosts"], document["images"], "would be " if document["check"] else ""
    what = f"{_counted(len(images), 'image')} on {_counted(hosts['total'], 'host')}"
    words = ", ".join(f"{hosts[state]} {_word(state, would)}" for state in (CURRENT, UPDATED, FAILED) if hosts[state])
    yield f"{what}, {document['strategy']}: {words or 'nothing to do'}"
    if images:
        width = max(len("all of them"), *(len(image["uri"]) for image in images))
        yield f"{'image':{width}}  {'size':>10}  current  {would}updated  failed"
        for image in images:
            actions = ", ".join(f"{count} {action}" for action, count in image["actions"].items())
            line = (
                f"{image['uri']:{width}}  {_size(image['size']):>10}  {image['current']:7}  "
                f"{image['updated']:{len(would) + 7}}  {image['failed']:6}"
            )
            yield f"{line}  ({actions})" if actions else line
        total = f"{'all of them':{width}}  {_size(document['bytes'] or None):>10}"
        yield total if would else f"{total}  {_size(document['fetched'])} fetched by all hosts"
    for row in document["removed"]:
        yield f"{would}removed from {row['hosts']}: {row['what']}"
    for row in document["causes"]:
        yield f"FAILED on {_counted(row['count'], 'host')}, {row['hosts']}:"
        yield f"  {_with_images(row, len(images))}"
    if document["differs"] and document["locked"] and document["check"]:
        differing = document["differs"]
        yield f"FAILED on {_counted(len(differing), 'host')}, {fold(differing)}: not as the lock says"


def _word(state: str, would: str) -> str:
    return would + state if state == UPDATED else state


def _with_images(row: Mapping[str, Any], total: int) -> str:
    """A reason, after the images that it is about, unless it is about the host, or begins with them itself."""
    images, text = row["images"], str(row["text"])
    if not images or (len(images) == 1 and text.startswith(images[0])):
        return text
    return f"{'every image' if len(images) == total > 1 else _first(images)}: {text}"


def _first(words: Sequence[str]) -> str:
    """The first few of a list."""
    more = len(words) - _MAX_NAMED
    return ", ".join(words[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _unreachable(result: Mapping[str, Any]) -> str:
    said = _line(result.get("msg"), "it gave no reason")
    return f"unreachable: {said[len(_SAID) :] if said.startswith(_SAID) else said}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def _digest(value: Any) -> str | None:
    try:
        return check_digest(value) if isinstance(value, str) else None
    except InvalidReference:
        return None


def _line(value: Any, otherwise: str) -> str:
    """A message on one line, not longer than somebody reads."""
    return shown(" ".join(str(value or "").split()), _MAX_CAUSE) or otherwise
