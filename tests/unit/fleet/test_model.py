# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a few hosts to many, and what the report says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.fleet import chart, model, report, run, strategies
from tests.fleet.load import Load
from tests.fleet.results import Controller, Image, Node, Pair, Results, Run, Served
from tests.fleet.traffic import Traffic
from tests.measure import record
from tests.measure.command import Failed

IMAGE = Image("bench/image", "an image", "sha256:1", {"sha256:a": 600, "sha256:b": 400})
SIF = 1200


def measured(strategy: str, hosts: int, fetch: float = 1.0) -> Pair:
    """Make runs: ten seconds a build, half a second for nothing, two of the controller and one more for each host."""
    each = strategy in (strategies.EACH, strategies.MIRRORED)
    follows = (run.BUILT, 10.0) if each else (run.FETCHED, fetch)
    if strategy in (strategies.SHARED, strategies.AT_ONCE):
        follows = (run.SAW, 0.5)
    nodes = {f"node{n}": Node(*((run.BUILT, 10.0) if n == 0 else follows), SIF) for n in range(hosts)}
    copies = {strategies.EACH: hosts, strategies.MIRRORED: 2}.get(strategy, 1)
    sent = hosts * 1000 if strategy == strategies.MIRRORED else 0
    stored = (hosts - 1) * SIF if strategy == strategies.BUILD_ONCE else 0
    registries = {
        strategies.ORIGIN: Served(Traffic({"sha256:a": float(copies)}, copies * 1000, requests=1), Load(1.0)),
        strategies.MIRROR: Served(Traffic({}, sent), Load()),
        strategies.STORE: Served(Traffic({}, stored), Load(cpu=stored / 1000, peak_connections=4 * (hosts - 1))),
    }
    cold = Run(nodes, Controller(1.0, 2.0 + hosts, 1.0 + hosts / 10), registries)
    again = dataclasses.replace(cold, nodes={name: Node(run.SAW, 0.5, SIF) for name in nodes})
    return Pair(strategy, hosts, cold, again)


def everything(**changes: float) -> Results:
    pairs = [measured(strategy, hosts, **changes) for strategy in strategies.TITLES for hosts in (1, 2, 4, 16)]
    return Results("2026-11-22", "make fleet", {"processor": "two cores"}, IMAGE, pairs)


def test_figures_are_read_off_a_measurement() -> None:
    found = model.measured(everything())
    assert (found.layers, found.sif, found.build, found.fetch, found.idle) == (1000, SIF, 10.0, 1.0, 0.5)
    assert found.controller.base == pytest.approx(2.0)
    assert found.controller.slope == pytest.approx(1.0)
    assert found.main.slope == pytest.approx(0.1)
    assert found.serving == pytest.approx(1 / 1000)
    assert found.connections == pytest.approx(4.0)
    assert found.copies == 2.0


@pytest.mark.parametrize(
    ("strategy", "origin", "near", "cpu"),
    [
        (strategies.EACH, 1000 * 1000, 0, 1000 * 10),
        (strategies.MIRRORED, 2 * 1000, 1000 * 1000, 1000 * 10),
        (strategies.BUILD_ONCE, 1000, 999 * SIF, 10 + 999 * 1.0),
        (strategies.SHARED, 1000, 1000 * SIF, 10 + 999 * 0.5),
    ],
)
def test_a_thousand_nodes(strategy: str, origin: float, near: float, cpu: float) -> None:
    found = model.forecast(strategy, 1000, model.measured(everything()), forks=50)
    assert (found.origin, found.near, found.cpu) == (origin, near, cpu)
    assert found.controller == pytest.approx(2 + 1000)


@pytest.mark.parametrize(
    ("site", "first"),
    [
        (model.Site(uplink=100, link=1e6, cores=1000, forks=1000), model.STORE_UPLINK),
        (model.Site(uplink=1e9, link=1e6, cores=1000, forks=5), model.FORKS),
        (model.Site(uplink=1e9, link=1e6, cores=1, forks=1000), model.STORE_CPU),
        (model.Site(uplink=1e9, link=1e6, cores=1000, forks=1000), model.MAIN),
    ],
)
def test_the_first_wall_is_the_longest(site: model.Site, first: str) -> None:
    walls = model.walls(1000, model.measured(everything()), site)
    assert walls[0].name == first
    assert walls == sorted(walls, key=lambda wall: -wall.seconds)


def test_a_measurement_without_several_hosts_gives_no_model() -> None:
    few = dataclasses.replace(everything(), pairs=[measured(strategies.BUILD_ONCE, 1), measured(strategies.EACH, 1)])
    with pytest.raises(Failed, match="build_once"):
        model.measured(few)


def test_results_survive_their_file(tmp_path: Path) -> None:
    record.write(everything(), tmp_path / "last.json")
    assert record.read(Results, tmp_path / "last.json") == everything()


def test_only_what_stands_between_the_comments_is_written() -> None:
    text = "# A title\n\n<!-- figures: lines -->\nold\n<!-- end -->\n\nWords.\n"
    written = report.write(text, everything())
    assert written.startswith("# A title\n\n<!-- figures: lines -->\n\n| promise |")
    assert written.endswith("|\n\n<!-- end -->\n\nWords.\n")
    assert "old" not in written
    assert report.write(written, everything()) == written


def test_figures_that_nobody_makes_are_refused() -> None:
    with pytest.raises(KeyError):
        report.write("<!-- figures: moon -->\n<!-- end -->\n", everything())


@pytest.mark.parametrize(("fetch", "verdict"), [(1.0, "kept"), (1.2, "MISSED")])
def test_a_promise_is_kept_or_missed(fetch: float, verdict: str) -> None:
    lines = report.write("<!-- figures: lines -->\n<!-- end -->\n", everything(fetch=fetch)).splitlines()
    told = [line for line in lines if "build_once: CPU of a node that fetches" in line]
    assert len(told) == 3, "of 2, 4 and 16 hosts"
    assert all(verdict in line for line in told)


def test_the_plot_says_in_words_what_it_shows() -> None:
    plot = chart.svg(everything())
    assert "build_once on 16 hosts: CPU seconds of all hosts 25.0" in plot
    assert plot.count("<polyline") == len(chart.PANELS) * len(strategies.TITLES)
