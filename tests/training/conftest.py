"""A data set of two tiny scans, and an experiment small enough for a test."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

EXPERIMENT = """
name = "segmenter"
labels = ["background", "liver", "tumor"]

[data]
grid = "fine"
context_slices = 3
patch_px = 32
tumor_slices = 0.5

[masses]
lesion_share = 1.0
cyst_share = 0.5
look_alike_share = 0.5

[network]
channels = [4, 8]

[optimization]
steps = 1000
batch = 2
"""

PAPERS = """
format_version = 1
name = "tiny"
version = "0.0.1"
description = "Two steps of training."
license = "Free."
training_data = []

[postprocessing]
box_margin_mm = 10.0
max_outside_mm = 8.0
min_liver_ml = 1.0
min_tumor_mm3 = 10.0
"""


@pytest.fixture
def papers_file(tmp_path: Path) -> Path:
    """Write what the manifest of a package says beside its networks."""
    path = tmp_path / "papers.toml"
    path.write_text(PAPERS, encoding="utf-8")
    return path


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    """Write the experiment."""
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Write three cases: one with tumor labels, one without, one held out."""
    folder = tmp_path / "data"
    (folder / "fine").mkdir(parents=True)
    rows = []
    for case_id, fold, annotated in (("a", 0, "yes"), ("b", 0, "no"), ("c", 1, "no")):
        labels = np.zeros((6, 48, 40), dtype=np.uint8)
        labels[:, 8:40, 8:32] = 1
        labels[2:4, 20:28, 14:22] = 2 if annotated == "yes" else 1
        levels = np.array([20, 80, 60], dtype=np.uint8)[labels]
        for name, array in (("ct", levels), ("label", labels)):
            image = SimpleITK.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 2.5))
            SimpleITK.WriteImage(image, str(folder / "fine" / f"{case_id}_{name}.nii.gz"))
        rows.append([case_id, fold, annotated, "48x40x6", ""])
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "fold", "tumor_labels", "fine_size", "coarse_size"])
        table.writerows(rows)
    return folder
