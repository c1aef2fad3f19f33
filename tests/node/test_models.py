"""Which models a node has, and that a job gets the one that it was made for."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import pytest
from doubles import BoxSegmenter, Held, write_package
from pydicom import dcmread

from config.inference import InferenceSettings
from inference.errors import ModelPackageError
from inference.findings import Segmentation
from inference.identity import find_settings, identify
from inference.manifest import ModelPackage, find_package
from inference.volume import Volume
from node import loaded_models, models
from node.clock import utc_now
from node.errors import ModelRefused
from node.models import (
    ModelOrigin,
    add_model,
    located,
    remove_model,
    reprocess,
    survey_models,
)
from node.worker import Worker
from storage.errors import DiskShort, ModelInUse
from storage.states import JobState

SHIPPED = "hepar-liver-ct"
PEER = {"ae_title": "ONE", "host": "127.0.0.1", "roles": ["destination"]}


class Loaded(BoxSegmenter):
    """A box, with the papers of what the settings name."""

    def __init__(self, settings: InferenceSettings) -> None:
        self.identity = identify(settings)
        self.is_warm = False

    def warm_up(self) -> None:
        self.is_warm = True

    def segment(self, volume: Volume, progress: Callable[[str, float], None]) -> Segmentation:
        assert self.is_warm
        return replace(super().segment(volume, progress), model=self.identity)


class Loader:
    """Stands for `load_segmenter`, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.alive: WeakSet[Loaded] = WeakSet()

    def load(self, settings: InferenceSettings, *, keeps_probabilities: bool) -> Loaded:
        del keeps_probabilities
        segmenter = Loaded(settings)
        self.loaded.append(segmenter.identity.name)
        self.alive.add(segmenter)
        return segmenter

    @property
    def held(self) -> list[str]:
        """Names of what is in memory."""
        return [segmenter.identity.name for segmenter in self.alive]


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    stand_in = Loader()
    monkeypatch.setattr(loaded_models, "load_segmenter", stand_in.load)
    return stand_in


def folder_of(held: Held) -> Path:
    return held.services.settings.model_folders[0]


def add(held: Held, tmp_path: Path, **papers: str) -> ModelPackage:
    source = tmp_path / "-".join(papers.values())
    write_package(source, **papers)
    return add_model(held.services, source)


def with_model(held: Held, model: str) -> Held:
    settings = held.services.settings
    inference = settings.inference.model_copy(update={"model": model})
    changed = settings.model_copy(update={"inference": inference})
    return replace(held, services=replace(held.services, settings=changed))


def test_an_added_model_is_found_by_name(hold, tmp_path: Path):
    held = hold()
    source = write_package(tmp_path / "mine", name="mine", version="1.0.0")
    (source.folder / "notes.txt").write_text("not a part of it")
    package = add_model(held.services, source.folder)
    assert package.folder == folder_of(held) / "mine@1.0.0"
    assert package.identity == source.identity
    assert not (package.folder / "notes.txt").exists()
    for reference in ("mine", "mine@1.0.0", str(package.folder)):
        assert find_package(reference, (folder_of(held),)) == package
    settings = with_model(held, "mine").services.settings
    assert identify(located(settings)) == source.identity
    assert add_model(held.services, source.folder) == package, "once more changes nothing"
    assert not list((held.services.files.data_dir / "spool").iterdir())


def test_the_list_says_where_models_come_from_and_which_is_used(hold, tmp_path: Path):
    held = hold()
    add(held, tmp_path, name="mine", version="1.0.0")
    path = write_package(tmp_path / "elsewhere", name="far").folder
    damaged = folder_of(held) / "damaged"
    damaged.mkdir()
    (damaged / "manifest.toml").write_text("nonsense")
    found = survey_models(with_model(held, str(path)).services.settings)
    assert [(m.package.manifest.name, m.origin, m.in_use) for m in found.usable] == [
        (SHIPPED, ModelOrigin.SHIPPED, False),
        ("mine", ModelOrigin.ADDED, False),
        ("far", ModelOrigin.SETTINGS, True),
    ]
    [problem] = found.problems
    assert str(damaged) in problem
    [missing, _] = survey_models(with_model(held, "gone").services.settings).problems
    assert "inference.model: there is no model package 'gone'; known ones: hepar" in missing


def test_another_version_lies_beside_and_other_content_is_refused(hold, tmp_path: Path):
    held = hold()
    add(held, tmp_path, name="mine", version="1.0.0")
    with pytest.raises(ModelRefused, match=r"another mine@1\.0\.0.*another version"):
        add(held, tmp_path, name="mine", version="1.0.0", description="Changed.")
    second = add(held, tmp_path, name="mine", version="1.1.0")
    assert find_package("mine@1.1.0", (folder_of(held),)) == second
    with pytest.raises(ModelPackageError, match=r"'mine' is mine@1\.0\.0 or mine@1\.1\.0"):
        find_package("mine", (folder_of(held),))


def test_the_name_in_the_settings_never_becomes_another_model(hold, tmp_path: Path):
    held = with_model(hold(), "mine")
    add(held, tmp_path, name="mine", version="1.0.0")
    with pytest.raises(ModelRefused, match=r"make it 'mine@1\.0\.0' first"):
        add(held, tmp_path, name="mine", version="1.1.0")
    shipped = find_package(SHIPPED)
    add(held, tmp_path, name=SHIPPED, version="99.0.0")
    assert find_package(SHIPPED, (folder_of(held),)) == shipped
    assert find_package(f"{SHIPPED}@99.0.0", (folder_of(held),)).reference == f"{SHIPPED}@99.0.0"


def test_a_damaged_package_is_not_added(hold, tmp_path: Path):
    held = hold()
    package = write_package(tmp_path / "mine", name="mine")
    weights = package.folder / package.manifest.weight_files[0].file
    weights.write_bytes(b"other")
    with pytest.raises(ModelPackageError, match=str(weights)):
        add_model(held.services, package.folder)
    assert not folder_of(held).exists()


def test_two_that_add_at_once_do_not_mix(hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held = hold()
    other = write_package(tmp_path / "b", name="mine", version="1.0.0", description="Other.")
    first = add(held, tmp_path, name="mine", version="1.0.0")
    monkeypatch.setattr(models, "list_packages", lambda folders: [])
    with pytest.raises(ModelRefused, match="other content"):
        add_model(held.services, other.folder)
    assert find_package("mine", (folder_of(held),)) == first
    assert not list((held.services.files.data_dir / "spool").iterdir())


def test_a_full_disk_leaves_nothing(hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held = hold()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.files.shutil.copyfile", full)
    with pytest.raises(DiskShort):
        add(held, tmp_path, name="mine")
    assert not list((held.services.files.data_dir / "spool").iterdir())


def test_what_is_needed_is_not_removed(hold, tmp_path: Path):
    held = hold()
    used = add(held, tmp_path, name="used")
    wanted = add(held, tmp_path, name="wanted")
    job = held.queue(identify(InferenceSettings(model=str(wanted.folder))).digest)
    refusals = {
        SHIPPED: "no added model",
        "used": r"in use: inference\.model",
        "wanted": "1 jobs wait",
    }
    for reference, reason in refusals.items():
        with pytest.raises(ModelRefused, match=reason):
            remove_model(with_model(held, "used").services, reference)
    held.services.jobs.cancel(job.id, "test", utc_now())
    assert remove_model(held.services, "wanted").reference == wanted.reference
    assert [path.name for path in folder_of(held).iterdir()] == [used.reference]
    with pytest.raises(ModelPackageError, match="no model package 'wanted'"):
        remove_model(held.services, "wanted")


def test_the_present_methods_are_known_with_each_model(hold, tmp_path: Path):
    held = hold()
    mine = add(held, tmp_path, name="mine")
    present = held.services.settings.inference
    for changes in ({}, {"tumor_engine": "kmeans"}, {"candidate_filter": False}):
        settings = InferenceSettings.model_validate({"model": str(mine.folder), **changes})
        digest = identify(settings).digest
        found = find_settings(digest, present, held.services.settings.model_folders)
        assert found is not None
        assert identify(found).digest == digest
    elsewhere = {"tumor_engine": "kmeans", "clustering": {"clusters": 3}}
    digest = identify(InferenceSettings.model_validate(elsewhere)).digest
    assert find_settings(digest, present, held.services.settings.model_folders) is None


def test_a_series_is_processed_with_another_model(hold, tmp_path: Path, loader: Loader):
    held = hold(peers={"one": PEER})
    job, worker = held.queue(), Worker(held.services, BoxSegmenter(), threading.Event())
    worker.work_once()
    held.services.deliveries.claim_due("s", destination="one", lease_s=1, now=utc_now())
    add(held, tmp_path, name="mine", version="1.0.0")
    asked = reprocess(held.services, job.id, "mine", "user:anna")
    assert (asked.model_name, asked.model_version, asked.state) == (
        "mine",
        "1.0.0",
        JobState.QUEUED,
    )
    worker.work_once()
    jobs = held.services.jobs
    assert [one.state for one in jobs.list_jobs()] == [JobState.PRODUCED, JobState.SUPERSEDED]
    assert loader.loaded == ["mine"]
    old, new = (read_results(held, one) for one in (job.id, asked.id))
    [study] = new["sr"].PredecessorDocumentsSequence
    [named] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == old["sr"].SOPInstanceUID
    for role, before in old.items():
        assert new[role].SOPInstanceUID != before.SOPInstanceUID
        assert new[role].SeriesInstanceUID != before.SeriesInstanceUID
        assert new[role].SeriesDescription == f"{before.SeriesDescription} (mine 1.0.0)"
    events = [event.actor for event in jobs.events(asked.id)]
    assert events[:2] == ["user:anna", "user:anna"]


def read_results(held: Held, job_id: int) -> dict:
    folder = held.services.files.result_folder(job_id)
    return {one.role: dcmread(folder / one.path) for one in held.services.jobs.results(job_id)}


def test_a_rejected_series_is_reported_by_the_model_that_was_asked_for(
    hold, tmp_path: Path, loader: Loader
):
    held = hold(inference={"min_slices": 50})
    job = held.queue()
    add(held, tmp_path, name="mine", version="1.0.0")
    asked = reprocess(held.services, job.id, "mine", "user:anna")
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    assert held.services.jobs.get(asked.id).state is JobState.REJECTED
    assert read_results(held, asked.id)["sr"].ManufacturerModelName == "mine"


def test_jobs_of_before_a_change_of_the_settings_keep_their_model(
    hold, tmp_path: Path, loader: Loader
):
    held = hold()
    mine = add(held, tmp_path, name="mine", version="1.0.0")
    job = held.queue(mine.identity.digest)
    assert Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    assert held.services.jobs.get(job.id).state is JobState.DELIVERED
    seg = read_results(held, job.id)["seg"]
    [algorithm] = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "mine"
    assert "mine" not in seg.SeriesDescription, "nothing else lies beside it"
    assert loader.loaded == ["mine"]


def test_one_other_model_is_kept_at_most_and_not_for_ever(
    hold, tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
):
    held = hold()
    for name in ("second", "third"):
        add(held, tmp_path, name=name)
    job = held.queue()
    worker = Worker(held.services, BoxSegmenter(), threading.Event())
    for name in ("second", "third", "second"):
        reprocess(held.services, job.id, name, "test")
        assert worker.work_once()
        assert loader.held == [name]
    assert loader.loaded == ["second", "third", "second"]
    assert not worker.work_once()
    assert loader.held == ["second"]
    monkeypatch.setattr(loaded_models, "KEPT_S", -1.0)
    assert not worker.work_once()
    assert loader.held == []


def test_a_model_that_is_gone_fails_the_job_at_once_with_the_remedy(hold):
    held = hold()
    job = held.queue(model_digest="e" * 64)
    worker = Worker(held.services, BoxSegmenter(), threading.Event())
    assert worker.work_once()
    job = held.services.jobs.get(job.id)
    assert (job.state, job.reason_code, job.attempts) == (JobState.FAILED, "MODEL_MISSING", 1)
    for remedy in ("hepar model add", "hepar jobs retry 1", "hepar jobs reprocess 1"):
        assert remedy in job.reason
    assert not worker.work_once()


def test_what_jobs_cannot_get_is_not_asked_for(hold, tmp_path: Path):
    held = hold()
    job = held.queue(identify(InferenceSettings()).digest)
    foreign = write_package(tmp_path / "foreign", name="foreign").folder
    with pytest.raises(ModelRefused, match=f"hepar model add {foreign}"):
        reprocess(held.services, job.id, str(foreign), "test")
    with pytest.raises(ModelInUse):
        reprocess(held.services, job.id, None, "test")
    with pytest.raises(ModelPackageError, match="no model package 'nonsense'"):
        reprocess(held.services, job.id, "nonsense", "test")
