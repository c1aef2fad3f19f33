"""Several threads and processes on one SQLite file, each with connections of its own."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from storage.database import open_database
from storage.errors import StorageError
from storage.jobs import Jobs
from storage.states import AddOutcome, JobState


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Call from so many threads at the same moment and give what they returned."""
    barrier = threading.Barrier(count)
    returned: list[Any] = []

    def run(number: int) -> None:
        barrier.wait()
        returned.append(call(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(returned) == count
    return returned


def queue(node: Any, count: int) -> None:
    for number in range(count):
        node.queued(f"1.2.{number + 1}")


def test_threads_claim_each_job_once(node: Any, moment: Any) -> None:
    queue(node, 40)

    def work(number: int) -> list[int]:
        claimed = []
        with open_database(node.url) as database:
            while job := Jobs(database).claim(f"w{number}", 30, moment(20)):
                claimed.append(job.id)
        return claimed

    claimed = [job_id for ids in at_once(8, work) for job_id in ids]
    assert sorted(claimed) == list(range(1, 41))
    assert node.jobs.count_by_state() == {JobState.RUNNING: 40}
    assert {job.attempts for job in node.jobs.list_jobs()} == {1}


CLAIM_ALL = """
import sys
from datetime import UTC, datetime
from storage.database import open_database
from storage.jobs import Jobs

with open_database(sys.argv[1]) as database:
    while job := Jobs(database).claim(sys.argv[2], 30, datetime.now(UTC)):
        print(job.id)
"""


def test_processes_claim_each_job_once(node: Any) -> None:
    queue(node, 20)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, node.url, f"w{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(int(line) for line in "".join(outputs).split()) == list(range(1, 21))


def test_the_same_instance_from_two_associations_is_added_once(node: Any, other_node: Any) -> None:
    nodes = (node, other_node)
    for number in range(1, 11):
        outcomes = at_once(4, lambda i, number=number: nodes[i % 2].receive(number))
        assert Counter(outcomes) == {AddOutcome.ADDED: 1, AddOutcome.DUPLICATE: 3}
    assert node.catalog.get_series("1.2.3.4").instance_count == 10


def test_other_bytes_from_two_associations_are_one_instance_and_one_conflict(
    node: Any, other_node: Any
) -> None:
    nodes = (node, other_node)
    for number in range(1, 6):
        outcomes = at_once(
            2, lambda i, number=number: nodes[i].receive(number, sha256=f"sha-{number}-{i}")
        )
        assert Counter(outcomes) == {AddOutcome.ADDED: 1, AddOutcome.CONFLICT: 1}
    assert node.catalog.get_series("1.2.3.4").instance_count == 5


def test_many_instances_at_once_are_all_counted(node: Any, other_node: Any) -> None:
    nodes = (node, other_node)
    at_once(8, lambda i: [nodes[i % 2].receive(10 * i + number) for number in range(5)])
    assert node.catalog.get_series("1.2.3.4").instance_count == 40
    assert len(node.catalog.instance_paths("1.2.3.4")) == 40


def test_two_schedulers_make_one_job(node: Any, other_node: Any) -> None:
    nodes = (node, other_node)
    for number in range(1, 6):
        uid = f"1.2.{number}"
        node.receive(series_uid=uid)
        series = node.catalog.get_series(uid)
        jobs = at_once(2, lambda i, series=series: nodes[i].settle_as_seen(series))
        assert len([job for job in jobs if job is not None]) == 1
    assert len(node.jobs.list_jobs()) == 5


def test_an_instance_that_arrives_while_we_settle_is_never_missed(
    node: Any, other_node: Any
) -> None:
    for number in range(1, 9):
        uid = f"1.2.{number}"
        node.receive(1, uid)
        series = node.catalog.get_series(uid)
        at_once(
            2,
            lambda i, uid=uid, series=series: (
                other_node.receive(2, uid, second=5) if i else node.settle_as_seen(series)
            ),
        )
        # Whoever came first, the series waits for a decision about both instances.
        assert not node.catalog.get_series(uid).settled
        job = node.settle(uid)
        assert job is not None
        assert job.content_digest == node.catalog.content_digest(uid)
    assert node.jobs.count_by_state()[JobState.QUEUED] == 8


def test_two_senders_get_different_deliveries(node: Any, other_node: Any, moment: Any) -> None:
    queue(node, 10)
    while job := node.jobs.claim("w1", 30, moment(20)):
        node.produce(job.id)
    nodes = (node, other_node)

    def send(number: int) -> list[int]:
        sent = []
        while delivery := nodes[number].claim(owner=f"s{number}"):
            nodes[number].deliveries.delivered(delivery.id, f"s{number}", moment(45))
            sent.append(delivery.job_id)
        return sent

    sent = [job_id for ids in at_once(2, send) for job_id in ids]
    assert sorted(sent) == list(range(1, 11))
    assert node.jobs.count_by_state() == {JobState.DELIVERED: 10}
    for job_id in range(1, 11):
        assert [d.attempts for d in node.deliveries.list_deliveries(job_id)] == [1]


def test_cancel_while_a_worker_finishes_ends_in_one_of_both(
    node: Any, other_node: Any, moment: Any
) -> None:
    for number in range(1, 6):
        node.running(f"1.2.{number}")

        def end(i: int, job_id: int = number) -> None:
            with suppress(StorageError):
                if i:
                    other_node.jobs.cancel(job_id, "admin", moment(30))
                else:
                    node.produce(job_id)

        at_once(2, end)
        # Canceled before or after it was produced: either way nothing is left to deliver.
        assert node.jobs.get(number).state is JobState.CANCELED
        assert node.claim() is None
        states = [event.to_state.value for event in node.jobs.events(number)]
        assert states in (
            ["QUEUED", "RUNNING", "CANCELED"],
            ["QUEUED", "RUNNING", "PRODUCED", "CANCELED"],
        )
