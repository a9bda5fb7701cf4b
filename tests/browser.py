"""A real browser without a window, for the pages that we write."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver

__all__ = ["Page", "browser"]

# As a test machine needs it: no sandbox as root, and nothing that the browser would ask the network for by itself.
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start Chromium; skips the test where there is none (.ci/run installs it)."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("browser: chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in OPTIONS.split():
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """A page in a browser."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        driver.get(path.as_uri())

    def run(self, script: str, *arguments: object) -> object:
        """Run a script in the page; gives what it returns."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The text of every element."""
        found = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((item) => item.textContent)", selector
        )
        assert isinstance(found, list)
        return found

    def text(self, selector: str) -> str:
        """The text of the only element."""
        (text,) = self.texts(selector)
        return text

    def click(self, selector: str) -> None:
        """Click on an element as the mouse does."""
        self.driver.find_element("css selector", selector).click()

    def hover(self, selector: str, x: int = 0, y: int = 0) -> None:
        """Move the mouse over the middle of an element, or so many pixels from there."""
        element = self.driver.find_element("css selector", selector)
        actions = webdriver.ActionChains(self.driver)
        actions.move_to_element_with_offset(element, x, y).perform()

    def select(self, selector: str, value: object) -> None:
        """Choose a value of a select element as the keyboard does."""
        self.driver.find_element("css selector", f'{selector} option[value="{value}"]').click()

    def faults(self) -> list[object]:
        """What the browser complained about, and what the page asked the network for."""
        requests = self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert isinstance(requests, list)
        return [*self.driver.get_log("browser"), *requests]  # type: ignore[no-untyped-call]
