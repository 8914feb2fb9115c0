from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait


class Page:
    """An opened report."""

    def __init__(self, window: webdriver.Chrome, file: Path) -> None:
        self.window = window
        self.look(width=1280)
        window.get_log("browser")
        window.get(file.as_uri())
        # `get` may come back before a long page is read to its end.
        WebDriverWait(window, 20).until(lambda _: self.run("document.readyState") == "complete")

    def look(self, width: int = 1280, scheme: str = "light", medium: str = "") -> None:
        """Change the size of the window, the user's colour scheme, or the medium."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            # The driver would click where an element was before the page has scrolled smoothly.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.window.get_log("browser")]

    def run(self, script: str, *arguments: object):
        return self.window.execute_script(f"return {script}", *arguments)

    def one(self, selector: str):
        return self.window.find_element("css selector", selector)

    def all(self, selector: str):
        return self.window.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """What elements hold, whether or not it is visible."""
        return self.run("[...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)


@pytest.fixture
def opened(chromium: webdriver.Chrome):
    """Opens a file in the browser."""
    return lambda file: Page(chromium, file)
