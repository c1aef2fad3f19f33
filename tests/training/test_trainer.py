import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from training.config import Experiment
from training.curves import draw_curves
from training.errors import DataSetError, ExperimentError
from training.recipe import RunSettings, build_samplers, read_training_cases
from training.samples import Sampler
from training.trainer import Trainer, learning_rate, load_network, share_done


@pytest.fixture
def experiment(experiment_file: Path) -> Experiment:
    return Experiment.read(experiment_file).adapted(held_out_fold=1)


@pytest.fixture
def settings(data_folder: Path, tmp_path: Path) -> RunSettings:
    return RunSettings(
        data=[data_folder],
        out=tmp_path / "runs",
        phantoms=tmp_path / "phantoms",
        cache=tmp_path / "cases",
    )


@pytest.fixture
def samplers(experiment: Experiment, settings: RunSettings) -> tuple[Sampler, Sampler | None]:
    return build_samplers(experiment, read_training_cases(experiment, settings))


@pytest.fixture
def trainer(
    experiment: Experiment, samplers: tuple[Sampler, Sampler | None], tmp_path: Path
) -> Trainer:
    training, validation = samplers
    return Trainer(experiment, training, tmp_path / "run", validation=validation)


def test_a_run_goes_on_where_it_stopped(
    trainer: Trainer,
    experiment: Experiment,
    samplers: tuple[Sampler, Sampler | None],
    tmp_path: Path,
) -> None:
    losses = [trainer.train_step() for _ in range(3)]
    assert set(losses[0]) == {"cross_entropy", "organ", "tumor"}
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)
    trainer.elapsed_s = 12.5
    trainer.save()
    again = Trainer(experiment, samplers[0], tmp_path / "run")
    assert (again.step, again.elapsed_s) == (3, 12.5)
    again.train_step()
    assert again.step == 4
    image = torch.zeros(1, 3, 32, 32)
    network = load_network(tmp_path / "run")
    assert network(image).shape == (1, 3, 32, 32)


def test_a_run_ends_with_its_steps_and_is_judged(trainer: Trainer, tmp_path: Path) -> None:
    trainer.step = 998
    told: list[float] = []
    trainer.run(lambda share, _losses: told.append(share))
    assert told == [0.999, 1.0]
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    table = (tmp_path / "run" / "validation.csv").read_text(encoding="utf-8")
    (row,) = csv.DictReader(table.splitlines())
    assert row["step"] == "1000"
    assert 0 <= float(row["organ"]) <= 1
    assert "tumor" not in row, "nobody annotated tumors in the held-out case"


def test_a_training_that_diverges_ends_with_a_hint(trainer: Trainer) -> None:
    trainer.train_step()
    before = [parameter.clone() for parameter in trainer._network.parameters()]
    with torch.no_grad():
        next(trainer._network.parameters())[0] = torch.inf
    with pytest.raises(ExperimentError, match="at step 1 the gradient is no finite number"):
        trainer.train_step()
    after = list(trainer._network.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before[1:], after[1:], strict=True))


def test_loaders_draw_in_processes_of_their_own(
    experiment: Experiment, samplers: tuple[Sampler, Sampler | None], tmp_path: Path
) -> None:
    trainer = Trainer(experiment, samplers[0], tmp_path / "run", loaders=1)
    assert np.isfinite(list(trainer.train_step().values())).all()


def test_a_run_of_another_network_is_not_gone_on_with(
    trainer: Trainer,
    experiment: Experiment,
    samplers: tuple[Sampler, Sampler | None],
    tmp_path: Path,
) -> None:
    trainer.save()
    network = experiment.network.model_copy(update={"channels": (4, 16)})
    other = experiment.model_copy(update={"network": network})
    with pytest.raises(ExperimentError, match="another network"):
        Trainer(other, samplers[0], tmp_path / "run")


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="holds no training run"):
        load_network(tmp_path)


def test_the_learning_rate_rises_and_falls(experiment: Experiment) -> None:
    start, top, end = (learning_rate(experiment, step, 1.0) for step in (0, 200, 1000))
    assert start < 0.02 * top
    assert end == pytest.approx(0.01 * experiment.optimization.learning_rate)
    config = experiment.optimization.model_copy(
        update={"learning_rate": 1e-4, "final_share": 0.1, "steps": 10**6, "minutes": 5.0}
    )
    adam = experiment.model_copy(update={"optimization": config})
    rates = [learning_rate(adam, 200, seconds) for seconds in (0.0, 150.0, 300.0)]
    assert rates == pytest.approx([1e-4, 5.5e-5, 1e-5], rel=1e-3)


def test_a_run_may_end_with_its_time(experiment: Experiment) -> None:
    short = experiment.adapted(held_out_fold=1, minutes=2.0)
    assert share_done(short, 10, 60.0) == 0.5
    assert share_done(short, 900, 60.0) == 0.9
    assert share_done(short, 10, 150.0) == 1.0
    assert share_done(experiment, 10, 1e6) == 0.01
    last = learning_rate(short, 500, 120.0)
    assert last == pytest.approx(0.01 * experiment.optimization.learning_rate)


def test_the_held_out_fold_is_never_read_for_training(
    experiment: Experiment, settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        read_training_cases(experiment, settings)
    assert "2 real cases: a b" in caplog.text
    assert "1 kept apart: c" in caplog.text


def test_nothing_to_train_on(experiment: Experiment, settings: RunSettings) -> None:
    (settings.data[0] / "cases.csv").write_text(
        "case_id,patient,fold,tumor_labels,fine_size,coarse_size\nc,c,1,no,48x40x6,\n",
        encoding="utf-8",
    )
    with pytest.raises(ExperimentError, match="no case is left"):
        read_training_cases(experiment, settings)


def test_a_sample_knows_where_tumors_are_told_apart(
    samplers: tuple[Sampler, Sampler | None],
) -> None:
    rng = np.random.default_rng(0)
    samples = [samplers[0].sample(rng) for _ in range(40)]
    organs = [sample for sample in samples if (sample.labels > 0).any()]
    masked = [sample for sample in organs if not sample.known[sample.labels > 0].all()]
    assert 0 < len(masked) < len(organs)
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


def test_an_unknown_loss_is_refused(experiment_file: Path) -> None:
    with experiment_file.open("a", encoding="utf-8") as file:
        file.write('loss = ["dice", "hinge"]\n')
    with pytest.raises(ExperimentError, match=r"optimization.loss.1\n.*'cross_entropy', 'dice'"):
        Experiment.read(experiment_file)


def test_missing_data_are_named(
    experiment: Experiment, settings: RunSettings, tmp_path: Path
) -> None:
    with pytest.raises(DataSetError, match=r"cases\.csv"):
        read_training_cases(experiment, replace(settings, data=[tmp_path / "data" / "fine"]))


def test_curves_are_drawn_from_a_log_that_a_kill_cut_short(tmp_path: Path) -> None:
    (tmp_path / "losses.csv").write_text(
        "step,minutes,organ\n50,1.0,0.5\n100,2.0,0.4\n150,3.200,4.0,0.3\n250,5.0,", encoding="utf-8"
    )
    draw_curves(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 0
