"""Train one stage: ``python -m training.train CONFIG --data DIR --out DIR``.

The run stops when its time budget is spent. Started again with the same folder, it goes on from
the last checkpoint.
"""

import argparse
import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from training.config import Experiment
from training.dataset import DEFAULT_CACHE, phantom_cases, read_mixed_cases, select_cases
from training.errors import ExperimentError
from training.loss import organ_loss, tumor_loss
from training.networks import UNet
from training.samples import Sample, Sampler
from training.stacks import StackSampler
from training.volumes import VolumeSampler

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_S = 120.0
_LOG_STEPS = 50
_WARM_UP_STEPS = 100
_LEAST_RATE = 0.01
_MAX_GRADIENT = 5.0
_SMOOTHING = 0.98


def build_network(experiment: Experiment) -> UNet:
    """Give the untrained network of an experiment."""
    config = experiment.network
    return UNet(experiment.inputs, len(experiment.labels), config.channels, config.dimensions)


def load_network(folder: Path, experiment: Experiment) -> UNet:
    """Give the network of the last checkpoint of a run, ready for inference."""
    network = build_network(experiment)
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    network.eval()
    return network


def learning_rate(experiment: Experiment, step: int, elapsed_s: float) -> float:
    """Give the rate of a step: a short linear rise, then half a cosine over the time budget."""
    config = experiment.optimization
    progress = min(1.0, elapsed_s / 60 / config.minutes)
    decay = 0.5 * (1 + math.cos(math.pi * progress)) + _LEAST_RATE
    return config.learning_rate * min(1.0, (step + 1) / _WARM_UP_STEPS) * decay


class Trainer:
    """One training run with its state: weights, optimizer, step, seconds spent.

    Parameters
    ----------
    experiment:
        What to train.
    sampler:
        Source of batches.
    folder:
        Where checkpoint and log lie; an existing checkpoint is read.
    """

    def __init__(self, experiment: Experiment, sampler: Sampler, folder: Path) -> None:
        config = experiment.optimization
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.step = 0
        self.elapsed_s = 0.0
        self._experiment = experiment
        self._sampler = sampler
        self._folder = folder
        self._network = build_network(experiment)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self._resume()
        self._rng = np.random.default_rng((config.seed, self.step))

    def run(self) -> None:
        """Train until the time budget is spent."""
        budget_s = self._experiment.optimization.minutes * 60
        started, before_s = time.monotonic(), self.elapsed_s
        saved_s = before_s
        smooth: dict[str, float] = {}
        while self.elapsed_s < budget_s:
            losses = self.train_step()
            self.elapsed_s = before_s + time.monotonic() - started
            smooth = _smooth(smooth, losses)
            if self.step % _LOG_STEPS == 0:
                self._log(smooth)
            if self.elapsed_s - saved_s > _CHECKPOINT_S:
                self.save()
                saved_s = self.elapsed_s
        self.save()

    def train_step(self) -> dict[str, float]:
        """Do one step and give its losses by name."""
        rate = learning_rate(self._experiment, self.step, self.elapsed_s)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = self._sampler.batch(self._rng, self._experiment.optimization.batch)
        losses = self._losses(batch)
        self._optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _MAX_GRADIENT)
        self._optimizer.step()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the former one whole."""
        state = {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        temporary = self._folder / f"{CHECKPOINT}.part"
        torch.save(state, temporary)
        temporary.replace(self._folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not path.exists():
            self._warm_start()
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        logger.info("resumed at step %d, %.1f minutes", self.step, self.elapsed_s / 60)

    def _warm_start(self) -> None:
        """Begin with the weights of another run, as far as their shapes are the same."""
        run = self._experiment.optimization.warm_start
        if run is None:
            return
        path = run / CHECKPOINT
        if not path.exists():
            raise ExperimentError(f"{path}, whose weights the run is to begin with, is missing")
        own = self._network.state_dict()
        given = torch.load(path, map_location="cpu", weights_only=True)["network"]
        fitting = {
            name: values
            for name, values in given.items()
            if name in own and own[name].shape == values.shape
        }
        self._network.load_state_dict({**own, **fitting})
        logger.info("begins with %d of %d tensors of %s", len(fitting), len(own), path)

    def _losses(self, batch: Sample) -> dict[str, torch.Tensor]:
        image = batch.image.contiguous(memory_format=self._network.memory_format)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._experiment.optimization.bf16):
            logits = self._network(image)
        if self._experiment.has_tumor:
            return tumor_loss(logits, batch.labels, batch.known)
        return organ_loss(logits, batch.labels)

    def _log(self, losses: Mapping[str, float]) -> None:
        minutes = self.elapsed_s / 60
        words = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        logger.info("step %d, %.1f minutes: %s", self.step, minutes, words)
        path = self._folder / "log.csv"
        is_new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            if is_new:
                table.writerow(["step", "minutes", *losses])
            values = (f"{value:.5f}" for value in losses.values())
            table.writerow([self.step, f"{minutes:.2f}", *values])


def _smooth(before: Mapping[str, float], losses: Mapping[str, float]) -> dict[str, float]:
    return {
        name: _SMOOTHING * before.get(name, value) + (1 - _SMOOTHING) * value
        for name, value in losses.items()
    }


def build_sampler(
    experiment: Experiment, data: Sequence[Path], phantoms: Path, cache: Path = DEFAULT_CACHE
) -> Sampler:
    """Read the cases of an experiment, without the held-out fold, and make its phantoms.

    Parameters
    ----------
    experiment:
        What to train.
    data:
        Folders of data sets.
    phantoms, cache:
        Folders that keep phantoms and real scans on their grids.
    """
    config = experiment.data
    cases = read_mixed_cases(data, config.grid, config.tumor_free, cache)
    real = select_cases(cases, config, held_out=False)
    synthetic = phantom_cases(experiment.phantoms, config.grid, phantoms)
    logger.info("%d real cases: %s", len(real), " ".join(case.case_id for case in real))
    logger.info("%d synthetic cases", len(synthetic))
    if experiment.network.dimensions == 2:
        return StackSampler(experiment, real, synthetic)
    return VolumeSampler(experiment, real, synthetic)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Train one stage of a model.")
    parser.add_argument("config", type=Path, help="experiment file (TOML)")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        help="folder of a data set, as published; may be given again",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--phantoms", type=Path, default=Path("runs/phantoms"), help="cache")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="cache of real scans")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    experiment = Experiment.read(arguments.config)
    sampler = build_sampler(experiment, arguments.data, arguments.phantoms, arguments.cache)
    Trainer(experiment, sampler, arguments.out).run()


if __name__ == "__main__":
    main()
