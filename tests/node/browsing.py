"""A browser without a screen: it keeps cookies, and sends the token that our forms carry."""

import re
from typing import Any, Self

import httpx

from node.clock import utc_now
from node.services import Services
from node.web.passwords import hash_password
from storage.states import UserRole

PASSWORD = "correct horse battery"
_HASH = hash_password(PASSWORD, "somebody")


def add_user(services: Services, name: str, role: UserRole) -> None:
    """Add a user with the password of all test users."""
    services.users.add(name, role, _HASH, utc_now())


class Browser:
    """Visits the pages of one node."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=base_url, follow_redirects=True, timeout=60, **options)
        self.page = ""
        """What was shown last."""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._show(self.client.get(path, **options))

    def post(self, path: str, *, form_token: str | None = None, **fields: Any) -> httpx.Response:
        """Send a form with the token of the page that was shown last."""
        known = re.search(r'name="form_token" value="([^"]+)"', self.page)
        sent = (known[1] if known else "") if form_token is None else form_token
        return self._show(self.client.post(path, data={"form_token": sent} | fields))

    def log_in(self, name: str, password: str = PASSWORD) -> Self:
        self.get("/login")
        answer = self.post("/login", name=name, password=password)
        assert answer.status_code == 200, answer.text
        return self

    def _show(self, answer: httpx.Response) -> httpx.Response:
        self.page = answer.text if "html" in answer.headers.get("content-type", "") else ""
        return answer

    def close(self) -> None:
        self.client.close()
