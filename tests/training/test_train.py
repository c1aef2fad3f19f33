from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from dicom_io.nifti import write_nifti
from inference.volume import Volume
from training import train
from training.config import Experiment
from training.errors import DataSetError, ExperimentError
from training.train import (
    Trainer,
    build_sampler,
    learning_rate,
    load_network,
)


@pytest.fixture
def experiment(experiment_file: Path) -> Experiment:
    return Experiment.read(experiment_file)


@pytest.fixture
def trainer(experiment: Experiment, data_folder: Path, tmp_path: Path) -> Trainer:
    sampler = build_sampler(experiment, [data_folder], tmp_path / "phantoms")
    return Trainer(experiment, sampler, tmp_path / "run")


def test_a_run_goes_on_where_it_stopped(
    trainer: Trainer, experiment: Experiment, data_folder: Path, tmp_path: Path
) -> None:
    losses = [trainer.train_step() for _ in range(3)]
    assert set(losses[0]) == {"cross_entropy", "organ", "tumor"}
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)
    trainer.elapsed_s = 12.5
    trainer.save()
    sampler = build_sampler(experiment, [data_folder], tmp_path / "phantoms")
    again = Trainer(experiment, sampler, tmp_path / "run")
    assert (again.step, again.elapsed_s) == (3, 12.5)
    again.train_step()
    assert again.step == 4
    image = torch.zeros(1, 3, 32, 32)
    network = load_network(tmp_path / "run", experiment)
    assert network(image).shape == (1, 3, 32, 32)


def test_a_run_ends_with_its_time(trainer: Trainer, tmp_path: Path) -> None:
    trainer.elapsed_s = 299.9999
    trainer.run()
    assert trainer.step == 1
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_the_learning_rate_rises_and_falls(experiment: Experiment) -> None:
    start, top, end = (
        learning_rate(experiment, step, seconds)
        for step, seconds in ((0, 0.0), (200, 1.0), (900, 300.0))
    )
    assert start < 0.02 * top
    assert end == pytest.approx(0.01 * experiment.optimization.learning_rate)


def test_the_held_out_fold_is_never_read_for_training(
    experiment: Experiment, data_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        build_sampler(experiment, [data_folder], tmp_path / "phantoms")
    assert "2 real cases: a b" in caplog.text


def test_a_sample_knows_where_tumors_are_told_apart(
    experiment: Experiment, data_folder: Path, tmp_path: Path
) -> None:
    sampler = build_sampler(experiment, [data_folder], tmp_path / "phantoms")
    rng = np.random.default_rng(0)
    samples = [sampler.sample(rng) for _ in range(30)]
    whole = [sample for sample in samples if sample.known.all()]
    masked = [sample for sample in samples if not sample.known.all()]
    assert whole
    assert masked
    for sample in masked:
        assert sample.known[sample.labels == 2].all()
    for sample in samples:
        assert sample.image.shape == (3, 32, 32)
        assert 0 <= float(sample.image.min()) <= float(sample.image.max()) <= 1


def test_an_unknown_key_is_refused(experiment_file: Path) -> None:
    with experiment_file.open("a", encoding="utf-8") as file:
        file.write("colour = 1\n")
    with pytest.raises(ExperimentError, match=r"optimization.colour"):
        Experiment.read(experiment_file)


def test_missing_data_are_named(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"cases\.csv"):
        build_sampler(experiment, [tmp_path], tmp_path / "phantoms")


def write_lits(folder: Path, number: int) -> None:
    labels = np.zeros((12, 40, 40), dtype=np.uint8)
    labels[2:10, 5:35, 5:30] = 1
    labels[4:7, 10:20, 10:20] = 2
    affine = np.diag((2.5, 1.0, 1.0, 1.0))[[2, 1, 0, 3]]
    folder.mkdir(exist_ok=True)
    for name, array in (("volume", 60 * labels.astype(np.int16)), ("segmentation", labels)):
        volume = Volume(array=array, affine=affine, coordinate_system="PATIENT")
        write_nifti(volume, folder / f"{name}-{number}.nii")


def test_data_sets_are_trained_on_as_published(
    experiment_file: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text.replace("minutes = 5.0", "minutes = 1e-9"), encoding="utf-8")
    for number in (2, 3):
        write_lits(tmp_path / "lits", number)
    options = {
        "--data": tmp_path / "lits",
        "--out": tmp_path / "run",
        "--cache": tmp_path / "cases",
    }
    words = [str(word) for option in options.items() for word in option]
    arguments = ["train", str(experiment_file), *words, "--data", str(data_folder)]
    monkeypatch.setattr("sys.argv", [*arguments, "--phantoms", str(tmp_path / "phantoms")])
    train.main()
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert len(list((tmp_path / "cases").iterdir())) == 4
