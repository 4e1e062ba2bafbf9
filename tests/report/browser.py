# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The system's headless Chromium, driven by Playwright. No browser is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, sync_playwright

PROGRAM = "/usr/bin/chromium-headless-shell"
_PATIENCE = 300_000  # milliseconds


@dataclass
class View:
    """One page, what its console and its security policy had to say, and the addresses that it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note_console(self, message: ConsoleMessage) -> None:
        """Note what a script, or the browser itself, writes to the console: errors of the policy are among it."""
        self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def note_error(self, error: Error) -> None:
        """Note what a script did not catch."""
        self.complaints.append(str(error))

    def note_request(self, request: Request) -> None:
        """Note an address that is asked for."""
        self.requests.append(request.url)

    def dismiss(self, dialog: Dialog) -> None:
        """Note a dialog and close it: the page would wait for ever."""
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, and end it with the block."""
    with sync_playwright() as driver, driver.chromium.launch(executable_path=PROGRAM) as browser:
        yield browser


@contextmanager
def view(browser: Browser, file: Path, height: int = 900, scripts: bool = True) -> Iterator[View]:
    """Open a file as a page that shares nothing with others, 1440 pixels wide; ``scripts`` are its own."""
    with browser.new_context(viewport={"width": 1440, "height": height}, java_script_enabled=scripts) as context:
        context.set_default_timeout(_PATIENCE)
        seen = View(context.new_page())
        seen.page.on("console", seen.note_console)
        seen.page.on("pageerror", seen.note_error)
        seen.page.on("request", seen.note_request)
        seen.page.on("dialog", seen.dismiss)
        seen.page.goto(file.absolute().as_uri())
        yield seen
