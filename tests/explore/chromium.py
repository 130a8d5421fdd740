"""A real Chromium, driven over its debugging pipe: the DevTools protocol without a port, and without a package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Far more than any answer takes, so that a busy machine breaks no test.
PATIENCE_SECONDS = 60.0
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--hide-scrollbars",
)
# Waits in the page until an expression is true, and returns its value.
_UNTIL = """
(async () => {
  const end = performance.now() + %d;
  for (;;) {
    let value = null;
    try { value = %s } catch (error) { if (performance.now() > end) throw error; }
    if (value) return value;
    if (performance.now() > end) return null;
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
})()
"""


def find_chromium() -> str | None:
    """The path of a Chromium on this machine; None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one page.

    Args:
      profile: folder for its profile.

    Attributes:
      requests: the URLs that the page has asked for.
      complaints: what the console has said: errors, and what the Content-Security-Policy has refused.
    """

    def __init__(self, profile: Path) -> None:
        to_browser, self._to_browser = os.pipe()
        self._from_browser, from_browser = os.pipe()
        command = [find_chromium(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        # The browser reads from descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "chromium", *map(str, command)]
        with (profile / "log").open("wb") as log:
            self._process = subprocess.Popen(shell, pass_fds=(to_browser, from_browser), stdout=log, stderr=log)
        os.close(to_browser)
        os.close(from_browser)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._unread, self._count, self._session = b"", 0, None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; what happens meanwhile is kept in `requests` and `complaints`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"].get("exception", {}).get("description", result))
        return result["result"].get("value")

    def until(self, expression: str) -> Any:
        """The first true value of an expression in the page."""
        value = self.run(_UNTIL % (1000 * PATIENCE_SECONDS, expression))
        assert value, f"still not so: {expression}; the page says: {self.run('document.body.innerText')[-3000:]}"
        return value

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that a selector finds, as a mouse does."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        x, y = self.run(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            "it.scrollIntoView({block: 'center'});"
            "const box = it.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as Enter or, with its text, a letter."""
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9}.get(key, ord(key.upper()[0]))
        event = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def screen(self, width: int, height: int, is_dark: bool = False, is_phone: bool = False, scale: float = 1) -> None:
        """Become another device."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self.send("Emulation.setDeviceMetricsOverride", mobile=is_phone, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write what is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, RuntimeError):
            self._session = None
            self.send("Browser.close")
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            os.close(self._to_browser)
            os.close(self._from_browser)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from_browser], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._from_browser, 1 << 16) if ready else b""
            if not data:
                raise RuntimeError("the browser doesn't answer")
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event.get("method") == "Log.entryAdded":
            entry = parameters["entry"]
            self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif event.get("method") == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(f"exception: {details.get('exception', {}).get('description', details)}")


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """A browser that ends with the block."""
    browser = Chromium(folder)
    try:
        yield browser
    finally:
        browser.close()
