"""nginx, as `docker/nginx` sets it up, in front of the pages."""

import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from browsing import Browser, add_user
from certificates import certify

from benchmarks.peers import wait_until
from config import Settings
from node.services import Services, open_services
from node.web.server import WebServer
from storage.database import upgrade_database
from storage.states import AuditEvent, UserRole

pytestmark = pytest.mark.peer
CONFIGURATIONS = Path(__file__).parents[2] / "docker" / "nginx"
FROM = "127.0.0.2"
"""Of browsers: another address of loopback than that of nginx."""
OPENID = {"user_header": "X-Hepar-User", "role_header": "X-Hepar-Role"}


@pytest.fixture
def services(tmp_path: Path, free_port, request: pytest.FixtureRequest) -> Services:
    proxy = {"networks": ["127.0.0.1/32"], **request.param}
    settings = Settings(data_dir=tmp_path / "data", web={"port": free_port(), "proxy": proxy})
    settings.data_dir.mkdir()
    upgrade_database(settings.database_url)
    return open_services(settings)


class LoginService(BaseHTTPRequestHandler):
    """What oauth2-proxy answers: who is logged in, by a cookie in this double."""

    def do_GET(self) -> None:
        cookie = self.headers.get("Cookie", "")
        person = re.search(r"person=(\w+)(?::([\w,-]+))?", cookie)
        self.send_response(202 if person else 401)
        if person:
            self.send_header("X-Auth-Request-Preferred-Username", person[1])
            self.send_header("X-Auth-Request-Groups", person[2] or "")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def login_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), LoginService) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def visit(
    services: Services, tmp_path: Path, free_port, login_port: int
) -> Iterator[Callable[..., Browser]]:
    """Serve the pages behind nginx; gives what opens browsers on it."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed (docker/install-test-peers installs it)")
    holder = certify(tmp_path, "pages")
    web = services.settings.web
    name = "openid.conf" if web.proxy.user_header else "pages.conf"
    plain_port, port = free_port(), free_port()
    to_node = tmp_path / "to-node.inc"
    for source, target in ((name, tmp_path / name), ("to-node.inc", to_node)):
        text = (CONFIGURATIONS / source).read_text(encoding="utf-8")
        text = re.sub(r"listen \[::\].*\n", "", text)
        for there, here in {
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "hepar:8080": f"127.0.0.1:{web.port}",
            "127.0.0.1:4180": f"127.0.0.1:{login_port}",
            "/etc/nginx/tls/pages.pem": str(holder.certificate),
            "/etc/nginx/tls/pages.key": str(holder.key),
            "/etc/nginx/hepar/to-node.inc": str(to_node),
        }.items():
            text = text.replace(there, here)
        target.write_text(text, encoding="utf-8")
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {tmp_path / name}; }}\n"
    )
    server, browsers = WebServer(services), []
    server.start()
    process = subprocess.Popen([nginx, "-e", "stderr", "-p", tmp_path, "-c", whole])
    trust = ssl.create_default_context(cafile=str(holder.certificate))
    trust.check_hostname = False

    def open_browser(**options: object) -> Browser:
        transport = httpx.HTTPTransport(local_address=FROM, verify=trust)
        browsers.append(Browser(f"https://127.0.0.1:{port}", transport=transport, **options))
        return browsers[-1]

    def answers() -> bool:
        assert process.poll() is None, "nginx has ended"
        try:
            return httpx.get(f"http://127.0.0.1:{plain_port}/").status_code == 301
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "nginx answers", 30)
        yield open_browser
    finally:
        for browser in browsers:
            browser.close()
        process.terminate()
        process.wait()
        server.stop()


@pytest.mark.parametrize("services", [{}], indirect=True)
def test_people_log_in_through_it_and_are_known_by_their_own_address(services, visit):
    add_user(services, "anna", UserRole.ADMINISTRATOR)
    browser = visit(headers={"X-Forwarded-For": "192.0.2.99", "X-Hepar-User": "mallory"})
    browser.log_in("anna")
    assert browser.get("/users").status_code == 200
    [login] = services.audit.list_entries(events=[AuditEvent.LOGIN])
    assert (login.actor, login.address) == ("user:anna", FROM)
    assert all(cookie.secure for cookie in browser.client.cookies.jar)
    assert "Strict-Transport-Security" in browser.get("/").headers


@pytest.mark.parametrize("services", [{}], indirect=True)
def test_forms_work_through_it_and_parts_that_renew_themselves_learn_of_the_end(services, visit):
    add_user(services, "anna", UserRole.ADMINISTRATOR)
    browser = visit()
    browser.log_in("anna")
    live = {"X-Live": "1"}
    assert browser.get("/account", headers=live).status_code == 200
    answer = browser.post("/logout")
    assert (answer.status_code, answer.url.path) == (200, "/login")
    assert browser.get("/account", headers=live).status_code == 401


@pytest.mark.parametrize("services", [{}, OPENID], indirect=True)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_what_is_for_machines_is_not_given_away(services, visit, path):
    assert visit().get(path).status_code == 404


@pytest.mark.parametrize("services", [OPENID], indirect=True)
@pytest.mark.parametrize(
    ("person", "status"),
    [
        ("anna:staff,hepar-administrators", 200),
        ("bert:hepar-viewers", 403),
        ("carl:hepar-administrators-of-old", 403),
        ("dora", 200),
    ],
    ids=["by group", "too low", "another group", "role from here"],
)
def test_the_login_service_says_who_it_is(services, visit, person, status):
    add_user(services, "dora", UserRole.ADMINISTRATOR)
    browser = visit(cookies={"person": person}, headers={"X-Hepar-User": "mallory"})
    answer = browser.get("/users", headers={"X-Hepar-Role": "administrator"})
    assert answer.status_code == status
    assert "mallory" not in answer.text


@pytest.mark.parametrize("services", [OPENID], indirect=True)
def test_who_is_not_logged_in_is_led_to_the_login_service(services, visit):
    browser = visit(headers={"X-Hepar-User": "mallory", "X-Hepar-Role": "administrator"})
    answer = browser.get("/users", follow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["location"].endswith("/oauth2/sign_in?rd=/users")
    assert browser.get("/", headers={"X-Live": "1"}).status_code == 401
