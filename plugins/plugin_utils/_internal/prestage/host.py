# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of one host that was to have images, by the strategy that brought them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ....module_utils._internal.text import shown
from .result import FAILED, FETCHED, Image, Work, line, marks_of, told, unreachable

EACH, BUILD_ONCE, SHARED = "each", "build_once", "shared"
STRATEGIES = (EACH, BUILD_ONCE, SHARED)

CURRENT, UPDATED, CLEANED = "current", "updated", "cleaned"

LACKING, UNCLEAN, UNREACHABLE = "lacking", "unclean", "unreachable"
"""How a host can fail: it lacks an image, what it should not have could not be removed, or it does not answer."""

_NOT_THE_FILE = ("attributes", "recorded", "pushed")
"""Actions that change something and leave what is in the file."""

_KEPT = "kept"
"""What ``sregistry_remove`` says of an image that stays, as a symlink leads to its file."""


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

    ``removed`` was what it should not have, ``kept`` what stays of that as a symlink leads to it, and ``trouble`` is
    what went wrong. ``spared`` means that nothing was to be removed before every image is in its place. ``store`` is
    the directory of its images, as far as it is known.
    """

    host: str
    cells: dict[str, Cell]
    lost: str | None = None
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    trouble: str | None = None
    away: bool = False
    spared: bool = False
    store: str = ""

    @property
    def state(self) -> str:
        """Of the host, by the worst that can be said of it."""
        states = {cell.state for cell in self.cells.values()}
        if self.away:
            return UNREACHABLE
        if self.lost or FAILED in states:
            return LACKING
        if self.trouble:
            return UNCLEAN
        if UPDATED in states:
            return UPDATED
        return CLEANED if self.removed else CURRENT

    @property
    def failed(self) -> bool:
        """Whether anything did."""
        return self.state in (LACKING, UNCLEAN, UNREACHABLE)

    @property
    def differences(self) -> list[str]:
        """What is another file than it shall be, or one that shall not be there, and what would come of it."""
        words = [
            f"{name} (would be {cell.action})"
            for name, cell in self.cells.items()
            if cell.state == UPDATED and cell.action not in _NOT_THE_FILE
        ]
        return [*words, *(f"{what} (would be removed)" for what in self.removed)]

    @property
    def made(self) -> set[str]:
        """Whether it built files, or fetched finished ones, or both."""
        return {cell.image.made for cell in self.cells.values() if cell.state == UPDATED and cell.image} - {""}

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """Why it failed: the reason, who gave it, and the image, empty for a reason of the host itself."""
        whole = [(text, "", "") for text in (self.lost, self.trouble) if text]
        return whole + [(cell.cause, cell.speaker, name) for name, cell in self.cells.items() if cell.cause]


@dataclass(frozen=True)
class Order:
    """What was to be done: by host the ``names`` of the images, in which way, and whether it was only tried.

    ``locked`` means that a file which is not what it shall be is a failure where it is only tried. ``clean`` means that
    what is not listed was to be removed; ``doubt`` says why that cannot be told on a file system that hosts share.
    ``stores`` tells by host which store it was given, if it was.
    """

    names: Mapping[str, Sequence[str]]
    strategy: str = EACH
    check: bool = False
    locked: bool = False
    course: Mapping[str, Any] = field(default_factory=dict)
    clean: bool = False
    doubt: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)

    @property
    def leaders(self) -> list[str]:
        """Who went first, and whose work the others took over."""
        return [group["leader"] for group in self.course.get("groups", {}).values() if group["leader"] is not None]

    @property
    def unled(self) -> list[str]:
        """The hosts of a group of which nobody may go first."""
        unled = {name for name, group in self.course.get("groups", {}).items() if not group["led"]}
        return [host for host, group in self.course.get("group_of", {}).items() if group in unled]

    def group_of(self, host: str) -> Mapping[str, Any]:
        """What its group learnt from the host that went first."""
        found: Mapping[str, Any] = self.course.get("groups", {}).get(self.course.get("group_of", {}).get(host), {})
        return found


def stand_of(
    order: Order, host: str, pulled: Mapping[str, Any], seen: Mapping[str, Any], removed: Mapping[str, Any]
) -> Stand:
    """What became of a host.

    :param pulled: its result of ``sregistry_pull``, empty if it was not asked; ``seen`` that of ``sregistry_info``, if
        it only looks (``SHARED``); ``removed`` that of ``sregistry_remove``.
    """
    group, names = order.group_of(host), order.names.get(host, ())
    if order.strategy == SHARED and (not pulled or pulled.get("skipped")):
        cells, lost = _look(order.check, names, group, seen)
    else:
        foreseen = order.check and order.strategy == BUILD_ONCE and group.get("leader") not in (None, host)
        cells, lost = _cells(order.strategy, names, group, pulled, foreseen)
    gone, kept, trouble = _gone(removed)
    short = lost is None and any(cell.state == FAILED for cell in cells.values())
    away = any(result.get("unreachable") for result in (pulled, seen, removed))
    given = "" if away else shown(order.stores.get(host) or "", 1000)
    return Stand(
        host,
        {told(name): cell for name, cell in cells.items()},
        lost,
        gone,
        kept,
        trouble,
        away=away,
        # Where hosts share a file system, only the one that filled it would have removed anything.
        spared=order.clean and short and (order.strategy != SHARED or host == group.get("leader")),
        store=_store(pulled) or _store(seen) or given,
    )


def _store(result: Mapping[str, Any]) -> str:
    """The store, as a host says it where its task did not fail."""
    facts = result.get("ansible_facts")
    inventory = facts.get("sregistry") if isinstance(facts, Mapping) else None
    found = inventory.get("storage") if isinstance(inventory, Mapping) else None
    return shown(found, 1000) if isinstance(found, str) else ""


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
    return (
        replace(image, action="pulled", changed=True, error=None, made=FETCHED)
        if image.error and image.missed
        else image
    )


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


def results_of(hosts: Sequence[str], stages: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """By host, its result in the first of some stages where it had anything to do; that of the last one otherwise."""
    found: dict[str, Mapping[str, Any]] = {}
    for host in hosts:
        results = [stage.get(host) or {} for stage in stages]
        found[host] = next((result for result in results if result and not result.get("skipped")), results[-1])
    return found


def unseen(names: Sequence[str], group: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether a host does not see, or not yet, what the one that went first has put onto their file system.

    :param group: what ``prestage_elect`` tells of its group; ``seen`` its result of ``sregistry_info``.
    """
    return any(cell.unseen for cell in _look(False, names, group, seen)[0].values())


def _look(
    check: bool, names: Sequence[str], group: Mapping[str, Any], seen: Mapping[str, Any]
) -> tuple[dict[str, Cell], str | None]:
    """What a host sees of what the leader of its group has filled."""
    lost = None if "images" in seen else Work.of(seen, ()).lost
    if lost is not None:
        return {name: Cell(FAILED) for name in names}, lost
    failed = _of_another(group)
    shares = not set(group.get("marks") or ()).isdisjoint(marks_of(seen))
    filled = {name: replace(Image(**image), fetched=0, made="") for name, image in group.get("images", {}).items()}
    cells = {}
    for name in names:
        image = filled.get(name)
        if image is None and group.get("leader") is None and not failed:
            cells[name] = Cell(FAILED, cause="there is no host of its platform that went first and filled the store")
        elif image is None:
            cells[name] = failed.get(name) or _cell(None)
        elif check and image.changed and image.action not in _NOT_THE_FILE:
            cells[name] = Cell(CURRENT, image=image)  # by then it is there
        else:
            blindness = _blindness(group["leader"], image, seen.get("images"), shares)
            cells[name] = Cell(FAILED, cause=blindness, unseen=True) if blindness else Cell(CURRENT, image=image)
    return cells, None


def _blindness(leader: str, image: Image, rows: Any, shares: bool) -> str | None:
    """Why a host does not see the file of another one; None if it does.

    :param shares: whether it sees other files of that one, so that it is the same file system: then another run was at
        work meanwhile.
    """
    listed = rows if isinstance(rows, list) else []
    known = [row for row in listed if isinstance(row, Mapping) and row.get("reference") == image.uri]
    path = shown(image.path, 1000)
    row = next((row for row in known if row.get("path") == image.path), None)
    if row is None and shares:
        return f"another run has removed {path} since it was there on {leader}; run this again when that one has ended"
    if not listed:
        return (
            f"it does not see {path}, which is there on {leader}, and its inventory has none of the images; "
            "is the file system mounted, and is the inventory on it, or has another run removed them meanwhile?"
        )
    if row is None:
        return (
            f"its inventory does not know {path}, which is there on {leader}; is it the same file system, or has "
            "another run removed it meanwhile?"
        )
    state = row.get("state")
    if state == "missing":
        return f"it does not see {path}, which is there on {leader}, though it sees the inventory"
    if row.get("sha256") != image.sha256:
        sha256 = shown(row.get("sha256"), 80)
        if shares:
            return f"another run has replaced {path}, which is not the file any more that {leader} had"
        return (
            f"{path} is another file than on {leader}: the inventory says sha256 {sha256} instead of "
            f"{shown(image.sha256, 80)}; is it the same file system?"
        )
    if state != "present":
        return f"{path} has another size or modification time than the inventory of {leader} says"
    return None


def _gone(result: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """What was removed from a host, what was kept there for a symlink, and what went wrong with that."""
    if result.get("unreachable"):
        return (), (), f"while images were to be removed: {unreachable(result)}"
    if not result or result.get("skipped"):
        return (), (), None
    images = result.get("images")
    listed = [one for one in images if isinstance(one, Mapping)] if isinstance(images, list) else []
    gone = [shown(str(one.get("reference")), 1000) for one in listed if one.get("changed") is True]
    kept = [shown(str(one.get("reference")), 1000) for one in listed if one.get("action") == _KEPT]
    swept = result.get("swept")
    gone += [shown(str(path), 1000) for path in swept] if isinstance(swept, list) else []
    failed = not isinstance(images, list) or bool(result.get("msg"))
    trouble = line(result.get("msg"), "nothing is known of it") if failed else None
    return tuple(dict.fromkeys(gone)), tuple(dict.fromkeys(kept)), trouble
