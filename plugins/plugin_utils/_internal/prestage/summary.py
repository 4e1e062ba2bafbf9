# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary of a run on many hosts: by image, and by reason of a failure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ....module_utils._internal.text import shown
from ..display.hostlist import fold, natural
from .host import CLEANED, CURRENT, UNREACHABLE, UPDATED, Cell, HostOutcome
from .result import BUILT, FAILED, FETCHED, ImageResult
from .run import Options, Run

_MAX_NAMED = 5
_MAX_REASONS = 5

_VARYING = re.compile(r"\bsif-[0-9a-f]{64}\b|\d+(?:\.\d+)?|/tmp/\S+|\bsregistry-[A-Za-z0-9_-]+", re.ASCII)
"""Parts that differ in messages of one meaning: tags of a SIF cache, figures, and temporary directories."""


@dataclass(frozen=True)
class ImageColumn:
    """One image on all hosts: its size in bytes, the numbers of hosts by state, and of those that did something."""

    name: str
    reference: str
    size: int | None
    current: int
    updated: int
    failed: int
    actions: Mapping[str, int]


@dataclass(frozen=True)
class Variant:
    """An image that some hosts have under a name, and how many; the list of hosts is in short form, here and below."""

    digest: str
    count: int
    hosts: str


@dataclass(frozen=True)
class MixedImage:
    """A name under which hosts of one platform have different images, as of a tag that moved meanwhile."""

    name: str
    platform: str
    digests: Sequence[Variant]


@dataclass(frozen=True)
class Cause:
    """A reason of failures, with the images that it is about; none if it is the reason for whole hosts."""

    text: str
    count: int
    hosts: str
    images: Sequence[str]

    def with_images(self, total: int) -> str:
        """Return the reason behind the names of the images, unless it begins with them itself.

        :param total: the number of images of the run.
        """
        if not self.images or (len(self.images) == 1 and self.text.startswith(self.images[0])):
            return self.text
        return f"{'every image' if len(self.images) == total > 1 else first_of(self.images)}: {self.text}"


@dataclass(frozen=True)
class Leftover:
    """A name or path that was removed from some hosts, or kept there."""

    what: str
    count: int
    hosts: str


@dataclass(frozen=True)
class Summary:
    """The summary of a run, as the documentation of the filter ``prestage_summary`` describes it.

    :ivar states: the number of hosts in each state.
    :ivar differing: by what is not as it must be, the hosts.
    """

    strategy: str
    check: bool
    locked: bool
    hosts: Mapping[str, int]
    store: str | None
    images: Sequence[ImageColumn]
    leaders: Sequence[str]
    made: Mapping[str, int]
    mixed: Sequence[MixedImage]
    causes: Sequence[Cause]
    removed: Sequence[Leftover]
    kept: Sequence[Leftover]
    keep_because: str
    not_cleaned: Sequence[str]
    bytes: int
    fetched: int
    failed: Sequence[str]
    differs: Sequence[str]
    without_leader: Sequence[str]
    unseen: Sequence[str]
    verdict: str
    states: Mapping[str, int]
    differing: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, run: Run) -> Summary:
        """Sum up a run."""
        options, election = run.options, run.election
        hosts = [HostOutcome.of(options, host) for host in sorted(run.hosts, key=lambda host: natural(host.name))]
        names = list(dict.fromkeys(name for host in hosts for name in host.cells))
        images = [_column(name, [host.cells[name] for host in hosts if name in host.cells]) for name in names]
        states, causes = Counter(host.state for host in hosts), _causes(names, hosts)
        return cls(
            strategy=options.strategy,
            check=options.check,
            locked=options.locked,
            hosts=_counts(hosts, states),
            store=_store(hosts),
            images=images,
            leaders=sorted(election.leaders, key=natural),
            made={way: sum(way in host.made for host in hosts) for way in (BUILT, FETCHED)},
            mixed=_mixed(names, hosts),
            causes=causes,
            removed=_leftovers((host.host, host.removed) for host in hosts),
            kept=_leftovers((host.host, host.kept) for host in hosts),
            keep_because=options.keep_because if options.clean else "",
            not_cleaned=[host.host for host in hosts if host.not_cleaned],
            bytes=sum(image.size or 0 for image in images),
            fetched=sum(cell.image.fetched for host in hosts for cell in host.cells.values() if cell.image),
            failed=[host.host for host in hosts if host.failed],
            differs=[host.host for host in hosts if host.differences],
            without_leader=sorted(election.without_leader, key=natural),
            unseen=[name for name in names if any(name in host.cells and host.cells[name].unseen for host in hosts)],
            verdict=_verdict(options, len(names), causes, hosts),
            states=states,
            differing=_differing(hosts),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary as the filter returns it, but for its lines."""
        return {name: value for name, value in asdict(self).items() if name not in ("states", "differing")}


def _counts(hosts: Sequence[HostOutcome], states: Mapping[str, int]) -> dict[str, int]:
    counted = {state: states.get(state, 0) for state in (CURRENT, UPDATED, CLEANED, UNREACHABLE)}
    return {"total": len(hosts), **counted, FAILED: sum(host.failed for host in hosts)}


def _store(hosts: Sequence[HostOutcome]) -> str | None:
    """Return the store, if all hosts that know theirs have the same."""
    stores = {host.store for host in hosts if host.store}
    return stores.pop() if len(stores) == 1 else None


def _differing(hosts: Sequence[HostOutcome]) -> dict[str, list[str]]:
    """Return the hosts by what is not as it must be."""
    differing: dict[str, list[str]] = {}
    for host in hosts:
        if host.differences:
            differing.setdefault(first_of(host.differences), []).append(host.host)
    return differing


def _column(name: str, cells: Sequence[Cell]) -> ImageColumn:
    """Return one image on all hosts."""
    states = Counter(cell.state for cell in cells)
    actions = Counter(cell.action for cell in cells if cell.state == UPDATED)
    known = [cell.image for cell in cells if cell.image]
    sizes = Counter(image.size for image in known if image.size is not None)
    return ImageColumn(
        name=name,
        reference=next((image.reference for image in known), name),
        size=max(sizes, key=lambda size: (sizes[size], size), default=None),
        current=states[CURRENT],
        updated=states[UPDATED],
        failed=states[FAILED],
        actions={action: actions[action] for action in sorted(actions)},
    )


def _mixed(names: Sequence[str], hosts: Sequence[HostOutcome]) -> list[MixedImage]:
    """Return the names under which hosts of one platform have different images."""
    mixed = []
    for name in names:
        platforms: dict[str, dict[str, list[str]]] = {}
        for host in hosts:
            cell = host.cells.get(name)
            digest = _content(cell.image) if cell and cell.image and cell.state != FAILED else None
            if digest and cell and cell.image:
                platforms.setdefault(cell.image.platform, {}).setdefault(digest, []).append(host.host)
        for platform, by_digest in platforms.items():
            if len(by_digest) > 1:
                found = sorted(by_digest.items(), key=lambda one: -len(one[1]))
                variants = [Variant(digest, len(some), fold(some)) for digest, some in found]
                mixed.append(MixedImage(name, shown(platform, 100), variants))
    return mixed


def _content(image: ImageResult) -> str | None:
    """Return the digest of the image that a file was made of, or of the finished file that was fetched."""
    return image.manifest_digest or image.digest


@dataclass
class _Reason:
    text: str
    hosts: dict[str, set[str]] = field(default_factory=dict)
    """By host, the images; none if it is the reason for the whole host."""


def _causes(names: Sequence[str], hosts: Sequence[HostOutcome]) -> list[Cause]:
    """Return why what failed has failed: each reason once, with all hosts that gave it, the most frequent first."""
    found: dict[str, _Reason] = {}
    known: dict[str, str] = {}
    for host in hosts:
        for why, failed_on, name in host.reasons:
            text = f"{failed_on} failed: {why}" if failed_on else why
            # The same words are the same reason for all images, also if they name one of them, such as the largest.
            if text not in known:
                known[text] = _without_names(why, failed_on or host.host, name)
            reason = found.setdefault(known[text], _Reason(text))
            if failed_on:  # the host that went first gave the same reason without its own name
                reason.text = text
            reason.hosts.setdefault(host.host, set()).update({name} - {""})
    causes = []
    for reason in found.values():
        # Hosts that lack the same images for the same reason are told of together.
        together: dict[frozenset[str], list[str]] = {}
        for member, images in reason.hosts.items():
            together.setdefault(frozenset(images), []).append(member)
        causes += [
            Cause(reason.text, len(members), fold(members), [name for name in names if name in images])
            for images, members in together.items()
        ]
    return sorted(causes, key=lambda cause: (-cause.count, -len(cause.images), cause.text))


def _without_names(text: str, host: str, name: str) -> str:
    """Return a message without the parts that only one host or one image has."""
    plain = name.split("://")[-1].split("@")[0]
    parts = [host, name, plain, plain.rpartition(":")[0] if ":" in plain.rpartition("/")[2] else ""]
    if "/" in plain and ("." in plain.split("/")[0] or ":" in plain.split("/")[0]):
        parts += [part.split("/", 1)[1] for part in parts[2:] if "/" in part]
    for part in sorted({part for part in parts if part}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(part)}(?![\w-])", "…", text)
    return _VARYING.sub("#", re.sub(r"/\S+\.sif\b", "…", text))


def _leftovers(given: Iterable[tuple[str, Sequence[str]]]) -> list[Leftover]:
    """Return what was removed from hosts, or kept there, with these hosts."""
    hosts: dict[str, list[str]] = {}
    for host, names in given:
        for name in names:
            hosts.setdefault(name, []).append(host)
    return [Leftover(name, len(hosts[name]), fold(hosts[name])) for name in sorted(hosts)]


def _verdict(options: Options, total: int, causes: Sequence[Cause], hosts: Sequence[HostOutcome]) -> str:
    """Return why the run is a failure, in a few words; empty if it is none.

    :param total: the number of images.
    """
    reasons = [cause.with_images(total) for cause in causes]
    differences = [words for host in hosts for words in host.differences] if options.check and options.locked else []
    if differences:
        reasons.append(f"not as the lock says: {first_of(list(dict.fromkeys(differences)))}")
    more = f"; and {len(reasons) - _MAX_REASONS} more reasons" if len(reasons) > _MAX_REASONS else ""
    return "; ".join(reasons[:_MAX_REASONS]) + more


def first_of(words: Sequence[str]) -> str:
    """Return the first few of a list."""
    more = len(words) - _MAX_NAMED
    return ", ".join(words[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
