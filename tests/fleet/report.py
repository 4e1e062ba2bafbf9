# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: the tables in ``docs/fleet.md``, each between two comments, with figures of a measurement."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable

from tests.fleet import model, run, strategies
from tests.fleet.model import Forecast, Measured, Site
from tests.fleet.results import Pair, Results
from tests.fleet.traffic import Traffic
from tests.measure.figures import GIGABYTE, TIMES, decimal, megabytes
from tests.measure.table import Table

GIGABIT = 10**9 / 8
FLEETS = (1_000, 10_000)
MODELLED = (strategies.EACH, strategies.MIRRORED, strategies.BUILD_ONCE, strategies.SHARED)
RATES = (10, 25, 100)
CORES, FORKS, LINK = 16, 200, 10
"""The model takes these for granted: the cores of the controller and of the store, forks, and Gbit/s of a node."""

_SPARING = (
    strategies.MIRRORED,
    strategies.MIRRORED_3,
    strategies.BUILD_ONCE,
    strategies.SHARED,
    strategies.AT_ONCE,
)
"""Strategies that must ask the origin for each blob once."""

_WHO: tuple[tuple[str, Callable[[Pair], str]], ...] = (
    ("strategy", lambda pair: strategies.TITLES[pair.strategy]),
    ("hosts", lambda pair: str(pair.hosts)),
)

_BLOCK = re.compile(r"(<!-- figures: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.S)


def write(text: str, results: Results) -> str:
    """Return the document with all that stands between its comments made anew.

    :raises KeyError: it asks for what is not made here.
    """
    figures = model.measured(results)
    parts: dict[str, Callable[[], str]] = {
        "lines": lambda: _promises(results).markdown(),
        "curve": lambda: _curve(results).markdown(),
        "nodes": lambda: _nodes(results).markdown(),
        "registries": lambda: _registries(results).markdown(),
        "controller": lambda: _controller(results).markdown(),
        "again": lambda: _again(results).markdown(),
        "inputs": lambda: _inputs(figures).markdown(),
        "model": lambda: _model(figures).markdown(),
        "times": lambda: _times(figures).markdown(),
        "walls": lambda: _walls(figures).markdown(),
        "levels": lambda: _levels(figures).markdown(),
        "machine": lambda: _machine(results),
    }
    return _BLOCK.sub(lambda found: f"{found[1]}\n{parts[found['name']]()}\n\n{found[3]}", text)


def terminal(results: Results) -> str:
    """Return the measured tables."""
    tables = [_promises(results), _curve(results), _nodes(results), _registries(results), _controller(results)]
    return "\n\n".join(table.text() for table in tables) + "\n"


def _promises(results: Results) -> Table:
    """Compare a fleet's promises with the results for most hosts."""
    rows: list[tuple[str, str, str, str]] = []

    def row(promise: str, value: float, bound: float, unit: str = "") -> None:
        figure = decimal(value) if value % 1 else f"{value:.0f}"
        rows.append((promise, "kept" if value <= bound else "MISSED", figure + unit, f"at most {bound:g}"))

    for strategy in _SPARING:
        if pairs := results.of(strategy):
            blobs = pairs[-1].cold.registries[strategies.ORIGIN].traffic.blobs.values()
            row(f"{strategies.TITLES[strategy]}: the origin serves each blob", max(blobs), 1, " times")
    for strategy in (strategies.BUILD_ONCE, strategies.DENSE):
        if pairs := results.of(strategy):
            title, last, build = strategies.TITLES[strategy], pairs[-1], _build(pairs[0])
            share = last.cold.cpu / (last.hosts * build)
            row(f"{title}: CPU of {last.hosts} hosts, of that of as many such builds", share, 0.1)
            if loops := results.of(strategies.LOOP):
                share = last.cold.cpu / (last.hosts * _build(loops[0]))
                row(f"{title}: CPU of {last.hosts} hosts, of that of as many apptainer pull", share, 0.1)
            for pair in (pair for pair in pairs if pair.cold.those(run.FETCHED)):
                fetching = statistics.median(node.cpu for node in pair.cold.those(run.FETCHED))
                share = fetching / build
                row(f"{title}: CPU of a node that fetches, of that of a build, {pair.hosts} hosts", share, 0.1)
    if pairs := results.of(strategies.AT_ONCE):
        row(f"shared, {pairs[-1].hosts} at once: builds", len(pairs[-1].cold.those(run.BUILT)), 1)
    return Table(("promise", "is", "measured", "promised"), rows, texts=2)


def _build(pair: Pair) -> float:
    """Return the CPU seconds of one build."""
    return statistics.median(node.cpu for node in pair.cold.those(run.BUILT))


def _idle(pair: Pair) -> float:
    """Return the CPU seconds of a node that finds all done."""
    return statistics.median(node.cpu for node in pair.again.nodes.values())


def _curve(results: Results) -> Table:
    def of(pair: Pair, name: str) -> Traffic:
        return pair.cold.registries[name].traffic

    def times(pair: Pair) -> str:
        found = sorted(set(of(pair, strategies.ORIGIN).blobs.values()))
        return " to ".join(f"{each:g}" for each in (found[:1] + found[1:][-1:])) or "0"

    def manifests(pair: Pair) -> str:
        return f"{of(pair, strategies.ORIGIN).manifest_gets} + {of(pair, strategies.ORIGIN).manifest_heads}"

    return Table.of(
        _all(results),
        *_WHO,
        ("origin MB", lambda pair: megabytes(of(pair, strategies.ORIGIN).sent)),
        ("each blob, times", times),
        ("manifests GET + HEAD", manifests),
        ("mirror MB", lambda pair: megabytes(of(pair, strategies.MIRROR).sent)),
        ("store MB", lambda pair: megabytes(of(pair, strategies.STORE).sent)),
        ("CPU s, all hosts", lambda pair: decimal(pair.cold.cpu)),
        ("builds", lambda pair: str(len(pair.cold.those(run.BUILT)))),
    )


def _nodes(results: Results) -> Table:
    """Return the CPU seconds of one host, by what it did."""
    rows = []
    for pair in _all(results):
        build = _build(results.of(pair.strategy)[0])
        for did in (run.BUILT, run.FETCHED, run.SAW):
            if used := [node.cpu for node in pair.cold.those(did)]:
                middle, ends = statistics.median(used), f"{decimal(min(used))} to {decimal(max(used))}"
                figures = (decimal(middle), ends, f"{middle / build:.3f}", decimal(_idle(pair)))
                rows.append((strategies.TITLES[pair.strategy], str(pair.hosts), did, str(len(used)), *figures))
    heads = ("strategy", "hosts", "did", "nodes", "CPU s, median", "from to", f"{TIMES} a build", "CPU s, second run")
    return Table(heads, rows)


def _registries(results: Results) -> Table:
    rows = []
    for pair in _all(results):
        for name in run.REGISTRIES:
            requests, load = pair.cold.registries[name].traffic.requests, pair.cold.registries[name].load
            if requests:
                title = "origin" if name == strategies.ORIGIN else name
                work = (decimal(load.cpu), f"{100 * load.peak_cpu:.0f} %", str(load.peak_connections))
                rates = (megabytes(load.peak_bytes), f"{load.peak_requests:.0f}")
                rows.append((strategies.TITLES[pair.strategy], str(pair.hosts), title, str(requests), *work, *rates))
    heads = ("strategy", "hosts", "registry", "requests", "CPU s", "peak of a core", "peak connections")
    return Table((*heads, "peak MB/s", "peak requests/s"), rows)


def _controller(results: Results) -> Table:
    return Table.of(
        _all(results),
        *_WHO,
        ("wall s", lambda pair: decimal(pair.cold.controller.seconds)),
        ("CPU s", lambda pair: decimal(pair.cold.controller.cpu)),
        ("of it the main process", lambda pair: decimal(pair.cold.controller.main_cpu)),
        ("second run, wall s", lambda pair: decimal(pair.again.controller.seconds)),
        ("CPU s", lambda pair: decimal(pair.again.controller.cpu)),
    )


def _again(results: Results) -> Table:
    """Describe a run that finds all done."""
    most = max(pair.hosts for pair in results.pairs)

    def asked(name: str) -> Callable[[Pair], str]:
        return lambda pair: str(pair.again.registries[name].traffic.requests)

    return Table.of(
        [pair for pair in _all(results) if pair.hosts == most],
        *_WHO,
        ("requests to origin", asked(strategies.ORIGIN)),
        ("to mirror", asked(strategies.MIRROR)),
        ("to store", asked(strategies.STORE)),
        ("MB", lambda pair: megabytes(sum(each.traffic.sent for each in pair.again.registries.values()))),
        ("CPU s of a node", lambda pair: decimal(_idle(pair))),
    )


def _inputs(figures: Measured) -> Table:
    rows = [
        ("L", "bytes of the layers", f"{megabytes(figures.layers)} MB"),
        ("S", "bytes of the SIF file", f"{megabytes(figures.sif)} MB"),
        ("B", "CPU of a node that builds", f"{decimal(figures.build)} s"),
        ("F", "CPU of a node that fetches the SIF", f"{decimal(figures.fetch)} s"),
        ("U", "CPU of a node that finds it there", f"{decimal(figures.idle)} s"),
        ("c", "CPU of the controller for each node", f"{decimal(figures.controller.slope)} s"),
        ("m", "of it the main process, which one core has to do", f"{figures.main.slope:.3f} s"),
        ("r", "CPU of the store for each GB that it sends", f"{decimal(figures.serving * GIGABYTE)} s"),
        ("a", "connections of a node to a registry at once", f"{figures.connections:.1f}"),
        ("k", "how often Distribution 2.8, as a mirror, fetches a layer", f"{figures.copies:.1f}"),
    ]
    return Table(("figure", "what it is", "measured"), rows, texts=2)


def _forecasts(figures: Measured) -> list[tuple[str, str, Forecast]]:
    """Return the costs by the words for nodes and strategy."""
    return [
        (f"{nodes:,}", strategies.TITLES[strategy], model.forecast(strategy, nodes, figures, FORKS))
        for nodes in FLEETS
        for strategy in MODELLED
    ]


def _model(figures: Measured) -> Table:
    rows = []
    for nodes, title, cost in _forecasts(figures):
        cpu = (f"{cost.cpu / 3600:.1f}", f"{cost.controller / 60:.0f}")
        connections = f"{cost.connections:.0f}" if cost.connections else "-"
        rows.append((nodes, title, _gigabytes(cost.origin), _gigabytes(cost.near), *cpu, connections))
    heads = ("nodes", "strategy", "origin GB", "mirror, store or file system GB", "CPU h, all nodes")
    return Table((*heads, "CPU min, controller", "connections at once"), rows, texts=2)


def _times(figures: Measured) -> Table:
    rows = [
        (nodes, title, *(_duration(max(cost.origin, cost.near) / (rate * GIGABIT)) for rate in RATES))
        for nodes, title, cost in _forecasts(figures)
    ]
    return Table(("nodes", "strategy", *(f"at {rate} Gbit/s" for rate in RATES)), rows, texts=2)


def _walls(figures: Measured) -> Table:
    rows = []
    for nodes in FLEETS:
        for rate in RATES:
            found = model.walls(nodes, figures, Site(rate * GIGABIT, LINK * GIGABIT, CORES, FORKS))
            rows.append(
                (f"{nodes:,}", f"{rate} Gbit/s", *(f"{wall.name}, {_duration(wall.seconds)}" for wall in found[:3]))
            )
    return Table(("nodes", "uplink of the store", "first wall", "second", "third"), rows, texts=5)


def _levels(figures: Measured) -> Table:
    """Return the seconds of the data alone, from one store, several, and peers that pass on what they have."""
    rows = [
        (f"{nodes:,}", str(stores), *(_duration(nodes * figures.sif / (stores * rate * GIGABIT)) for rate in RATES))
        for nodes in FLEETS
        for stores in (1, 2, 4, 16)
    ]
    return Table(("nodes", "stores", *(f"at {rate} Gbit/s each" for rate in RATES)), rows)


def _machine(results: Results) -> str:
    where = Table(("what", "is"), list(results.machine.items()), texts=2).markdown()
    image = results.image
    told = f"`{image.repository}`: {image.title}; {len(image.layers)} layers, {megabytes(image.compressed)} MB"
    return f"Measured on {results.date} with `{results.command}`. The image is {told} compressed.\n\n{where}"


def _all(results: Results) -> list[Pair]:
    return [pair for strategy in strategies.TITLES for pair in results.of(strategy)]


def _gigabytes(count: float) -> str:
    value = count / GIGABYTE
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{decimal(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
