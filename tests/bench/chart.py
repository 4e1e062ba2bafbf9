# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot: bars of the medians, one panel an image."""

from __future__ import annotations

from html import escape

from tests.bench import contenders
from tests.bench.results import Comparison, Results
from tests.measure.figures import TIMES, decimal
from tests.measure.paper import MARGIN, Paper

LABELS, FIGURES = 216, 120
BAR, STEP = 18, 26
TITLE, PANEL_TITLE, PANEL_GAP, FOOT = 62, 34, 22, 40

_LIGHT = """\
  .strong { font-weight: 600; }
  .axis { stroke: #d0d7de; }
  .ours { fill: #0969da; }
  .warm, .layers { fill: #54aeff; }
  .floor { fill: #8c959f; }
  .download { fill: #8c959f; }
  .expert { fill: #bf8700; }
  .pull { fill: #bc4c00; }"""

_DARK = """\
    .axis { stroke: #3d444d; }
    .ours { fill: #4493f8; }
    .warm, .layers { fill: #1f6feb; }
    .floor { fill: #656c76; }
    .download { fill: #656c76; }
    .expert { fill: #d29922; }
    .pull { fill: #db6d28; }"""

PAPER = Paper(760, 13, _LIGHT, _DARK)


def svg(results: Results) -> str:
    """Return the whole file."""
    panels, top = [], TITLE
    for comparison in results.comparisons:
        panels.append(_panel(comparison, top))
        top += PANEL_TITLE + STEP * len(comparison.series) + PANEL_GAP
    height = top - PANEL_GAP + FOOT
    scale = "Medians of whole processes; shorter is better. Each image has a scale of its own."
    where = f"{results.date} · {results.machine.get('processor', '')}"
    return PAPER.svg(
        height,
        "Seconds from a name in a registry to a SIF file",
        ". ".join(map(_sentence, results.comparisons)) + ".",
        [PAPER.text(MARGIN, 52, scale, "faint"), *panels, PAPER.text(MARGIN, height - 16, where, "faint")],
    )


def _panel(comparison: Comparison, top: int) -> str:
    image, ours = comparison.image, comparison.series[contenders.OURS]
    longest = max(series.seconds for series in comparison.series.values())
    room = PAPER.width - 2 * MARGIN - LABELS - FIGURES
    left, bottom = MARGIN + LABELS, top + PANEL_TITLE + STEP * len(comparison.series) - (STEP - BAR)
    head = f'<tspan class="panel">{escape(image.name)}</tspan> <tspan class="faint">{escape(image.title)}</tspan>'
    lines = [f'<text x="{MARGIN}" y="{top + 20}">{head}</text>']
    for number, (key, series) in enumerate(comparison.series.items()):
        y = top + PANEL_TITLE + STEP * number
        width = max(2.0, room * series.seconds / longest)
        weight = "strong" if key in (contenders.OURS, contenders.WARM, contenders.LAYERS) else ""
        time = f'<tspan class="strong">{decimal(series.seconds)} s</tspan>'
        ratio = f'<tspan class="faint">{series.seconds / ours.seconds:.2g} {TIMES}</tspan>'
        lines += [
            PAPER.text(left - 10, y + 14, series.title, weight, "end"),
            f'<rect class="{key}" x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{left + width + 8:.1f}" y="{y + 14}">{time} {ratio}</text>',
        ]
    lines.append(f'<line class="axis" x1="{left}" x2="{left}" y1="{top + PANEL_TITLE - 4}" y2="{bottom + 4}"/>')
    return "\n".join(lines)


def _sentence(comparison: Comparison) -> str:
    times = ", ".join(f"{series.title} {decimal(series.seconds)} s" for series in comparison.series.values())
    return f"{comparison.image.name}: {times}"
