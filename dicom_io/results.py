"""The result objects of a job: built, written, read again and checked, in one call."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset

from config.settings import ResultRole, ResultSettings
from dicom_io.provenance import NOTHING_KNOWN, InstanceUids, Provenance, ResultBasis, SeriesHistory
from dicom_io.seg import build_seg
from dicom_io.segments import plan_segments
from dicom_io.series import SourceSeries
from dicom_io.source_images import build_source_images
from dicom_io.sr import build_sr
from dicom_io.uids import derive_uid
from dicom_io.verify import check_seg, check_sr
from inference.findings import Diameter, Findings, Lesion, Region, Segmentation
from inference.manifest import ModelIdentity
from inference.wording import summary_sentence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResultContext:
    """What the objects say of their maker, and how they are worded."""

    settings: ResultSettings
    created_at: datetime
    """Aware; fixed per job, so that a repeat gives the same objects."""
    software_version: str
    ae_title: str = "HEPAR"
    history: SeriesHistory = NOTHING_KNOWN

    def provenance(self, model: ModelIdentity) -> Provenance:
        """Give the maker and the time of what is made with a model."""
        return Provenance(
            model=model,
            software_version=self.software_version,
            ae_title=self.ae_title,
            created_at=self.created_at,
        )


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A written result object."""

    role: ResultRole
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


def write_results(
    source: SourceSeries,
    segmentation: Segmentation,
    findings: Findings,
    folder: Path,
    context: ResultContext,
) -> list[ResultFile]:
    """Write ``seg.dcm`` and ``sr.dcm``, durable and checked.

    The same source, model, software and settings give the same UIDs; with the same `created_at`
    and labels, the same bytes.

    Parameters
    ----------
    source
        The series that was segmented.
    segmentation
        Its labels, and the model.
    findings
        The measurements of those labels.
    folder
        An existing folder.
    context
        Wording, time and maker.

    Returns
    -------
    list[ResultFile]
        SEG, then SR.

    Raises
    ------
    ResultMismatch
        If a file does not hold what it was made from.
    OSError
        If a file cannot be written.
    """
    basis = ResultBasis(
        source=source,
        images=build_source_images(source),
        settings=context.settings,
        provenance=context.provenance(segmentation.model),
        history=context.history,
    )
    content_key = _content_key(source, segmentation)
    planned = plan_segments(
        segmentation.labels, findings, context.settings, content_key=content_key
    )
    seg_uids = _instance_uids(basis, content_key, ResultRole.SEG)
    sr_uids = _instance_uids(basis, content_key, ResultRole.SR)
    seg = build_seg(basis, planned, seg_uids)
    sr = build_sr(basis, seg, planned.segments, findings, sr_uids)
    seg_file = write_object(seg, ResultRole.SEG, folder)
    sr_file = write_object(sr, ResultRole.SR, folder)
    sync_folder(folder)
    counts = check_seg(seg_file.path, source, planned)
    check_sr(sr_file.path, source, seg_file.path, counts)
    logger.info("wrote and checked SEG and SR of %d segments", len(planned.segments))
    return [seg_file, sr_file]


def _content_key(source: SourceSeries, segmentation: Segmentation) -> str:
    """Name the source's content and the model: instances, HU and weights."""
    digest = hashlib.sha256()
    for sop_instance_uid in sorted(source.sop_instance_uids):
        digest.update(sop_instance_uid.encode("ascii") + b"\n")
    digest.update(np.ascontiguousarray(source.volume.array).data)
    return f"{digest.hexdigest()} {segmentation.model.digest}"


def _instance_uids(basis: ResultBasis, content_key: str, role: ResultRole) -> InstanceUids:
    """Derive the UIDs of an object from all that makes its content."""
    parts = (
        content_key,
        *basis.history.key,
        basis.provenance.software_version,
        basis.settings.model_dump_json(),
        role.value,
    )
    return InstanceUids(
        series_instance_uid=derive_uid("series", *parts),
        sop_instance_uid=derive_uid("instance", *parts),
    )


def write_object(dataset: Dataset, role: ResultRole, folder: Path) -> ResultFile:
    """Write an object under the name of its role; its bytes are durable, its name is not yet."""
    path = folder / f"{role.value}.dcm"
    with path.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())
    return ResultFile(
        role=role,
        path=path,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
    )


def sync_folder(folder: Path) -> None:
    """Make the names of the new files durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_report(
    source: SourceSeries | None, segmentation: Segmentation, findings: Findings
) -> dict[str, object]:
    """Give the content of ``report.json``: measurements, timings, model and device.

    Parameters
    ----------
    source
        The DICOM series; none for a NIfTI file.
    segmentation
        Labels, model and run.
    findings
        The measurements.

    Returns
    -------
    dict[str, object]
        Numbers, text, lists and dictionaries only, as JSON has them.
    """
    labels = segmentation.labels
    return {
        "summary": {
            "sentence": summary_sentence(findings),
            "lesion_count": len(findings.lesions),
            "tumor_volume_ml": float(findings.tumor_volume_ml),
            "liver_volume_with_lesions_ml": float(findings.organ_volume_ml),
            "tumor_burden": float(findings.tumor_burden),
        },
        "doubts": [asdict(doubt) for doubt in findings.doubts],
        "liver": _describe_region(findings.liver),
        "lesions": [_describe_lesion(lesion) for lesion in findings.lesions],
        "grid": {
            "shape": [int(size) for size in labels.shape[:3]],
            "spacing_mm": [float(distance) for distance in labels.spacing],
        },
        "source": None if source is None else _describe_source(source),
        "model": asdict(segmentation.model),
        "run": _describe_run(segmentation),
    }


def _describe_region(region: Region) -> dict[str, object]:
    return {
        "volume_ml": float(region.volume_ml),
        "voxel_count": int(region.voxel_count),
        "mean_hu": float(region.mean_hu),
        "sd_hu": float(region.sd_hu),
        "min_hu": float(region.min_hu),
        "max_hu": float(region.max_hu),
        "centroid_mm": [float(coordinate) for coordinate in region.centroid_mm],
        "long_axis": _describe_diameter(region.long_axis),
    }


def _describe_lesion(lesion: Lesion) -> dict[str, object]:
    short_axis = lesion.short_axis
    return {
        "number": int(lesion.number),
        **_describe_region(lesion),
        "short_axis": None if short_axis is None else _describe_diameter(short_axis),
        "surface_distance_mm": lesion.surface_distance_mm,
        "recist_measurable": lesion.is_measurable,
    }


def _describe_diameter(diameter: Diameter) -> dict[str, object]:
    return {
        "length_mm": float(diameter.length_mm),
        "slice_index": int(diameter.slice_index),
        "start": [float(index) for index in diameter.start],
        "end": [float(index) for index in diameter.end],
    }


def _describe_source(source: SourceSeries) -> dict[str, object]:
    return {
        "study_instance_uid": source.study_instance_uid,
        "series_instance_uid": source.series_instance_uid,
        "instance_count": len(source.sop_instance_uids),
    }


def _describe_run(segmentation: Segmentation) -> Mapping[str, object]:
    run = segmentation.run
    return {
        "device": run.device,
        "backend": run.backend,
        "precision": run.precision,
        "timings_s": {step: float(seconds) for step, seconds in run.timings_s.items()},
        "notes": list(run.notes),
    }
