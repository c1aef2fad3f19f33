"""Settings of the result objects: how they are worded, and what each destination gets."""

from collections import Counter
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from config.section import Section

DEFAULT_PROFILE = "ohif"
"""Segmentation and report in the forms that every viewer tried can show, and a picture of what
few viewers show of a report: its sentences and judgements."""


class ResultRole(StrEnum):
    """Which of the result objects it is."""

    SEG = "seg"
    """The segmentation (PS3.3 A.51)."""
    SR = "sr"
    """The measurement report (PS3.16 TID 1500)."""
    SUMMARY = "summary"
    """One color picture with the numbers, three planes and what is doubtful (PS3.3 A.8)."""
    OVERLAY = "overlay"
    """The same, and color pictures of the slices with contours."""
    RTSTRUCT = "rtstruct"
    """The contours as a structure set for radiotherapy (PS3.3 A.19)."""
    PDF = "pdf"
    """The report for people, as an encapsulated PDF (PS3.3 A.45.1)."""
    KEY_OBJECTS = "key-objects"
    """The slices with the largest diameter of each lesion (PS3.3 A.35.4)."""


class SegmentationForm(StrEnum):
    """How the voxels of a segmentation are written (PS3.3 C.8.20.2)."""

    BINARY = "binary"
    """One bit a voxel, a frame a segment and slice."""
    LABELMAP = "labelmap"
    """The number of its segment for each voxel, a frame a slice."""
    FRACTIONAL = "fractional"
    """The probability of liver and of tumor, 0 to 255."""


class LesionForm(StrEnum):
    """How many segments the lesions have."""

    SEPARATE = "separate"
    """One each, up to `results.max_lesion_segments`."""
    TOGETHER = "together"
    """One for all."""


class PlausibilitySettings(Section):
    """Limits beyond which a result is called doubtful, in the report and in the job."""

    min_liver_ml: float = Field(
        600.0, ge=0, description="Volume of the liver, with its lesions, below which it is small."
    )
    max_liver_ml: float = Field(4000.0, gt=0, description="The same above which it is large.")
    max_tumor_burden: float = Field(
        0.5, gt=0, le=1, description="Share of the liver, 0 to 1, that lesions may have."
    )
    max_cut_cm2: float = Field(
        5.0, ge=0, description="Area of liver on a border of the scan above which it is cut off."
    )
    max_scattered: float = Field(
        0.02, ge=0, le=1, description="Share of the liver that may lie apart from its largest part."
    )

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "PlausibilitySettings":
        if self.min_liver_ml >= self.max_liver_ml:
            raise ValueError("min_liver_ml must be below max_liver_ml")
        return self


class ResultSettings(Section):
    """The result objects."""

    seg_series_number: int = Field(9100, ge=1, description="Series number of the SEG.")
    seg_series_description: str = Field(
        "AI liver segmentation, not reviewed",
        max_length=64,
        description="Series description of the SEG.",
    )
    sr_series_number: int = Field(9101, ge=1, description="Series number of the SR.")
    sr_series_description: str = Field(
        "AI liver measurements, not reviewed",
        max_length=64,
        description="Series description of the SR.",
    )
    overlay_series_number: int = Field(9102, ge=1, description="Series number of the pictures.")
    overlay_series_description: str = Field(
        "AI liver pictures, not reviewed",
        max_length=64,
        description="Series description of the pictures.",
    )
    rtstruct_series_number: int = Field(9103, ge=1, description="Series number of the RTSTRUCT.")
    rtstruct_series_description: str = Field(
        "AI liver contours for planning, not reviewed",
        max_length=64,
        description="Series description of the RTSTRUCT.",
    )
    pdf_series_number: int = Field(9104, ge=1, description="Series number of the PDF.")
    pdf_series_description: str = Field(
        "AI liver report, not reviewed",
        max_length=64,
        description="Series description of the PDF.",
    )
    key_objects_series_number: int = Field(
        9105, ge=1, description="Series number of the key object selection."
    )
    key_objects_series_description: str = Field(
        "AI liver key images, not reviewed",
        max_length=64,
        description="Series description of the key object selection.",
    )
    tumor_type: Literal["neoplasm", "lesion"] = Field(
        "neoplasm", description="Segmented property type of the tumor segments."
    )
    max_lesion_segments: int = Field(
        20, ge=1, description="Lesions with a segment of their own; smaller ones are pooled."
    )
    report_rejected: bool = Field(
        default=True,
        description="Send a report also on a series that cannot be evaluated, which says why.",
    )
    plausibility: PlausibilitySettings = PlausibilitySettings()

    @model_validator(mode="after")
    def _series_numbers_differ(self) -> "ResultSettings":
        keys = [key for key in type(self).model_fields if key.endswith("_series_number")]
        numbers = Counter(getattr(self, key) for key in keys)
        alike = [key for key in keys if numbers[getattr(self, key)] > 1]
        if alike:
            raise ValueError(f"{' and '.join(alike)} must differ")
        return self


class ProfileSettings(Section):
    """What a destination gets, and in which form."""

    objects: tuple[ResultRole, ...] = Field(
        (ResultRole.SEG, ResultRole.SR, ResultRole.SUMMARY),
        min_length=1,
        description="Which objects: 'seg', 'sr', 'summary', 'overlay', 'rtstruct', 'pdf', "
        "'key-objects'.",
    )
    segmentation: SegmentationForm = Field(
        SegmentationForm.BINARY,
        description="Form of the SEG: 'binary', 'labelmap', or 'fractional' (probabilities, with "
        "lesions = 'together').",
    )
    lesions: LesionForm = Field(
        LesionForm.SEPARATE,
        description="'separate': a segment for each lesion; 'together': one tumor segment.",
    )
    empty_frames: bool = Field(
        default=False, description="Keep frames of the SEG that have no voxel of their segment."
    )
    image_library: bool = Field(
        default=False, description="List all source images and where they lie in the SR (TID 1600)."
    )
    overlay_step_mm: float = Field(
        3.0,
        ge=0,
        description="Least distance between slices of the overlay; those with the largest "
        "diameters are always in it. 0 takes every slice with liver.",
    )

    @model_validator(mode="after")
    def _measures_what_it_segments(self) -> "ProfileSettings":
        if ResultRole.SR in self.objects and ResultRole.SEG not in self.objects:
            raise ValueError("'sr' needs 'seg': its measurements cite the segments")
        return self

    @model_validator(mode="after")
    def _gives_something_always(self) -> "ProfileSettings":
        if set(self.objects) == {ResultRole.KEY_OBJECTS}:
            raise ValueError("'key-objects' alone is nothing where there is no lesion; add another")
        return self

    @model_validator(mode="after")
    def _has_one_summary(self) -> "ProfileSettings":
        if {ResultRole.SUMMARY, ResultRole.OVERLAY} <= set(self.objects):
            raise ValueError("'overlay' begins with the summary; leave 'summary' out")
        return self

    @model_validator(mode="after")
    def _probabilities_are_of_tumor(self) -> "ProfileSettings":
        if self.is_fractional and self.lesions is LesionForm.SEPARATE:
            raise ValueError(
                "segmentation = 'fractional' needs lesions = 'together': the probability is that "
                "of tumor, not that of one lesion"
            )
        return self

    @property
    def is_fractional(self) -> bool:
        """Whether it needs probabilities."""
        return ResultRole.SEG in self.objects and self.segmentation is SegmentationForm.FRACTIONAL


def ready_made_profiles() -> dict[str, ProfileSettings]:
    """Give the profiles that every node has."""
    seg, sr, overlay = ResultRole.SEG, ResultRole.SR, ResultRole.OVERLAY
    return {
        DEFAULT_PROFILE: ProfileSettings(),
        "slicer": ProfileSettings(objects=(seg, sr), empty_frames=True, image_library=True),
        "orthanc": ProfileSettings(objects=(seg, sr, overlay, ResultRole.PDF)),
        "sc-only": ProfileSettings(objects=(overlay,)),
        "rt": ProfileSettings(objects=(ResultRole.RTSTRUCT,)),
    }
