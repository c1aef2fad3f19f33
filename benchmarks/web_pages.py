"""The pages over a hundred thousand jobs: how long a browser waits for each.

    python -m benchmarks.web_pages [--jobs 100000] [--rounds 15]

The database is that of `benchmarks.job_search`, in SQLite. Each page is fetched over HTTP by a
user who is logged in, whole, with its lines of the audit trail; client and server share a process,
so that both take their time from it.
"""

import argparse
import re
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.job_search import END, fill
from config import Settings
from node.clock import utc_now
from node.services import Services, open_services
from node.web.passwords import hash_password
from node.web.server import WebServer
from storage.database import upgrade_database
from storage.job_query import JobQuery
from storage.states import UserRole

NAME, PASSWORD = "anna", "correct horse battery"
MONTH = "since=2025-09-27&until=2025-10-26"
PEERS = {
    "ct1": {"ae_title": "CT1", "host": "127.0.0.1", "roles": ["source"]},
    "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "roles": ["destination"]},
}
Fetch = Callable[[], httpx.Response]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder), options.jobs) as services:
        client = httpx.Client(
            base_url=services.settings.web.address, follow_redirects=True, timeout=60
        )
        with client:
            _log_in(client)
            print(f"| page, {options.jobs:,} jobs | median ms | longest ms | kB |")
            print("|---|---|---|---|")
            for what, fetch in _list_pages(client, services, options.jobs).items():
                times, size = _time(fetch, options.rounds)
                median, longest = statistics.median(times), max(times)
                print(f"| {what} | {median:.0f} | {longest:.0f} | {size / 1e3:.0f} |")


@contextmanager
def _serving(folder: Path, count: int) -> Iterator[Services]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(data_dir=folder, web={"port": port}, peers=PEERS)
    upgrade_database(settings.database_url)
    with open_services(settings) as services:
        fill(services.database, count)
        services.users.add(NAME, UserRole.OPERATOR, hash_password(PASSWORD, NAME), utc_now())
        server = WebServer(services)
        server.start()
        try:
            yield services
        finally:
            server.stop()


def _log_in(client: httpx.Client) -> None:
    page = client.get("/login").text
    _post(client, page, "/login", name=NAME, password=PASSWORD)


def _post(client: httpx.Client, page: str, path: str, **fields: str) -> httpx.Response:
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    token = found[1] if found else ""
    return client.post(path, data={"form_token": token} | fields)


def _list_pages(client: httpx.Client, services: Services, count: int) -> dict[str, Fetch]:
    middle = count // 2
    some = services.jobs.search(JobQuery(after=middle, limit=1)).hits[0]
    day = f"{END:%Y-%m-%d}"
    addresses = {
        "Now": "/",
        "Now, what it renews itself by": "/now/live",
        "Jobs: first page": "/jobs",
        "Jobs: a page in the middle": f"/jobs?after={middle}",
        "Jobs: last page": "/jobs?end=true",
        "sorted by state": "/jobs?sort=state",
        "sorted by the last change, in the middle": f"/jobs?sort=updated&after={middle}",
        "sorted by patient, last page": "/jobs?sort=patient-id&end=true",
        "CONFIRMED, 7 of 10": "/jobs?state=CONFIRMED",
        "FAILED or REJECTED, 1 of 10": "/jobs?state=FAILED&state=REJECTED",
        "from a scanner, 1 of 2": "/jobs?source=CT1",
        "from a scanner, 1 of 20": "/jobs?source=PACS",
        "to an archive, nearly all": "/jobs?to=archive",
        "to an archive, 1 of 20": "/jobs?to=research",
        "by a rule, 6 of 10": "/jobs?rule=abdomen",
        "by a rule, 1 of 100": "/jobs?rule=research",
        "of 30 days": f"/jobs?{MONTH}",
        "until a day, all": f"/jobs?until={day}",
        "a study UID": f"/jobs?study={some.job.study_uid}",
        "a series UID": f"/jobs?series={some.job.series_uid}",
        "CONFIRMED, by a rule, from a scanner": "/jobs?state=CONFIRMED&rule=abdomen&source=CT1",
    }
    searches = {
        "a patient ID": {"patient": some.series.patient_id},
        "patient IDs that begin alike, 1 of 10": {"patient": "PID000"},
        "a family name, 1 of 8": {"name": "Müller"},
        "an accession number": {"accession": some.series.accession_number},
        "free text: a patient ID": {"text": some.series.patient_id},
        "free text: nothing that there is": {"text": "nothing"},
    }
    form = client.get("/jobs").text
    for what, terms in searches.items():
        # The page that the form leads to.
        addresses[what] = _post(client, form, "/jobs/search", **terms).url.raw_path.decode()
    return {what: _getting(client, address) for what, address in addresses.items()}


def _getting(client: httpx.Client, address: str) -> Fetch:
    return lambda: client.get(address).raise_for_status()


def _time(fetch: Fetch, rounds: int) -> tuple[list[float], int]:
    times, size = [], 0
    for _ in range(rounds):
        begin = time.perf_counter()
        size = len(fetch().content)
        times.append((time.perf_counter() - begin) * 1e3)
    return times, size


if __name__ == "__main__":
    main()
