"""The result objects of a job: built, written, read again and checked, in one call."""

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset

from config.results import DEFAULT_PROFILE, ProfileSettings, ResultRole, ResultSettings
from dicom_io.encapsulated_pdf import PDF_CHECKS, build_pdf, check_pdf
from dicom_io.errors import ResultMismatch
from dicom_io.key_objects import build_key_objects
from dicom_io.overlay import build_overlay
from dicom_io.provenance import (
    NOTHING_KNOWN,
    Audience,
    InstanceUids,
    Provenance,
    ResultBasis,
    SeriesHistory,
)
from dicom_io.rtstruct import build_rtstruct
from dicom_io.seg import build_seg
from dicom_io.segments import PlannedSegments, plan_segments
from dicom_io.series import SourceSeries
from dicom_io.source_images import build_source_images
from dicom_io.sr import build_sr
from dicom_io.uids import derive_uid
from dicom_io.verify import SEG_CHECKS, SR_CHECKS, check_seg, check_sr
from dicom_io.verify_key_objects import KEY_OBJECT_CHECKS, check_key_objects
from dicom_io.verify_overlay import OVERLAY_CHECKS, SUMMARY_CHECKS, check_overlay
from dicom_io.verify_rtstruct import RTSTRUCT_CHECKS, check_rtstruct
from inference.findings import Findings, Segmentation
from inference.manifest import ModelIdentity
from inference.slice_pictures import choose_slices

logger = logging.getLogger(__name__)

Profiles = Mapping[str, ProfileSettings]

_SEG_FORM = ("segmentation", "lesions", "empty_frames")
"""The keys of a profile that shape its SEG."""
_SR_FORM = (*_SEG_FORM, "image_library")
"""Those that shape its SR, which cites the SEG."""
_DESCRIPTION_LENGTH = 64
"""Longest value of VR LO (PS3.5 6.2)."""
_SHORTEST_MODEL = 16
"""Characters that a model has in a description at least."""


@dataclass(frozen=True, kw_only=True)
class ResultContext:
    """What the objects say of their maker, how they are worded, and which are wanted."""

    settings: ResultSettings
    created_at: datetime
    """Aware; fixed per job, so that a repeat gives the same objects."""
    software_version: str
    ae_title: str = "HEPAR"
    history: SeriesHistory = NOTHING_KNOWN
    profiles: Profiles = field(default_factory=lambda: {DEFAULT_PROFILE: ProfileSettings()})
    """What the destinations get, by the name of the profile."""

    def naming(self, name: str, version: str) -> "ResultContext":
        """Give the same with a model in each series description, as ``... (name version)``.

        Where that is too long, the name is cut, then the description.
        """
        texts = self.settings.model_dump()
        described = {
            key: _with_model(text, name, version)
            for key, text in texts.items()
            if key.endswith("_series_description")
        }
        return replace(self, settings=self.settings.model_copy(update=described))

    def provenance(self, model: ModelIdentity) -> Provenance:
        """Give the maker and the time of what is made with a model."""
        return Provenance(
            model=model,
            software_version=self.software_version,
            ae_title=self.ae_title,
            created_at=self.created_at,
        )


def _with_model(text: str, name: str, version: str) -> str:
    room = max(_DESCRIPTION_LENGTH - len(f"{text} ()"), _SHORTEST_MODEL)
    model = f"{name[: room - len(version) - 1]} {version}"
    return f"{text[: _DESCRIPTION_LENGTH - len(f' ({model})')]} ({model})"


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A written result object."""

    role: ResultRole
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    profiles: tuple[str, ...]
    """The names of the profiles that it belongs to."""

    @classmethod
    def of(
        cls, dataset: Dataset, role: ResultRole, path: Path, profiles: tuple[str, ...]
    ) -> "ResultFile":
        """Describe an object that was written."""
        return cls(
            role=role,
            path=path,
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            profiles=profiles,
        )


@dataclass(frozen=True, kw_only=True)
class CheckRecord:
    """What a written file was read again for, and found to hold."""

    file: str
    """Its name, or that of the folder of a series."""
    checked: tuple[str, ...]
    """What was compared with what the file was made from."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WrittenResults:
    """The result objects of a job."""

    files: list[ResultFile]
    """In the order in which they are to be sent: what is cited comes before what cites it."""
    checks: list[CheckRecord]


def write_results(
    source: SourceSeries,
    segmentation: Segmentation,
    findings: Findings,
    folder: Path,
    context: ResultContext,
    pdf: bytes = b"",
) -> WrittenResults:
    """Write the objects of all profiles, durable and checked.

    Profiles that want an object in the same form share it. The same source, model, software and
    settings give the same UIDs; with the same `created_at` and labels, the same bytes.

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
        Wording, time, maker, and the profiles.
    pdf
        The report for people, where a profile wants it.

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
    writer = _Writer(
        basis=basis,
        segmentation=segmentation,
        findings=findings,
        content_key=name_content(source, segmentation),
        folder=folder,
    )
    for audience in _audiences(context.profiles, ResultRole.SEG, _SEG_FORM):
        writer.write_segmentation(audience, context.profiles)
    for audience in _audiences(context.profiles, ResultRole.SUMMARY):
        writer.write_summary(audience)
    for audience in _audiences(context.profiles, ResultRole.OVERLAY, ("overlay_step_mm",)):
        writer.write_overlay(audience)
    for audience in _audiences(context.profiles, ResultRole.RTSTRUCT):
        writer.write_structures(audience)
    for audience in _audiences(context.profiles, ResultRole.PDF):
        writer.write_pdf(audience, pdf)
    for audience in _audiences(context.profiles, ResultRole.KEY_OBJECTS):
        writer.write_key_objects(audience)
    sync_folder(folder)
    logger.info("wrote and checked %d result files", len(writer.files))
    return WrittenResults(files=writer.files, checks=writer.checks)


def _audiences(
    profiles: Profiles, role: ResultRole, keys: Sequence[str] = ()
) -> Iterator[Audience]:
    """Give each form in which an object is wanted, as those keys shape it, and by whom."""
    wanting: dict[tuple[object, ...], list[str]] = {}
    for name, profile in profiles.items():
        if role in profile.objects:
            wanting.setdefault(_values(profile, keys), []).append(name)
    for names in wanting.values():
        yield Audience(profiles=tuple(names), form=profiles[names[0]])


def _values(form: ProfileSettings, keys: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(form, key) for key in keys)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Writer:
    """Builds, writes and checks one object after the other."""

    basis: ResultBasis
    segmentation: Segmentation
    findings: Findings
    content_key: str
    folder: Path
    files: list[ResultFile] = field(default_factory=list)
    checks: list[CheckRecord] = field(default_factory=list)
    forms: Counter[ResultRole] = field(default_factory=Counter)
    """How many there are of each role."""

    def write_segmentation(self, audience: Audience, profiles: Profiles) -> None:
        """Write a SEG, and the reports that cite it."""
        form, probabilities = audience.form, self.segmentation.probabilities
        planned = plan_segments(
            self.segmentation.labels,
            self.findings,
            self.basis.settings,
            form=form.lesions,
            content_key=self.content_key,
        )
        uids = self._uids(ResultRole.SEG, _values(form, _SEG_FORM))
        seg = build_seg(self.basis, planned, uids, form, probabilities)
        path = self._write(seg, ResultRole.SEG, audience)
        with self._checking(path, SEG_CHECKS):
            check_seg(path, self.basis.source, planned, form, probabilities)
        citing = {name: profiles[name] for name in audience.profiles}
        for readers in _audiences(citing, ResultRole.SR, _SR_FORM):
            self._write_report(readers, seg, planned)

    def _write_report(self, audience: Audience, seg: Dataset, planned: PlannedSegments) -> None:
        uids = self._uids(ResultRole.SR, _values(audience.form, _SR_FORM))
        sr = build_sr(self.basis, seg, planned.segments, self.findings, uids, audience)
        path = self._write(sr, ResultRole.SR, audience)
        with self._checking(path, SR_CHECKS):
            check_sr(path, self.basis.source, seg, planned)

    def write_summary(self, audience: Audience) -> None:
        """Write the page of pictures and numbers."""
        labels = self.segmentation.labels
        series_uid = self._uids(ResultRole.SUMMARY).series_instance_uid
        [page] = build_overlay(self.basis, labels, self.findings, (), series_uid)
        path = self._write(page, ResultRole.SUMMARY, audience)
        with self._checking(path, SUMMARY_CHECKS):
            check_overlay([path], self.basis.source, labels, ())

    def write_overlay(self, audience: Audience) -> None:
        """Write the series of pictures."""
        labels, step_mm = self.segmentation.labels, audience.form.overlay_step_mm
        lesion_count = self.basis.settings.max_lesion_segments
        slices = choose_slices(labels, self.findings, step_mm, lesion_count)
        series_uid = self._uids(ResultRole.OVERLAY, (step_mm,)).series_instance_uid
        folder = self.folder / self._stem(ResultRole.OVERLAY)
        folder.mkdir()
        paths: list[Path] = []
        for picture in build_overlay(self.basis, labels, self.findings, slices, series_uid):
            paths.append(folder / f"{len(paths) + 1:04d}.dcm")
            self._save(picture, ResultRole.OVERLAY, paths[-1], audience)
        sync_folder(folder)
        with self._checking(folder, OVERLAY_CHECKS):
            check_overlay(paths, self.basis.source, labels, slices)

    def write_structures(self, audience: Audience) -> None:
        """Write the contours for radiotherapy."""
        labels = self.segmentation.labels
        uids = self._uids(ResultRole.RTSTRUCT)
        structures = build_rtstruct(self.basis, labels, self.findings, uids)
        path = self._write(structures, ResultRole.RTSTRUCT, audience)
        with self._checking(path, RTSTRUCT_CHECKS):
            check_rtstruct(path, self.basis.source, labels, self.findings)

    def write_key_objects(self, audience: Audience) -> None:
        """Write which slices to look at; nothing where there is no lesion."""
        selection = build_key_objects(self.basis, self.findings, self._uids(ResultRole.KEY_OBJECTS))
        if selection is not None:
            path = self._write(selection, ResultRole.KEY_OBJECTS, audience)
            with self._checking(path, KEY_OBJECT_CHECKS):
                check_key_objects(path, self.basis.source, self.findings)

    def write_pdf(self, audience: Audience, pdf: bytes) -> None:
        """Write the report for people."""
        document = build_pdf(self.basis, pdf, self._uids(ResultRole.PDF))
        path = self._write(document, ResultRole.PDF, audience)
        with self._checking(path, PDF_CHECKS):
            check_pdf(path, self.basis.source.datasets, pdf)

    def _uids(self, role: ResultRole, form: tuple[object, ...] = ()) -> InstanceUids:
        """Derive the UIDs of an object from all that makes its content."""
        parts = (
            self.content_key,
            *self.basis.history.key,
            self.basis.provenance.software_version,
            self.basis.settings.model_dump_json(),
            role.value,
            *map(str, form),
        )
        return InstanceUids(
            series_instance_uid=derive_uid("series", *parts),
            sop_instance_uid=derive_uid("instance", *parts),
        )

    def _write(self, dataset: Dataset, role: ResultRole, audience: Audience) -> Path:
        """Write an object under the name of its role."""
        path = self.folder / f"{self._stem(role)}.dcm"
        self._save(dataset, role, path, audience)
        return path

    def _save(self, dataset: Dataset, role: ResultRole, path: Path, audience: Audience) -> None:
        write_object(dataset, path)
        self.files.append(ResultFile.of(dataset, role, path, audience.profiles))

    def _stem(self, role: ResultRole) -> str:
        """Name what is written in a form, numbered from the second form on."""
        self.forms[role] += 1
        return f"{role.value}-{self.forms[role]}" if self.forms[role] > 1 else role.value

    @contextmanager
    def _checking(self, path: Path, checked: tuple[str, ...]) -> Iterator[None]:
        """Time a check, and put it on record once it is passed; one that fails names the file."""
        started = time.perf_counter()
        try:
            yield
        except ResultMismatch as error:
            raise ResultMismatch(f"{path.name}: {error}") from error
        seconds = round(time.perf_counter() - started, 3)
        self.checks.append(CheckRecord(file=path.name, checked=checked, seconds=seconds))


def name_content(source: SourceSeries, segmentation: Segmentation) -> str:
    """Name the source's content and the model: instances, HU and weights."""
    digest = hashlib.sha256()
    for sop_instance_uid in sorted(source.sop_instance_uids):
        digest.update(sop_instance_uid.encode("ascii") + b"\n")
    digest.update(np.ascontiguousarray(source.volume.array).data)
    return f"{digest.hexdigest()} {segmentation.model.digest}"


def write_object(dataset: Dataset, path: Path) -> None:
    """Write an object; its bytes are durable, its name is not yet."""
    with path.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names of the new files durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
