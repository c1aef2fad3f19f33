"""``hepar doctor``: find out whether this node is fit to work."""

import socket
import time
from collections.abc import Iterator
from datetime import datetime

from config import Settings
from dicom_io.rules import check_rules
from inference.errors import InferenceError
from inference.phantom import PhantomSettings, make_phantom
from inference.segment import Segmenter, load_segmenter
from node.clock import utc_now
from node.doctor_network import check_clocks, check_peers, check_ports, check_tls
from node.health import DEAD_AFTER, Check, Verdict, check_disk, check_running
from node.models import located
from node.overview import describe_pause
from node.services import Services, open_services
from storage.errors import SchemaOutdated, StorageError

BOX = PhantomSettings(seed=5, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2))
"""The synthetic CT by which the speed is told: an abdomen of 25 cm."""


def check_node(settings: Settings, *, quick: bool = False) -> Iterator[Check]:
    """Check everything that this node needs.

    Parameters
    ----------
    settings
        The whole tree.
    quick
        Leave out the speed, which takes the device for some seconds.
    """
    yield _check_rules(settings)
    yield from _check_model(settings, quick=quick)
    yield check_disk(settings)
    yield from check_tls(settings.node)
    running: frozenset[str] = frozenset()
    called: dict[str, datetime] = {}
    try:
        with open_services(settings) as services:
            yield from _check_database(services)
            yield from check_clocks(services)
            yield from _check_files(services)
            yield from _check_pauses(services)
            running, called = _running_here(services), services.catalog.last_received()
    except SchemaOutdated as error:
        yield Check(name="database", verdict=Verdict.REMARK, detail=str(error))
    except StorageError as error:
        yield Check(name="database", verdict=Verdict.BAD, detail=str(error))
    yield from check_running(settings, down=Verdict.REMARK)
    yield from check_ports(settings, running)
    yield from check_peers(settings, called)


def _running_here(services: Services) -> frozenset[str]:
    """Give the roles that live on this machine."""
    now, host = utc_now(), socket.gethostname()
    beats = services.heartbeats.list_beats()
    return frozenset(
        beat.role for beat in beats if beat.host == host and abs(now - beat.beat_at) < DEAD_AFTER
    )


def _check_rules(settings: Settings) -> Check:
    try:
        check_rules(settings.rules)
    except ValueError as error:
        return Check(name="rules", verdict=Verdict.BAD, detail=str(error))
    return Check(name="rules", verdict=Verdict.GOOD, detail=f"{len(settings.rules)} rules")


def _check_model(settings: Settings, *, quick: bool) -> Iterator[Check]:
    try:
        inference = located(settings)
        start = time.perf_counter()
        segmenter = load_segmenter(inference)
    except InferenceError as error:
        yield Check(name="model", verdict=Verdict.BAD, detail=str(error))
        return
    seconds = time.perf_counter() - start
    name = f"{segmenter.identity.name} {segmenter.identity.version}"
    yield Check(name="model", verdict=Verdict.GOOD, detail=f"{name}, all digests right")
    where = f"{segmenter.backend} {segmenter.precision} on {segmenter.device}"
    yield Check(name="device", verdict=Verdict.GOOD, detail=f"{where}, loaded in {seconds:.1f} s")
    if not quick:
        yield _check_speed(segmenter)


def _check_speed(segmenter: Segmenter) -> Check:
    """Segment a synthetic CT, whatever comes out of it; the networks are warm already."""
    volume = make_phantom(BOX).volume
    segmenter.warm_up()
    start = time.perf_counter()
    try:
        segmenter.segment(volume)
    except InferenceError as error:
        return Check(name="speed", verdict=Verdict.REMARK, detail=str(error))
    seconds = time.perf_counter() - start
    slices, rows, columns = BOX.shape
    detail = f"a synthetic CT of {slices} x {rows} x {columns} voxels in {seconds:.1f} s"
    return Check(name="speed", verdict=Verdict.GOOD, detail=detail)


def _check_database(services: Services) -> Iterator[Check]:
    database = services.database
    jobs = services.jobs.list_jobs(limit=1)
    last = f"last job {jobs[0].id}" if jobs else "no job yet"
    database.check_writable()
    detail = f"{database.describe()}, writable, schema is current, {last}"
    yield Check(name="database", verdict=Verdict.GOOD, detail=detail)


def _check_pauses(services: Services) -> Iterator[Check]:
    """Tell what a person has suspended."""
    for pause in services.pauses.list_pauses():
        detail = f"{describe_pause(pause)}; `hepar resume {pause.work.value}` lets it go on"
        yield Check(name=pause.work.value, verdict=Verdict.REMARK, detail=detail)


def _check_files(services: Services) -> Iterator[Check]:
    """Tell what the last sweep has missed or set aside."""
    files = services.files
    for series in services.catalog.incomplete_series():
        paths = map(files.absolute, services.catalog.instance_paths(series.series_uid))
        missing = sum(not path.exists() for path in paths)
        if missing:
            detail = f"{missing} files of series {series.series_uid} are missing; send it again"
            yield Check(name="files", verdict=Verdict.BAD, detail=detail)
    set_aside = sum(path.is_file() for path in files.lost_and_found.rglob("*"))
    if set_aside:
        detail = f"{set_aside} files that nobody can use lie in {files.lost_and_found}"
        yield Check(name="files", verdict=Verdict.REMARK, detail=detail)
    excess = services.retention.plan(utc_now()).excess_bytes
    if excess:
        detail = f"{excess / 1e9:.1f} GB more than max_gb stay; `hepar retention preview` says why"
        yield Check(name="retention", verdict=Verdict.REMARK, detail=detail)
