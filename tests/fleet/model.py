# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The costs of a fleet of any size, from those of a small one: sums that are known, times that follow from them.

All that grows with the number of nodes is a straight line through what was measured. The rest is said in ``Site``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.fleet import run, strategies
from tests.fleet.results import Pair, Results, Run
from tests.measure.command import Failed


@dataclass(frozen=True)
class Site:
    """The facts that the lab does not tell: rates in bytes a second, the controller's cores and Ansible's forks."""

    uplink: float
    link: float
    cores: int
    forks: int


@dataclass(frozen=True)
class Line:
    """A cost of ``base`` and ``slope`` for each node."""

    base: float
    slope: float

    def at(self, nodes: float) -> float:
        """Return the cost of so many."""
        return self.base + self.slope * nodes


@dataclass(frozen=True)
class Measured:
    """The figures of one measurement from which all else follows; sizes are bytes, CPU and times are seconds.

    ``layers`` and ``sif`` are the image as it is fetched and as it is in the end, ``build``, ``fetch`` and ``idle`` the
    CPU of a node that builds, fetches, or has nothing to do. ``controller`` is the CPU of all processes of a playbook
    for a task, ``main`` that of the one that cannot be shared among cores. ``serving`` is the CPU of a registry for a
    byte, ``connections`` is how many a node opens to it at once, ``copies`` how often a mirror fetched each layer.
    """

    layers: int
    sif: int
    build: float
    fetch: float
    idle: float
    controller: Line
    main: Line
    serving: float
    connections: float
    copies: float


@dataclass(frozen=True)
class Forecast:
    """One strategy for one number of nodes: bytes by who sends them, CPU seconds, connections."""

    origin: float
    near: float
    cpu: float
    controller: float
    connections: float


def measured(results: Results) -> Measured:
    """Read the figures off a measurement.

    :raises Failed: it lacks ``each`` or ``build_once`` on several hosts.
    """
    once, each = results.of(strategies.BUILD_ONCE), results.of(strategies.EACH)
    mirrored = results.of(strategies.MIRRORED)
    if len(once) < 2 or not each:
        raise Failed("a model needs 'each', and 'build_once' on at least two numbers of hosts")
    most = once[-1].cold
    store = most.registries[strategies.STORE]
    # The fewest hosts come closest to nodes that share their cores with nobody.
    fetching = next(pair.cold.those(run.FETCHED) for pair in once if pair.cold.those(run.FETCHED))
    return Measured(
        layers=results.image.compressed,
        sif=most.those(run.BUILT)[0].size,
        build=statistics.median(node.cpu for node in each[0].cold.those(run.BUILT)),
        fetch=statistics.median(node.cpu for node in fetching),
        idle=statistics.median(node.cpu for node in once[0].again.nodes.values()),
        controller=_line(once, lambda cold: cold.controller.cpu),
        main=_line(once, lambda cold: cold.controller.main_cpu),
        serving=store.load.cpu / store.traffic.sent,
        connections=store.load.peak_connections / len(most.those(run.FETCHED)),
        copies=mirrored[-1].cold.registries[strategies.ORIGIN].traffic.sent / results.image.compressed
        if mirrored
        else 1.0,
    )


def forecast(strategy: str, nodes: int, figures: Measured, forks: int) -> Forecast:
    """Estimate the costs of a strategy for so many nodes."""
    builds = nodes if strategy in (strategies.EACH, strategies.MIRRORED) else 1
    at_once = min(forks, nodes) * figures.connections
    controller = figures.controller.at(nodes)
    idle = (nodes - builds) * (figures.fetch if strategy == strategies.BUILD_ONCE else figures.idle)
    cpu = builds * figures.build + idle
    if strategy == strategies.EACH:
        return Forecast(nodes * figures.layers, 0, cpu, controller, at_once)
    if strategy == strategies.MIRRORED:
        return Forecast(figures.copies * figures.layers, nodes * figures.layers, cpu, controller, at_once)
    if strategy == strategies.BUILD_ONCE:
        return Forecast(figures.layers, (nodes - 1) * figures.sif, cpu, controller, at_once)
    return Forecast(figures.layers, nodes * figures.sif, cpu, controller, 0)


@dataclass(frozen=True)
class Wall:
    """Something that bounds how soon all nodes are done, and the seconds that it alone needs."""

    name: str
    seconds: float


STORE_UPLINK = "uplink of the store"
STORE_CPU = "CPU of the store"
FORKS = "forks of the controller"
CONTROLLER = "cores of the controller"
MAIN = "main process of the controller"


def walls(nodes: int, figures: Measured, site: Site) -> list[Wall]:
    """Return the bounds of ``build_once`` for so many nodes; the longest first. The build itself is not in it."""
    sent = (nodes - 1) * figures.sif
    visit = figures.fetch + figures.sif / site.link
    found = [
        Wall(STORE_UPLINK, sent / site.uplink),
        Wall(STORE_CPU, sent * figures.serving / site.cores),
        Wall(FORKS, nodes / min(site.forks, nodes) * visit),
        Wall(CONTROLLER, figures.controller.at(nodes) / site.cores),
        Wall(MAIN, figures.main.at(nodes)),
    ]
    return sorted(found, key=lambda wall: -wall.seconds)


def _line(pairs: Sequence[Pair], cost: Callable[[Run], float]) -> Line:
    """Return the straight line of least squares through a cost of each number of hosts."""
    fit = statistics.linear_regression([pair.hosts for pair in pairs], [cost(pair.cold) for pair in pairs])
    return Line(max(0.0, fit.intercept), max(0.0, fit.slope))
