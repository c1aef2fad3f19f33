"""Trains the filter of candidate lesions on what packages find in scans that they never saw.

A random forest (Breiman, Machine Learning 45 (2001) 5-32) over the features of
`inference.candidates`. It is judged by leaving one patient out at a time, and its threshold follows
from that: as high as it may be while nearly all true candidates stay.
"""

import hashlib
import json
import logging
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.ensemble import RandomForestClassifier

from config.inference import InferenceSettings
from inference.candidates import FEATURES, find_candidates
from inference.errors import LiverNotFound
from inference.labels import Label
from inference.manifest import MANIFEST_NAME, ModelPackage, find_package, read_package
from inference.segment import Segmenter, load_segmenter
from training.calibration import nearest_truth
from training.errors import DataSetError
from training.metrics import ratio
from training.readers import ScanEntry

logger = logging.getLogger(__name__)

FILTER = "candidates.onnx"
_TREES, _DEPTH, _LEAF = 200, 6, 2
_SEED = 0
_LEAST_SHARE = 0.1
"""A candidate is a lesion where at least this share of it is annotated tumor."""
_KEPT_SHARE = 0.9
"""Share of the true candidates that the threshold keeps."""
_OPSETS = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledCandidates:
    """The candidates of scans, and which of them are lesions."""

    features: NDArray[np.float32]
    """(candidates, features)."""
    is_lesion: NDArray[np.bool_]
    patient_ids: NDArray[np.str_]
    """Whose scan each is in."""


@dataclass(frozen=True, kw_only=True)
class FilterScore:
    """What the filter does to candidates of patients that it was not trained on."""

    candidates: int
    lesions: int
    """Candidates that are lesions."""
    kept: int
    kept_lesions: int
    threshold: float
    max_volume_ml: float
    """Of the largest candidate that is no lesion: nothing larger is judged."""

    @property
    def precision_before(self) -> float | None:
        """Share of lesions among all candidates."""
        return ratio(self.lesions, self.candidates)

    @property
    def precision_after(self) -> float | None:
        """Share of lesions among those that are kept."""
        return ratio(self.kept_lesions, self.kept)


def add_filter(
    packages: Sequence[str], entries: Sequence[ScanEntry], target: str, console: Console
) -> FilterScore:
    """Train a filter on the candidates of packages, and put it into a package.

    Parameters
    ----------
    packages:
        Names or folders. Each finds candidates in the fold that it was not trained on.
    entries:
        The scans; those without annotated tumors are left out.
    target:
        Folder of the package that gets the filter; its manifest is written anew.
    console:
        Where progress is drawn.

    Raises
    ------
    DataSetError
        A package names no fold that was held out, or there are not candidates of both kinds, from
        two patients at least.
    """
    found = [
        candidates
        for package in packages
        for candidates in _collect(find_package(package), entries, console)
    ]
    if not found:
        raise DataSetError("no scan with annotated tumors lies in the folds that were held out")
    joined = LabeledCandidates(
        features=np.concatenate([part.features for part in found]),
        is_lesion=np.concatenate([part.is_lesion for part in found]),
        patient_ids=np.concatenate([part.patient_ids for part in found]),
    )
    score = judge_filter(joined)
    forest = _make_forest().fit(joined.features, joined.is_lesion)
    _write(forest, find_package(target), score)
    return score


def _collect(
    package: ModelPackage, entries: Sequence[ScanEntry], console: Console
) -> Iterator[LabeledCandidates]:
    fold = package.manifest.held_out_fold
    if fold is None:
        raise DataSetError(
            f"{package.folder} was trained on all folds, so that it never errs as it does on new "
            "scans; give packages that were trained with --hold-out"
        )
    if Label.TUMOR not in package.manifest.segmenter.label_values:
        raise DataSetError(f"{package.folder} labels no tumor, so that there is nothing to filter")
    settings = InferenceSettings(model=str(package.folder), candidate_filter=False)
    segmenter = load_segmenter(settings)
    chosen = [entry for entry in entries if entry.tumors_known and entry.fold == fold]
    for entry in track(chosen, description=f"fold {fold}", console=console, transient=True):
        try:
            yield label_candidates(segmenter, entry)
        except LiverNotFound as error:
            logger.warning("%s: %s", entry.case_id, error)


def label_candidates(segmenter: Segmenter, entry: ScanEntry) -> LabeledCandidates:
    """Find the candidates of one scan, and tell which of them are lesions.

    Raises
    ------
    LiverNotFound
        The model found no liver.
    DataSetError
        The scan cannot be read.
    """
    scan = entry.read()
    box = segmenter.probabilities(scan.volume)
    candidates = find_candidates(box.values, box.label_values, box.image, box.spacing_mm)
    truth, _ = nearest_truth(scan, box.axes)
    numbers = candidates.components[truth == Label.TUMOR]
    shared = np.bincount(numbers, minlength=len(candidates) + 1)[1:]
    sizes = np.bincount(candidates.components.ravel(), minlength=len(candidates) + 1)[1:]
    return LabeledCandidates(
        features=candidates.features,
        is_lesion=shared >= _LEAST_SHARE * sizes,
        patient_ids=np.full(len(candidates), entry.patient_id),
    )


def _make_forest() -> RandomForestClassifier:
    return RandomForestClassifier(
        n_estimators=_TREES,
        max_depth=_DEPTH,
        min_samples_leaf=_LEAF,
        class_weight="balanced",
        random_state=_SEED,
    )


def judge_filter(candidates: LabeledCandidates) -> FilterScore:
    """Judge the filter on each patient by one that was trained on the others.

    Raises
    ------
    DataSetError
        Without one of the patients, there are no candidates of both kinds.
    """
    probability = np.zeros(len(candidates.is_lesion))
    for patient in np.unique(candidates.patient_ids):
        apart = candidates.patient_ids == patient
        known = candidates.is_lesion[~apart]
        if known.all() or not known.any():
            raise DataSetError(
                f"without the patient {patient}, the packages found no candidates of both kinds, "
                "lesions and others; give more packages or more scans"
            )
        forest = _make_forest().fit(candidates.features[~apart], known)
        probability[apart] = forest.predict_proba(candidates.features[apart])[:, 1]
    threshold = _choose_threshold(probability[candidates.is_lesion])
    volumes_ml = np.exp(candidates.features[:, FEATURES.index("log_volume_ml")])
    max_volume_ml = float(volumes_ml[~candidates.is_lesion].max())
    kept = (probability >= threshold) | (volumes_ml > max_volume_ml)
    return FilterScore(
        candidates=len(kept),
        lesions=int(candidates.is_lesion.sum()),
        kept=int(kept.sum()),
        kept_lesions=int((kept & candidates.is_lesion).sum()),
        threshold=threshold,
        max_volume_ml=max_volume_ml,
    )


def _choose_threshold(of_lesions: NDArray[np.float64]) -> float:
    """Give the highest threshold that keeps nearly all lesions."""
    lowest = np.quantile(of_lesions, 1 - _KEPT_SHARE, method="lower")
    return float(np.clip(np.floor(lowest * 100) / 100, 0.01, 0.99))


def _write(forest: RandomForestClassifier, package: ModelPackage, score: FilterScore) -> None:
    """Write the filter beside the networks, then the manifest that names it."""
    from skl2onnx import to_onnx

    example = np.zeros((1, len(FEATURES)), dtype=np.float32)
    model = to_onnx(forest, example, options={"zipmap": False}, target_opset=_OPSETS)
    content = model.SerializeToString()
    _replace(package.folder / FILTER, content)
    path = package.folder / MANIFEST_NAME
    manifest = tomllib.loads(path.read_text(encoding="utf-8"))
    manifest["candidates"] = {
        "file": FILTER,
        "sha256": hashlib.sha256(content).hexdigest(),
        "features": list(FEATURES),
        "threshold": score.threshold,
        "max_volume_ml": score.max_volume_ml,
    }
    _replace(path, tomli_w.dumps(manifest).encode("utf-8"))
    read_package(package.folder)


def _replace(path: Path, content: bytes) -> None:
    """Write a file of a package; a crash while writing leaves the former one whole."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def describe(score: FilterScore) -> str:
    """Write a score as JSON."""
    numbers = {
        **asdict(score),
        "precision_before": score.precision_before,
        "precision_after": score.precision_after,
    }
    return json.dumps(numbers, indent=2)
