"""A headless Chromium, driven by chromedriver's own protocol, so that no further package is needed."""

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.request

from tests.support.servers import Server
from tests.support.waiting import MOST_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """One window of the browser."""

    def __init__(self, address: str):
        self.address = address

    def ask(self, path: str, **values):
        """Sends one command of the WebDriver protocol and returns its value."""
        content = json.dumps(values).encode()
        request = urllib.request.Request(f"{self.address}{path}", content, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=MOST_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {json.load(error)['value']['message']}") from None

    def open(self, address: str) -> None:
        """Loads a page and waits until it is loaded."""
        self.ask("/url", url=address)

    def run(self, script: str):
        """Runs a script and returns its value."""
        return self.ask("/execute/sync", script=script, args=[])

    def console(self) -> list[str]:
        """The messages on the browser's console."""
        return [f"{line['level']}: {line['message']}" for line in self.ask("/se/log", type="browser")]

    def requests(self) -> list[str]:
        """The address of every request that the browser has sent."""
        lines = [json.loads(line["message"])["message"] for line in self.ask("/se/log", type="performance")]
        return [
            line["params"]["request"]["url"] for line in lines if line["method"] == "Network.requestWillBeSent"
        ]  # fmt: skip


class Driver(Server):
    """Chromedriver, which starts browsers."""

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def _begin(self, log):
        return subprocess.Popen([DRIVER, f"--port={self.port}"], stdout=log, stderr=log)

    def _answers(self):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.address}/status", timeout=10).close()
            return self.process.poll() is None

    def stop(self):
        if self.process is not None:
            self.process.terminate()  # it ends its browsers
            self.process.wait(MOST_S)
            self.process = None


@contextlib.contextmanager
def chromium(profile, width: int, height: int = 900):
    """Yields a browser with a window of this width, even one narrower than the smallest desktop window."""
    with Driver(f"{profile}.log") as driver:
        browser = Browser(driver.address)
        metrics = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0}}
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"], "mobileEmulation": metrics}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = browser.ask("/session", capabilities={"alwaysMatch": wanted})["sessionId"]
        browser.address += f"/session/{session}"
        try:
            browser.open("about:blank")  # some versions begin with a page of their own
            browser.requests()
            yield browser
        finally:
            urllib.request.urlopen(urllib.request.Request(browser.address, method="DELETE"), timeout=MOST_S).close()
