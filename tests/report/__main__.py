# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.report [FILE]``: the picture in docs/report.md, of a cluster that nobody has."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.report import rendering, synthetic
from tests.report.browser import chromium, view

PICTURE = Path(__file__).parents[2] / "docs" / "report.png"


def main() -> None:
    """Render, open a cell that has a problem, and take the picture."""
    target = Path(sys.argv[1]) if sys.argv[1:] else PICTURE
    with tempfile.TemporaryDirectory() as directory:
        page = rendering.render(
            synthetic.facts(500, 40),
            Path(directory),
            report_time=synthetic.NOW,
            report_title="Container images of cluster example",
        )
        with chromium() as browser, view(browser, page, height=960) as seen:
            seen.page.locator("td.s-outdated").first.click()
            seen.page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
            seen.page.screenshot(path=target)
    print(target)


if __name__ == "__main__":
    main()
