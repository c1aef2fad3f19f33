"""``hepar commission``: a phantom goes the way of a patient, and is looked for in the archive.

A synthetic CT is sent by C-STORE to the receiver of the running node, and its result waited for;
what the archive then gives back is compared with what was sent and with the known truth.
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from config import AnyPeer, NodeSettings, PeerSettings, PeerTls, RuleAction, Settings
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.series import SourceSeries, read_series
from dicom_io.uids import derive_uid
from inference.phantom import LesionSettings, Phantom, PhantomSettings, make_phantom
from inference.phantom_marks import add_marks
from node.clock import utc_now
from node.errors import NodeError, WrongCall
from node.exchange import send_files
from node.health import Check, Verdict, check_running
from node.progress import Progress, StepTimer
from node.returned import Returned, get_back
from node.scp import refusal_of_caller
from node.services import Services, open_services
from storage.records import DeliveryRecord, JobRecord, ProofRecord, SeriesRecord
from storage.states import DeliveryState, JobState, ProofState

PHANTOM = PhantomSettings(
    seed=3,
    shape=(80, 256, 256),
    spacing_mm=(3.75, 1.375, 1.375),
    lesions=tuple(LesionSettings(diameter_mm=size) for size in (45.0, 32.0, 24.0)),
)
"""Its liver and lesions are asymmetric, and the shipped model finds them."""

_POLL_S = 0.2
_LOST_STATES = frozenset(
    {JobState.REJECTED, JobState.FAILED, JobState.CANCELED, JobState.SUPERSEDED}
)
_SOURCE_HINT = """\
No source of the settings may call from this machine ({address}), so the node would refuse the \
phantom. Add this to the settings and start the node again:

[peers.commissioning]
ae_title = "COMMISSIONING"
host = "{address}"
roles = ["source"]"""


class CommissionFailed(NodeError):
    """The phantom did not come to the archive."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What went through the node, and what came of it."""

    settings: Settings
    peer_name: str
    source: SourceSeries
    phantom: Phantom
    identity: CtIdentity
    series: SeriesRecord
    job: JobRecord
    delivery: DeliveryRecord
    proof: ProofRecord | None
    returned: Sequence[Returned]
    """The objects of the peer's profile, in the order in which they were sent."""
    seconds: dict[str, float]
    started_at: datetime

    @property
    def peer(self) -> AnyPeer:
        """The destination."""
        return self.settings.destinations[self.peer_name]


def run_phantom(
    settings: Settings,
    peer_name: str,
    folder: Path,
    *,
    with_ct: bool,
    timeout_s: float,
    progress: Progress,
) -> Run:
    """Send a phantom through the running node, and get its result back from a destination.

    Parameters
    ----------
    settings
        Those of the running node.
    peer_name
        The destination.
    folder
        Gets the CT and what the destination gives back.
    with_ct
        Send the CT to the destination too.
    timeout_s
        Longest wait for the result, and for its proof.
    progress
        Told about each step.

    Raises
    ------
    WrongCall
        It is no destination of the settings, or no source may call from here.
    CommissionFailed
        The node does not run, takes the series not, or gives no result in time.
    PeerUnreachable, PeerRefused
        The node, or the destination that is sent the CT.
    storage.errors.StorageError
    """
    if peer_name not in settings.destinations:
        known = ", ".join(settings.destinations) or "none"
        raise WrongCall(f"{peer_name!r} is no destination of the settings; there are: {known}.")
    node = address_of_node(settings.node)
    caller = choose_caller(settings, own_address(node))
    _check_node(settings)
    timer, started_at = StepTimer(progress=progress), utc_now()
    identity = _make_identity(settings.node, started_at)
    with timer.step("make the phantom", 0.0):
        phantom = make_phantom(PHANTOM)
        paths = write_ct_series(add_marks(phantom.volume), folder / "ct", identity=identity)
    with timer.step(f"send {len(paths)} slices to the node", 0.1):
        _send(caller, node, paths)
    if with_ct:
        with timer.step(f"send the CT to {peer_name}", 0.2):
            _send(settings.node, settings.destinations[peer_name], paths)
    with open_services(settings) as services:
        waiting = Waiting(services, peer_name, time.monotonic() + timeout_s, progress)
        with timer.step("wait for the delivery", 0.25):
            job, delivery = waiting.for_delivery(identity.series_instance_uid)
        proof = None
        if settings.destinations[peer_name].proofs:
            with timer.step("wait for the proof", 0.7):
                proof = waiting.for_proof(delivery)
            job = services.jobs.get(job.id)
        with timer.step("read back", 0.8):
            returned = get_back(services, peer_name, job, delivery.profile, folder / "returned")
        series = services.catalog.get_series(identity.series_instance_uid)
        seconds = timer.seconds | _seconds_in_node(services, series, job, delivery)
    return Run(
        settings=settings,
        peer_name=peer_name,
        source=read_series(paths),
        phantom=phantom,
        identity=identity,
        series=series,
        job=job,
        delivery=delivery,
        proof=proof,
        returned=returned,
        seconds=seconds,
        started_at=started_at,
    )


def address_of_node(node: NodeSettings) -> PeerSettings:
    """Give the receiver of this machine's node as a peer to call."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.host, node.host)  # noqa: S104
    only_tls = node.tls is not None and node.tls.only
    return PeerSettings(
        ae_title=node.ae_title,
        host=host,
        port=node.tls.port if node.tls is not None and node.tls.only else node.port,
        tls=PeerTls.ANY_NAME if only_tls else PeerTls.OFF,
    )


def own_address(node: PeerSettings) -> str:
    """Give the address from which this machine calls its node; nothing is sent."""
    [(family, kind, *_, address), *_] = socket.getaddrinfo(
        node.host, node.port, type=socket.SOCK_DGRAM
    )
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def choose_caller(settings: Settings, address: str) -> NodeSettings:
    """Give our settings with the AE title of a source that may call from an address.

    The rules of the receiver are not loosened for this: a peer of the settings must allow it.

    Raises
    ------
    WrongCall
        There is none; the message says what to add.
    """
    for peer in settings.sources.values():
        if refusal_of_caller(settings.sources, peer.ae_title, address) is None:
            return settings.node.model_copy(update={"ae_title": peer.ae_title})
    raise WrongCall(_SOURCE_HINT.format(address=address))


def _check_node(settings: Settings) -> None:
    bad = [check for check in check_running(settings) if check.verdict is Verdict.BAD]
    if bad:
        said = "; ".join(f"{check.name}: {check.detail}" for check in bad)
        raise CommissionFailed(f"Only a running node can be commissioned. {said}")


def _make_identity(node: NodeSettings, now: datetime) -> CtIdentity:
    """Name a patient who is clearly none, and UIDs that no other run has."""
    run = (node.ae_title, now.isoformat())
    return replace(
        CtIdentity(),
        patient_id=f"HEPAR-TEST-{now:%Y%m%d%H%M%S}",
        patient_name="Test^Commissioning",
        is_for_quality_control=True,
        accession_number=f"T{now:%y%m%d%H%M%S}",
        study_date=f"{now:%Y%m%d}",
        study_time=f"{now:%H%M%S}",
        study_description="Commissioning phantom, no patient",
        study_instance_uid=derive_uid("commissioning study", *run),
        series_instance_uid=derive_uid("commissioning series", *run),
        frame_of_reference_uid=derive_uid("commissioning frame of reference", *run),
    )


def _send(node: NodeSettings, peer: AnyPeer, paths: Sequence[Path]) -> None:
    refused = [sent for sent in send_files(node, peer, paths) if not sent.stored]
    if refused:
        raise CommissionFailed(
            f"{peer.ae_title} at {peer.address} refuses {len(refused)} of {len(paths)} slices: "
            f"{refused[0].answer}"
        )


@dataclass(frozen=True)
class Waiting:
    """Waits for what the node does with the phantom, until a time of the monotonic clock."""

    services: Services
    peer_name: str
    until: float
    progress: Progress

    def for_delivery(self, series_uid: str) -> tuple[JobRecord, DeliveryRecord]:
        """Wait until the destination has accepted all results."""
        while True:
            job = self._job(series_uid)
            if job is None:
                state = "the series is waited for to be whole"
            else:
                delivery = self._delivery(job)
                if delivery is not None and delivery.state is DeliveryState.DELIVERED:
                    return job, delivery
                state = f"job {job.id} is {job.state.value}"
                if delivery is not None and delivery.last_error:
                    state = f"{self.peer_name} has not taken the results: {delivery.last_error}"
                if job.state in _LOST_STATES:
                    raise CommissionFailed(f"Job {job.id} is {job.state.value}: {job.reason}")
            self._pause(state, 0.5)

    def for_proof(self, delivery: DeliveryRecord) -> ProofRecord:
        """Wait until the destination has proven that it keeps them; give what is known in time."""
        while True:
            proof = self.services.proofs.get(delivery.id)
            if proof.state is not ProofState.WAITING or time.monotonic() > self.until:
                return proof
            self._pause(f"proof: {proof.last_error or 'asked for'}", 0.7)

    def _job(self, series_uid: str) -> JobRecord | None:
        series = self.services.catalog.get_series(series_uid)
        if series.decision is RuleAction.SKIP:
            raise CommissionFailed(
                f"The node skips the phantom by the rule {series.rule!r}: {series.reason} Let a "
                "rule take it; `hepar rules test` tries that with its files."
            )
        return next(iter(self.services.jobs.list_jobs(series_uid=series_uid, limit=1)), None)

    def _delivery(self, job: JobRecord) -> DeliveryRecord | None:
        made = self.services.deliveries.list_deliveries(job.id)
        return next((one for one in made if one.destination == self.peer_name), None)

    def _pause(self, state: str, fraction: float) -> None:
        if time.monotonic() > self.until:
            raise CommissionFailed(f"No result in time: {state}. `hepar jobs` says more.")
        self.progress(state, fraction)
        time.sleep(_POLL_S)


def _seconds_in_node(
    services: Services, series: SeriesRecord, job: JobRecord, delivery: DeliveryRecord
) -> dict[str, float]:
    """Give the times between the entries of the database."""
    at = {event.to_state: event.at for event in services.jobs.events(job.id)}
    moments = {
        "until the series was taken as whole": (series.last_received_at, job.created_at),
        "until a worker had time": (job.created_at, at.get(JobState.RUNNING)),
        "segmentation, measurement, encoding": (
            at.get(JobState.RUNNING),
            at.get(JobState.PRODUCED),
        ),
        "delivery": (at.get(JobState.PRODUCED), delivery.updated_at),
    }
    return {
        f"in the node: {name}": round((end - start).total_seconds(), 3)
        for name, (start, end) in moments.items()
        if start is not None and end is not None
    }


def is_passed(checks: Sequence[Check]) -> bool:
    """Whether no check has failed."""
    return all(check.verdict is not Verdict.BAD for check in checks)
