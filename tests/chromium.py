"""A headless Chromium driven through its debugging pipe: no further package is needed."""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)


needed = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
# Tables that reach over the window's edge although no box around them scrolls.
CUT_OFF = """[...document.querySelectorAll("table")].filter(table => {
  if (table.getBoundingClientRect().right <= innerWidth) return false;
  for (let e = table.parentElement; e; e = e.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return false;
  return true;
}).length"""
LOADED = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"


class Chromium:
    """One page; `events` keeps everything that the browser reported. Use as a context."""

    def __init__(self, profile: Path) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        assert PROGRAM is not None
        command = [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,900",
            "--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The browser reads its file 3 and writes its file 4.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command], pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._buffer, self._count = ours_in, ours_out, b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        pages = self.do("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in pages if t["type"] == "page")
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the debugging protocol; its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            found = self._message(deadline)
            if found.get("id") == self._count:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        found = self.do(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"still not: {script}"
            time.sleep(0.1)
        return value

    def open(self, url: str) -> None:
        """Load a page."""
        self.do("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url[:20]!r}) && document.readyState === 'complete'")

    def requests(self) -> list[str]:
        """Addresses that were asked for, data aside."""
        found = [
            e["params"]["request"]["url"]
            for e in self.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in found if not url.startswith("data:")]

    def complaints(self) -> list[Any]:
        """Errors on the console, exceptions, policy violations."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        said = [
            e
            for e in self.events
            if e["method"] == "Runtime.consoleAPICalled"
            and e["params"]["type"] in ("error", "warning")
        ]
        return said + [e for e in self.events if e["method"] in kinds]

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


def check_page(file: Path, folder: Path) -> int:
    """Open a page: it asks for nothing but itself, says nothing, every image of it loads, and on a
    large screen as on a phone nothing is cut off.

    Returns how many images it shows. `folder` takes the browser's profile.
    """
    with Chromium(folder / "profile") as page:
        page.open(file.resolve().as_uri())
        page.wait(LOADED)
        assert page.requests() == [file.resolve().as_uri()] and not page.complaints()
        for width in (1400, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            page.do("Emulation.setDeviceMetricsOverride", **size)
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(CUT_OFF) == 0
        return int(page.run("document.images.length"))
