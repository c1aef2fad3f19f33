"""Who gets in, and who does what: sessions, forms, roles, tokens, proxy, first user."""

import logging
import re
import ssl
import threading

import pytest
from browsing import PASSWORD, Browser, add_user
from certificates import certify

from config import Settings
from node.web.server import WebServer
from node.web.setup_token import make_setup_token
from storage.states import AuditEvent, AuditOutcome, UserRole


@pytest.fixture
def held(hold, free_port):
    return hold(web={"port": free_port()})


@pytest.fixture
def visit(held, serve):
    return serve(held)


PAGES = ["/", "/jobs", "/jobs/1", "/pull", "/pull/1", "/users", "/account"]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_a_page_without_logging_in(visit, path):
    browser = visit()
    answer = browser.get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next_path=/")
    assert "form" in browser.get(path).text


def test_login_leads_back_to_the_page_and_logout_ends_it(held, visit):
    add_user(held.services, "anna", UserRole.VIEWER)
    browser = visit()
    browser.get("/jobs?state=FAILED")
    back = re.search(r'name="next_path" value="([^"]+)"', browser.page)[1]
    answer = browser.post("/login", name="anna", password=PASSWORD, next_path=back)
    assert answer.url.path == "/jobs"
    assert answer.url.query == b"state=FAILED"
    browser.post("/logout")
    assert browser.get("/").url.path == "/login"


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
def test_login_leads_nowhere_else(held, visit, path):
    add_user(held.services, "anna", UserRole.VIEWER)
    browser = visit()
    browser.get("/login")
    answer = browser.post("/login", name="anna", password=PASSWORD, next_path=path)
    assert (answer.url.host, answer.url.path) == ("127.0.0.1", "/")


def test_cookies_are_out_of_reach_of_scripts_and_of_other_sites(held, visit):
    add_user(held.services, "anna", UserRole.VIEWER)
    browser = visit()
    browser.get("/login")
    [answer] = browser.post("/login", name="anna", password=PASSWORD).history
    [cookie] = [v for v in answer.headers.get_list("set-cookie") if v.startswith("hepar_session")]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


@pytest.mark.parametrize("token", ["", "0" * 64], ids=["none", "another's"])
def test_a_form_from_elsewhere_is_refused(held, visit, token):
    browser = visit("anna")
    browser.get("/users")
    answer = browser.post(
        "/users",
        form_token=token,
        name="eve",
        role="administrator",
        password=PASSWORD,
        again=PASSWORD,
    )
    assert answer.status_code == 403
    assert [user.name for user in held.services.users.list_users()] == ["anna"]


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (UserRole.VIEWER, "/jobs", 200),
        (UserRole.VIEWER, "/users", 403),
        (UserRole.OPERATOR, "/users", 403),
        (UserRole.ADMINISTRATOR, "/users", 200),
    ],
)
def test_roles_reach_so_far(visit, role, path, status):
    browser = visit("anna", role)
    assert browser.get(path).status_code == status
    menu = browser.get("/").text
    assert (f'href="{path}"' in menu) == (status == 200)


def test_a_viewer_cannot_make_users_by_hand_either(held, visit):
    browser = visit("anna", UserRole.VIEWER)
    browser.get("/account")
    answer = browser.post("/users", name="eve", role="viewer", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 403


def test_administrators_make_change_and_shut_out_users(held, visit):
    browser = visit("anna")
    browser.get("/users")
    browser.post("/users", name="ben", role="viewer", password=PASSWORD, again=PASSWORD)
    assert "ben may log in" in browser.page
    other = visit().log_in("ben")
    browser.post("/users/ben/role", role="operator")
    assert "operator" in other.get("/").text
    browser.post("/users/ben/disable")
    assert other.get("/").url.path == "/login"
    browser.get("/users")
    assert browser.post("/users/anna/disable").status_code == 409
    actions = [
        line.detail["action"]
        for line in held.services.audit.list_entries([AuditEvent.USERS_CHANGED])
    ]
    assert actions == ["shut out", "set role", "add user"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "a b"}, "A name has"),
        ({"password": "short", "again": "short"}, "12 to 1000 characters"),
        ({"again": "something else"}, "differ"),
        ({"password": "eve eve eve eve", "again": "eve eve eve eve"}, "easy to guess"),
        ({"name": "anna"}, "There is a user"),
    ],
)
def test_what_cannot_be_a_user_is_told(visit, fields, sentence):
    browser = visit("anna")
    browser.get("/users")
    known = {"name": "eve", "role": "viewer", "password": PASSWORD, "again": PASSWORD}
    answer = browser.post("/users", **(known | fields))
    assert answer.status_code in (409, 422)
    assert sentence in answer.text


def test_guessing_is_stopped_and_written_down(held, visit):
    add_user(held.services, "anna", UserRole.VIEWER)
    browser = visit()
    for _ in range(5):
        browser.get("/login")
        assert browser.post("/login", name="anna", password="wrong").status_code == 401
    browser.get("/login")
    assert browser.post("/login", name="anna", password=PASSWORD).status_code == 429
    lines = held.services.audit.list_entries([AuditEvent.LOGIN])
    assert [line.outcome for line in lines] == [AuditOutcome.MINOR_FAILURE] * 5
    assert {line.address for line in lines} == {"127.0.0.1"}
    assert PASSWORD not in str(lines)


def test_many_guesses_at_once_are_stopped_too(held, visit):
    add_user(held.services, "anna", UserRole.VIEWER)
    statuses = []

    def guess() -> None:
        browser = visit()
        browser.get("/login")
        statuses.append(browser.post("/login", name="anna", password="wrong").status_code)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [401] * 5 + [429] * 7


def test_a_session_ends_when_nobody_is_there(hold, serve, free_port):
    browser = serve(hold(web={"port": free_port(), "idle_min": 1e-9}))("anna")
    assert browser.get("/").url.path == "/login"


def test_a_token_lets_a_program_in_until_it_is_revoked(visit):
    browser = visit("anna", UserRole.OPERATOR)
    browser.get("/account")
    page = browser.post("/account/tokens", label="nightly export", days=30).text
    secret = re.search(r'<code class="secret">([^<]+)</code>', page)[1]
    program = visit(headers={"Authorization": f"Bearer {secret}"})
    assert program.get("/jobs").status_code == 200
    assert program.get("/users").status_code == 403
    digest = re.search(r"/account/tokens/(\w+)/revoke", page)[1]
    assert "no longer good" in browser.post(f"/account/tokens/{digest}/revoke").text
    assert program.get("/jobs").url.path == "/login"


def test_users_change_their_own_password(visit):
    browser, other = visit("anna"), visit().log_in("anna")
    browser.get("/account")
    new = "another battery horse"
    assert browser.post("/account/password", old="x", password=new, again=new).status_code == 422
    browser.get("/account")
    browser.post("/account/password", old=PASSWORD, password=new, again=new)
    assert other.get("/").url.path == "/login", "whoever knew the old one is out"
    assert visit().log_in("anna", new).get("/").url.path == "/"


def test_the_first_user_is_made_with_the_link_of_the_log(held, serve, caplog):
    with caplog.at_level(logging.WARNING):
        visit = serve(held)
    link = re.search(r"http://\S+/setup\?token=\S+", caplog.text)[0]
    browser = visit()
    assert browser.get("/setup?token=guess").status_code == 403
    browser.get(link)
    fields = {"token": make_setup_token(held.services.files.data_dir), "name": "anna"}
    answer = browser.post("/setup", **fields, password=PASSWORD, again="other")
    assert "differ" in answer.text
    answer = browser.post("/setup", **fields, password=PASSWORD, again=PASSWORD)
    assert "Users" in answer.text, "the first user is an administrator, and logged in"
    assert browser.get(link).status_code == 403, "it is good once"


def test_the_link_is_for_the_owner_of_the_folder_only(tmp_path):
    make_setup_token(tmp_path)
    [path] = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


HEADERS = {"X-User": "carol", "X-Role": "operator"}


@pytest.mark.parametrize(
    ("networks", "headers", "status", "shown"),
    [
        (["127.0.0.0/8"], HEADERS, 200, "operator"),
        (["127.0.0.0/8"], {"X-User": "carol"}, 403, "has no role"),
        (["127.0.0.0/8"], HEADERS | {"X-Role": "king"}, 403, "king"),
        (["127.0.0.0/8"], {"X-User": "known"}, 200, "viewer"),
        (["10.0.0.0/8"], HEADERS, 200, "Log in"),
    ],
    ids=["named", "no role", "odd role", "role from here", "not the proxy"],
)
def test_a_declared_proxy_says_who_it_is(hold, serve, free_port, networks, headers, status, shown):
    proxy = {"networks": networks, "user_header": "X-User", "role_header": "X-Role"}
    held = hold(web={"port": free_port(), "proxy": proxy})
    add_user(held.services, "known", UserRole.VIEWER)
    answer = serve(held)(headers=headers).get("/")
    assert answer.status_code == status
    assert shown in answer.text


def test_forms_behind_a_proxy_are_ours_too(hold, serve, free_port):
    proxy = {"networks": ["127.0.0.1/32"], "user_header": "X-User", "role_header": "X-Role"}
    held = hold(web={"port": free_port(), "proxy": proxy})
    browser = serve(held)(headers={"X-User": "carol", "X-Role": "administrator"})
    browser.get("/users")
    known = {"name": "ben", "role": "viewer", "password": PASSWORD, "again": PASSWORD}
    assert browser.post("/users", form_token="0", **known).status_code == 403
    browser.get("/users")
    assert "ben may log in" in browser.post("/users", **known).text
    [line] = held.services.audit.list_entries([AuditEvent.USERS_CHANGED])
    assert line.actor == "user:carol"


def test_addresses_are_those_that_the_proxy_tells(hold, serve, free_port):
    held = hold(web={"port": free_port(), "proxy": {"networks": ["127.0.0.1/32"]}})
    headers = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "https"}
    browser = serve(held)(headers=headers)
    browser.get("/login")
    [cookie] = [c for c in browser.client.cookies.jar if c.name == "hepar_form"]
    assert cookie.secure
    browser.client.cookies.set("hepar_form", cookie.value)
    browser.post("/login", name="x", password="wrong")
    [line] = held.services.audit.list_entries([AuditEvent.LOGIN])
    assert line.address == "10.1.2.3"


def test_others_can_reach_it_only_with_tls_or_a_proxy():
    with pytest.raises(ValueError, match=r"web\.proxy\.networks"):
        Settings(web={"host": "0.0.0.0"})
    assert Settings(web={"host": "0.0.0.0", "proxy": {"networks": ["10.0.0.1/32"]}})


def test_others_can_reach_it_only_once_there_is_a_user(hold, free_port):
    web = {"host": "0.0.0.0", "port": free_port(), "proxy": {"networks": ["10.0.0.1/32"]}}
    held = hold(web=web)
    stop = threading.Event()
    server = WebServer(held.services)
    assert server.needs_user()
    stop.set()
    server.start(stop)
    browser = Browser(f"http://127.0.0.1:{web['port']}")
    with pytest.raises(Exception, match="refused"):
        browser.get("/healthz")
    add_user(held.services, "anna", UserRole.ADMINISTRATOR)
    assert not server.needs_user()
    server.start()
    assert browser.get("/login").status_code == 200
    browser.close()
    server.stop()


@pytest.mark.peer
def test_https(hold, serve, free_port, tmp_path):
    """Browsers get cookies for TLS only, and are told to stay with it."""
    ours = certify(tmp_path, "node", by=certify(tmp_path, "authority"))
    tls = {"certificate": ours.certificate, "key": ours.key}
    visit = serve(hold(web={"port": free_port(), "tls": tls}))
    browser = visit(verify=ssl.create_default_context(cafile=tmp_path / "authority.pem"))
    answer = browser.get("/login")
    assert answer.url.scheme == "https"
    assert "max-age" in answer.headers["strict-transport-security"]
    assert all(cookie.secure for cookie in browser.client.cookies.jar)


def test_pages_say_what_a_browser_may_do_with_them(visit):
    headers = visit("anna").get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
