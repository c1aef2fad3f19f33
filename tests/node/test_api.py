"""What programs can do by the API: each call is really done, and written down."""

import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from api_client import DELIVERED, FAILED, PATIENT_ID, PEERS, RUNNING, Program, fill
from browsing import PASSWORD
from doubles import Held

from node.web.access import FORM_HEADER, form_token
from node.web.api.document import PREFIX, describe_api, least_role, list_routes
from node.web.api.reference import api_reference
from storage.states import AuditEvent, JobState, RetrievalKey, UserRole, Work

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
VIEWER, OPERATOR, ADMINISTRATOR = UserRole
ROLES = {
    "get_overview": VIEWER,
    "suspend_work": OPERATOR,
    "resume_work": OPERATOR,
    "search_jobs": VIEWER,
    "get_job": VIEWER,
    "retry_job": OPERATOR,
    "cancel_job": OPERATOR,
    "resend_job": OPERATOR,
    "reprocess_job": OPERATOR,
    "get_result": VIEWER,
    "get_all_results": VIEWER,
    "get_picture": VIEWER,
    "get_report": VIEWER,
    "list_series": VIEWER,
    "get_series": VIEWER,
    "list_peers": VIEWER,
    "echo_peer": OPERATOR,
    "list_rules": VIEWER,
    "try_rules": VIEWER,
    "try_rules_on_series": VIEWER,
    "look_studies_up": OPERATOR,
    "list_pulls": OPERATOR,
    "add_pull": OPERATOR,
    "get_pull": OPERATOR,
    "stop_pull": OPERATOR,
    "repeat_pull": OPERATOR,
    "list_models": VIEWER,
    "list_alerts": VIEWER,
    "try_alerts": ADMINISTRATOR,
    "list_users": ADMINISTRATOR,
    "add_user": ADMINISTRATOR,
    "set_role": ADMINISTRATOR,
    "set_password": ADMINISTRATOR,
    "disable_user": ADMINISTRATOR,
    "enable_user": ADMINISTRATOR,
    "get_account": VIEWER,
    "change_password": VIEWER,
    "list_tokens": VIEWER,
    "make_token": VIEWER,
    "revoke_token": VIEWER,
    "list_audit_lines": ADMINISTRATOR,
    "verify_audit": ADMINISTRATOR,
    "get_health": VIEWER,
    "get_versions": VIEWER,
    "get_settings": ADMINISTRATOR,
    "preview_retention": OPERATOR,
    "get_conformance": OPERATOR,
    "get_conformance_pdf": OPERATOR,
}


@pytest.fixture
def start(hold, serve, free_port, tmp_path) -> Callable[..., Held]:
    """Serve a node, with or without jobs."""

    def make(*, jobs: bool = True, **web) -> Held:
        held = hold(web={"port": free_port(), **web}, peers=PEERS)
        if jobs:
            fill(held, tmp_path / "more")
        serve(held)
        return held

    return make


def told(held: Held, event: AuditEvent = AuditEvent.ACTION) -> list[dict[str, object]]:
    """Give what the audit trail says that users did, the newest first."""
    return [dict(line.detail) for line in held.services.audit.list_entries([event])]


def state_of(held: Held, job_id: int) -> JobState:
    return held.services.jobs.get(job_id).state


def test_each_call_needs_its_role_and_nobody_calls_without_one(start):
    held = start(jobs=False)
    callers = {role: Program(held.services, role.value, role) for role in UserRole}
    stranger = Program(held.services, "stranger", VIEWER)
    stranger.headers = {"Authorization": "Bearer wrong"}
    assert {route.name for route in list_routes()} == set(ROLES)
    for route in list_routes():
        assert least_role(route) is ROLES[route.name]
        path = route.path_format.format(
            job_id=9, result_id=9, name="x", series_uid="9", batch="9", work="delivery", token_id=9
        )
        [method] = route.methods
        refused = stranger.call(method, path)
        assert (refused.status_code, refused.json()) == (401, {"detail": "Log in first."})
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        for role in UserRole:
            if role.covers(ROLES[route.name]):
                continue
            answer = callers[role].call(method, path, json={})
            assert answer.status_code == 403, (route.name, role, answer.text)
            assert ROLES[route.name].value in answer.json()["detail"]


def test_the_document_needs_no_login_and_names_each_role(start):
    held = start(jobs=False)
    answer = httpx.get(f"{held.services.settings.web.address}{PREFIX}/openapi.json")
    assert answer.json() == describe_api()
    operations = [one for path in answer.json()["paths"].values() for one in path.values()]
    assert {one["operationId"]: one["x-role"] for one in operations} == ROLES
    assert all(one["security"] for one in operations)


@pytest.mark.parametrize(
    ("job_id", "call", "body", "becomes", "action"),
    [
        (FAILED, "retry", None, JobState.QUEUED, "retry job"),
        (RUNNING, "cancel", None, JobState.CANCELED, "cancel job"),
        (DELIVERED, "resend", {"destination": "archive"}, JobState.DELIVERING, "resend job"),
        (DELIVERED, "resend", {}, JobState.DELIVERING, "resend job"),
    ],
)
def test_a_job_is_acted_on(start, job_id, call, body, becomes, action):
    held = start()
    program = Program(held.services, "olga", OPERATOR)
    answer = program.call("POST", f"/jobs/{job_id}/{call}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == becomes == state_of(held, job_id)
    [line] = held.services.audit.list_entries([AuditEvent.ACTION])
    assert (line.actor, line.address) == ("user:olga", "127.0.0.1")
    assert line.patient_id.startswith("HEPAR-PHANTOM")
    assert (line.detail["action"], line.detail["job"]) == (action, job_id)


def test_another_model_processes_the_series(start):
    held = start()
    program = Program(held.services, "olga", OPERATOR)
    answer = program.call("POST", f"/jobs/{DELIVERED}/reprocess", json={"model": "hepar-liver-ct"})
    assert (answer.status_code, answer.json()["state"]) == (201, "QUEUED")
    assert state_of(held, DELIVERED) is JobState.SUPERSEDED
    [line] = told(held)
    assert (line["action"], line["job"], line["of"]) == ("reprocess", answer.json()["id"], 1)
    unknown = program.call("POST", f"/jobs/{DELIVERED}/reprocess", json={"model": "nobody"})
    assert unknown.status_code == 422


def test_what_cannot_be_done_is_refused_with_a_sentence_and_without_a_line(start):
    held = start()
    program = Program(held.services, "olga", OPERATOR)
    for path, body, status in (
        (f"/jobs/{DELIVERED}/cancel", None, 409),
        (f"/jobs/{RUNNING}/retry", None, 409),
        (f"/jobs/{DELIVERED}/resend", {"destination": "nobody"}, 422),
        ("/jobs/77/retry", None, 404),
        ("/jobs/x/retry", None, 422),
        ("/peers/nobody/echo", None, 404),
        ("/pulls", {"peer": "nobody", "wanted": [{"key": "study", "value": "1.2"}]}, 422),
        ("/nowhere", None, 404),
    ):
        answer = program.call("POST", path, json=body)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json().keys() == {"detail"}
        assert answer.json()["detail"].endswith((".", "integer"))
    assert told(held) == []


def test_jobs_are_found_page_by_page_in_both_directions(start):
    program = Program(start().services, "vera", VIEWER)
    first = program.get("/jobs", params={"limit": 2})
    assert [job["id"] for job in first["jobs"]] == [RUNNING, FAILED]
    assert (first["total"], first["previous_before"]) == (3, None)
    second = program.get("/jobs", params={"limit": 2, "after": first["next_after"]})
    assert [job["id"] for job in second["jobs"]] == [DELIVERED]
    assert second["next_after"] is None
    back = program.get("/jobs", params={"limit": 2, "before": second["previous_before"]})
    assert back["jobs"] == first["jobs"]
    for asked in ({"state": ["FAILED"]}, {"text": "HEPAR-PHANTOM-2"}, {"after": 3, "limit": 1}):
        [job] = program.get("/jobs", params=asked)["jobs"]
        assert job["id"] == FAILED


def test_a_job_tells_all_about_itself(start):
    held = start()
    program = Program(held.services, "vera", VIEWER)
    job = program.get(f"/jobs/{DELIVERED}")
    assert (job["state"], job["patient_id"], job["rule"]) == ("DELIVERED", PATIENT_ID, "test")
    assert job["created_at"].endswith("Z")
    assert job["events"][0]["from_state"] is None
    assert {one["role"] for one in job["results"]} >= {"seg", "sr"}
    assert [one["state"] for one in job["deliveries"]] == ["DELIVERED"]
    assert job["summary"]["liver"]["volume_ml"] > 0
    [line] = held.services.audit.list_entries([AuditEvent.DATA_VIEWED])
    assert (line.patient_id, line.detail["job"]) == (PATIENT_ID, DELIVERED)
    text = str([job, program.get("/overview")])
    assert not any(word in text for word in ("lease", "'owner'", "password_hash"))


def test_files_come_as_they_are_and_each_is_a_line(start):
    held = start()
    program = Program(held.services, "vera", VIEWER)
    folder = held.services.files.result_folder(DELIVERED)
    result = program.call("GET", f"/jobs/{DELIVERED}/results/1")
    assert result.headers["content-type"] == "application/dicom"
    assert result.content == (folder / "seg.dcm").read_bytes()
    whole = program.call("GET", f"/jobs/{DELIVERED}/results.zip")
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"hepar-job-{DELIVERED}/seg.dcm") == result.content
    for path in ("pictures/preview.png", "pictures/montage.png", "reports/report.pdf"):
        answer = program.call("GET", f"/jobs/{DELIVERED}/{path}")
        assert answer.content == (folder / path.partition("/")[2]).read_bytes()
    assert len(told(held, AuditEvent.DATA_EXPORTED)) == 5
    for path in ("results.zip", "results/1", "pictures/preview.png", "reports/report.html"):
        assert program.call("GET", f"/jobs/{RUNNING}/{path}").status_code == 404


def test_series_and_rules_tell_what_was_decided_and_would_be(start):
    held = start()
    program = Program(held.services, "vera", VIEWER)
    assert len(program.get("/series")) == 3
    series = program.get(f"/series/{held.series_uid}")
    assert (series["decision"], series["jobs"][0]["id"]) == ("process", DELIVERED)
    tried = program.get(f"/rules/test/{held.series_uid}")
    assert (tried["action"], tried["rule"], tried["instances"]) == ("process", "CT", 12)
    assert [rule["name"] for rule in program.get("/rules")] == ["localizer", "not a CT", "CT"]
    assert len(told(held, AuditEvent.DATA_VIEWED)) == 3


def test_rules_are_tried_on_files_that_are_sent(start):
    held = start(jobs=False)
    program = Program(held.services, "vera", VIEWER)
    files = [("files", (path.name, path.read_bytes())) for path in held.paths[:2]]
    files.append(("files", ("notes.txt", b"no DICOM")))
    answer = program.call("POST", "/rules/test", files=files)
    [series] = answer.json()["series"]
    assert (series["rule"], series["instances"]) == ("CT", 2)
    assert "notes.txt" in answer.json()["problems"]
    assert told(held)[0]["action"] == "test rules"
    assert program.call("POST", "/rules/test", data={"files": "text"}).status_code == 422


def test_bodies_are_bounded_while_they_come(start):
    program = Program(start(jobs=False).services, "anna", ADMINISTRATOR)

    def endless():
        for _ in range(40):
            yield b" " * 65_536

    for options in ({"content": b" " * 2_000_000}, {"content": endless()}):
        answer = program.call("POST", "/users", **options)
        assert (answer.status_code, list(answer.json())) == (413, ["detail"])


def test_hidden_patients_are_hidden_in_every_answer(start):
    held = start(hide_patients=True)
    viewer = Program(held.services, "vera", VIEWER)
    for path in (
        "/jobs",
        f"/jobs/{DELIVERED}",
        "/series",
        f"/series/{held.series_uid}",
        f"/rules/test/{held.series_uid}",
        "/overview",
    ):
        text = str(viewer.get(path))
        assert not any(word in text for word in ("PHANTOM", "Phantom", "HP0000", "portal")), path
    for path in (
        "results/1",
        "results.zip",
        "reports/report.html",
        "reports/report.pdf",
        "reports/report.json",
    ):
        assert viewer.call("GET", f"/jobs/{DELIVERED}/{path}").status_code == 403
    # What is found would tell what is hidden.
    for asked in (
        {"patient_id": "H"},
        {"text": "H"},
        {"sort": "patient-id"},
        {"patient_name": "P"},
    ):
        assert viewer.call("GET", "/jobs", params=asked).status_code == 403
    operator = Program(held.services, "olga", OPERATOR)
    assert operator.get(f"/jobs/{DELIVERED}")["patient_id"] == PATIENT_ID


def test_work_is_suspended_and_resumed(start):
    held = start(jobs=False)
    program = Program(held.services, "olga", OPERATOR)
    answer = program.call("POST", "/work/delivery/suspend", json={"reason": "archive is moved"})
    assert answer.json() == {"work": "delivery", "suspended": True, "changed": True}
    assert held.services.pauses.is_suspended(Work.DELIVERY)
    assert program.get("/overview")["pauses"][0]["reason"] == "archive is moved"
    answer = program.call("POST", "/work/delivery/resume")
    assert answer.json() == {"work": "delivery", "suspended": False, "changed": True}
    assert [line["action"] for line in told(held)] == ["resume", "suspend"]


def test_a_silent_peer_is_an_answer(start):
    held = start(jobs=False)
    program = Program(held.services, "olga", OPERATOR)
    answer = program.call("POST", "/peers/archive/echo").json()
    assert not answer["answered"]
    assert "cannot be reached" in answer["detail"]
    assert told(held) == [{"action": "echo peer", "peer": "archive"}]
    asked = {"peer": "archive", "wanted": [{"key": "accession", "value": "A1"}]}
    [listing] = program.call("POST", "/studies/lookup", json=asked).json()
    assert "cannot be reached" in listing["error"]


def test_studies_are_ordered_canceled_and_asked_for_again(start):
    held = start(jobs=False)
    program = Program(held.services, "olga", OPERATOR)
    wanted = [{"key": "accession", "value": "A1"}, {"key": "patient", "value": "P1"}]
    answer = program.call("POST", "/pulls", json={"peer": "archive", "wanted": wanted})
    assert (answer.status_code, answer.json()["counts"]) == (201, {"WAITING": 2})
    batch = answer.json()["batch"]
    rows = held.services.retrievals.list_rows(batch)
    assert [row.key for row in rows] == [RetrievalKey.ACCESSION, RetrievalKey.PATIENT]
    [row] = program.call("POST", f"/pulls/{batch}/cancel", json={"row": rows[0].id}).json()
    assert row["state"] == "CANCELED"
    [row] = program.call("POST", f"/pulls/{batch}/retry", json={}).json()
    assert (row["id"], row["state"]) == (rows[0].id, "WAITING")
    assert [one["state"] for one in program.get(f"/pulls/{batch}")["rows"]] == ["WAITING"] * 2
    assert [one["batch"] for one in program.get("/pulls")] == [batch]
    assert [line["action"] for line in told(held)] == ["retry pull", "cancel pull", "pull"]


def test_users_are_made_changed_and_shut_out(start):
    held = start(jobs=False)
    program = Program(held.services, "anna", ADMINISTRATOR)
    new = {"name": "bert", "role": "viewer", "password": PASSWORD}
    assert program.call("POST", "/users", json=new).status_code == 201
    assert program.call("POST", "/users", json=new).status_code == 409
    assert program.call("PUT", "/users/bert/role", json={"role": "operator"}).status_code == 200
    before = held.services.users.get("bert").password_hash
    changed = {"password": "another long secret"}
    assert program.call("PUT", "/users/bert/password", json=changed).status_code == 200
    assert held.services.users.get("bert").password_hash != before
    assert program.call("POST", "/users/bert/disable").json()["disabled_at"].endswith("Z")
    assert program.call("POST", "/users/bert/enable").json()["disabled_at"] is None
    assert program.call("POST", "/users/anna/disable").status_code == 409
    assert [(one["name"], one["role"]) for one in program.get("/users")] == [
        ("anna", "administrator"),
        ("bert", "operator"),
    ]
    actions = [line["action"] for line in told(held, AuditEvent.USERS_CHANGED)]
    assert actions == ["let in", "shut out", "set password", "set role", "add user"]


def test_a_token_is_shown_once_and_is_no_longer_good_when_taken_away(start):
    held = start(jobs=False)
    program = Program(held.services, "vera", VIEWER)
    made = program.call("POST", "/account/tokens", json={"label": "robot", "days": 3}).json()
    robot = Program(held.services, "unused", VIEWER)
    robot.headers = {"Authorization": f"Bearer {made['token']}"}
    assert robot.get("/account") == {"name": "vera", "role": "viewer", "sees_patients": True}
    listed = program.get("/account/tokens")
    assert [one["label"] for one in listed] == ["robot", "test"]
    assert made["token"] not in str(listed)
    assert program.call("DELETE", f"/account/tokens/{made['id']}").status_code == 204
    assert robot.call("GET", "/account").status_code == 401
    assert program.call("DELETE", f"/account/tokens/{made['id']}").status_code == 404
    own = {"old": PASSWORD, "password": "another long secret"}
    assert program.call("PUT", "/account/password", json=own | {"old": "no"}).status_code == 422
    assert program.call("PUT", "/account/password", json=own).status_code == 204
    assert program.call("GET", "/account").status_code == 401


def test_a_session_needs_the_token_of_our_forms_to_change_something(hold, serve, free_port):
    held = hold(web={"port": free_port()})
    browser = serve(held)("anna")
    path = f"{PREFIX}/work/delivery/suspend"
    assert browser.client.get(f"{PREFIX}/account").json()["name"] == "anna"
    assert browser.client.post(path, json={}).status_code == 403
    assert browser.client.post(path, json={}, headers={FORM_HEADER: "wrong"}).status_code == 403
    token = form_token(browser.client.cookies["hepar_session"])
    assert browser.client.post(path, json={}, headers={FORM_HEADER: token}).status_code == 200
    assert held.services.pauses.is_suspended(Work.DELIVERY)


def test_the_trail_is_read_and_verified(start):
    held = start(jobs=False)
    program = Program(held.services, "anna", ADMINISTRATOR)
    program.call("POST", "/work/delivery/suspend", json={})
    [line] = program.get("/audit", params={"event": "action", "actor": "user:anna"})
    assert line["detail"]["work"] == "delivery"
    verdict = program.call("POST", "/audit/verify").json()
    assert (verdict["intact"], verdict["broken_line"]) == (True, None)
    actions = [line["action"] for line in told(held, AuditEvent.AUDIT_READ)]
    assert actions == ["verify", "read"]


def test_the_system_tells_of_itself_and_keeps_its_secrets(start, tmp_path):
    held = start(jobs=False)
    program = Program(held.services, "anna", ADMINISTRATOR)
    health = program.get("/system/health")
    assert not health["ready"]
    assert {"disk", "database", "role worker"} <= {one["name"] for one in health["checks"]}
    assert "Hepar" in program.get("/system/versions")
    settings = {one["key"]: one for one in program.get("/system/settings")}
    assert settings["web.hide_patients"]["value"] is False
    assert program.get("/system/retention")["excess_bytes"] == 0
    assert program.call("GET", "/system/conformance.md").text.startswith("# DICOM conformance")
    assert program.call("GET", "/system/conformance.pdf").content.startswith(b"%PDF")
    assert [one["in_use"] for one in program.get("/models")["usable"]].count(True) == 1


def test_alerts_are_listed_and_tried(start):
    held = start(jobs=False)
    program = Program(held.services, "anna", ADMINISTRATOR)
    assert program.get("/alerts") == []
    answer = program.call("POST", "/alerts/test", json={"kinds": ["disk-low"]})
    assert (answer.status_code, "no way" in answer.json()["detail"]) == (422, True)


def test_the_reference_page_is_that_of_the_code():
    assert PAGE.read_text(encoding="utf-8") == api_reference()


def test_the_calls_of_the_reference_page_work(start, program, working_folder):
    held = start()
    robot = Program(held.services, "robot", OPERATOR)
    shutil.copy(held.paths[0], "slice.dcm")
    calls = re.findall("^curl (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(calls) == 7
    [order] = re.findall("where `pull.json` is `(.*)`", PAGE.read_text(encoding="utf-8"))
    Path("pull.json").write_text(order, encoding="utf-8")
    known = {"SEND": "Authorization: Bearer secret of robot", "NODE": robot.address}
    for call in calls:
        line = f"{program('curl')} --fail-with-body {call}"
        done = subprocess.run(["/bin/sh", "-c", line], env=known, check=False)
        assert done.returncode == 0, call
    assert zipfile.is_zipfile("job-1.zip")
    assert state_of(held, FAILED) is JobState.QUEUED
    assert held.services.pauses.is_suspended(Work.DELIVERY)
    assert len(held.services.retrievals.list_batches()) == 1
