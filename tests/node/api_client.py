"""A node with jobs of many kinds, and programs that call its API."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from browsing import add_user
from doubles import BoxSegmenter, Held

from config import RuleAction
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.description import describe
from dicom_io.headers import read_attributes, read_header
from dicom_io.rules import Decision
from inference.phantom import PhantomSettings, make_phantom
from node.clock import utc_now
from node.services import Services
from node.web.access import digest_of
from node.worker import Worker
from storage.records import NewJob, Problem
from storage.states import AccessKind, FailureCode, UserRole

PEERS = {
    "archive": {
        "ae_title": "ARCHIVE",
        "host": "127.0.0.1",
        "port": 1,
        "roles": ["source", "destination"],
    },
    "away": {"ae_title": "AWAY", "host": "127.0.0.1", "port": 1},
}
DELIVERED, FAILED, RUNNING = 1, 2, 3
PATIENT_ID = "HEPAR-PHANTOM-0"
"""Of the delivered job."""


class Program:
    """Calls the API with a token of its own."""

    def __init__(self, services: Services, name: str, role: UserRole) -> None:
        add_user(services, name, role)
        now = utc_now()
        services.users.grant(
            name,
            AccessKind.TOKEN,
            digest_of(f"secret of {name}"),
            label="test",
            now=now,
            expires_at=now + timedelta(days=1),
        )
        self.address = f"{services.settings.web.address}/api/v1"
        self.headers = {"Authorization": f"Bearer secret of {name}"}

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self.address}{path}"
        return httpx.request(method, url, headers=self.headers, timeout=60, **options)

    def get(self, path: str, **options: Any) -> Any:
        answer = self.call("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


def fill(held: Held, folder: Path) -> Held:
    """Bring a node a delivered, a failed and a running job, of a series each; return it."""
    services = held.services
    jobs, deliveries = services.jobs, services.deliveries
    _queue(held)
    Worker(services, BoxSegmenter(), threading.Event()).work_once()
    delivery = deliveries.claim_due("sender", destination="archive", lease_s=60.0, now=utc_now())
    assert delivery is not None
    deliveries.delivered(delivery.id, "sender", utc_now())
    _queue(_receive_another(held, folder, seed=FAILED))
    jobs.claim("worker", 600.0, utc_now())
    problem = Problem("no luck", FailureCode.ATTEMPTS_USED_UP, lasts=True)
    jobs.fail_attempt(FAILED, "worker", problem, 1, utc_now())
    _queue(_receive_another(held, folder, seed=RUNNING))
    jobs.claim("worker", 600.0, utc_now())
    return held


def _queue(held: Held) -> None:
    catalog = held.services.catalog
    catalog.settle(
        catalog.get_series(held.series_uid),
        Decision(action=RuleAction.PROCESS, rule="test", reason="for a test"),
        job=NewJob(model_name="double", model_version="1", model_digest="d" * 64),
        now=utc_now() + timedelta(milliseconds=1),
        described=describe(read_attributes(held.paths[0])),
    )


def _receive_another(held: Held, folder: Path, seed: int) -> Held:
    settings = PhantomSettings(
        seed=seed, shape=(4, 16, 16), spacing_mm=(30.0, 24.0, 24.0), lesions=()
    )
    volume, identity = make_phantom(settings).volume, CtIdentity.from_seed(seed)
    paths = write_ct_series(volume, folder / str(seed), identity=identity)
    series_uid = read_header(paths[0]).series_instance_uid
    another = replace(held, paths=paths, series_uid=series_uid)
    for path in paths:
        another.receive(path)
    return another
