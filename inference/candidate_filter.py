"""The classifier that drops false candidate lesions, as a model package holds it."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.candidates import FEATURES, Spacing, find_candidates
from inference.errors import ModelPackageError
from inference.labels import Label
from inference.manifest import CandidateStage
from inference.onnx_backend import ONNX_ERRORS


class CandidateFilter:
    """A classifier over the features of a candidate, as an ONNX file.

    Its input is (candidates, features) float32, its second output (candidates, 2) the probabilities
    of no lesion and lesion: what scikit-learn's classifiers become in ONNX.

    Parameters
    ----------
    stage:
        What the manifest says of it.
    path:
        The file.

    Raises
    ------
    ModelPackageError
        It cannot be loaded, or asks for a feature that is not known here.
    """

    def __init__(self, stage: CandidateStage, path: Path) -> None:
        unknown = sorted(set(stage.features) - set(FEATURES))
        if unknown:
            raise ModelPackageError(f"{path}: there are no features {', '.join(unknown)}")
        self._columns = [FEATURES.index(name) for name in stage.features]
        self._threshold = stage.threshold
        self._max_log_volume = np.log(stage.max_volume_ml)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
        except ONNX_ERRORS as error:
            raise ModelPackageError(f"{path} cannot be loaded: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def judge(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of each candidate to be a lesion.

        Parameters
        ----------
        features:
            (candidates, features) in the order of `inference.candidates.FEATURES`.
        """
        if not len(features):
            return np.zeros(0, dtype=np.float32)
        chosen = np.ascontiguousarray(features[:, self._columns])
        _labels, probabilities = self._session.run(None, {self._input: chosen})
        return np.asarray(probabilities[:, 1], dtype=np.float32)

    def apply(
        self,
        probabilities: NDArray[np.float32],
        label_values: tuple[Label, ...],
        image: NDArray[np.float32],
        spacing_mm: Spacing,
    ) -> int:
        """Make liver of the candidates that are no lesions, in place.

        Parameters
        ----------
        probabilities:
            (classes, slices, rows, columns) of the segmenter.
        label_values:
            Meaning of the classes.
        image:
            (slices, rows, columns), what the segmenter saw, 0 to 1.
        spacing_mm:
            Of its voxels.

        Returns
        -------
        int
            How many were dropped.
        """
        candidates = find_candidates(probabilities, label_values, image, spacing_mm)
        small = candidates.features[:, FEATURES.index("log_volume_ml")] <= self._max_log_volume
        dropped = small & (self.judge(candidates.features) < self._threshold)
        voxels = np.concatenate([[False], dropped])[candidates.components]
        tumor = probabilities[label_values.index(Label.TUMOR)]
        probabilities[label_values.index(Label.LIVER)][voxels] += tumor[voxels]
        tumor[voxels] = 0
        return int(dropped.sum())
