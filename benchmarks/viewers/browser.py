"""Headless Chromium that reaches one server and nothing else."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Route, sync_playwright

_OPTIONS = (
    "--no-sandbox",
    "--disable-quic",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
_LIMIT_MS = 60_000


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(_OPTIONS)
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(origin: str) -> Iterator[Page]:
    """Open a page that reaches nothing but this origin."""
    with open_browser() as browser:
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, service_workers="block"
        )
        context.set_default_timeout(_LIMIT_MS)

        def only_there(route: Route) -> None:
            if route.request.url.startswith((origin, "blob:", "data:")):
                route.continue_()
            else:
                route.abort()

        context.route("**/*", only_there)
        yield context.new_page()
