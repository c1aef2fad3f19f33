"""``hepar doctor``: find out whether this node is fit to work."""

import time
from collections.abc import Iterator

from config import Settings
from dicom_io.rules import check_rules
from inference.errors import InferenceError
from inference.manifest import find_package, verify_package
from inference.segment import load_segmenter
from node.clock import utc_now
from node.errors import NodeError
from node.exchange import echo
from node.health import Check, Verdict, check_disk, check_running
from node.services import Services, open_services
from storage.errors import SchemaOutdated, StorageError


def check_node(settings: Settings) -> Iterator[Check]:
    """Check everything that this node needs."""
    yield _check_rules(settings)
    yield from _check_model(settings)
    yield check_disk(settings)
    yield from _check_database(settings)
    yield from check_running(settings, down=Verdict.REMARK)
    for name, peer in settings.peers.items():
        try:
            detail = echo(settings.node, peer)
        except NodeError as error:
            yield Check(name=f"peer {name}", verdict=Verdict.BAD, detail=str(error))
        else:
            yield Check(name=f"peer {name}", verdict=Verdict.GOOD, detail=detail)


def _check_rules(settings: Settings) -> Check:
    try:
        check_rules(settings.rules)
    except ValueError as error:
        return Check(name="rules", verdict=Verdict.BAD, detail=str(error))
    return Check(name="rules", verdict=Verdict.GOOD, detail=f"{len(settings.rules)} rules")


def _check_model(settings: Settings) -> Iterator[Check]:
    try:
        package = find_package(settings.inference.model)
        verify_package(package)
        start = time.perf_counter()
        segmenter = load_segmenter(settings.inference)
    except InferenceError as error:
        yield Check(name="model", verdict=Verdict.BAD, detail=str(error))
        return
    seconds = time.perf_counter() - start
    name = f"{segmenter.identity.name} {segmenter.identity.version}"
    yield Check(name="model", verdict=Verdict.GOOD, detail=f"{name}, all digests right")
    where = f"{segmenter.backend} {segmenter.precision} on {segmenter.device}"
    yield Check(name="device", verdict=Verdict.GOOD, detail=f"{where}, loaded in {seconds:.1f} s")


def _check_database(settings: Settings) -> Iterator[Check]:
    try:
        with open_services(settings) as services:
            jobs = services.jobs.list_jobs(limit=1)
            last = f"last job {jobs[0].id}" if jobs else "no job yet"
            detail = f"{services.database.dialect}, schema is current, {last}"
            yield Check(name="database", verdict=Verdict.GOOD, detail=detail)
            yield from _check_files(services)
    except SchemaOutdated as error:
        yield Check(name="database", verdict=Verdict.REMARK, detail=str(error))
    except StorageError as error:
        yield Check(name="database", verdict=Verdict.BAD, detail=str(error))


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
