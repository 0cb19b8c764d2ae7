"""A page in a real browser: headless Chromium, spoken to through a pipe; nothing to install.

`Browser` opens one file, records what the page requests and what its console says, evaluates
expressions in it and takes pictures of it.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
needed = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
    "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
)  # fmt: skip


class Browser:
    """One browser with one page; use it in a `with` block."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        self.requests: list[str] = []  # addresses that were asked for, data: left out
        self.complaints: list[str] = []  # errors and warnings of the console
        self._profile, self._size, self._count, self._rest = profile, (width, height), 0, b""

    def __enter__(self) -> "Browser":
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        command = [
            str(BROWSER), *FLAGS, f"--user-data-dir={self._profile}",
            f"--window-size={self._size[0]},{self._size[1]}", "about:blank",
        ]  # fmt: skip
        # The browser reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$@" 3<&{read} 4>&{write}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *command], pass_fds=(read, write),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        targets = self._call("Target.getTargets", session=None)["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._call("Target.attachToTarget", session=None, targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)

    def open(self, address: str, wait: float = 1.0) -> None:
        """Load `address` and go on listening for `wait` seconds after it is there."""
        self._call("Page.navigate", url=address)
        end = time.monotonic() + 30
        while self.evaluate("document.readyState") != "complete" and time.monotonic() < end:
            time.sleep(0.1)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            self.evaluate("1")
            time.sleep(0.1)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page, all of it or what a window shows."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, session: str | None = "", **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._count:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self._note(found)

    def _next(self, timeout: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], timeout)[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            address = values["request"]["url"]
            if not address.startswith("data:"):
                self.requests.append(address)
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.complaints.append(str(values["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.complaints.append(values["entry"]["text"])


def check_page(page: Path, folder: Path) -> "int":
    """Open `page`: nothing but itself is requested, the console is silent, every picture loads.

    Returns how many pictures it shows.
    """
    with Browser(folder / "profile") as browser:
        browser.open(page.resolve().as_uri())
        assert browser.requests == [page.resolve().as_uri()]
        assert browser.complaints == []
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert browser.evaluate(broken) == 0
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        return int(browser.evaluate("document.images.length"))
