"""A headless Chromium, the reports it opens, and what every page must never do."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pipelines.report import render_report
from tests.conftest import skip_or_fail
from tests.pipelines.report.builder import build_tables

Tables = dict[str, pl.DataFrame]
OpenReport = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="session")
def tables() -> Tables:
    return build_tables()


@pytest.fixture(scope="session")
def html(tables) -> str:
    return render_report(tables)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if path is None:
        skip_or_fail("needs Chromium on PATH (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_report(chromium, tmp_path) -> OpenReport:
    """Open a report; on leaving, fail on console messages, errors and requests to anywhere."""

    @contextmanager
    def open_page(
        html: str,
        page_name: str = "overview",
        *,
        width: int = 1440,
        scheme: str = "light",
        script: bool = True,
    ) -> Iterator[Page]:
        source = Path(tmp_path, "report.html")
        source.write_text(html, "utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=script,
            offline=True,
        )
        page = context.new_page()
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((source.as_uri(), "blob:"))
                else troubles.append(f"request: {request.url}")
            ),
        )
        page.goto(f"{source.as_uri()}#{page_name}")
        if script:
            settle(page)
        yield page
        context.close()
        assert troubles == []

    return open_page


def settle(page: Page) -> None:
    """Wait until all charts are drawn."""
    page.wait_for_selector("html[data-state=ready]")
