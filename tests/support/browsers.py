"""A real Chromium without a window, for what a person sees."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def browser(width: int = 1280, *, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A window of this width, which keeps what its console says."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        driver = shutil.which("chromedriver")
        made = webdriver.Chrome(options, webdriver.ChromeService(driver) if driver else None)
        try:
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            made.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            made.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield made
        finally:
            made.quit()
