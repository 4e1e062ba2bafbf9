# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot: bars of the medians, one panel an image, as an SVG that needs nothing else."""

from __future__ import annotations

from html import escape

from tests.bench import contenders
from tests.bench.report import decimal
from tests.bench.results import Comparison, Results
from tests.bench.table import TIMES

WIDTH, MARGIN = 760, 24
LABELS, FIGURES = 216, 120
BAR, STEP = 18, 26
TITLE, PANEL_TITLE, PANEL_GAP, FOOT = 62, 34, 22, 40

STYLE = """\
  .paper { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 18px; font-weight: 600; }
  .panel { font-size: 14px; font-weight: 600; }
  .faint { fill: #59636e; }
  .strong { font-weight: 600; }
  .axis { stroke: #d0d7de; }
  .ours { fill: #0969da; }
  .warm, .layers { fill: #54aeff; }
  .floor { fill: #8c959f; }
  .download { fill: #8c959f; }
  .expert { fill: #bf8700; }
  .pull { fill: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .faint { fill: #9198a1; }
    .axis { stroke: #3d444d; }
    .ours { fill: #4493f8; }
    .warm, .layers { fill: #1f6feb; }
    .floor { fill: #656c76; }
    .download { fill: #656c76; }
    .expert { fill: #d29922; }
    .pull { fill: #db6d28; }
  }"""


def svg(results: Results) -> str:
    """The whole file."""
    panels, top = [], TITLE
    for comparison in results.comparisons:
        panels.append(_panel(comparison, top))
        top += PANEL_TITLE + STEP * len(comparison.series) + PANEL_GAP
    height = top - PANEL_GAP + FOOT
    description = ". ".join(map(_sentence, results.comparisons))
    machine = results.machine.get("processor", "")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"',
            ' role="img" aria-labelledby="title description">',
            '<title id="title">Seconds from a name in a registry to a SIF file</title>',
            f'<desc id="description">{escape(description)}.</desc>',
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(MARGIN, 32, "Seconds from a name in a registry to a SIF file", "title"),
            _text(
                MARGIN, 52, "Medians of whole processes; shorter is better. Each image has a scale of its own.", "faint"
            ),
            *panels,
            _text(MARGIN, height - 16, f"{results.date} · {machine}", "faint"),
            "</svg>",
            "",
        ]
    )


def _panel(comparison: Comparison, top: int) -> str:
    image, ours = comparison.image, comparison.series[contenders.OURS]
    longest = max(series.seconds for series in comparison.series.values())
    room = WIDTH - 2 * MARGIN - LABELS - FIGURES
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
            _text(left - 10, y + 14, series.title, weight, "end"),
            f'<rect class="{key}" x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{left + width + 8:.1f}" y="{y + 14}">{time} {ratio}</text>',
        ]
    lines.append(f'<line class="axis" x1="{left}" x2="{left}" y1="{top + PANEL_TITLE - 4}" y2="{bottom + 4}"/>')
    return "\n".join(lines)


def _sentence(comparison: Comparison) -> str:
    times = ", ".join(f"{series.title} {decimal(series.seconds)} s" for series in comparison.series.values())
    return f"{comparison.image.name}: {times}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x}" y="{y}"{attributes}>{escape(text)}</text>'
