# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: the tables in ``docs/fleet.md``, each between two comments, with figures of a measurement."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable

from tests.fleet import model, run, strategies
from tests.fleet.model import Measured, Site
from tests.fleet.results import Pair, Results
from tests.measure.figures import GIGABYTE, TIMES, decimal, megabytes
from tests.measure.table import Table

GIGABIT = 10**9 / 8
FLEETS = (1_000, 10_000)
MODELLED = (strategies.EACH, strategies.MIRRORED, strategies.BUILD_ONCE, strategies.SHARED)
RATES = (10, 25, 100)
CORES, FORKS, LINK = 16, 200, 10
"""What the model takes for granted: the cores of the controller and of the store, forks, and Gbit/s of a node."""

_SPARING = (
    strategies.MIRRORED,
    strategies.MIRRORED_3,
    strategies.BUILD_ONCE,
    strategies.SHARED,
    strategies.AT_ONCE,
)
"""What shall ask the origin for each blob once."""

_BLOCK = re.compile(r"(<!-- figures: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.S)


def write(text: str, results: Results) -> str:
    """The document with all that stands between its comments made anew.

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
    """The measured tables."""
    tables = [_promises(results), _curve(results), _nodes(results), _registries(results), _controller(results)]
    return "\n\n".join(table.text() for table in tables) + "\n"


def _promises(results: Results) -> Table:
    """What a fleet is promised, and what it got with most hosts."""
    rows: list[tuple[str, str, str, str]] = []

    def row(promise: str, value: float, bound: float, unit: str) -> None:
        kept = "kept" if value <= bound else "MISSED"
        rows.append((promise, kept, f"{decimal(value) if value % 1 else f'{value:.0f}'} {unit}", f"at most {bound:g}"))

    for strategy in _SPARING:
        if pairs := results.of(strategy):
            blobs = pairs[-1].cold.registries[strategies.ORIGIN].traffic.blobs.values()
            row(f"{strategies.TITLES[strategy]}: the origin serves each blob", max(blobs), 1, "times")
    for strategy in (strategies.BUILD_ONCE, strategies.DENSE):
        if pairs := results.of(strategy):
            title, last, build = strategies.TITLES[strategy], pairs[-1], _build(pairs[0])
            share = last.cold.cpu / (last.hosts * build)
            row(f"{title}: CPU of {last.hosts} hosts, of that of as many such builds", share, 0.1, "")
            if loops := results.of(strategies.LOOP):
                share = last.cold.cpu / (last.hosts * _build(loops[0]))
                row(f"{title}: CPU of {last.hosts} hosts, of that of as many apptainer pull", share, 0.1, "")
            for pair in (pair for pair in pairs if pair.cold.those(run.FETCHED)):
                fetching = statistics.median(node.cpu for node in pair.cold.those(run.FETCHED))
                row(
                    f"{title}: CPU of a node that fetches, of that of a build, {pair.hosts} hosts",
                    fetching / build,
                    0.1,
                    "",
                )
    if pairs := results.of(strategies.AT_ONCE):
        row(f"shared, {pairs[-1].hosts} at once: builds", len(pairs[-1].cold.those(run.BUILT)), 1, "")
    return Table(("promise", "is", "measured", "promised"), [_stripped(each) for each in rows], texts=2)


def _stripped(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in cells)


def _build(pair: Pair) -> float:
    """CPU seconds of one build."""
    return statistics.median(node.cpu for node in pair.cold.those(run.BUILT))


def _curve(results: Results) -> Table:
    rows = []
    for pair in _all(results):
        traffic = {name: pair.cold.registries[name].traffic for name in run.REGISTRIES}
        origin = traffic[strategies.ORIGIN]
        times = sorted(set(origin.blobs.values()))
        rows.append(
            (
                strategies.TITLES[pair.strategy],
                str(pair.hosts),
                megabytes(origin.sent),
                " to ".join(f"{each:g}" for each in (times[:1] + times[1:][-1:])) or "0",
                f"{origin.manifest_gets} + {origin.manifest_heads}",
                megabytes(traffic[strategies.MIRROR].sent),
                megabytes(traffic[strategies.STORE].sent),
                decimal(pair.cold.cpu),
                f"{len(pair.cold.those(run.BUILT))}",
            )
        )
    heads = (
        "strategy",
        "hosts",
        "origin MB",
        "each blob, times",
        "manifests GET + HEAD",
        "mirror MB",
        "store MB",
        "CPU s, all hosts",
        "builds",
    )
    return Table(heads, rows, texts=1)


def _nodes(results: Results) -> Table:
    """CPU seconds of one host, by what it did."""
    rows = []
    for pair in _all(results):
        build = _build(results.of(pair.strategy)[0])
        idle = statistics.median(node.cpu for node in pair.again.nodes.values())
        for did in (run.BUILT, run.FETCHED, run.SAW):
            if used := [node.cpu for node in pair.cold.those(did)]:
                middle = statistics.median(used)
                rows.append(
                    (
                        strategies.TITLES[pair.strategy],
                        str(pair.hosts),
                        did,
                        str(len(used)),
                        decimal(middle),
                        f"{decimal(min(used))} to {decimal(max(used))}",
                        f"{middle / build:.3f}",
                        decimal(idle),
                    )
                )
    heads = ("strategy", "hosts", "did", "nodes", "CPU s, median", "from to", f"{TIMES} a build", "CPU s, second run")
    return Table(heads, rows, texts=1)


def _registries(results: Results) -> Table:
    rows = []
    for pair in _all(results):
        for name in run.REGISTRIES:
            served = pair.cold.registries[name]
            if not served.traffic.requests:
                continue
            load = served.load
            rows.append(
                (
                    strategies.TITLES[pair.strategy],
                    str(pair.hosts),
                    "origin" if name == strategies.ORIGIN else name,
                    str(served.traffic.requests),
                    decimal(load.cpu),
                    f"{100 * load.peak_cpu:.0f} %",
                    str(load.peak_connections),
                    megabytes(load.peak_bytes),
                    f"{load.peak_requests:.0f}",
                )
            )
    heads = (
        "strategy",
        "hosts",
        "registry",
        "requests",
        "CPU s",
        "peak of a core",
        "peak connections",
        "peak MB/s",
        "peak requests/s",
    )
    return Table(heads, rows, texts=1)


def _controller(results: Results) -> Table:
    rows = [
        (
            strategies.TITLES[pair.strategy],
            str(pair.hosts),
            decimal(pair.cold.controller.seconds),
            decimal(pair.cold.controller.cpu),
            decimal(pair.cold.controller.main_cpu),
            decimal(pair.again.controller.seconds),
            decimal(pair.again.controller.cpu),
        )
        for pair in _all(results)
    ]
    heads = ("strategy", "hosts", "wall s", "CPU s", "of it the main process", "second run, wall s", "CPU s")
    return Table(heads, rows, texts=1)


def _again(results: Results) -> Table:
    """A run that finds all done."""
    rows = []
    for pair in _all(results):
        if pair.hosts == max(each.hosts for each in results.pairs):
            asked = {name: pair.again.registries[name].traffic for name in run.REGISTRIES}
            used = [node.cpu for node in pair.again.nodes.values()]
            rows.append(
                (
                    strategies.TITLES[pair.strategy],
                    str(pair.hosts),
                    *(str(asked[name].requests) for name in run.REGISTRIES),
                    megabytes(sum(each.sent for each in asked.values())),
                    decimal(statistics.median(used)),
                )
            )
    heads = ("strategy", "hosts", "requests to origin", "to mirror", "to store", "MB", "CPU s of a node")
    return Table(heads, rows, texts=1)


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


def _model(figures: Measured) -> Table:
    rows = []
    for nodes in FLEETS:
        for strategy in MODELLED:
            title, cost = strategies.TITLES[strategy], model.forecast(strategy, nodes, figures, FORKS)
            rows.append(
                (
                    f"{nodes:,}",
                    title,
                    _gigabytes(cost.origin),
                    _gigabytes(cost.near),
                    f"{cost.cpu / 3600:.1f}",
                    f"{cost.controller / 60:.0f}",
                    f"{cost.connections:.0f}" if cost.connections else "-",
                )
            )
    heads = (
        "nodes",
        "strategy",
        "origin GB",
        "mirror, store or file system GB",
        "CPU h, all nodes",
        "CPU min, controller",
        "connections at once",
    )
    return Table(heads, rows, texts=2)


def _times(figures: Measured) -> Table:
    rows = []
    for nodes in FLEETS:
        for strategy in MODELLED:
            title, cost = strategies.TITLES[strategy], model.forecast(strategy, nodes, figures, FORKS)
            sent = max(cost.origin, cost.near)
            rows.append((f"{nodes:,}", title, *(_duration(sent / (rate * GIGABIT)) for rate in RATES)))
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
    """Seconds of the data alone, from one store, several, and peers that pass on what they have."""
    rows = []
    for nodes in FLEETS:
        for stores in (1, 2, 4, 16):
            rows.append(
                (
                    f"{nodes:,}",
                    str(stores),
                    *(_duration(nodes * figures.sif / (stores * rate * GIGABIT)) for rate in RATES),
                )
            )
    return Table(("nodes", "stores", *(f"at {rate} Gbit/s each" for rate in RATES)), rows)


def _machine(results: Results) -> str:
    rows = Table(("what", "is"), list(results.machine.items()), texts=2).markdown()
    image = results.image
    told = f"`{image.repository}`: {image.title}; {len(image.layers)} layers, {megabytes(image.compressed)} MB"
    return f"Measured on {results.date} with `{results.command}`. The image is {told} compressed.\n\n{rows}"


def _all(results: Results) -> list[Pair]:
    return [pair for strategy in strategies.TITLES for pair in results.of(strategy)]


def _gigabytes(count: float) -> str:
    value = count / GIGABYTE
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{decimal(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
