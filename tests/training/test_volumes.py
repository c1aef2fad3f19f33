from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from training.config import Experiment
from training.dataset import Case
from training.errors import ExperimentError
from training.trainer import Trainer
from training.volumes import VolumeSampler

EXPERIMENT = """
name = "locator"
labels = ["background", "liver"]

[data]
grid = "coarse"
slice_mm = 4.0
in_plane_mm = 4.0
patch_slices = 16
patch_px = 32

[masses]
lesion_share = 0.5
look_alike_share = 0.5

[network]
dimensions = 3
channels = [4, 8]

[optimization]
steps = 100
batch = 2
"""


def body() -> Case:
    """A soft body with a brighter liver on the patient's right."""
    labels = np.zeros((30, 50, 60), dtype=np.uint8)
    labels[8:22, 10:40, 5:30] = 1
    levels = np.where(labels > 0, 90, 60).astype(np.uint8)
    return Case(
        case_id="a",
        patient_id="a",
        levels=levels,
        labels=labels,
        spacing_mm=(3.0, 3.0, 3.0),
        tumors_known=False,
        fold=0,
    )


@pytest.fixture
def sampler(tmp_path: Path) -> VolumeSampler:
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return VolumeSampler(Experiment.read(path), [body()], [])


def test_samples_hold_the_liver_where_the_image_shows_it(sampler: VolumeSampler) -> None:
    """Without lesions or noise the liver is the brighter part, however it is turned and cut."""
    quiet = sampler._experiment.model_copy(
        update={
            "masses": sampler._experiment.masses.model_copy(
                update={"lesion_share": 0.0, "look_alike_share": 0.0}
            ),
            "augment": sampler._experiment.augment.model_copy(
                update={
                    "gain_share": 0.0,
                    "noise_share": 0.0,
                    "blur_share": 0.0,
                    "phase_share": 0.0,
                    "thick_share": 0.0,
                }
            ),
        }
    )
    still = VolumeSampler(quiet, [body()], [])
    rng = np.random.default_rng(0)
    with_liver = 0
    for _ in range(20):
        sample = still.sample(rng)
        assert sample.image.shape == (1, 16, 32, 32)
        assert sample.labels.shape == (16, 32, 32)
        bright = sample.image[0] > 75 / 127
        assert (bright != (sample.labels > 0)).float().mean() < 0.06
        with_liver += bool((sample.labels > 0).any())
    assert with_liver > 10


def test_a_run_over_volumes_takes_steps(sampler: VolumeSampler, tmp_path: Path) -> None:
    trainer = Trainer(sampler._experiment, sampler, tmp_path / "run")
    losses = [trainer.train_step() for _ in range(2)]
    assert set(losses[0]) == {"cross_entropy", "organ"}
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)


def test_a_run_begins_with_the_fitting_weights_of_another(
    sampler: VolumeSampler, tmp_path: Path
) -> None:
    first = Trainer(sampler._experiment, sampler, tmp_path / "first")
    first.train_step()
    first.save()
    other = sampler._experiment.model_copy(update={"labels": ("background", "liver", "tumor")})
    second = Trainer(other, sampler, tmp_path / "second", warm_start=tmp_path / "first")
    assert second.step == 0
    second.save()
    given, taken = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        for name in ("first", "second")
    )
    for name, values in given.items():
        assert name.startswith("head") or torch.equal(values, taken[name])
    with pytest.raises(ExperimentError, match="nowhere"):
        Trainer(other, sampler, tmp_path / "third", warm_start=tmp_path / "nowhere")
