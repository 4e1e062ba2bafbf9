# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which host of each group goes first, and what the others learn from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..display.hostlist import fold
from .result import WEB, Image, Work, inert

_PLATFORM = re.compile(r"\A[a-z0-9]+(/[a-z0-9._-]+){1,2}\Z", re.ASCII)
_MAX_TRIED = 3


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
    :param results: by host, the result of ``sregistry_pull``; an empty or a skipped one for a host that did
        nothing yet.
    :param leaders: the hosts that may go first, in this order; None for all.
    :param asked: those who were asked to go, and must have a result by now.
    :param patient: whether the others depend on it. If not, a host that was asked and has none is not waited for.
    :raises ValueError: if one that was asked to go has no result.
    """
    results = {host: result for host, result in results.items() if result and not result.get("skipped")}
    group_of = {host: str(entry.get("group") or "") for host, entry in wanted.items()}
    pending = [host for host in asked if not results.get(host)]
    if pending and patient:
        raise ValueError(
            f"{fold(pending)} had to go first and has no result yet; hosts must take their steps together, with the "
            "strategy linear of the play"
        )
    following: list[str] = []
    candidates: list[str] = []
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
            candidates += fresh[: limit - len(tried)]
        groups[group] = {"led": bool(order), **_group(leader, tried, names)}
    return {"next": following, "candidates": candidates, "group_of": group_of, "groups": groups}


def _group(leader: str | None, tried: Mapping[str, Work], names: Sequence[str]) -> dict[str, Any]:
    """What the other hosts of a group learn from its leader, None if no host could or may lead.

    ``names`` are the images that they shall try, ``failed`` tells by name why not the others, in the words of the
    ``speaker``, which need not be a leader. ``digests`` is what names point at, ``images`` what the leader has in its
    place, ``marks`` tells its inventory from others. It becomes a variable, so nothing in it may be a template.
    """
    work = tried[leader] if leader is not None else Work()
    speaker = leader or next((host for host, one in tried.items() if one.images), None)
    if speaker is not None:
        spoken = tried[speaker].images.values()
        failed = {one.name: inert(one.error) for one in spoken if one.error}
    else:
        speaker = fold(tried)
        words = "; ".join(dict.fromkeys(str(one.lost) for one in tried.values()))
        failed = dict.fromkeys(names, inert(words)) if tried else {}
    there = [image for image in work.images.values() if not image.error]
    return {
        "leader": leader,
        "speaker": speaker,
        "names": [name for name in names if name not in failed],
        "failed": failed,
        "digests": {image.name: _pin(image) for image in there if _can_be_pinned(image)},
        "marks": list(work.marks),
        "images": {image.name: {key: inert(value) for key, value in vars(image).items()} for image in there},
    }


def _can_be_pinned(image: Image) -> bool:
    """A file on a web server is pinned by its name alone."""
    return image.digest is not None and not image.name.startswith(WEB)


def _pin(image: Image) -> dict[str, Any]:
    pin: dict[str, Any] = {"digest": image.digest}
    if image.manifest_digest and _PLATFORM.match(image.platform) and not image.name.startswith("oras://"):
        pin["platforms"] = {image.platform: image.manifest_digest}
    return pin
