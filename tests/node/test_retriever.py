"""A real archive is asked for what is on the lists of people."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from doubles import WRITTEN as COUNT
from doubles import Held
from listening import Listening
from pydicom import dcmread

from benchmarks.peers import Orthanc
from config import Retrieval
from node import retriever as retriever_module
from node.errors import UnusableList, UnusableValue, WrongCall
from node.exchange import send_files
from node.pull import pull_study
from node.pull_orders import PullOrder, cancel_pull, order_pull, retry_pull
from node.retriever import Retriever
from node.services import open_services
from node.study_query import query_studies
from storage.records import RetrievalRecord
from storage.states import AuditEvent, RetrievalKey

pytestmark = pytest.mark.peer

ANY_PORT = 11112
"""Of the node, which the archive need not call."""
ACCESSION, PATIENT, STUDY = RetrievalKey


@dataclass(kw_only=True)
class Asking:
    """A node that asks an archive."""

    archive: Orthanc
    held: Held
    retriever: Retriever
    stop: threading.Event

    @property
    def services(self):
        return self.held.services

    def give(self, *series: list[Path]) -> None:
        settings = self.services.settings
        for paths in series:
            send_files(settings.node, settings.peers["pacs"], paths)

    def order(self, *values: str, key: RetrievalKey = ACCESSION, **more: object) -> str:
        order = PullOrder(peer="pacs", wanted=[(key, value) for value in values], **more)
        return order_pull(self.services, order, "user:anna").batch

    def work(self) -> None:
        """Tick often enough that each row has an attempt."""
        for _ in range(5):
            self.retriever.retrieve()

    def rows(self, batch: str) -> list[RetrievalRecord]:
        return self.services.retrievals.list_rows(batch)

    def states(self, batch: str) -> list[str]:
        return [row.state.value for row in self.rows(batch)]

    def series(self) -> set[str]:
        return {one.series_uid for one in self.services.catalog.list_series()}


def series_uid(paths: list[Path]) -> str:
    return str(dcmread(paths[0]).SeriesInstanceUID)


@pytest.fixture
def make_asking(
    request: pytest.FixtureRequest, hold: Callable[..., Held], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Asking]:
    def make(protocol: str = "dimse", *, here: int = 0, **pull: object) -> Asking:
        if protocol == "dimse":
            archive = request.getfixturevalue("orthanc")
            archive.know(ANY_PORT)
            peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.port}
        else:
            archive = request.getfixturevalue("web_archive")
            peer = {"url": archive.url, "user": "hepar", "password": "right"}
        held = hold(late=12 - here, peers={"pacs": peer}, pull={"first_retry_s": 1e-6, **pull})
        stop = threading.Event()
        retriever = Retriever(held.services, "pacs", "test", stop)
        return Asking(archive=archive, held=held, retriever=retriever, stop=stop)

    return make


@pytest.mark.parametrize("protocol", ["dimse", "dicomweb"])
def test_a_list_is_worked_off_row_by_row(make_asking, write, protocol: str):
    asking = make_asking(protocol)
    first, second = write(accession_number="A1"), write(accession_number="A2")
    other = write(accession_number="A10")
    asking.give(first, second, other)
    batch = asking.order("A1", "A2", "A3", "A1")
    asking.work()
    rows = asking.rows(batch)
    assert [row.state.value for row in rows] == ["DONE", "DONE", "NOT_FOUND"]
    assert [(row.offered, row.fetched) for row in rows] == [(COUNT, COUNT), (COUNT, COUNT), (0, 0)]
    assert rows[0].series_uids == [series_uid(first)]
    assert "lists no study under this accession number" in rows[2].last_error
    assert asking.series() == {series_uid(first), series_uid(second)}
    [entry] = asking.services.audit.list_entries([AuditEvent.ACTION])
    assert (entry.actor, entry.detail["batch"]) == ("user:anna", batch)


@pytest.mark.parametrize("protocol", ["dimse", "dicomweb"])
def test_a_query_says_what_the_archive_has_and_what_is_here(make_asking, write, protocol: str):
    asking = make_asking(protocol)
    paths = write(accession_number="A1", patient_id="P7", study_date="20260203")
    asking.give(paths)
    wanted = [(ACCESSION, "A1"), (PATIENT, "P7"), (ACCESSION, "B"), (ACCESSION, "*")]
    peer = asking.services.settings.peers["pacs"]
    by_accession, by_patient, nothing, refused = query_studies(
        asking.services, peer, wanted, actor="user:anna"
    )
    [found] = by_accession.studies
    assert found.listed.study_uid == str(dcmread(paths[0]).StudyInstanceUID)
    assert (found.listed.study_date, found.listed.description) == ("2026-02-03", "CT abdomen")
    assert (found.listed.patient_id, found.listed.patient_name) == ("P7", "Phantom, Hepar")
    assert (found.listed.accession_number, found.listed.modalities) == ("A1", ("CT",))
    assert (found.listed.series_count, found.listed.instance_count) == (1, COUNT)
    assert (found.here.instance_count, found.here.jobs) == (0, ())
    assert by_patient.studies == by_accession.studies
    assert (nothing.studies, nothing.error) == ((), "")
    assert "* and ? would match others too" in refused.error
    assert asking.series() == set(), "nothing is fetched"
    entries = asking.services.audit.list_entries([AuditEvent.QUERY_SENT])
    assert [entry.detail["query"].get("AccessionNumber") for entry in entries] == ["B", None, "A1"]
    assert {entry.actor for entry in entries} == {"user:anna"}
    assert [entry.patient_id for entry in entries] == ["", "P7", ""]


def test_a_query_tells_the_jobs_of_a_study(make_asking):
    asking = make_asking(here=12)
    asking.give(asking.held.paths)
    job = asking.held.queue()
    peer = asking.services.settings.peers["pacs"]
    [answer] = query_studies(asking.services, peer, [(ACCESSION, "HP0000")], actor="user:anna")
    assert answer.studies[0].here.instance_count == 12
    assert answer.studies[0].here.jobs == ((job.id, job.state),)


def test_a_query_is_bounded(make_asking):
    asking = make_asking(max_rows=2, query_timeout_s=1e-9)
    peer = asking.services.settings.peers["pacs"]
    [answer] = query_studies(asking.services, peer, [(ACCESSION, "A1")], actor="user:anna")
    assert answer.error.startswith("not asked: ")
    wanted = [(ACCESSION, value) for value in "ABC"]
    with pytest.raises(UnusableList, match=r"3 rows, and may have 1 to 2 \(pull\.max_rows\)"):
        query_studies(asking.services, peer, wanted, actor="user:anna")


def test_an_archive_that_is_down_answers_with_an_error_for_each(make_asking):
    asking = make_asking()
    asking.archive.stop()
    peer = asking.services.settings.peers["pacs"]
    answers = query_studies(
        asking.services, peer, [(ACCESSION, "A1"), (ACCESSION, "A2")], actor="user:anna"
    )
    assert all("cannot be reached" in answer.error for answer in answers)


def test_all_studies_of_a_number_are_fetched_and_no_similar_one(make_asking, write):
    asking = make_asking()
    two = [write(accession_number="a1"), write(accession_number="a1")]
    asking.give(*two, write(accession_number="A1"))
    batch = asking.order("a1")
    asking.work()
    [row] = asking.rows(batch)
    assert (row.offered, row.fetched) == (2 * COUNT, 2 * COUNT)
    assert set(row.series_uids) == asking.series() == {series_uid(one) for one in two}


def test_what_is_here_already_counts_and_is_not_fetched(make_asking, batches_of_one):
    asking = make_asking(here=9)
    asking.give(asking.held.paths)
    first = asking.order("HP0000")
    asking.work()
    again = asking.order("HP0000")
    asking.work()
    for batch in (first, again):
        [row] = asking.rows(batch)
        assert (row.state.value, row.offered, row.fetched) == ("DONE", 12, 12)
        assert row.series_uids == [asking.held.series_uid]
    assert len(batches_of_one) == 3


def test_a_patient_with_too_many_studies_is_not_fetched(make_asking, write):
    asking = make_asking(max_studies=1)
    asking.give(write(patient_id="P1"), write(patient_id="P1"), write(patient_id="P2"))
    batch = asking.order("P1", "P2", key=PATIENT)
    asking.work()
    assert asking.states(batch) == ["FAILED", "DONE"]
    assert "lists 2 studies with CT under this patient ID" in asking.rows(batch)[0].last_error


def test_wildcards_and_wrong_calls_order_nothing(make_asking):
    asking = make_asking(max_rows=2)
    for value in ("*", "", "A?", "A\\B"):
        with pytest.raises(UnusableValue):
            asking.order(value)
    with pytest.raises(UnusableList):
        asking.order()
    with pytest.raises(UnusableList, match=r"pull\.max_rows"):
        asking.order("A", "B", "C")
    with pytest.raises(WrongCall, match="needs 'source'"):
        asking.order("A", retrieval=Retrieval.MOVE)
    with pytest.raises(WrongCall, match="There is no peer 'x'"):
        order_pull(asking.services, PullOrder(peer="x", wanted=[(ACCESSION, "A")]), "user:anna")
    assert asking.services.retrievals.list_batches() == []


def test_an_archive_that_comes_back_is_asked_again(make_asking, write):
    asking = make_asking()
    asking.give(write(accession_number="A1"))
    asking.archive.stop()
    batch = asking.order("A1")
    asking.retriever.retrieve()
    [row] = asking.rows(batch)
    assert (row.state.value, row.attempts) == ("WAITING", 1)
    assert "cannot be reached" in row.last_error
    asking.archive.start()
    asking.archive.know(ANY_PORT)
    asking.work()
    [row] = asking.rows(batch)
    assert (row.state.value, row.attempts, row.last_error) == ("DONE", 2, "")


def test_an_archive_that_stays_away_is_given_up(make_asking, monkeypatch):
    asking = make_asking(give_up_h=1e-9)
    asking.archive.stop()
    batch = asking.order("A1")
    asking.work()
    [row] = asking.rows(batch)
    assert row.state.value == "FAILED"
    asking.archive.start()
    asking.archive.know(ANY_PORT)
    assert len(retry_pull(asking.services, batch, "user:ben")) == 1
    asking.work()
    assert asking.states(batch) == ["NOT_FOUND"]


@pytest.fixture
def batches_of_one(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Retrieve instance by instance; give what was retrieved."""
    from node import pull

    retrieved: list[object] = []
    before = pull._retrieve

    def retrieve(services, peer, key, retrieval):
        retrieved.append(key.SOPInstanceUID)
        before(services, peer, key, retrieval)

    monkeypatch.setattr(pull, "BATCH", 1)
    monkeypatch.setattr(pull, "_retrieve", retrieve)
    return retrieved


def after(count: int, retrieved: list[object], do: Callable[[], object], monkeypatch) -> None:
    """Do something, once, when so many instances have come."""
    steps = iter([do])

    def note(services, peer, study_uid, *, on_progress, **more):
        def on(here: int, of: int) -> None:
            if len(retrieved) == count:
                next(steps, lambda: None)()
            on_progress(here, of)

        return pull_study(services, peer, study_uid, on_progress=on, **more)

    monkeypatch.setattr(retriever_module, "pull_study", note)


def test_a_stop_breaks_off_and_the_next_start_goes_on(
    make_asking, write, batches_of_one, monkeypatch
):
    asking = make_asking()
    asking.give(write(accession_number="A1"))
    batch = asking.order("A1")
    with monkeypatch.context() as patch:
        after(2, batches_of_one, asking.stop.set, patch)
        asking.work()
    [row] = asking.rows(batch)
    assert (row.state.value, row.offered, row.fetched) == ("WAITING", COUNT, 2)
    asking.stop.clear()
    asking.work()
    [row] = asking.rows(batch)
    assert (row.state.value, row.fetched, row.attempts) == ("DONE", COUNT, 1)
    assert len(batches_of_one) == len(set(map(str, batches_of_one))) == COUNT


def test_a_killed_node_goes_on_where_it_was(make_asking, write, batches_of_one, monkeypatch):
    asking = make_asking()
    asking.give(write(accession_number="A1"))
    batch = asking.order("A1")

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    with monkeypatch.context() as patch:
        after(3, batches_of_one, die, patch)
        with pytest.raises(Killed):
            asking.retriever.retrieve()
    assert asking.states(batch) == ["RUNNING"]
    other = Retriever(open_services(asking.services.settings), "pacs", "b", asking.stop)
    other.retrieve()
    assert asking.states(batch) == ["RUNNING"], "its lease is not over"
    lease_s = asking.services.settings.queue.lease_s
    later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + lease_s + 1, UTC)
    monkeypatch.setattr(retriever_module, "utc_now", lambda: later)
    other.retrieve()
    [row] = asking.rows(batch)
    assert (row.state.value, row.fetched, row.owner) == ("DONE", COUNT, "b")
    assert len(batches_of_one) == len(set(map(str, batches_of_one))) == COUNT


def test_a_row_that_is_canceled_breaks_off(make_asking, write, batches_of_one, monkeypatch):
    asking = make_asking()
    asking.give(write(accession_number="A1"), write(accession_number="A2"))
    batch = asking.order("A1", "A2", "A3")
    [running, _, waiting] = asking.rows(batch)

    def cancel():
        for row in (running, waiting):
            cancel_pull(asking.services, batch, "user:ben", row.id)

    after(2, batches_of_one, cancel, monkeypatch)
    asking.work()
    assert asking.states(batch) == ["CANCELED", "DONE", "CANCELED"]
    assert len(batches_of_one) == 2 + COUNT
    entries = asking.services.audit.list_entries([AuditEvent.ACTION])
    assert [entry.detail["action"] for entry in entries] == ["cancel pull", "cancel pull", "pull"]


def test_night_rows_wait_for_the_night(make_asking, write, monkeypatch):
    asking = make_asking()
    asking.give(write(accession_number="A1"), write(accession_number="A2"))
    clock = [datetime(2026, 3, 1, 12).astimezone()]
    for module in ("retriever", "pull_orders"):
        monkeypatch.setattr(f"node.{module}.utc_now", lambda: clock[0].astimezone(UTC))
    batch = asking.order("A1", "A2", at_night=True)
    due = asking.rows(batch)[0].next_attempt_at.astimezone()
    assert (due.day, due.hour, due.minute) == (1, 22, 0)
    for hour, minute, state in [(12, 0, "WAITING"), (21, 59, "WAITING"), (22, 0, "DONE")]:
        clock[0] = clock[0].replace(hour=hour, minute=minute)
        asking.work()
        assert asking.states(batch) == [state, state]


def test_no_row_begins_after_the_night(make_asking, write, batches_of_one, monkeypatch):
    asking = make_asking()
    asking.give(write(accession_number="A1"), write(accession_number="A2"))
    clock = [datetime(2026, 3, 2, 5, 59).astimezone()]
    for module in ("retriever", "pull_orders"):
        monkeypatch.setattr(f"node.{module}.utc_now", lambda: clock[0].astimezone(UTC))
    batch = asking.order("A1", "A2", at_night=True)
    morning = clock[0].replace(hour=6, minute=0)
    with monkeypatch.context() as patch:
        after(2, batches_of_one, lambda: clock.__setitem__(0, morning), patch)
        asking.work()
    assert asking.states(batch) == ["DONE", "WAITING"], "what has begun is finished"
    clock[0] = morning.replace(hour=23)
    asking.work()
    assert asking.states(batch) == ["DONE", "DONE"]


def test_what_does_not_come_is_tried_again(make_asking, write, monkeypatch):
    from node import pull

    asking = make_asking()
    asking.give(write(accession_number="A1"))
    batch = asking.order("A1")
    with monkeypatch.context() as patch:
        patch.setattr(pull, "_retrieve", lambda *_: None)
        asking.retriever.retrieve()
    [row] = asking.rows(batch)
    assert (row.state.value, row.offered, row.fetched) == ("WAITING", COUNT, 0)
    assert row.last_error == f"{COUNT} of {COUNT} instances of a study did not come"
    asking.work()
    assert asking.states(batch) == ["DONE"]


@pytest.mark.parametrize("lie", ["AccessionNumber", "StudyInstanceUID"])
def test_an_archive_that_does_not_look_at_the_number_gives_nothing(
    make_asking, write, monkeypatch, lie: str
):
    from node import study_query

    asking = make_asking()
    asking.give(write(accession_number="A1"))
    batch = asking.order("A1")
    before = study_query.find

    def find(*arguments, **more):
        found = before(*arguments, **more)
        for match in found:
            setattr(match, lie, "")
        return found

    monkeypatch.setattr(study_query, "find", find)
    asking.work()
    assert asking.states(batch) == ["NOT_FOUND" if lie == "AccessionNumber" else "WAITING"]
    assert asking.series() == set()


def test_a_query_of_too_many_is_cut_short(make_asking, write, monkeypatch):
    asking = make_asking()
    monkeypatch.setattr("node.study_query.MAX_MATCHES", 1)
    asking.give(*(write(patient_id="P1") for _ in range(3)))
    batch = asking.order("P1", key=PATIENT)
    asking.work()
    assert asking.states(batch) == ["FAILED"]
    assert "it seems not to look at it" in asking.rows(batch)[0].last_error


def test_an_archive_is_asked_by_c_move(
    listen: Callable[..., Listening], orthanc: Orthanc, write: Callable[..., list[Path]]
):
    peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port, "roles": ["source"]}
    node = listen(peers={"pacs": peer})
    orthanc.know(node.port)
    paths = write(accession_number="A1")
    send_files(node.settings.node, node.settings.peers["pacs"], paths)
    services = open_services(node.settings)
    order = PullOrder(peer="pacs", wanted=[(ACCESSION, "A1")], retrieval=Retrieval.MOVE)
    batch = order_pull(services, order, "user:anna")
    Retriever(services, "pacs", "test", threading.Event()).retrieve()
    [row] = services.retrievals.list_rows(batch.batch)
    assert (row.state.value, row.fetched) == ("DONE", COUNT)
