"""What `benchmarks.soak` notices: its judge on a series of two jobs, without processes."""

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from doubles import BoxSegmenter, Held
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from benchmarks.instances import renew_uids
from benchmarks.soaking.judge import Judge
from benchmarks.soaking.material import Case, Outcome, Template
from config import Settings
from dicom_io.ct import write_ct_series
from dicom_io.errors import RejectionReason
from inference.phantom import PhantomSettings, make_phantom
from node.clock import utc_now
from node.services import open_services
from node.worker import Worker
from storage.database import upgrade_database
from storage.states import JobState

ARCHIVE = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "roles": ["destination"]}
PHANTOM = PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
LATE = 2
FILES = ("seg.dcm", "sr.dcm", "summary.dcm")


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """A series whose last slices came when its first results were in the archive."""

    held: Held
    case: Case
    archive: list[Dataset]
    """The files of the older job, then those of the newer one."""

    def problems(self, archive: list[Dataset] | None = None, case: Case | None = None) -> list[str]:
        judge = Judge(self.held.services, self.archive if archive is None else archive)
        return judge.judge([case or self.case]).problems

    def process(self) -> None:
        services = self.held.services
        self.held.queue()
        Worker(services, BoxSegmenter(), threading.Event()).work_once()
        delivery = services.deliveries.claim_due(
            "test", destination="archive", lease_s=30, now=utc_now()
        )
        results = services.files.result_folder(delivery.job_id)
        self.archive.extend(dcmread(results / name) for name in FILES)
        services.deliveries.delivered(delivery.id, "test", now=utc_now())


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soaked]:
    folder = tmp_path_factory.mktemp("soak")
    paths = write_ct_series(make_phantom(PHANTOM).volume, folder / "ct")
    slices = renew_uids([dcmread(path) for path in paths])
    for path, instance in zip(paths, slices, strict=True):
        instance.save_as(path)
    template = Template(
        kind="phantom", name="small", slices=slices, outcome=Outcome(state=JobState.DELIVERED)
    )
    series_uid = str(slices[0].SeriesInstanceUID)
    settings = Settings(data_dir=folder / "data", peers={"archive": ARCHIVE})
    settings.data_dir.mkdir()
    upgrade_database(settings.database_url)
    with open_services(settings) as services:
        held = Held(services=services, series_uid=series_uid, paths=paths)
        case = Case(template=template, series_uid=series_uid, paths=paths)
        soaked = Soaked(held=held, case=case, archive=[])
        for some in (paths[:-LATE], paths[-LATE:]):
            for path in some:
                held.receive(path)
            soaked.process()
        yield soaked


def test_what_is_right_is_right(soaked: Soaked):
    verdict = Judge(soaked.held.services, soaked.archive).judge([soaked.case])
    assert verdict.problems == []
    assert verdict.outcomes == {"DELIVERED": 1}
    assert (verdict.jobs, verdict.superseded, verdict.instances) == (2, 1, 12)
    assert (verdict.results, verdict.older_results) == (3, 3)


def lose(archive: list[Dataset]) -> None:
    del archive[-1]


def store_twice(archive: list[Dataset]) -> None:
    archive.append(archive[0])


def store_under_another_identity(archive: list[Dataset]) -> None:
    archive.append(copy.deepcopy(archive[-1]))
    archive[-1].SOPInstanceUID = generate_uid()


def change(archive: list[Dataset]) -> None:
    archive[-3] = copy.deepcopy(archive[-3])
    archive[-3].SeriesDescription = "changed"


def refer_to_less(archive: list[Dataset]) -> None:
    archive[-3] = copy.deepcopy(archive[-3])
    del archive[-3].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lose, "is not in the archive"),
        (store_twice, "2 times"),
        (store_under_another_identity, "which nothing explains"),
        (change, "differs in Series Description"),
        (refer_to_less, "does not reference the instances"),
    ],
)
def test_an_archive_that_is_not_right_is_noticed(
    soaked: Soaked, tamper: Callable[[list[Dataset]], None], words: str
):
    archive = list(soaked.archive)
    tamper(archive)
    assert any(words in problem for problem in soaked.problems(archive))


def test_a_changed_file_is_noticed(soaked: Soaked):
    [first, *_] = soaked.held.services.catalog.instance_paths(soaked.case.series_uid)
    path: Path = soaked.held.services.files.absolute(first)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    [problem] = soaked.problems()
    path.write_bytes(content)
    assert "1 instances are lost or changed on the disk" in problem


def test_another_state_is_noticed(soaked: Soaked):
    rejected = Outcome(state=JobState.REJECTED, code=RejectionReason.MISSING_SLICE.value)
    case = replace(soaked.case, template=replace(soaked.case.template, outcome=rejected))
    [problem] = soaked.problems(case=case)
    assert "is DELIVERED, not REJECTED MISSING_SLICE" in problem
