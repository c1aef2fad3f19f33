"""People at the pages of a node, in Chromium; what must never happen there is written down."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from benchmarks.viewers.voxels import viewers_folder

PASSWORD = "correct horse battery"  # noqa: S105 - of people who do not exist
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
_LIMIT_MS = 30_000
_TABS = 150
_GRAVE = ("serious", "critical")
_RUN_AXE = "rules => axe.run(document, {resultTypes: ['violations'], ...rules})"
_FOCUSED = """wanted => {
  const here = document.activeElement;
  const style = getComputedStyle(here);
  return {
    name: here.outerHTML.slice(0, 120),
    there: here.matches(wanted),
    seen: here === document.body
      || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0),
  };
}"""


def axe_script() -> Path:
    """Give the program that looks for barriers; ``docker/install-viewers`` installs it."""
    return viewers_folder() / "node_modules" / "axe-core" / "axe.min.js"


@dataclass
class Person:
    """Somebody with a browser."""

    origin: str
    page: Page
    name: str = ""
    """Under which the person has logged in."""
    problems: list[str] = field(default_factory=list)
    """Errors in the console, broken rules of the content security policy, calls to elsewhere."""
    asked: list[str] = field(default_factory=list)
    """What the pages wanted to have confirmed; it was."""

    def __post_init__(self) -> None:
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.asked.append(dialog.message), dialog.accept()))
        self.page.on("request", self._note_request)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({self.page.url})")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "data:", "blob:")):
            self.problems.append(f"request to {request.url}")

    @contextmanager
    def refused(self, status: int) -> Iterator[None]:
        """Expect that the node refuses something, and nothing else to be wrong."""
        before, self.problems = self.problems, []
        yield
        words = f"the server responded with a status of {status} "
        assert self.problems, f"nothing was refused with {status}"
        assert all(words in one for one in self.problems), self.problems
        self.problems = before

    def go(self, path: str) -> Page:
        """Open a page of the node."""
        self.page.goto(self.origin + path)
        return self.page

    def log_in(self, name: str, password: str = PASSWORD) -> "Person":
        """Log in by the form."""
        self.go("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        self.name = name
        return self

    def find_barriers(self, **rules: Any) -> list[str]:
        """Look with axe for what keeps people out, and say where."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe_script().read_text(encoding="utf-8"))
        found = self.page.evaluate(_RUN_AXE, rules)
        return [
            f"{one['impact']}: {one['help']}: {node['target']} {node['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in _GRAVE
            for node in one["nodes"]
        ]

    def find_dark_barriers(self) -> list[str]:
        """Look for poor contrast where the desktop is dark."""
        self.page.emulate_media(color_scheme="dark")
        found = self.find_barriers(runOnly=["color-contrast"])
        self.page.emulate_media(color_scheme="light")
        return found

    def find_narrow_barriers(self) -> list[str]:
        """Look on a phone for what sticks out of the page, and what no key can scroll."""
        self.page.set_viewport_size(PHONE)
        found = self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            [...document.querySelectorAll('body *')]
              .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
              .map(one => one.outerHTML.slice(0, 120))"""
        )
        found += self.find_barriers(runOnly=["scrollable-region-focusable"])
        self.page.set_viewport_size(DESK)
        return list(found)

    def tab_to(self, selector: str) -> list[str]:
        """Go by the Tab key to the first thing of this kind; give what had the focus unseen."""
        self.page.evaluate("document.activeElement.blur()")
        unseen = []
        for _ in range(_TABS):
            self.page.keyboard.press("Tab")
            at = self.page.evaluate(_FOCUSED, selector)
            if not at["seen"]:
                unseen.append(at["name"])
            if at["there"]:
                return unseen
        raise AssertionError(f"{selector} is not reached by {_TABS} tabs")


def visit(browser: Browser, origin: str, **options: Any) -> Person:
    """Sit down at a browser in which nobody has been."""
    context = browser.new_context(**{"viewport": DESK, "locale": "en-US"} | options)
    context.set_default_timeout(_LIMIT_MS)
    return Person(origin=origin, page=context.new_page())


def setup_path(log: str) -> str:
    """Give the link for the first user from the log of a node."""
    found = re.findall(r"/setup\?token=[\w-]+", log)
    assert found, log
    return str(found[-1])


def make_first_user(person: Person, log: str, name: str) -> None:
    """Make the first user by the link of the log, who is logged in then."""
    person.go(setup_path(log))
    page = person.page
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Make the first user").click()
    person.name = name


def add_user(administrator: Person, name: str, role: str) -> None:
    """Have an administrator add a user."""
    page = administrator.go("/users")
    form = page.locator("form[action='/users']")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Role").select_option(role)
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_label("The same again").fill(PASSWORD)
    form.get_by_role("button", name="Add").click()
