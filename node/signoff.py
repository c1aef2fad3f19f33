"""The page that a person signs after a commissioning: one HTML file, to be printed."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from config import PeerTls, Settings, WebPeerSettings
from inference.phantom_marks import MARKS
from inference.preview import draw_preview
from node.commission import Run, is_passed
from node.commission_checks import Judgement
from node.version import SOFTWARE_VERSION

PAGE = "sign-off.html"
PICTURE = "preview.png"
_TITLE = "Commissioning phantom, no patient"

Pairs = tuple[tuple[str, str], ...]


def write_signoff(run: Run, judgement: Judgement, folder: Path, *, with_ct: bool) -> Path:
    """Write the page, and the picture that is in it where there is one."""
    picture = ""
    if judgement.labels is not None:
        path = folder / PICTURE
        draw_preview(
            run.source.volume,
            judgement.labels,
            path,
            title=_TITLE,
            findings=judgement.findings,
        )
        picture = b64encode(path.read_bytes()).decode("ascii")
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined
    )
    page = folder / PAGE
    page.write_text(
        environment.get_template("signoff.html").render(
            passed=is_passed(judgement.checks),
            made_at=f"{run.started_at:%Y-%m-%d %H:%M} UTC",
            sections=_sections(run),
            checks=judgement.checks,
            seconds=run.seconds,
            picture=picture,
            marks=MARKS,
            with_ct=with_ct,
            patient=run.identity,
            holders=", ".join(run.settings.destinations),
        ),
        encoding="utf-8",
    )
    return page


def _sections(run: Run) -> dict[str, Pairs]:
    return {
        "Node": _node(run.settings),
        "Model": _model(run),
        f"Destination {run.peer_name}": _peer(run),
        "Test study": (
            ("Patient", f"{run.identity.patient_name}, ID {run.identity.patient_id}"),
            ("Accession number", run.identity.accession_number),
            ("Study", run.identity.study_instance_uid),
            ("Series", run.identity.series_instance_uid),
            ("Sent as", run.series.calling_ae_title),
            ("Taken by rule", run.series.reason),
            ("Job", f"{run.job.id}, {run.job.state.value}"),
        ),
    }


def _node(settings: Settings) -> Pairs:
    node, database = settings.node, settings.database_url.partition(":")[0]
    tls = "none" if node.tls is None else f"port {node.tls.port}"
    return (
        ("Application entity", f"{node.ae_title} at {node.host}:{node.port}, TLS: {tls}"),
        ("Software", f"hepar {SOFTWARE_VERSION}"),
        ("Data folder", str(settings.data_dir)),
        ("Database", database),
        ("Series is whole after", f"{settings.receive.quiet_s:g} s of quiet"),
        ("Delivery is given up after", f"{settings.delivery.give_up_h:g} h"),
    )


def _model(run: Run) -> Pairs:
    job, how = run.job, run.job.summary.get("run", {})
    ran = [str(how.get(key, "")) for key in ("backend", "precision", "device")]
    return (
        ("Name", f"{job.model_name} {job.model_version}"),
        ("Digest", job.model_digest),
        ("Tumor engine", run.settings.inference.tumor_engine.value),
        ("Ran on", ", ".join(filter(None, ran))),
    )


def _peer(run: Run) -> Pairs:
    peer, name = run.peer, run.delivery.profile
    profile = run.settings.profiles[name]
    if isinstance(peer, WebPeerSettings):
        how = "STOW-RS"
    else:
        how = "C-STORE" if peer.tls is PeerTls.OFF else "C-STORE over TLS"
    return (
        ("Address", f"{peer.ae_title} at {peer.address}, by {how}"),
        ("Profile", f"{name}: {', '.join(profile.objects)}"),
        ("Form of the SEG", f"{profile.segmentation.value}, lesions {profile.lesions.value}"),
        ("Proofs", ", ".join(peer.proofs) or "none asked for"),
    )
