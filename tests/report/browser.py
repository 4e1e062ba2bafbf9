# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium, spoken to over a pipe in its DevTools protocol: no driver, no port, no library.

Only stable domains of the protocol are used (https://chromedevtools.github.io/devtools-protocol/): Page, Runtime, Log,
Network, Input, Emulation.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = "/usr/bin/chromium-headless-shell"
_PATIENCE = 300  # seconds
_KEYS = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "End": 35}


class BrowserError(Exception):
    """The browser did not do what it was told."""


class Browser:
    """One browser with one page. ``complaints`` is all that the page's console and security policy had to say,
    ``requests`` are the addresses that it asked for.
    """

    def __init__(self, width: int = 1440, height: int = 900, scripts: bool = True) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        self._number = 0
        self._rest = b""
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        plumbing = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", plumbing, "chromium", PROGRAM, "--remote-debugging-pipe", "--no-sandbox"),
                *("--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage"),
                *("--disable-background-networking", f"--user-data-dir={self._profile.name}"),
                f"--window-size={width},{height}",
                "about:blank",
            ],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, page: Path) -> None:
        """Load a file and wait until it is loaded."""
        self._loaded = False
        self.send("Page.navigate", url=page.absolute().as_uri())
        deadline = time.monotonic() + _PATIENCE
        while not self._loaded:
            self._message(deadline)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression evaluates to; it waits for a promise."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.value(condition):
            if time.monotonic() > deadline:
                raise BrowserError(f"this did not become true within {_PATIENCE} s: {condition}")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of the element, which must be there to be hit."""
        found = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "e.scrollIntoView({block: 'center', inline: 'center'}); const r = e.getBoundingClientRect();"
            "const x = r.x + r.width / 2, y = r.y + r.height / 2, hit = document.elementFromPoint(x, y);"
            "return {x, y, hit: e.contains(hit) || (e.labels ? [...e.labels].some(l => l.contains(hit)) : false)}; })()"
        )
        if not found or not found["hit"]:
            raise BrowserError(f"{selector} cannot be clicked: {'covered' if found else 'not there'}")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=found["x"], y=found["y"], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put a text into a field as if it was typed, in place of what is there."""
        self.value(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()")
        if text:
            self.send("Input.insertText", text=text)
        else:
            self._key("Delete", 46)

    def press(self, key: str) -> None:
        """Press a key."""
        self._key(key, _KEYS[key])

    def _key(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG file."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        number = self._post(method, **parameters)
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._message(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _post(self, method: str, **parameters: Any) -> int:
        """Call a method; its result will have the number that is returned."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._number

    def _message(self, deadline: float) -> dict[str, Any]:
        """The next message; an event is noted."""
        while b"\0" not in self._rest:
            ready, _writable, _broken = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise BrowserError(f"{PROGRAM} says nothing more (status {self._process.poll()})")
            self._rest += part
        text, _end, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        event, about = message.get("method"), message.get("params", {})
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps([argument.get("value") for argument in about["args"]]))
        elif event == "Log.entryAdded":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {about['message']}")
            self._post("Page.handleJavaScriptDialog", accept=False)  # the page would wait for ever
        return message
