"""Is a phantom's result that lies wrong, has changed or cannot be read back judged so?"""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from doubles import Held
from pydicom import dcmread

from config import PeerTls, ProfileSettings, RuleAction, Settings
from config.results import ResultRole
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.results import write_results
from dicom_io.rules import Decision
from dicom_io.series import SourceSeries, read_series
from inference.findings import FULL_PROBABILITY, RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.phantom import LesionSettings, Phantom, PhantomSettings, make_phantom
from inference.phantom_marks import add_marks
from inference.volume import Volume
from node.clock import utc_now
from node.commission import (
    CommissionFailed,
    Run,
    Waiting,
    address_of_node,
    choose_caller,
    is_passed,
    own_address,
    run_phantom,
)
from node.commission_checks import judge
from node.errors import WrongCall
from node.health import Check, Verdict
from node.pipeline import make_context
from node.progress import no_progress
from node.returned import Returned, get_back
from storage.database import upgrade_database
from storage.records import Problem, ResultRecord

PHANTOM = PhantomSettings(
    seed=3,
    shape=(40, 128, 128),
    spacing_mm=(7.5, 2.75, 2.75),
    lesions=(LesionSettings(diameter_mm=45.0), LesionSettings(diameter_mm=32.0)),
)
FORMS = {
    "binary": ProfileSettings(objects=(ResultRole.SEG, ResultRole.SR)),
    "labelmap": ProfileSettings(segmentation="labelmap"),
    "fractional": ProfileSettings(segmentation="fractional", lesions="together"),
    "rt": ProfileSettings(objects=(ResultRole.RTSTRUCT,)),
}


MODEL = ModelIdentity(name="double", version="1", digest="d" * 64, license="for tests")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(PHANTOM)


@pytest.fixture(scope="module")
def source(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return read_series(write_ct_series(add_marks(phantom.volume), tmp_path_factory.mktemp("ct")))


def segmented(volume: Volume, labels: np.ndarray) -> Segmentation:
    return Segmentation(
        labels=volume.with_array(labels),
        model=MODEL,
        run=RunRecord(device="cpu", backend="double", precision="exact", timings_s={}),
        probabilities={
            label: volume.with_array(np.where(labels == label, FULL_PROBABILITY, 0).astype("u1"))
            for label in (Label.LIVER, Label.TUMOR)
        },
    )


@pytest.fixture
def make_run(tmp_path: Path, phantom: Phantom, source: SourceSeries) -> Callable[..., Run]:
    """Make the results of a profile, as an archive that changes nothing gives them back."""

    def make(form: ProfileSettings, misplace=lambda labels: labels, came_back: bool = True) -> Run:
        settings = Settings(
            profiles={"tried": form},
            peers={
                "archive": {
                    "ae_title": "ARCHIVE",
                    "host": "127.0.0.1",
                    "roles": ["destination"],
                    "profile": "tried",
                }
            },
        )
        folder = tmp_path / "results"
        folder.mkdir()
        truth = phantom.labels.match_geometry(source.volume).array
        segmentation = segmented(source.volume, np.ascontiguousarray(misplace(truth)))
        findings = measure(source.volume, segmentation.labels)
        context = make_context(settings, utc_now())
        written = write_results(source, segmentation, findings, folder, context)
        results = [
            ResultRecord(
                id=number,
                job_id=1,
                role=file.role,
                path=str(file.path.relative_to(folder)),
                sop_class_uid=file.sop_class_uid,
                sop_instance_uid=file.sop_instance_uid,
                series_instance_uid=file.series_instance_uid,
            )
            for number, file in enumerate(written.files)
        ]
        known = came_back or None
        return Run(
            settings=settings,
            peer_name="archive",
            source=source,
            phantom=phantom,
            identity=CtIdentity(),
            series=None,
            job=None,
            delivery=SimpleNamespace(profile="tried"),
            proof=None,
            returned=[
                Returned(
                    result=result,
                    sent=folder / result.path,
                    listed=known,
                    given=known,
                    came_back=folder / result.path if came_back else None,
                    problem="" if came_back else "it accepts none of the offered SOP classes",
                )
                for result in results
            ],
            seconds={},
            started_at=utc_now(),
        )

    return make


def bad(run: Run) -> list[Check]:
    return [check for check in judge(run).checks if check.verdict is Verdict.BAD]


@pytest.mark.parametrize("form", FORMS)
def test_what_lies_right_passes(make_run, form: str):
    judgement = judge(make_run(FORMS[form]))
    assert {check.verdict for check in judgement.checks} == {Verdict.GOOD}
    dice = [check for check in judgement.checks if "Dice of the liver" in check.name]
    assert [check.detail for check in dice] == ["1.000"]
    assert judgement.findings is not None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["head and feet", "front and back", "sides"])
def test_what_is_flipped_fails(make_run, form: str, axis: int):
    found = bad(make_run(FORMS[form], lambda labels: np.flip(labels, axis)))
    assert any(check.name.startswith("alignment: Dice of the liver") for check in found)


@pytest.mark.parametrize("form", ["binary", "rt"])
@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 2, 0), (0, 0, -2)])
def test_what_is_shifted_by_a_slice_or_two_pixels_fails(make_run, form: str, shift: tuple):
    found = bad(make_run(FORMS[form], lambda labels: np.roll(labels, shift, (0, 1, 2))))
    centers = [check for check in found if "center of the lesion" in check.name]
    assert len(centers) == 2
    assert centers[0].limit == "at most 3 mm"


def test_positions_that_an_archive_has_moved_fail(make_run):
    run = make_run(FORMS["binary"])
    [seg] = [one for one in run.returned if one.result.role == "seg"]
    moved = dcmread(seg.path)
    for frame in moved.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [
            place.ImagePositionPatient[0] + 4,
            *place.ImagePositionPatient[1:],
        ]
    moved.save_as(seg.path)
    [check] = [check for check in bad(run) if "SEG" in check.name]
    assert "does not lie on the grid" in check.detail


def test_pictures_alone_must_be_looked_at(make_run):
    judgement = judge(make_run(ProfileSettings(objects=(ResultRole.OVERLAY,))))
    [check] = [check for check in judgement.checks if check.name == "alignment"]
    assert check.verdict is Verdict.REMARK
    assert "a person must look" in check.detail
    assert is_passed(judgement.checks)


def test_an_archive_that_cannot_be_asked_is_judged_by_its_answers(make_run):
    judgement = judge(make_run(FORMS["binary"], came_back=False))
    found = {check.name: check for check in judgement.checks}
    assert found["given back by the archive"].verdict is Verdict.REMARK
    assert "only its answers to the delivery count" in found["given back by the archive"].detail
    assert found["alignment: Dice of the liver, SEG as sent"].verdict is Verdict.GOOD


def test_an_archive_that_cannot_be_reached_says_why(tmp_path: Path, free_port, make_run):
    run = make_run(FORMS["binary"])
    peer = run.peer.model_copy(update={"port": free_port()})
    services = SimpleNamespace(
        settings=SimpleNamespace(node=run.settings.node, destinations={"archive": peer}),
        files=SimpleNamespace(result_folder=lambda _: tmp_path / "results"),
        jobs=SimpleNamespace(results=lambda *_: [one.result for one in run.returned]),
    )
    job = SimpleNamespace(id=1, study_uid=run.source.study_instance_uid)
    for one in get_back(services, "archive", job, "tried", tmp_path / "returned"):
        assert (one.listed, one.given, one.came_back) == (None, None, None)
        assert "cannot be reached" in one.problem


def peers(**sources) -> Settings:
    return Settings(
        peers={
            name: {"ae_title": name.upper(), "roles": ["source"], **more}
            for name, more in sources.items()
        }
    )


def test_the_phantom_calls_as_a_source_that_may_call_from_here():
    settings = peers(scanner={"host": "192.0.2.1"}, local={"host": "127.0.0.1"})
    assert own_address(address_of_node(settings.node)) == "127.0.0.1"
    assert choose_caller(settings, "127.0.0.1").ae_title == "LOCAL"
    assert choose_caller(settings, "192.0.2.1").ae_title == "SCANNER"


def test_without_such_a_source_it_says_what_to_add():
    with pytest.raises(WrongCall, match=r'ae_title = "COMMISSIONING"\nhost = "127.0.0.1"'):
        choose_caller(peers(scanner={"host": "192.0.2.1"}), "127.0.0.1")


def test_the_receiver_is_called_where_it_listens(tmp_path: Path):
    everywhere = address_of_node(Settings(node={"host": "0.0.0.0"}).node)
    assert (everywhere.host, everywhere.port, everywhere.tls) == ("127.0.0.1", 11112, PeerTls.OFF)
    files = dict.fromkeys(("certificate", "key", "authorities"), tmp_path)
    secret = address_of_node(Settings(node={"tls": {"only": True, "port": 2763, **files}}).node)
    assert (secret.port, secret.tls) == (2763, PeerTls.ANY_NAME)


def attempt(settings: Settings, folder: Path, to: str = "archive") -> None:
    run_phantom(settings, to, folder, with_ct=False, timeout_s=1, progress=no_progress)


def test_only_a_running_node_is_commissioned(tmp_path: Path):
    settings = Settings(
        data_dir=tmp_path / "data",
        peers={
            "archive": {
                "ae_title": "ARCHIVE",
                "host": "127.0.0.1",
                "roles": ["source", "destination"],
            }
        },
    )
    upgrade_database(settings.database_url)
    with pytest.raises(CommissionFailed, match=r"role receiver: not running; `hepar serve` starts"):
        attempt(settings, tmp_path)
    with pytest.raises(
        WrongCall, match="'pacs' is no destination of the settings; there are: arch"
    ):
        attempt(settings, tmp_path, to="pacs")


def wait(held: Held) -> None:
    waiting = Waiting(held.services, "archive", time.monotonic() + 0.5, no_progress)
    waiting.for_delivery(held.series_uid)


def test_a_series_that_a_rule_skips_is_told_with_the_rule(hold: Callable[..., Held]):
    held = hold()
    catalog = held.services.catalog
    series = catalog.get_series(held.series_uid)
    reason = "The slices are thick."
    decision = Decision(action=RuleAction.SKIP, rule="only thin slices", reason=reason)
    catalog.settle(series, decision, job=None, now=utc_now())
    with pytest.raises(CommissionFailed, match=r"rule 'only thin slices': The slices are thick\."):
        wait(held)


def test_a_job_that_has_failed_is_told_with_its_reason(hold: Callable[..., Held]):
    held = hold()
    job = held.queue()
    jobs = held.services.jobs
    jobs.claim("worker", 30, utc_now())
    jobs.fail_attempt(job.id, "worker", Problem("the device is gone"), 1, utc_now())
    with pytest.raises(CommissionFailed, match=f"Job {job.id} is FAILED: .*the device is gone"):
        wait(held)


def test_what_does_not_come_in_time_is_told(hold: Callable[..., Held]):
    held = hold()
    job = held.queue()
    with pytest.raises(CommissionFailed, match=f"No result in time: job {job.id} is QUEUED"):
        wait(held)
