"""Where the node is killed: each stage of its work, between any two things that last."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Moment: TypeAlias = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A moment of one function of the node, or of what it calls."""

    stage: str
    what: str
    """For readers."""
    module: str
    function: str
    moment: Moment
    inside: str = ""
    """Name of a call in `INNER` that the function makes; empty for the function itself."""
    most_hits: int = 1
    """Killed at the first to this call of it, by chance."""

    @property
    def key(self) -> str:
        """Its name, which can be that of a file."""
        return "-".join(part for part in (self.function, self.inside, self.moment) if part)


INNER = {
    "sync": ("storage.files", "_sync"),
    "link": ("storage.files", "_link_or_compare"),
    "rename": ("pathlib", "Path.rename"),
    "c-store": ("pynetdicom.association", "Association.send_c_store"),
    "commit": ("sqlalchemy.orm", "SessionTransaction.commit"),
}
"""Calls that are watched while a function of a point makes them: module and name."""

RECEIVE, SETTLE, WORK, DELIVER, PROVE = "receive", "settle", "work", "deliver", "prove"
STAGES = (RECEIVE, SETTLE, WORK, DELIVER, PROVE)


def _points(
    stage: str, module: str, function: str, *moments: tuple[str, str, Moment], most_hits: int = 1
) -> list[Point]:
    return [
        Point(
            stage=stage,
            what=what,
            module=module,
            function=function,
            inside=inside,
            moment=moment,
            most_hits=most_hits,
        )
        for what, inside, moment in moments
    ]


POINTS = (
    *_points(
        RECEIVE,
        "node.ingest",
        "Ingest.store",
        ("bytes in memory, nothing written", "", "before"),
        ("stored, Success not yet sent", "", "after"),
        most_hits=40,
    ),
    *_points(
        RECEIVE,
        "storage.files",
        "FileStore.spool",
        ("in the spool", "", "after"),
        most_hits=40,
    ),
    *_points(
        RECEIVE,
        "storage.files",
        "FileStore.commit_instance",
        ("before an fsync", "sync", "before"),
        ("before the link to its name", "link", "before"),
        ("named, folder not synced", "link", "after"),
        ("durable, without a row", "", "after"),
        most_hits=40,
    ),
    *_points(
        RECEIVE,
        "storage.catalog",
        "Catalog.add_instance",
        ("row not committed", "commit", "before"),
        ("row committed", "", "after"),
        most_hits=40,
    ),
    *_points(
        SETTLE,
        "storage.catalog",
        "Catalog.settle",
        ("decided, nothing written", "", "before"),
        ("series and job not committed", "commit", "before"),
        ("series and job committed", "", "after"),
    ),
    *_points(WORK, "storage.jobs", "Jobs.claim", ("job claimed", "", "after")),
    *_points(WORK, "dicom_io.series", "read_series", ("series read", "", "after")),
    *_points(WORK, "inference.segment", "Segmenter.segment", ("segmented", "", "after")),
    *_points(
        WORK,
        "dicom_io.results",
        "write_results",
        ("before SEG and SR are encoded", "", "before"),
        ("SEG and SR in the spool", "", "after"),
    ),
    *_points(
        WORK,
        "storage.files",
        "FileStore.commit_results",
        ("results not synced", "sync", "before"),
        ("before the rename of the results", "rename", "before"),
        ("renamed, folder not synced", "rename", "after"),
        ("results durable, without rows", "", "after"),
    ),
    *_points(
        WORK,
        "storage.jobs",
        "Jobs.produced",
        ("rows of the results not committed", "commit", "before"),
        ("PRODUCED", "", "after"),
    ),
    *_points(
        DELIVER, "storage.deliveries", "Deliveries.claim_due", ("delivery claimed", "", "after")
    ),
    *_points(
        DELIVER,
        "node.scu",
        "send_files",
        ("before the association", "", "before"),
        ("before a C-STORE", "c-store", "before"),
        ("a C-STORE was answered", "c-store", "after"),
        ("all sent, not marked", "", "after"),
        most_hits=2,
    ),
    *_points(
        DELIVER,
        "storage.deliveries",
        "Deliveries.delivered",
        ("mark not committed", "commit", "before"),
        ("DELIVERED", "", "after"),
    ),
    *_points(PROVE, "storage.proofs", "Proofs.claim_due", ("proof claimed", "", "after")),
    *_points(PROVE, "storage.proofs", "Proofs.asked", ("request on record, not sent", "", "after")),
    *_points(PROVE, "node.commitment", "request_commitment", ("commitment requested", "", "after")),
    *_points(
        PROVE,
        "storage.proofs",
        "Proofs.answered",
        ("report not committed", "commit", "before"),
        ("report on record", "", "after"),
    ),
    *_points(PROVE, "node.read_back", "get_instance", ("read back", "", "after"), most_hits=2),
    *_points(
        PROVE,
        "storage.proofs",
        "Proofs.proven",
        ("proof not committed", "commit", "before"),
        ("CONFIRMED", "", "after"),
    ),
)
