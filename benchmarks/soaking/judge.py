"""Compares what was sent with disk, rows and archive."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage
from pynetdicom.dsutils import encode

from benchmarks.instances import is_kept
from benchmarks.soaking.material import Case, Outcome
from node.read_back import find_differences
from node.services import Services
from storage.errors import NotFound
from storage.records import JobRecord
from storage.states import JobState

ENDED_EARLIER = (JobState.SUPERSEDED, JobState.REJECTED)
"""What a job may have become when more slices came."""
SENT = (JobState.DELIVERED, JobState.CONFIRMED)
"""Where the archive must have the results."""
GROUND = ("liver", "lesions")
"""What series of the same slices must have in common."""


@dataclass(kw_only=True)
class Verdict:
    """What became of all series."""

    problems: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    superseded: int = 0
    """Jobs that are SUPERSEDED."""
    instances: int = 0
    results: int = 0
    """Objects in the archive that the newest jobs made."""
    older_results: int = 0
    """Objects in the archive of jobs that were SUPERSEDED after they had been on their way."""


class Judge:
    """Looks at series one by one, then at what else is in the archive.

    Parameters
    ----------
    services
        The stores of the node.
    archive
        All that the archive holds.
    """

    def __init__(self, services: Services, archive: Sequence[Dataset]) -> None:
        self._services = services
        self._archive = {str(one.SOPInstanceUID): one for one in archive}
        self._count = Counter(str(one.SOPInstanceUID) for one in archive)
        self._verdict = Verdict()
        self._numbers: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._accounted: set[str] = set()

    def judge(self, cases: Sequence[Case]) -> Verdict:
        """Look at everything; each thing that is wrong is a problem in words."""
        known = {series.series_uid for series in self._services.catalog.list_series(limit=10**6)}
        strange = known - {case.series_uid for case in cases}
        self._verdict.problems += [f"series {uid} was never sent" for uid in sorted(strange)]
        for case in cases:
            self._verdict.problems += [
                f"{case.series_uid} ({case.template.name}): {problem}"
                for problem in self._problems(case)
            ]
        self._verdict.problems += self._strays()
        return self._verdict

    def _problems(self, case: Case) -> Iterator[str]:
        instances = case.read()
        yield from self._instance_problems(case, instances)
        jobs = self._services.jobs.list_jobs(series_uid=case.series_uid, limit=1000)
        self._verdict.jobs += len(jobs)
        outcome = self._outcome(case, jobs)
        self._verdict.outcomes[str(outcome) if outcome else "none"] += 1
        if outcome != case.template.outcome:
            yield f"is {outcome}, not {case.template.outcome}: {jobs[0].reason if jobs else ''}"
        for job in jobs[1:]:
            yield from self._older_problems(job)
        if jobs and jobs[0].state is JobState.REJECTED:
            yield from self._refusal_problems(jobs[0])
        if jobs and jobs[0].state in SENT:
            yield from self._result_problems(jobs[0], instances)
            yield from self._number_problems(case, jobs[0])

    def _instance_problems(self, case: Case, instances: Sequence[Dataset]) -> Iterator[str]:
        catalog, data_dir = self._services.catalog, self._services.files.data_dir
        self._verdict.instances += len(instances)
        changed = sum(not is_kept(data_dir, instance) for instance in instances)
        if changed:
            yield f"{changed} instances are lost or changed on the disk"
        without = sum(catalog.find_instance(one.SOPInstanceUID) is None for one in instances)
        if without:
            yield f"{without} instances have no row"
        series = self._find_series(case)
        if series is not None and series.instance_count != len(instances):
            yield f"{series.instance_count} instances are counted, {len(instances)} were sent"
        if series is not None and series.has_conflicts:
            yield "it has conflicts"

    def _find_series(self, case: Case) -> Any:
        try:
            return self._services.catalog.get_series(case.series_uid)
        except NotFound:
            return None

    def _outcome(self, case: Case, jobs: Sequence[JobRecord]) -> Outcome | None:
        """Give what became of the series, or None where that is not decided."""
        series = self._find_series(case)
        if series is None or not series.settled:
            return None
        live = [job for job in jobs if job.state is not JobState.SUPERSEDED]
        if live:
            return Outcome(state=jobs[0].state, code=jobs[0].reason_code or "")
        return Outcome(state=series.decision, code=series.rule)

    def _older_problems(self, job: JobRecord) -> Iterator[str]:
        """Look at a job that another one took the place of; what it had sent may stay."""
        self._verdict.superseded += job.state is JobState.SUPERSEDED
        if job.state not in ENDED_EARLIER:
            yield f"job {job.id} is not its newest, and {job.state}"
        was_sent = any(
            event.to_state is JobState.DELIVERING for event in self._services.jobs.events(job.id)
        )
        if was_sent:
            uids = {one.sop_instance_uid for one in self._services.jobs.results(job.id)}
            self._accounted |= uids
            self._verdict.older_results += len(uids & set(self._archive))

    def _refusal_problems(self, job: JobRecord) -> Iterator[str]:
        """Look for the report that says why a series was rejected."""
        results = self._services.jobs.results(job.id)
        if [one.role for one in results] != ["sr", "summary"]:
            yield f"job {job.id} has {len(results)} results"
        for result in results:
            self._accounted.add(result.sop_instance_uid)
            self._verdict.results += 1
            if result.sop_instance_uid not in self._archive:
                yield f"the report of job {job.id} is not in the archive"

    def _result_problems(self, job: JobRecord, instances: Sequence[Dataset]) -> Iterator[str]:
        """Look for the results in the archive, as they were made, of exactly these instances."""
        folder = self._services.files.result_folder(job.id)
        results = self._services.jobs.results(job.id)
        if [one.role for one in results] != ["seg", "sr", "summary"]:
            yield f"job {job.id} has {len(results)} results"
        sent = {str(one.SOPInstanceUID) for one in instances}
        for result in results:
            uid = result.sop_instance_uid
            self._accounted.add(uid)
            held = self._archive.get(uid)
            if held is None:
                yield f"{result.role} of job {job.id} is not in the archive"
                continue
            self._verdict.results += 1
            if _encoded(held) == _encoded(dcmread(folder / result.path)):
                differing = []
            else:  # An archive may add something; this looks closer, and takes its time.
                differing = find_differences(folder / result.path, held)
            if differing:
                yield f"{result.role} of job {job.id} differs in {', '.join(differing)}"
            if held.SOPClassUID == SegmentationStorage and _referenced(held) != sent:
                yield f"the SEG of job {job.id} does not reference the instances of the series"

    def _number_problems(self, case: Case, job: JobRecord) -> Iterator[str]:
        """Compare with the numbers of the first series of the same slices."""
        numbers = self._numbers[case.template.name]
        numbers.append({key: job.summary.get(key) for key in GROUND})
        if numbers[-1] != numbers[0]:
            yield f"job {job.id} measured something else than another one in the same slices"

    def _strays(self) -> Iterator[str]:
        for uid in sorted(set(self._archive) - self._accounted):
            yield f"the archive holds {self._archive[uid].Modality} {uid}, which nothing explains"
        for uid, count in self._count.items():
            if count > 1:
                yield f"the archive holds {uid} {count} times"


def _encoded(dataset: Dataset) -> bytes | None:
    content: bytes | None = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    return content


def _referenced(seg: Dataset) -> set[str]:
    return {
        str(one.ReferencedSOPInstanceUID)
        for series in seg.ReferencedSeriesSequence
        for one in series.ReferencedInstanceSequence
    }
