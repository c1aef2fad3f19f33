"""The content of ``report.json``: what was measured, how, and on what."""

from collections.abc import Mapping
from dataclasses import asdict

from dicom_io.series import SourceSeries
from inference.findings import Diameter, Findings, Lesion, Region, Segmentation
from inference.wording import summary_sentence


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
