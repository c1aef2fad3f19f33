"""What a destination gives back of the results of a job."""

import time
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from config import AnyPeer, NodeSettings
from dicom_io.results import write_object
from node.errors import NodeError
from node.read_back import find_instance, get_instance
from node.services import Services
from storage.records import JobRecord, ResultRecord

PATIENCE_S = 30.0
"""So long an archive may take to index what it has accepted."""
_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Returned:
    """One result object, as it was sent and as it came back."""

    result: ResultRecord
    sent: Path
    """Its file in the node."""
    listed: bool | None
    """Whether the destination lists it; none where that cannot be asked."""
    given: bool | None
    """Whether it gives it back; none where that cannot be asked."""
    came_back: Path | None
    """The file of what it gave back."""
    problem: str
    """Why it could not be asked, or gave nothing back."""

    @property
    def path(self) -> Path:
        """What there is of it: as it came back, else as it was sent."""
        return self.came_back or self.sent

    def read(self) -> Dataset:
        """Read that."""
        return dcmread(self.path)


def get_back(
    services: Services, peer_name: str, job: JobRecord, profile: str, folder: Path
) -> tuple[Returned, ...]:
    """Ask a destination for each object of a profile, by C-FIND and C-GET, or QIDO-RS and WADO-RS.

    Parameters
    ----------
    services
        The stores of the node.
    peer_name
        The destination.
    job
        Whose results.
    profile
        Which of them.
    folder
        Gets what comes back.
    """
    settings = services.settings
    asking = _Asking(
        node=settings.node,
        peer=settings.destinations[peer_name],
        study_uid=job.study_uid,
        until=time.monotonic() + PATIENCE_S,
    )
    sent, returned = services.files.result_folder(job.id), []
    for result in services.jobs.results(job.id, profile):
        listed, problem = asking.is_listed(result)
        given, content, why = asking.give_back(result)
        path = None
        if content is not None:
            path = folder / result.path
            path.parent.mkdir(parents=True, exist_ok=True)
            write_object(content, path)
        returned.append(
            Returned(
                result=result,
                sent=sent / result.path,
                listed=listed,
                given=given,
                came_back=path,
                problem=why or problem,
            )
        )
    return tuple(returned)


@dataclass(frozen=True, kw_only=True)
class _Asking:
    node: NodeSettings
    peer: AnyPeer
    study_uid: str
    until: float
    """Until this time of the monotonic clock a missing object is asked for again."""

    def is_listed(self, result: ResultRecord) -> tuple[bool | None, str]:
        """Say whether an object is listed, and why that cannot be asked."""
        try:
            while not find_instance(self.node, self.peer, self.study_uid, result):
                if time.monotonic() > self.until:
                    return False, f"{self.peer.ae_title} does not list {result.path}"
                time.sleep(_PAUSE_S)
        except NodeError as error:
            return None, str(error)
        return True, ""

    def give_back(self, result: ResultRecord) -> tuple[bool | None, Dataset | None, str]:
        """Say whether an object is given back, give it, or say why it does not come."""
        try:
            found = get_instance(self.node, self.peer, self.study_uid, result)
        except NodeError as error:
            return None, None, str(error)
        if found is None:
            return False, None, f"{self.peer.ae_title} does not give {result.path} back"
        return True, found, ""
