# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary of a run as lines for people: one for each image, and below them what needs somebody."""

from __future__ import annotations

from collections.abc import Iterable

from ....module_utils._internal.text import in_words
from ..display.hostlist import fold, shortened
from .host import CLEANED, CURRENT, LACKING, UNCLEAN, UNREACHABLE, UPDATED
from .result import BUILT, FETCHED
from .summary import MixedImage, Summary

_MAX_VARIANTS = 5

_STATES = (CURRENT, UPDATED, CLEANED, LACKING, UNCLEAN, UNREACHABLE)
_OF_ROOT = "root's home, which nobody else can read; prestage_storage chooses another store"
_WITHOUT_LEADER = "no host of prestage_leaders with their platform and images took part (hosts:, --limit, serial)"


def lines_of(summary: Summary) -> Iterable[str]:
    """Return the lines."""
    yield from _heading(summary)
    if summary.images:
        yield from _table(summary)
    yield from _exceptions(summary)


def _heading(summary: Summary) -> Iterable[str]:
    """Return how many hosts are in which state, which of them went first, and the store."""
    states, check = summary.states, summary.check
    what = f"{_counted(len(summary.images), 'image')} on {_counted(summary.hosts['total'], 'host')}"
    words = ", ".join(
        f"{states[state]} {_state(state, states[state], check)}" for state in _STATES if states.get(state)
    )
    yield f"{what} (strategy {summary.strategy}): {words or 'nothing to do'}"
    yield from _first(summary)
    if summary.store:
        yield f"store: {summary.store}{_hint(summary.store)}"


def _table(summary: Summary) -> Iterable[str]:
    """Return a row for each image, and one for all of them."""
    would = "would be " if summary.check else ""
    width = max(len("all of them"), *(len(image.reference) for image in summary.images))
    yield f"{'image':{width}}  {'size':>10}  current  {would}updated  failed"
    for image in summary.images:
        actions = ", ".join(f"{count} {_done(action, summary.check)}" for action, count in image.actions.items())
        line = (
            f"{image.reference:{width}}  {_size(image.size):>10}  {image.current:7}  "
            f"{image.updated:{len(would) + 7}}  {image.failed:6}"
        )
        yield f"{line}  ({actions})" if actions else line
    total = f"{'all of them':{width}}  {_size(summary.bytes or None):>10}"
    yield total if would else f"{total}  {_size(summary.fetched)} fetched by all hosts"


def _exceptions(summary: Summary) -> Iterable[str]:
    """Return what not every run has: differences, removals, failures, and what was left undone."""
    check = summary.check
    would = "would be " if check else ""
    for image in summary.mixed:
        yield _mixed_image(image, check)
    for one in summary.removed:
        yield f"{would}removed from {shortened(one.hosts)}: {one.what}"
    for one in summary.kept:
        yield f"{would}kept on {shortened(one.hosts)}, as a symlink leads to it: {one.what}"
    for cause in summary.causes:
        yield f"FAILED on {_counted(cause.count, 'host')}, {shortened(cause.hosts)}:"
        yield f"  {cause.with_images(len(summary.images))}"
    if summary.locked and check:
        for words, names in summary.differing.items():
            yield f"FAILED on {_counted(len(names), 'host')}, {_hosts(names)}: not as the lock says: {words}"
    if summary.without_leader:
        yield f"nobody went first for {_hosts(summary.without_leader)}: {_WITHOUT_LEADER}"
    nothing = f"nothing {'would be' if check else 'was'} removed"
    if summary.not_cleaned:
        place = "would be" if check else "is"
        yield f"{nothing} from {_hosts(summary.not_cleaned)}: not every image {place} in its place"
    elif summary.keep_because:
        yield f"{nothing}: {summary.keep_because}"


def _first(summary: Summary) -> Iterable[str]:
    """Return which hosts went first, and on how many hosts files were built and fetched."""
    went, built, fetched = ("would go", "would build", "would fetch") if summary.check else ("went", "built", "fetched")
    made, leaders = summary.made, summary.leaders
    parts = [
        f"{_hosts(leaders)} {went} first" if leaders else "",
        f"{_counted(made[BUILT], 'host')} {built} files" if made[BUILT] else "",
        f"{_counted(made[FETCHED], 'host')} {fetched} finished ones" if made[FETCHED] else "",
    ]
    if any(parts):
        yield "; ".join(filter(None, parts))


def _mixed_image(image: MixedImage, check: bool) -> str:
    """Return that hosts have different images under one name."""
    parts = [f"{one.digest} on {_counted(one.count, 'host')}, {shortened(one.hosts, 200)}" for one in image.digests]
    more = len(parts) - _MAX_VARIANTS
    variants = "; ".join(parts[:_MAX_VARIANTS]) + (f"; and {more} more" if more > 0 else "")
    have = "would have" if check else "have"
    platform = f" for {image.platform}" if image.platform else ""
    return f"NOT THE SAME: hosts {have} different images of {image.name}{platform}: {variants}"


def _hosts(names: Iterable[str]) -> str:
    return shortened(fold(names))


def _hint(store: str) -> str:
    """Return what a user who did not choose the store may not know of it."""
    return f" ({_OF_ROOT})" if f"{store}/".startswith("/root/") else ""


def _state(state: str, count: int, check: bool) -> str:
    """Return a state of so many hosts in words; in check mode the state that there would be."""
    would = "would " if check else ""
    if state == LACKING:
        return f"{would}lack something" if check or count != 1 else "lacks something"
    if state == UNCLEAN:
        return f"{would}keep what is to be removed" if check or count != 1 else "keeps what is to be removed"
    return f"{would}be {state}" if check and state in (UPDATED, CLEANED) else state


def _done(action: str, check: bool) -> str:
    """Return an action on an image in words; in check mode the one that there would be."""
    if action == "attributes":
        return "would get other attributes" if check else "got other attributes"
    return f"would be {action}" if check else action


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _size(size: int | None) -> str:
    return "-" if size is None else in_words(size)
