"""The same segments and numbers written by dcmqi (``pip install dcmqi``), to compare with.

Its programs begin with files: the CT, the labels as NIfTI and the words as JSON, which are made
here from objects of ours.
"""

import json
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from config.results import LesionForm, ProfileSettings, ResultRole, SegmentationForm
from dicom_io.nifti import write_nifti
from inference.volume import Volume

_SEG_NAME = "seg.dcm"


def can_write(form: ProfileSettings) -> bool:
    """Whether it can write just the objects of a profile: SEG with a segment a lesion, and SR."""
    return (
        set(form.objects) == {ResultRole.SEG, ResultRole.SR}
        and form.segmentation is not SegmentationForm.FRACTIONAL
        and form.lesions is LesionForm.SEPARATE
    )


@dataclass(frozen=True, kw_only=True)
class Dcmqi:
    """Writes the SEG and the report of a series again and again."""

    ct: Path
    """The folder of the series."""
    form: ProfileSettings
    folder: Path
    """Takes what it reads."""
    report: dict[str, Any] = field(init=False, default_factory=dict)

    def prepare(self, numbers: Volume, seg: Path, sr: Path) -> None:
        """Restate objects of ours in its terms.

        Parameters
        ----------
        numbers
            The segment number of each voxel.
        seg, sr
            The objects.
        """
        write_nifti(numbers, self.folder / "labels.nii")
        _write_json(self.folder / "seg.json", _describe_segments(dcmread(seg)))
        read = self.folder / "read.json"
        _run("tid1500reader", inputDICOM=sr, outputMetadata=read)
        images = [path.name for path in sorted(self.ct.iterdir())]
        self.report.update(_restate_report(json.loads(read.read_text()), images))

    def write(self, folder: Path) -> float:
        """Write both into an empty folder, and give the seconds that its programs took."""
        seg = folder / _SEG_NAME
        seconds = _run(
            "itkimage2segimage",
            inputImageList=self.folder / "labels.nii",
            inputDICOMDirectory=self.ct,
            inputMetadata=self.folder / "seg.json",
            segmentationType=self.form.segmentation.value,
            skip=int(not self.form.empty_frames),
            outputDICOM=seg,
        )
        uid = dcmread(seg, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        for group in self.report["Measurements"]:
            group["segmentationSOPInstanceUID"] = str(uid)
        _write_json(folder / "sr.json", self.report)
        return seconds + _run(
            "tid1500writer",
            inputImageLibraryDirectory=self.ct,
            inputCompositeContextDirectory=folder,
            inputMetadata=folder / "sr.json",
            outputDICOM=folder / "sr.dcm",
        )


def _run(name: str, **options: object) -> float:
    """Run a program of dcmqi, and give its seconds."""
    program = shutil.which(name, path=sysconfig.get_path("scripts"))
    if program is None:
        raise SystemExit(f"{name} is not installed: pip install 'hepar[test]'")
    arguments = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    started = time.perf_counter()
    subprocess.run([program, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def _describe_segments(seg: Dataset) -> dict[str, object]:
    segments = [item for item in seg.SegmentSequence if item.SegmentNumber > 0]
    return {
        "ContentCreatorName": str(seg.ContentCreatorName),
        "ContentLabel": seg.ContentLabel,
        "ContentDescription": seg.ContentDescription,
        "SeriesDescription": seg.SeriesDescription,
        "SeriesNumber": str(seg.SeriesNumber),
        "InstanceNumber": str(seg.InstanceNumber),
        "segmentAttributes": [[_describe_segment(item) for item in segments]],
    }


def _describe_segment(item: Dataset) -> dict[str, object]:
    return {
        "labelID": int(item.SegmentNumber),
        "SegmentLabel": item.SegmentLabel,
        "SegmentDescription": item.SegmentLabel,
        "SegmentAlgorithmType": item.SegmentAlgorithmType,
        "SegmentAlgorithmName": item.SegmentAlgorithmName,
        "SegmentedPropertyCategoryCodeSequence": _code(item.SegmentedPropertyCategoryCodeSequence),
        "SegmentedPropertyTypeCodeSequence": _code(item.SegmentedPropertyTypeCodeSequence),
    }


def _code(sequence: Sequence[Dataset]) -> dict[str, str]:
    [code] = sequence
    keys = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return {key: str(code[key].value) for key in keys}


def _restate_report(read: Mapping[str, Any], images: Sequence[str]) -> dict[str, object]:
    """Keep the groups that cite a segment; it can write no others."""
    groups = [group for group in read["Measurements"] if group.get("ReferencedSegment")]
    kept = ("SeriesDescription", "SeriesNumber", "InstanceNumber", "procedureReported")
    return {
        **{key: read[key] for key in (*kept, "VerificationFlag", "CompletionFlag")},
        "observerContext": {
            "ObserverType": "DEVICE",
            "DeviceObserverName": read["observerContext"]["DeviceObserverName"],
            "DeviceObserverUID": read["observerContext"]["DeviceObserverUID"],
        },
        "compositeContext": [_SEG_NAME],
        "imageLibrary": list(images),
        "Measurements": groups,
    }
