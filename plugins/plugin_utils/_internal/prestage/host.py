# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome for one host that was to have images, by the strategy that brought them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ....module_utils._internal.text import shown
from .leader import Group
from .result import FAILED, FETCHED, ImageResult, StoreResult, StoreRow, without_query
from .run import BUILD_ONCE, SHARED, HostRun, Options

CURRENT, UPDATED, CLEANED = "current", "updated", "cleaned"

LACKING, UNCLEAN, UNREACHABLE = "lacking", "unclean", "unreachable"
"""Ways in which a host fails: it lacks an image; what it must not have could not be removed; it does not answer."""

_NOT_THE_FILE = ("attributes", "recorded", "pushed")
"""Actions that change something and leave what is in the file."""


@dataclass(frozen=True)
class Cell:
    """One image on one host.

    :ivar cause: why it failed; empty if it did not, or if the host as a whole did.
    :ivar failed_on: the host that has failed, if it is another one.
    :ivar unseen: another host has put a file there which this host does not see.
    """

    state: str
    action: str = ""
    cause: str = ""
    failed_on: str = ""
    image: ImageResult | None = None
    unseen: bool = False


@dataclass(frozen=True)
class HostOutcome:
    """The outcome for one host.

    :ivar cells: by the name of each image, fit to be shown.
    :ivar lost: one reason for all images; None if each has its own.
    :ivar removed: what the host must not have, and has no longer.
    :ivar kept: what of that stays, as a symlink leads to it.
    :ivar trouble: what went wrong with the removal; None if nothing did.
    :ivar not_cleaned: nothing was removed, as not every image is in its place.
    :ivar store: the directory of its images; empty if it is not known.
    """

    host: str
    cells: Mapping[str, Cell]
    lost: str | None = None
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    trouble: str | None = None
    unreachable: bool = False
    not_cleaned: bool = False
    store: str = ""

    @classmethod
    def of(cls, options: Options, run: HostRun) -> HostOutcome:
        """Judge the results of a host."""
        if options.strategy == SHARED and run.pull.idle:
            cells, lost = _cells_of_store(options.check, run.names, run.group, run.store)
        else:
            foreseen = options.check and options.strategy == BUILD_ONCE and run.group.leader not in (None, run.name)
            cells, lost = _cells_of_pull(run, foreseen)
        short = lost is None and any(cell.state == FAILED for cell in cells.values())
        unreachable = run.pull.unreachable or run.store.unreachable or run.removal.unreachable
        return cls(
            run.name,
            {without_query(name): cell for name, cell in cells.items()},
            lost,
            run.removal.removed,
            run.removal.kept,
            run.removal.trouble,
            unreachable,
            # Where hosts share a file system, only the one that filled it would have removed anything.
            not_cleaned=options.clean and short and (options.strategy != SHARED or run.name == run.group.leader),
            store=run.pull.store or run.store.store or ("" if unreachable else run.given_store),
        )

    @property
    def state(self) -> str:
        """The state of the host: the worst that applies."""
        states = {cell.state for cell in self.cells.values()}
        if self.unreachable:
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
        """True if anything failed."""
        return self.state in (LACKING, UNCLEAN, UNREACHABLE)

    @property
    def differences(self) -> list[str]:
        """The files that are not as they must be, or must not be there, each with what would be done to it."""
        words = [
            f"{name} (would be {cell.action})"
            for name, cell in self.cells.items()
            if cell.state == UPDATED and cell.action not in _NOT_THE_FILE
        ]
        return [*words, *(f"{name} (would be removed)" for name in self.removed)]

    @property
    def made(self) -> set[str]:
        """``BUILT`` if it built files, ``FETCHED`` if it fetched finished ones, or both."""
        return {cell.image.made for cell in self.cells.values() if cell.state == UPDATED and cell.image} - {""}

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """The reasons why it failed: the reason, the host that gave it if it is another one, and the image.

        The image is empty for a reason of the host itself.
        """
        whole = [(text, "", "") for text in (self.lost, self.trouble) if text]
        return whole + [(cell.cause, cell.failed_on, name) for name, cell in self.cells.items() if cell.cause]


def _cells_of_pull(run: HostRun, foreseen: bool) -> tuple[dict[str, Cell], str | None]:
    """Return the cells of a host that was to have the images by itself, or the one reason why it has none.

    :param foreseen: whether what the cache of finished files misses will be there in the real run.
    """
    if run.pull.lost is not None:
        return {name: Cell(FAILED) for name in run.names}, run.pull.lost
    failed = _failed_before(run.group) if run.follows else {}
    images = {name: _as_foreseen(image) if foreseen else image for name, image in run.pull.images.items()}
    return {name: failed.get(name) or _cell(images.get(name)) for name in run.names}, None


def _as_foreseen(image: ImageResult) -> ImageResult:
    """Return the result that there will be once the leader has built and pushed."""
    return (
        replace(image, action="pulled", changed=True, error=None, made=FETCHED)
        if image.error and image.missed
        else image
    )


def _failed_before(group: Group) -> dict[str, Cell]:
    """Return the cells of the images that failed on the host that went first."""
    return {name: Cell(FAILED, cause=cause, failed_on=group.failed_on) for name, cause in group.failed.items()}


def _cell(image: ImageResult | None) -> Cell:
    if image is None:
        return Cell(FAILED, cause="nothing was done for it")
    if image.error:
        return Cell(FAILED, image.action, image.error, image=image)
    return Cell(UPDATED if image.changed else CURRENT, image.action, image=image)


def sees_all(names: Sequence[str], group: Group, store: StoreResult) -> bool:
    """Tell whether a host sees, by now, all that the leader of its group has put into the store that they share."""
    return not any(cell.unseen for cell in _cells_of_store(False, names, group, store)[0].values())


def _cells_of_store(
    check: bool, names: Sequence[str], group: Group, store: StoreResult
) -> tuple[dict[str, Cell], str | None]:
    """Return the cells of a host that looks at a store which the leader of its group has filled."""
    if store.lost is not None:
        return {name: Cell(FAILED) for name in names}, store.lost
    failed = _failed_before(group)
    filled = {name: replace(image, fetched=0, made="") for name, image in group.images.items()}
    cells = {}
    for name in names:
        image = filled.get(name)
        if image is None and group.leader is None and not failed:
            cells[name] = Cell(FAILED, cause="there is no host of its platform that went first and filled the store")
        elif image is None:
            cells[name] = failed.get(name) or _cell(None)
        elif check and image.changed and image.action not in _NOT_THE_FILE:
            cells[name] = Cell(CURRENT, image=image)  # by then it is there
        else:
            why = _why_unseen(str(group.leader), image, store.rows, not group.marks.isdisjoint(store.marks))
            cells[name] = Cell(FAILED, cause=why, unseen=True) if why else Cell(CURRENT, image=image)
    return cells, None


def _why_unseen(leader: str, image: ImageResult, rows: Sequence[StoreRow], shares: bool) -> str | None:
    """Return why a host does not see a file of the leader; None if it does.

    :param shares: whether it sees other files of the leader, so that it is the same file system: then another run was
        at work meanwhile.
    """
    path = shown(image.path, 1000)
    row = next((row for row in rows if row.reference == image.reference and row.path == image.path), None)
    if row is None and shares:
        return f"another run has removed {path} since it was there on {leader}; run this again when that one has ended"
    if not rows:
        return (
            f"it does not see {path}, which is there on {leader}, and its inventory has none of the images; "
            "is the file system mounted, and is the inventory on it, or has another run removed them meanwhile?"
        )
    if row is None:
        return (
            f"its inventory does not know {path}, which is there on {leader}; is it the same file system, or has "
            "another run removed it meanwhile?"
        )
    if row.state == "missing":
        return f"it does not see {path}, which is there on {leader}, though it sees the inventory"
    if row.sha256 != image.sha256:
        if shares:
            return f"another run has replaced {path}, which is not the file any more that {leader} had"
        return (
            f"{path} is another file than on {leader}: the inventory says sha256 {shown(row.sha256, 80)} instead of "
            f"{shown(image.sha256, 80)}; is it the same file system?"
        )
    if row.state != "present":
        return f"{path} has another size or modification time than the inventory of {leader} says"
    return None
