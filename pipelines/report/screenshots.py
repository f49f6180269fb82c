"""The report's pages as PNG files, drawn by a Chromium or Chrome of this machine."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from transforms.errors import RunError

_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
_WIDTH = 1440
_SECONDS = 60


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises:
        RunError: There is none on PATH.
    """
    for name in _BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise RunError(
        "--export png needs Chromium or Chrome on PATH; install it, for example with "
        "apt-get install chromium."
    )


def page_images(html: str) -> dict[str, bytes]:
    """Return a PNG per page of the report by the page's name, 2880 pixels wide.

    Raises:
        RunError: There is no browser, or it fails.
    """
    browser = find_browser()
    images = {}
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        source = Path(folder, "report.html")
        source.write_text(html, "utf-8")
        for name in re.findall(r'<section class="page" id="page-(\w+)"', html):
            address = f"{source.as_uri()}#{name}"
            drawn = _run(browser, folder, address, 900, "--dump-dom")
            height = re.search(r'<html[^>]* data-height="(\d+)"', drawn)
            if height is None:
                raise RunError(f"{browser} did not draw the page {name!r}.")
            image = Path(folder, f"{name}.png")
            _run(browser, folder, address, int(height[1]), f"--screenshot={image}")
            if not image.is_file():
                raise RunError(f"{browser} took no screenshot of the page {name!r}.")
            images[name] = image.read_bytes()
    return images


def _run(browser: str, folder: str, address: str, height: int, action: str) -> str:
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        "--force-device-scale-factor=2",
        f"--user-data-dir={folder}/profile",
        f"--window-size={_WIDTH},{height}",
        "--virtual-time-budget=60000",
        action,
        address,
    ]
    if os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # Chromium refuses its sandbox to root
    try:
        done = subprocess.run(  # noqa: S603 - a program found by its name, arguments of our own
            command, capture_output=True, check=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{browser} gave no answer in {_SECONDS} seconds.") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RunError(f"{browser} failed: {' '.join(last)}") from error
    return done.stdout.decode(errors="replace")
