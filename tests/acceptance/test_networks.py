"""A network of another kind than the shipped one, trained here, works in the node."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch comes with the extra 'train'")
pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

from pydicom import dcmread

from benchmarks.peers import SyntheticCt
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from inference.measure import dice
from inference.phantom import Phantom
from storage.states import JobState
from training.config import Experiment
from training.dataset import Case
from training.export import export_package
from training.grids import make_grids
from training.recipe import read_recipe
from training.scans import LabeledScan
from training.stacks import StackSampler
from training.trainer import Trainer

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(600),
    # torch warns that this exporter is to be replaced; the new one takes 20 s for such a network.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

RECIPE = "unet-2d"
STEPS = 80
LIVER_DICE = 0.8


def test_a_2d_network_segments_in_the_node(
    make_node, storescp, storescu, synthetic_ct: SyntheticCt, tmp_path: Path
):
    package = make_package(synthetic_ct.phantom, tmp_path)
    node = make_node(storescp.toml + f'\n[inference]\nmodel = "{package}"\n')
    done = storescu(synthetic_ct.folder, node.port)
    assert done.returncode == 0, done.stdout + done.stderr
    job = node.wait_for_state(JobState.DELIVERED)
    assert job.model_name == RECIPE
    [seg] = [path for path in storescp.files() if dcmread(path).Modality == "SEG"]
    series = read_series(synthetic_ct.paths)
    truth = synthetic_ct.phantom.labels.match_geometry(series.volume).array
    found = read_labels(seg, series).array
    assert dice(found > 0, truth > 0) > LIVER_DICE
    [algorithm] = dcmread(seg).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == RECIPE


def make_package(phantom: Phantom, folder: Path) -> Path:
    """Put a 2D U-Net, which learned the very phantom, behind the shipped locator."""
    experiment = Experiment.model_validate(
        {
            "name": "segmenter",
            "labels": ("background", "liver", "tumor"),
            "data": {"grid": "fine", "context_slices": 1, "patch_px": 160},
            "network": {"channels": (16, 32, 64, 64), "stride": 4},
            "optimization": {"steps": STEPS, "batch": 4},
        }
    )
    run, package = folder / "run", folder / "package"
    Trainer(experiment, StackSampler(experiment, [make_case(phantom)], []), run).run(
        lambda _share, _losses: None
    )
    papers = read_recipe(RECIPE).papers
    return export_package(Path("hepar-liver-ct"), run, papers, package).folder


def make_case(phantom: Phantom) -> Case:
    scan = LabeledScan(
        case_id="phantom",
        patient_id="phantom",
        volume=phantom.volume,
        labels=np.asarray(phantom.labels.array),
        tumors_known=True,
    )
    fine = make_grids(scan)["fine"]
    return Case(
        case_id="phantom",
        patient_id="phantom",
        levels=fine.levels,
        labels=fine.labels,
        spacing_mm=fine.spacing_mm,
        tumors_known=True,
        fold=None,
    )
