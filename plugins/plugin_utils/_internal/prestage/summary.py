# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of images on many hosts, summed up: by image, by reason of a failure, and as text for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....module_utils._internal.text import in_words, shown
from ..display.hostlist import fold, natural, shortened
from .host import CLEANED, CURRENT, LACKING, UNCLEAN, UNREACHABLE, UPDATED, Cell, Order, Stand, stand_of
from .result import BUILT, FAILED, FETCHED, Image, inert

_MAX_NAMED = 5
_MAX_REASONS = 5

_STATES = (CURRENT, UPDATED, CLEANED, LACKING, UNCLEAN, UNREACHABLE)
_OF_ROOT = "root's home, which nobody else can read; prestage_storage chooses another store"
_UNLED = "no host of prestage_leaders with their platform and images took part (hosts:, --limit, serial)"

_VARYING = re.compile(r"\bsif-[0-9a-f]{64}\b|\d+(?:\.\d+)?|/tmp/\S+|\bsregistry-[A-Za-z0-9_-]+", re.ASCII)
"""What differs in messages that mean the same: tags of a SIF cache, figures, and temporary directories."""


def summary(
    order: Order,
    pulled: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]] | None = None,
    removed: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """What became of all images on all hosts, as a document with a text for people in ``lines``.

    :param pulled: by host, the result of ``sregistry_pull``; an empty one for a host that was not asked.
    :param seen: by host, the result of ``sregistry_info``, of those who only look (``SHARED``).
    :param removed: by host, the result of ``sregistry_remove``.
    """
    stands = [
        stand_of(order, host, pulled[host], (seen or {}).get(host) or {}, (removed or {}).get(host) or {})
        for host in sorted(pulled, key=natural)
    ]
    names = list(dict.fromkeys(name for stand in stands for name in stand.cells))
    images = [_column(name, [stand.cells[name] for stand in stands if name in stand.cells]) for name in names]
    hosts = Counter(stand.state for stand in stands)
    document: dict[str, Any] = {
        "strategy": order.strategy,
        "check": order.check,
        "locked": order.locked,
        "hosts": {
            "total": len(stands),
            **{state: hosts[state] for state in (CURRENT, UPDATED, CLEANED)},
            FAILED: sum(stand.failed for stand in stands),
            UNREACHABLE: hosts[UNREACHABLE],
        },
        "store": _store(stands),
        "images": images,
        "leaders": sorted(order.leaders, key=natural),
        "made": {way: sum(way in stand.made for stand in stands) for way in (BUILT, FETCHED)},
        "divided": _divided(names, stands),
        "causes": _causes(names, stands),
        "removed": _removed((stand.host, stand.removed) for stand in stands),
        "kept": _removed((stand.host, stand.kept) for stand in stands),
        "doubt": order.doubt if order.clean else "",
        "spared": [stand.host for stand in stands if stand.spared],
        "bytes": sum(image["size"] or 0 for image in images),
        "fetched": sum(cell.image.fetched for stand in stands for cell in stand.cells.values() if cell.image),
        "failed": [stand.host for stand in stands if stand.failed],
        "differs": [stand.host for stand in stands if stand.differences],
        "unled": sorted(order.unled, key=natural),
        "unseen": [name for name in names if any(name in stand.cells and stand.cells[name].unseen for stand in stands)],
    }
    document["verdict"] = _verdict(order, names, document["causes"], stands)
    document["lines"] = [inert(line) for line in _lines(document, hosts, _differing(stands))]
    return document


def _store(stands: Sequence[Stand]) -> str | None:
    """The store, if all hosts that know theirs have the same."""
    stores = {stand.store for stand in stands if stand.store}
    return stores.pop() if len(stores) == 1 else None


def _differing(stands: Sequence[Stand]) -> dict[str, list[str]]:
    """By what is not as it shall be, the hosts."""
    hosts: dict[str, list[str]] = {}
    for stand in stands:
        if stand.differences:
            hosts.setdefault(_first(stand.differences), []).append(stand.host)
    return hosts


def _column(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """One image on all hosts."""
    states = Counter(cell.state for cell in cells)
    actions = Counter(cell.action for cell in cells if cell.state == UPDATED)
    known = [cell.image for cell in cells if cell.image]
    sizes = Counter(image.size for image in known if image.size is not None)
    return {
        "name": name,
        "reference": next((image.uri for image in known), name),
        "size": max(sizes, key=lambda size: (sizes[size], size), default=None),
        **{state: states[state] for state in (CURRENT, UPDATED, FAILED)},
        "actions": {action: actions[action] for action in sorted(actions)},
    }


def _divided(names: Sequence[str], stands: Sequence[Stand]) -> list[dict[str, Any]]:
    """The names under which hosts of one platform have different images, as of a tag that moved meanwhile."""
    divided = []
    for name in names:
        cells = [(stand.host, stand.cells[name]) for stand in stands if name in stand.cells]
        hosts: dict[str, dict[str, list[str]]] = {}
        for host, cell in cells:
            digest = _content(cell.image) if cell.image and cell.state != FAILED else None
            if digest and cell.image:
                hosts.setdefault(cell.image.platform, {}).setdefault(digest, []).append(host)
        for platform, by_digest in hosts.items():
            if len(by_digest) > 1:
                found = sorted(by_digest.items(), key=lambda one: -len(one[1]))
                rows = [{"digest": digest, "count": len(some), "hosts": fold(some)} for digest, some in found]
                divided.append({"name": name, "platform": shown(platform, 100), "digests": rows})
    return divided


def _content(image: Image) -> str | None:
    """What is in a file: the image that it was made of, or the finished file that was fetched."""
    return image.manifest_digest or image.digest


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
            if speaker:  # also those who went first are better told of by name
                cause.text = text
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


def _removed(given: Iterable[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """By what was removed from hosts, or kept there: how many of them, and which."""
    hosts: dict[str, list[str]] = {}
    for host, words in given:
        for what in words:
            hosts.setdefault(what, []).append(host)
    return [{"what": what, "count": len(hosts[what]), "hosts": fold(hosts[what])} for what in sorted(hosts)]


def _verdict(order: Order, names: Sequence[str], causes: Sequence[Mapping[str, Any]], stands: Sequence[Stand]) -> str:
    """Why it is a failure, in a few words; empty if it is none."""
    reasons = [_with_images(row, len(names)) for row in causes]
    differences = [words for stand in stands for words in stand.differences] if order.check and order.locked else []
    if differences:
        reasons.append(f"not as the lock says: {_first(list(dict.fromkeys(differences)))}")
    more = f"; and {len(reasons) - _MAX_REASONS} more reasons" if len(reasons) > _MAX_REASONS else ""
    return "; ".join(reasons[:_MAX_REASONS]) + more


def _lines(
    document: Mapping[str, Any], hosts: Mapping[str, int], differing: Mapping[str, Sequence[str]]
) -> Iterable[str]:
    """The document for people: a line for each image, and below them what needs somebody.

    :param hosts: how many there are of each state.
    :param differing: by what is not as it shall be, the hosts.
    """
    images, check = document["images"], document["check"]
    would = "would be " if check else ""
    what = f"{_counted(len(images), 'image')} on {_counted(document['hosts']['total'], 'host')}"
    words = ", ".join(f"{hosts[state]} {_word(state, hosts[state], check)}" for state in _STATES if hosts[state])
    yield f"{what} (strategy {document['strategy']}): {words or 'nothing to do'}"
    yield from _course(document)
    if document["store"]:
        yield f"store: {document['store']}{_hint(document['store'])}"
    if images:
        width = max(len("all of them"), *(len(image["reference"]) for image in images))
        yield f"{'image':{width}}  {'size':>10}  current  {would}updated  failed"
        for image in images:
            actions = ", ".join(f"{count} {_done(action, check)}" for action, count in image["actions"].items())
            line = (
                f"{image['reference']:{width}}  {_size(image['size']):>10}  {image['current']:7}  "
                f"{image['updated']:{len(would) + 7}}  {image['failed']:6}"
            )
            yield f"{line}  ({actions})" if actions else line
        total = f"{'all of them':{width}}  {_size(document['bytes'] or None):>10}"
        yield total if would else f"{total}  {_size(document['fetched'])} fetched by all hosts"
    yield from _special(document, differing)


def _special(document: Mapping[str, Any], differing: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """What is not of every run: differences, removals, failures, and what was left undone."""
    check = document["check"]
    would = "would be " if check else ""
    for row in document["divided"]:
        yield _division(row, check)
    for row in document["removed"]:
        yield f"{would}removed from {shortened(row['hosts'])}: {row['what']}"
    for row in document["kept"]:
        yield f"{would}kept on {shortened(row['hosts'])}, as a symlink leads to it: {row['what']}"
    for row in document["causes"]:
        yield f"FAILED on {_counted(row['count'], 'host')}, {shortened(row['hosts'])}:"
        yield f"  {_with_images(row, len(document['images']))}"
    if document["locked"] and check:
        for words, names in differing.items():
            yield f"FAILED on {_counted(len(names), 'host')}, {_hosts(names)}: not as the lock says: {words}"
    if document["unled"]:
        yield f"nobody went first for {_hosts(document['unled'])}: {_UNLED}"
    nothing = f"nothing {'would be' if check else 'was'} removed"
    if document["spared"]:
        place = "would be" if check else "is"
        yield f"{nothing} from {_hosts(document['spared'])}: not every image {place} in its place"
    elif document["doubt"]:
        yield f"{nothing}: {document['doubt']}"


def _course(document: Mapping[str, Any]) -> Iterable[str]:
    """Who went first, and on how many hosts files were built and fetched."""
    went, built, fetched = (
        ("would go", "would build", "would fetch") if document["check"] else ("went", "built", "fetched")
    )
    made, leaders = document["made"], document["leaders"]
    parts = [
        f"{_hosts(leaders)} {went} first" if leaders else "",
        f"{_counted(made[BUILT], 'host')} {built} files" if made[BUILT] else "",
        f"{_counted(made[FETCHED], 'host')} {fetched} finished ones" if made[FETCHED] else "",
    ]
    if any(parts):
        yield "; ".join(filter(None, parts))


def _division(row: Mapping[str, Any], check: bool) -> str:
    """That hosts have different images under one name."""
    parts = [
        f"{one['digest']} on {_counted(one['count'], 'host')}, {shortened(one['hosts'], 200)}" for one in row["digests"]
    ]
    more = len(parts) - _MAX_NAMED
    told = "; ".join(parts[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
    have = "would have" if check else "have"
    platform = f" for {row['platform']}" if row["platform"] else ""
    return f"NOT THE SAME: hosts {have} different images of {row['name']}{platform}: {told}"


def _hosts(names: Iterable[str]) -> str:
    return shortened(fold(names))


def _hint(store: str) -> str:
    """What somebody who did not choose the store may not know of it."""
    return f" ({_OF_ROOT})" if f"{store}/".startswith("/root/") else ""


def _word(state: str, count: int, check: bool) -> str:
    """What is said of so many hosts, which in check mode is what would be."""
    would = "would " if check else ""
    if state == LACKING:
        return f"{would}lack something" if check or count != 1 else "lacks something"
    if state == UNCLEAN:
        return f"{would}keep what is to be removed" if check or count != 1 else "keeps what is to be removed"
    return f"{would}be {state}" if check and state in (UPDATED, CLEANED) else state


def _done(action: str, check: bool) -> str:
    """What was done to an image, or in check mode would be."""
    if action == "attributes":
        return "would get other attributes" if check else "got other attributes"
    return f"would be {action}" if check else action


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
    return "-" if size is None else in_words(size)
