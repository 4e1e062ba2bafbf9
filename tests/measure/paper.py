# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper of a chart: an SVG that needs nothing else, light or dark as the reader's screen is.

It is not matplotlib. We drew the curves of docs/fleet.md with version 3.11: that would save about 80 of the 265 lines
of the charts. But it takes 170 MB and 11 seconds of CPU to install, more than all else that the unit tests need (100 MB
and 10 seconds), and these test the charts too. Its file has 58 kB in place of 16. And a line has one colour there, so
that the colours for dark screens had to be patched into what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

MARGIN = 24
FONT = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class Paper:
    """All lengths are pixels; ``places`` is how many digits the coordinates of words have after the point.

    ``light`` and ``dark`` are what the style sheet says beside the classes ``title``, ``panel`` and ``faint``.
    """

    width: int
    size: int
    light: str
    dark: str
    places: int = 0

    def svg(self, height: int, title: str, description: str, parts: Iterable[str]) -> str:
        """Return the whole file: the title above what is drawn, and a text for readers who do not see it."""
        drawn = "\n".join([self.text(MARGIN, 32, title, "title"), *parts])
        return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height}" width="{self.width}" height="{height}"
 role="img" aria-labelledby="title description">
<title id="title">{escape(title)}</title>
<desc id="description">{escape(description)}</desc>
<style>
  .paper {{ fill: #ffffff; stroke: #d0d7de; }}
  text {{ font: {self.size}px {FONT}; fill: #1f2328; }}
  .title {{ font-size: 18px; font-weight: 600; }}
  .panel {{ font-size: {self.size + 1}px; font-weight: 600; }}
  .faint {{ fill: #59636e; }}
{self.light}
  @media (prefers-color-scheme: dark) {{
    .paper {{ fill: #0d1117; stroke: #3d444d; }}
    text {{ fill: #f0f6fc; }}
    .faint {{ fill: #9198a1; }}
{self.dark}
  }}
</style>
<rect class="paper" x="0.5" y="0.5" width="{self.width - 1}" height="{height - 1}" rx="8"/>
{drawn}
</svg>
"""

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "") -> str:
        """Write words at a place, of a class of the style sheet."""
        attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
        return f'<text x="{x:.{self.places}f}" y="{y:.{self.places}f}"{attributes}>{escape(words)}</text>'
