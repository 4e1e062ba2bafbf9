# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The election of the host of each group that goes first, and what the others learn from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..display.hostlist import fold
from .result import WEB, ImageResult, PullResult, without_templates

_PLATFORM = re.compile(r"\A[a-z0-9]+(/[a-z0-9._-]+){1,2}\Z", re.ASCII)
_MAX_TRIED = 3


@dataclass(frozen=True)
class Probe:
    """A host before anything is done there: its group, empty if that is not known, and the names of its images."""

    group: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Probe:
        """Read what ``prestage_probe`` returned, which may be empty."""
        return cls(str(value.get("group") or ""), tuple(value.get("names") or ()))


@dataclass(frozen=True)
class Group:
    """The hosts that get the same files, and what those that follow learn from the one that went first.

    :ivar has_candidates: whether any host of it may go first.
    :ivar leader: the host that went first and has images in their place; None if there is none.
    :ivar failed_on: the host that ``failed`` is from, which need not be a leader.
    :ivar names: the images that the others must try.
    :ivar failed: by name, why the others must not try an image.
    :ivar digests: by name, the digests that it points at, as ``sregistry_pull`` takes them.
    :ivar marks: tell the inventory of the leader from others.
    :ivar images: by name, the images that the leader has in their place.
    """

    has_candidates: bool = False
    leader: str | None = None
    failed_on: str = ""
    names: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, Any] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()
    images: Mapping[str, ImageResult] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Group:
        """Read what ``to_json`` returned.

        :raises TypeError: if it is something else.
        """
        read = {
            "names": tuple(value.get("names", ())),
            "marks": frozenset(value.get("marks", ())),
            "images": {name: ImageResult(**image) for name, image in value.get("images", {}).items()},
        }
        return cls(**{**value, **read})

    def to_json(self) -> dict[str, Any]:
        """Return the group as a variable of Ansible, in which nothing may be a template."""
        return {
            **vars(self),
            "names": list(self.names),
            "failed": {name: without_templates(why) for name, why in self.failed.items()},
            "marks": sorted(self.marks),
            "images": {
                name: {key: without_templates(value) for key, value in vars(image).items()}
                for name, image in self.images.items()
            },
        }


@dataclass(frozen=True)
class Election:
    """The hosts that go first, by now.

    :ivar next: the hosts whose turn it is.
    :ivar candidates: the hosts that may get a turn from now on.
    :ivar group_of: the group of each host.
    """

    next: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    group_of: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Election:
        """Read what ``to_json`` returned; an empty mapping stands for no election.

        :raises TypeError: if it is something else.
        """
        groups = {name: Group.of(group) for name, group in value.get("groups", {}).items()}
        return cls(**{**value, "groups": groups}) if value else cls()

    def to_json(self) -> dict[str, Any]:
        """Return the election as a variable of Ansible."""
        groups = {name: group.to_json() for name, group in self.groups.items()}
        return {**vars(self), "next": list(self.next), "candidates": list(self.candidates), "groups": groups}

    @property
    def leaders(self) -> list[str]:
        """The hosts that went first, and whose images the others took over."""
        return [group.leader for group in self.groups.values() if group.leader is not None]

    @property
    def without_leader(self) -> list[str]:
        """The hosts of groups of which no host may go first."""
        without_leader = {name for name, group in self.groups.items() if not group.has_candidates}
        return [host for host, group in self.group_of.items() if group in without_leader]

    def group(self, host: str) -> Group:
        """Return the group of a host; an empty one if it has none."""
        return self.groups.get(self.group_of.get(host, ""), Group())


def elect(
    probes: Mapping[str, Probe],
    pulls: Mapping[str, PullResult],
    leaders: Sequence[str] | None = None,
    asked: Sequence[str] = (),
    patient: bool = True,
) -> Election:
    """Decide which host of each group goes first, or next, and what the others learn from those that went.

    If not a single image of the first one is in its place, the next host of its group gets a turn. Without
    ``leaders``, at most three hosts do: what three cannot do, more would not.

    :param probes: of each host of the play, in its order. The names are the same in a group.
    :param pulls: by host; a host that did nothing yet may be left out.
    :param leaders: the hosts that may go first, in this order; None for all.
    :param asked: the hosts that were asked to go, and must have a result by now.
    :param patient: whether the others need that result. If not, nobody waits for a host that has none.
    :raises ValueError: if a host that was asked to go has no result.
    """
    pulls = {host: pull for host, pull in pulls.items() if not pull.idle}
    pending = [host for host in asked if host not in pulls]
    if pending and patient:
        raise ValueError(
            f"{fold(pending)} had to go first and has no result yet; hosts must take their steps together, with the "
            "strategy linear of the play"
        )
    following: list[str] = []
    candidates: list[str] = []
    groups: dict[str, Group] = {}
    for name in dict.fromkeys(probe.group for probe in probes.values() if probe.group):
        members = {host: probe for host, probe in probes.items() if probe.group == name}
        order = [host for host in (members if leaders is None else leaders) if host in members]
        limit = _MAX_TRIED if leaders is None else len(order)
        tried = {host: pulls[host] for host in order if host in pulls}
        groups[name] = group = _group(bool(order), tried, next(iter(members.values())).names)
        fresh = [host for host in order if host not in tried and host not in pending]
        waiting = any(host in members for host in pending)
        if group.leader is None and fresh and len(tried) < limit and not waiting:
            following.append(fresh[0])
            candidates += fresh[: limit - len(tried)]
    group_of = {host: probe.group for host, probe in probes.items()}
    return Election(tuple(following), tuple(candidates), group_of, groups)


def _group(has_candidates: bool, tried: Mapping[str, PullResult], names: Sequence[str]) -> Group:
    """Return what the other hosts of a group learn from those that tried."""
    leader = next((host for host, pull in tried.items() if not pull.useless), None)
    pull = tried[leader] if leader is not None else PullResult()
    failed_on = leader or next((host for host, one in tried.items() if one.images), None)
    if failed_on is not None:
        failed = {image.name: image.error for image in tried[failed_on].images.values() if image.error}
    else:
        failed_on = fold(tried)
        words = "; ".join(dict.fromkeys(str(one.lost) for one in tried.values()))
        failed = dict.fromkeys(names, words) if tried else {}
    there = {name: image for name, image in pull.images.items() if not image.error}
    return Group(
        has_candidates=has_candidates,
        leader=leader,
        failed_on=failed_on,
        names=tuple(name for name in names if name not in failed),
        failed=failed,
        digests={name: _pin(image) for name, image in there.items() if _can_be_pinned(image)},
        marks=frozenset(pull.marks),
        images=there,
    )


def _can_be_pinned(image: ImageResult) -> bool:
    """Tell whether an image can be pinned; a file on a web server is pinned by its name alone."""
    return image.digest is not None and not image.name.startswith(WEB)


def _pin(image: ImageResult) -> dict[str, Any]:
    pin: dict[str, Any] = {"digest": image.digest}
    if image.manifest_digest and _PLATFORM.match(image.platform) and not image.name.startswith("oras://"):
        pin["platforms"] = {image.platform: image.manifest_digest}
    return pin
