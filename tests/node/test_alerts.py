"""What is found to be wrong, and who is told of it how often; stores, mail and webhook are real."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificates import Holder, certify
from doubles import MODEL, Held
from told_people import Hook, MailServer

from config import RuleAction, Settings
from dicom_io.description import SeriesDescription
from dicom_io.rules import Decision
from node.alarm import Alarm
from node.alert_kinds import KINDS, AlertKind
from node.alert_teller import Teller
from node.alerts import find_alerts
from node.clock import utc_now
from node.roles import Role
from node.scheduler import Scheduler
from node.services import open_services
from node.watchman import Watchman
from storage.errors import DatabaseError
from storage.records import NewJob, NewResult, Problem
from storage.states import FailureCode, Work

PEERS = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "roles": ["destination"]}}
PATIENT = SeriesDescription(
    patient_id="PID-4711",
    patient_name="Doe^Jane",
    accession_number="ACC-0815",
    study_date="2026-02-28",
    study_description="Abdomen of Jane",
    series_description="portal venous, Jane",
)
SECRET = "Doe^Jane PID-4711 1.2.3.4"


class Clock:
    """The present, as all who tell see it."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("alarm", "alert_teller", "watchman"):
        monkeypatch.setattr(f"node.{module}.utc_now", clock)
    return clock


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    hook.start()
    yield hook
    hook.stop()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


def by_mail(server: MailServer) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": server.port,
        "security": "none",
        "sender": "hepar@h",
        "recipients": ["anna@h"],
    }


def beat(held: Held, now: datetime, *roles: Role) -> None:
    for role in roles or Role:
        held.services.heartbeats.beat(role.value, host="ct-node", pid=1, now=now)


def produced(held: Held, *, now: datetime | None = None) -> None:
    """Have a job with results for the archive, of a patient."""
    now = now or utc_now()
    services = held.services
    services.catalog.settle(
        services.catalog.get_series(held.series_uid),
        Decision(action=RuleAction.PROCESS, rule="test", reason=SECRET),
        job=NewJob(model_name="double", model_version="1", model_digest=MODEL.digest),
        now=now,
        described=PATIENT,
    )
    job = services.jobs.claim("w", 60, now)
    assert job is not None
    result = NewResult(
        role="seg",
        path="seg.dcm",
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3.4",
        series_instance_uid="1.2.3",
    )
    services.jobs.produced(
        job.id, "w", results=[result], destinations={"pacs": "ohif"}, summary={}, now=now
    )


def fail_delivery(held: Held, *, give_up: bool, now: datetime | None = None) -> None:
    now = now or utc_now()
    deliveries = held.services.deliveries
    delivery = deliveries.claim_due("s", destination="pacs", lease_s=9, now=now)
    assert delivery is not None
    due = None if give_up else now + timedelta(minutes=15)
    deliveries.attempt_failed(delivery.id, "s", SECRET, next_attempt_at=due, now=now)


def fail_job(held: Held) -> None:
    held.queue()
    job = held.services.jobs.claim("w", 60, utc_now())
    assert job is not None
    problem = Problem(SECRET, FailureCode.CHECK_FAILED)
    held.services.jobs.fail_attempt(job.id, "w", problem, max_attempts=1, now=utc_now())


def deliver_badly(held: Held) -> None:
    produced(held)
    fail_delivery(held, give_up=False)


def give_up(held: Held) -> None:
    produced(held)
    fail_delivery(held, give_up=True)


def suspend(held: Held) -> None:
    held.queue()
    held.services.pauses.suspend(Work.PROCESSING, "user:anna", SECRET, utc_now())


def lose_worker(held: Held) -> None:
    beat(held, utc_now() - timedelta(minutes=1), Role.WORKER)
    beat(held, utc_now() + timedelta(minutes=1), Role.RECEIVER)
    beat(held, utc_now(), Role.SCHEDULER, Role.WEB)


def stop_elsewhere(held: Held) -> None:
    lose_worker(held)
    stopped = AlertKind.NODE_STOPPED.finding("gpu-node", "The node on gpu-node is being stopped.")
    held.services.alerts.see([stopped], utc_now())


MINUTES = timedelta(minutes=1)
LOW = {"receive": {"min_free_bytes": 10**18}}
CASES = {
    "nothing": ({}, lambda held: None, 0, []),
    "a role is silent, another's beat is from the future": (
        {},
        lose_worker,
        0,
        ["role-missing receiver", "role-missing worker"],
    ),
    "a node was stopped and its roles run nowhere": (
        {},
        stop_elsewhere,
        0,
        ["node-stopped gpu-node", "role-missing receiver", "role-missing worker"],
    ),
    "the disk is short": (
        LOW,
        lambda held: None,
        0,
        ["disk-low data folder", "disk-short data folder"],
    ),
    "a job has just been queued": ({}, Held.queue, 14, []),
    "a job waits": ({}, Held.queue, 16, ["queue-too-old queue"]),
    "another limit": (
        {"alerts": {"queue_age_min": 5}},
        Held.queue,
        6,
        ["queue-too-old queue"],
    ),
    "processing is suspended": ({}, suspend, 31, ["queue-too-old queue"]),
    "a job has FAILED": ({}, fail_job, 1, ["jobs-failed jobs"]),
    "a job has FAILED long ago": ({}, fail_job, 61, []),
    "a delivery fails": ({}, deliver_badly, 29, []),
    "a delivery goes on failing": ({}, deliver_badly, 31, ["delivery-failing pacs"]),
    "a delivery was never tried": ({}, produced, 31, ["delivery-failing pacs"]),
    "a delivery was given up": ({}, give_up, 1, ["delivery-given-up pacs"]),
    "a delivery was given up long ago": ({}, give_up, 61, []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong(hold: Callable[..., Held], case: str):
    sections, arrange, minutes, expected = CASES[case]
    held = hold(peers=PEERS, **{"receive": {"min_free_bytes": 0}, **sections})
    now = utc_now() + minutes * MINUTES
    if arrange not in (lose_worker, stop_elsewhere):
        beat(held, now)
    arrange(held)
    found = list(find_alerts(held.services, now))
    assert sorted(f"{one.kind} {one.subject}" for one in found) == expected
    if arrange is suspend:
        assert "the oldest for 31 min; processing is suspended since" in found[0].message


def certificate_settings(holder: Holder, authority: Holder) -> dict[str, Any]:
    files = {"certificate": holder.certificate, "key": holder.key}
    return {"tls": files | {"authorities": authority.certificate}}


def test_a_certificate_that_ends(
    hold: Callable[..., Held], tmp_path: Path, program: Callable[[str], str]
):
    program("openssl")
    authority = certify(tmp_path, "authority")
    ours = certify(tmp_path, "ours", authority)
    held = hold(
        node=certificate_settings(ours, authority),
        alerts={"certificate_days": 40},
        receive={"min_free_bytes": 0},
    )
    now = utc_now()
    beat(held, now)
    # The certificates of openssl end after 30 days.
    [found] = find_alerts(held.services, now)
    assert (found.kind, found.subject) == ("certificate-expiring", "node.tls")
    assert re.fullmatch(
        r"The certificate of \[node.tls\] ends on \d{4}-\d\d-\d\d, in (29|30) days.", found.message
    )
    early = now - timedelta(days=11)
    web = {"certificate": ours.certificate, "key": ours.key}
    settings = Settings(**held.services.settings.model_dump() | {"node": {}, "web": {"tls": web}})
    [found] = find_alerts(replace(held.services, settings=settings), now)
    assert (found.kind, found.subject) == ("certificate-expiring", "web.tls")
    assert not [one for one in find_alerts(held.services, early) if "certif" in one.kind]
    ours.key.unlink()
    [found] = find_alerts(held.services, now)
    assert "cannot be used" in found.message


@pytest.fixture
def watched(hold: Callable[..., Held], hook: Hook, clock: Clock) -> tuple[Held, Alarm]:
    """A node that tells a webhook, and has a job that waits too long from the 31st minute on."""
    alerts = {"webhook": {"url": hook.url}, "queue_age_min": 30, "repeat_h": 2}
    held = hold(alerts=alerts, receive={"min_free_bytes": 0})
    return held, Alarm(held.services, "a")


def look(held: Held, alarm: Alarm, clock: Clock, **later: float) -> None:
    clock.go_on(**later)
    beat(held, clock.now)
    alarm.tick()


WAITS = ("queue-too-old", "queue")


def test_people_are_told_when_it_begins_again_after_a_time_and_when_it_is_over(
    watched: tuple[Held, Alarm], hook: Hook, clock: Clock
):
    held, alarm = watched
    job = held.queue()
    look(held, alarm, clock)
    assert hook.told == []
    look(held, alarm, clock, minutes=31)
    assert hook.told == [[(*WAITS, "begins")]]
    for _ in range(14):
        look(held, alarm, clock, minutes=8)
    assert len(hook.told) == 1
    look(held, alarm, clock, minutes=8)
    assert hook.told[1:] == [[(*WAITS, "continues")]]
    held.services.jobs.cancel(job.id, "user:anna", clock.now)
    look(held, alarm, clock, minutes=9)
    assert len(hook.told) == 2, "it may come back"
    look(held, alarm, clock, minutes=2)
    assert hook.told[2:] == [[(*WAITS, "over")]]
    assert held.services.alerts.list_alerts(open_only=True) == []
    look(held, alarm, clock, hours=48)
    assert len(hook.told) == 3


def test_what_was_missing_while_the_node_was_off_is_none_when_it_starts(
    watched: tuple[Held, Alarm], hook: Hook, clock: Clock
):
    held, alarm = watched
    alarm.tick()
    clock.go_on(minutes=5)
    alarm.tick()
    look(held, alarm, clock, seconds=30)
    look(held, alarm, clock, minutes=5)
    assert hook.told == []


def test_what_comes_and_goes_is_told_once(
    watched: tuple[Held, Alarm], hook: Hook, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    held, alarm = watched
    short = AlertKind.DISK_SHORT.finding("data folder", "short")
    for number in range(20):
        found = [short] if number % 2 else []
        monkeypatch.setattr("node.alarm.find_alerts", lambda *_, found=found: iter(found))
        look(held, alarm, clock, minutes=3)
    assert hook.told == [[("disk-short", "data folder", "begins")]]


def test_a_role_that_starts_is_not_missing(watched: tuple[Held, Alarm], hook: Hook, clock: Clock):
    held, alarm = watched
    alarm.tick()
    look(held, alarm, clock, minutes=1)
    look(held, alarm, clock, minutes=20)
    assert hook.told == []
    for _ in range(8):
        clock.go_on(seconds=30)
        alarm.tick()
    assert hook.told == [[("role-missing", role.value, "begins") for role in sorted(Role)]]


def test_many_at_once_are_one_message(
    hold: Callable[..., Held], mail_server: MailServer, hook: Hook, clock: Clock
):
    held = hold(
        peers=PEERS,
        receive={"min_free_bytes": 10**18},
        alerts={"mail": by_mail(mail_server), "webhook": {"url": hook.url}},
    )
    give_up(held)
    look(held, Alarm(held.services, "a"), clock)
    [told] = hook.told
    assert [kind for kind, _, _ in told] == ["delivery-given-up", "disk-low", "disk-short"]
    [mail] = mail_server.mails
    assert mail["Subject"].endswith("3 alerts: delivery-given-up, disk-low, disk-short")


def test_one_of_two_schedulers_tells(hold: Callable[..., Held], hook: Hook, clock: Clock):
    held = hold(alerts={"webhook": {"url": hook.url}}, receive={"min_free_bytes": 10**18})
    with open_services(held.services.settings) as other:
        alarms = [Alarm(held.services, "a"), Alarm(other, "b")]
        for _ in range(3):
            beat(held, clock.now)
            threads = [threading.Thread(target=alarm.tick) for alarm in alarms]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            clock.go_on(seconds=11)
    assert len(hook.told) == 1


def test_what_no_way_took_is_told_later(
    hold: Callable[..., Held], mail_server: MailServer, clock: Clock
):
    mail_server.stop()
    held = hold(alerts={"mail": by_mail(mail_server)}, receive={"min_free_bytes": 10**18})
    scheduler = Scheduler(held.services)
    alarm = scheduler._alarm
    look(held, alarm, clock)
    assert "Alerts by mail are not taken" in scheduler.describe_trouble()
    waiting = held.services.alerts.list_alerts(open_only=True)
    assert [one.told_at for one in waiting] == [None, None, None]
    mail_server.start()
    look(held, alarm, clock, seconds=30)
    assert mail_server.mails == [], "it is not tried all the time"
    look(held, alarm, clock, seconds=31)
    [mail] = mail_server.mails
    assert mail["Subject"].endswith("3 alerts: alerts-not-taken, disk-low, disk-short")
    assert "alerts-not-taken (mail) over, after 1 min." in mail.get_content()
    assert scheduler.describe_trouble() == ""
    for _ in range(3):
        look(held, alarm, clock, minutes=2)
    assert len(mail_server.mails) == 1


def test_a_way_that_fails_is_told_of_by_the_other_and_gets_what_it_missed(
    hold: Callable[..., Held], mail_server: MailServer, hook: Hook, clock: Clock
):
    mail_server.stop()
    held = hold(
        receive={"min_free_bytes": 0},
        alerts={"mail": by_mail(mail_server), "webhook": {"url": hook.url}},
    )
    job = held.queue()
    alarm = Alarm(held.services, "a")
    look(held, alarm, clock, minutes=31)
    look(held, alarm, clock, seconds=20)
    assert hook.told == [[(*WAITS, "begins")], [("alerts-not-taken", "mail", "begins")]]
    assert "Connection refused" in hook.posts[1]["alerts"][0]["message"]
    held.services.jobs.cancel(job.id, "user:anna", clock.now)
    look(held, alarm, clock, minutes=11)
    assert hook.told[2:] == [[(*WAITS, "over")]]
    mail_server.start()
    look(held, alarm, clock, minutes=2)
    look(held, alarm, clock, minutes=2)
    [mail] = mail_server.mails
    assert "queue-too-old (queue) over" in mail.get_content()
    assert hook.told[3:] == [[("alerts-not-taken", "mail", "over")]]


def test_a_database_that_is_gone_is_told_of_and_that_it_is_back(
    watched: tuple[Held, Alarm], hook: Hook, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    held, alarm = watched
    down = ("database-down", "job database")

    def fail(*_: object) -> None:
        raise DatabaseError("no route to host")

    with monkeypatch.context() as patch:
        patch.setattr(held.services.ticks, "claim", fail)
        for _ in range(10):
            with pytest.raises(DatabaseError):
                alarm.tick()
            clock.go_on(seconds=10)
    assert hook.told == [[(*down, "begins")]]
    look(held, alarm, clock)
    [record] = held.services.alerts.list_alerts()
    assert record.told_at == clock.now
    look(held, alarm, clock, minutes=11)
    assert hook.told[1:] == [[(*down, "over")]]


def test_no_message_has_patient_data(
    hold: Callable[..., Held], mail_server: MailServer, hook: Hook, clock: Clock
):
    held = hold(
        peers=PEERS,
        receive={"min_free_bytes": 10**18},
        alerts={"mail": by_mail(mail_server), "webhook": {"url": hook.url}},
    )
    clock.go_on(minutes=40)
    deliver_badly(held)
    alarm = Alarm(held.services, "a")
    look(held, alarm, clock)
    fail_delivery(held, give_up=True, now=clock.now)
    held.services.jobs.retry(1, "user:anna", clock.now)
    fail_delivery(held, give_up=True, now=clock.now)
    look(held, alarm, clock, minutes=1)
    told = {kind for post in hook.told for kind, _, _ in post}
    assert {"delivery-failing", "delivery-given-up"} <= told
    everything = json.dumps(hook.posts) + "".join(mail_server.texts) + str(mail_server.mails)
    for value in (*asdict(PATIENT).values(), held.series_uid, "Jane", "4711", "1.2.3.4"):
        assert value not in everything


@pytest.fixture
def watchman(hold: Callable[..., Held], hook: Hook, clock: Clock) -> tuple[Held, Watchman]:
    held = hold(alerts={"webhook": {"url": hook.url}}, receive={"min_free_bytes": 0})
    return held, Watchman(held.services.settings)


def test_a_worker_that_dies_again_and_again_is_one_alert_that_the_scheduler_tells(
    watchman: tuple[Held, Watchman], hook: Hook, clock: Clock
):
    held, supervisor = watchman
    for _ in range(3):
        supervisor.role_died("worker", -9)
    supervisor.close()
    assert hook.posts == []
    alarm = Alarm(held.services, "a")
    look(held, alarm, clock)
    look(held, alarm, clock, minutes=59)
    [post] = hook.posts
    [alert] = post["alerts"]
    assert alert["kind"] == "role-died"
    assert re.fullmatch(
        r"The role worker on \S+ died \(SIGKILL\) and is started again; 3 times in the last hour.",
        alert["message"],
    )
    look(held, alarm, clock, minutes=2)
    assert hook.told[1][0][2] == "over"


def test_the_supervisor_tells_of_the_scheduler_and_of_its_own_end(
    watchman: tuple[Held, Watchman], hook: Hook, clock: Clock
):
    held, supervisor = watchman
    supervisor.role_died("scheduler", 1)
    supervisor.role_died("scheduler", 1)
    supervisor.node_stops("is being stopped")
    supervisor.close()
    assert [[kind for kind, _, _ in post] for post in hook.told] == [
        ["role-died"],
        ["node-stopped"],
    ]
    again = Watchman(held.services.settings)
    again.node_stops("is being stopped")
    again.close()
    assert len(hook.posts) == 2, "a node that is started again and again tells it once"
    alarm = Alarm(held.services, "a")
    look(held, alarm, clock)
    assert len(hook.posts) == 2, "the scheduler knows that it was told"
    look(held, alarm, clock, minutes=11)
    assert [kind for kind, _, _ in hook.told[2]] == ["node-stopped"]


def test_the_supervisor_tells_without_a_database(
    watchman: tuple[Held, Watchman], hook: Hook, clock: Clock
):
    held, supervisor = watchman
    held.services.database.close()
    (held.services.settings.data_dir / "hepar.db").write_bytes(b"damaged" * 1000)
    supervisor.role_died("worker", 1)
    supervisor.role_died("worker", 1)
    supervisor.node_stops("is being stopped")
    supervisor.close()
    assert [[kind for kind, _, _ in post] for post in hook.told] == [
        ["role-died"],
        ["node-stopped"],
    ]


def test_what_the_supervisor_could_not_send_is_told_when_the_node_runs_again(
    watchman: tuple[Held, Watchman], hook: Hook, clock: Clock
):
    held, supervisor = watchman
    hook.status = 500
    supervisor.node_stops("is being stopped")
    supervisor.close()
    hook.status = 200
    look(held, Alarm(held.services, "a"), clock)
    assert [kind for kind, _, _ in hook.told[0]] == ["node-stopped"]


def test_without_a_way_nothing_is_kept_or_sent(hold: Callable[..., Held]):
    held = hold()
    supervisor = Watchman(held.services.settings)
    supervisor.role_died("worker", 1)
    supervisor.node_stops("is being stopped")
    supervisor.close()
    assert held.services.alerts.list_alerts() == []
    assert not Teller(held.services.settings).tell([])


def test_each_kind_says_what_to_do():
    assert list(KINDS) == list(AlertKind)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "get-alerts.md"
    text = page.read_text(encoding="utf-8")
    for kind, known in KINDS.items():
        assert f"| `{kind}` | {known.meaning} |" in text


def test_settings_that_would_send_nothing_or_a_password_in_clear_are_refused():
    mail = {"host": "h", "sender": "a@b", "recipients": ["c@d"]}
    assert Settings(alerts={"mail": mail}).alerts.are_sent
    for wrong in (
        {"recipients": []},
        {"sender": "nobody"},
        {"sender": "a@b\nBcc: c@d"},
        {"user": "u"},
        {"user": "u", "password": "p", "security": "none"},
    ):
        with pytest.raises(ValueError, match=r"alerts\.mail"):
            Settings(alerts={"mail": mail | wrong})
    with pytest.raises(ValueError, match="https://host/path"):
        Settings(alerts={"webhook": {"url": "host/path"}})
