# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The curves: a panel for each figure, a line for each strategy."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.fleet import strategies
from tests.fleet.results import Pair, Results
from tests.measure.figures import GIGABYTE, decimal
from tests.measure.paper import MARGIN, Paper

PANEL_WIDTH, PANEL_HEIGHT = 236, 200
LEFT, TOP, GAP, FOOT = 56, 96, 46, 106
COLUMNS, COLUMN, ROW = 4, 208, 22  # of the legend

_LIGHT = """\
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .line { fill: none; stroke-width: 2.5; }
  .each { stroke: #bc4c00; } .dot.each { fill: #bc4c00; }
  .each_mirror { stroke: #bf8700; stroke-dasharray: 6 4; } .dot.each_mirror { fill: #bf8700; }
  .each_mirror_3 { stroke: #9a6700; stroke-dasharray: 2 6; } .dot.each_mirror_3 { fill: #9a6700; }
  .loop { stroke: #cf222e; } .dot.loop { fill: #cf222e; }
  .build_once { stroke: #0969da; } .dot.build_once { fill: #0969da; }
  .at_once { stroke: #8250df; stroke-dasharray: 10 4; } .dot.at_once { fill: #8250df; }
  .build_once_dense { stroke: #0aa2c0; } .dot.build_once_dense { fill: #0aa2c0; }
  .shared { stroke: #1a7f37; stroke-dasharray: 2 4; } .dot.shared { fill: #1a7f37; }"""

_DARK = """\
    .grid { stroke: #3d444d; }
    .each { stroke: #db6d28; } .dot.each { fill: #db6d28; }
    .each_mirror { stroke: #d29922; } .dot.each_mirror { fill: #d29922; }
    .each_mirror_3 { stroke: #bb8009; } .dot.each_mirror_3 { fill: #bb8009; }
    .loop { stroke: #f85149; } .dot.loop { fill: #f85149; }
    .build_once { stroke: #4493f8; } .dot.build_once { fill: #4493f8; }
    .at_once { stroke: #ab7df8; } .dot.at_once { fill: #ab7df8; }
    .build_once_dense { stroke: #39c5cf; } .dot.build_once_dense { fill: #39c5cf; }
    .shared { stroke: #3fb950; } .dot.shared { fill: #3fb950; }"""

PAPER = Paper(892, 12, _LIGHT, _DARK, places=1)

PANELS: tuple[tuple[str, Callable[[Pair], float]], ...] = (
    ("CPU seconds of all hosts", lambda pair: pair.cold.cpu),
    ("GB from the origin", lambda pair: pair.cold.registries[strategies.ORIGIN].traffic.sent / GIGABYTE),
    ("GB from mirror or store", lambda pair: near(pair) / GIGABYTE),
)


def near(pair: Pair) -> int:
    """Count the bytes that mirror and store sent."""
    return sum(pair.cold.registries[name].traffic.sent for name in (strategies.MIRROR, strategies.STORE))


def svg(results: Results) -> str:
    """Return the whole file."""
    height = TOP + PANEL_HEIGHT + FOOT
    title = f"One image on a fleet: {results.image.title}"
    panels = [
        _panel(results, name, figure, LEFT + number * (PANEL_WIDTH + GAP))
        for number, (name, figure) in enumerate(PANELS)
    ]
    how = "Each run begins with nothing on hosts, mirror and store. Lower is better."
    parts = [PAPER.text(MARGIN, 54, how, "faint"), *panels, _legend(results, height - FOOT + 60)]
    return PAPER.svg(height, title, _description(results), parts)


def _panel(results: Results, name: str, figure: Callable[[Pair], float], left: int) -> str:
    counts = sorted({pair.hosts for pair in results.pairs})
    ceiling = _ceiling(max(figure(pair) for pair in results.pairs))
    bottom = TOP + PANEL_HEIGHT

    def x(hosts: int) -> float:
        return left + PANEL_WIDTH * hosts / counts[-1]

    def y(value: float) -> float:
        return bottom - PANEL_HEIGHT * value / ceiling

    parts = [PAPER.text(left, TOP - 14, name, "panel")]
    for step in range(5):
        value = ceiling * step / 4
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(PAPER.text(left - 6, y(value) + 4, f"{value:g}", "faint", "end"))
    parts += [PAPER.text(x(count), bottom + 18, str(count), "faint", "middle") for count in counts]
    parts.append(PAPER.text(left + PANEL_WIDTH, bottom + 34, "hosts", "faint", "end"))
    for strategy in strategies.TITLES:
        points = [(x(pair.hosts), y(figure(pair))) for pair in results.of(strategy)]
        if points:
            path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
            parts.append(f'<polyline class="line {strategy}" points="{path}"/>')
            parts += [f'<circle class="dot {strategy}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points]
    return "\n".join(parts)


def _legend(results: Results, top: float) -> str:
    parts = []
    shown = [each for each in strategies.TITLES if results.of(each)]
    for number, strategy in enumerate(shown):
        left, y = LEFT + number % COLUMNS * COLUMN, top + number // COLUMNS * ROW
        parts.append(f'<line class="line {strategy}" x1="{left}" x2="{left + 28}" y1="{y - 4}" y2="{y - 4}"/>')
        parts.append(PAPER.text(left + 36, y, strategies.TITLES[strategy]))
    return "\n".join(parts)


def _description(results: Results) -> str:
    """Describe the plot in sentences."""
    parts = []
    for strategy, title in strategies.TITLES.items():
        if pairs := results.of(strategy):
            figures = ", ".join(f"{name} {decimal(figure(pairs[-1]))}" for name, figure in PANELS)
            parts.append(f"{title} on {pairs[-1].hosts} hosts: {figures}.")
    return " ".join(parts)


def _ceiling(value: float) -> float:
    """Return the next round number above a value, for the top of an axis."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return float(next(unit * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10) if unit * step >= value))
