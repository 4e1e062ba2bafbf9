# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run of the role: what each host was to have, and the results of its tasks, parsed from what Ansible gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....module_utils._internal.text import shown
from .leader import Election, Group
from .result import PullResult, RemovalResult, StoreResult

EACH, BUILD_ONCE, SHARED = "each", "build_once", "shared"
STRATEGIES = (EACH, BUILD_ONCE, SHARED)


@dataclass(frozen=True)
class Options:
    """The way in which images were brought to hosts.

    :ivar check: nothing was done, as in check mode.
    :ivar locked: in check mode, a file that is not as it must be is a failure.
    :ivar clean: what is not listed was to be removed.
    :ivar keep_because: why it is not known what all hosts of a shared store must have, so that nothing was removed
        there.
    """

    strategy: str = EACH
    check: bool = False
    locked: bool = False
    clean: bool = False
    keep_because: str = ""


@dataclass(frozen=True)
class HostRun:
    """The images that a host was to have, and the results of its tasks.

    :ivar group: what it learnt from the host that went first.
    :ivar follows: it was given only the images that did not fail there.
    :ivar given_store: the store that it was given; empty if none was given.
    """

    name: str
    names: tuple[str, ...]
    group: Group
    pull: PullResult
    store: StoreResult
    removal: RemovalResult
    follows: bool
    given_store: str


@dataclass(frozen=True)
class Run:
    """A run of the role on all hosts."""

    options: Options
    election: Election
    hosts: tuple[HostRun, ...]

    @classmethod
    def of(cls, results: Mapping[str, Any], images: Any, options: Mapping[str, Any]) -> Run:
        """Read the input and the options of the filter ``prestage_summary``.

        :raises ValueError, TypeError: if one cannot be read.
        """
        given = dict(options)
        election = Election.of(given.pop("election", None) or {})
        stages = [*(given.pop("before", None) or ()), results]
        seen, removed, stores = ({**(given.pop(name, None) or {})} for name in ("seen", "removed", "stores"))
        names = images if isinstance(images, Mapping) else dict.fromkeys(results, images)
        if any(isinstance(listed, str) or not isinstance(listed, Sequence) for listed in names.values()):
            raise ValueError("wants a list of the names of images, or one for each host")
        unknown = ", ".join(sorted(set(given) - set(Options.__dataclass_fields__)))
        if unknown:
            raise TypeError(f"has no option {unknown}")
        read = Options(**given)
        if read.strategy not in STRATEGIES:
            raise ValueError(f"knows no strategy {read.strategy!r}; choose one of {', '.join(STRATEGIES)}")
        hosts = []
        for host in results:
            listed, group, result = tuple(names.get(host, ())), election.group(host), first_result(host, stages)
            follows = read.strategy == BUILD_ONCE and _follows(result, group)
            hosts.append(
                HostRun(
                    name=host,
                    names=listed,
                    group=group,
                    pull=PullResult.of(result, group.names if follows else listed),
                    store=StoreResult.of(seen.get(host) or {}),
                    removal=RemovalResult.of(removed.get(host) or {}),
                    follows=follows,
                    given_store=shown(stores.get(host) or "", 1000),
                )
            )
        return cls(read, election, tuple(hosts))


def first_result(host: str, stages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the result of a host in the first of some tasks where it had anything to do, or else in the last one."""
    results: list[Mapping[str, Any]] = [stage.get(host) or {} for stage in stages]
    return next((result for result in results if result and not result.get("skipped")), results[-1])


def _follows(result: Mapping[str, Any], group: Group) -> bool:
    """Tell whether a host was given only the images that did not fail on the host that went first.

    It was given nothing at all if all of them failed.
    """
    images = result.get("images")
    return bool(group.failed) and (
        bool(result.get("skipped")) or (isinstance(images, Sequence) and len(images) == len(group.names))
    )
