"""How the processes of a node tell the web role what they have counted.

Each has a place in the folder `metrics` of the data folder: a small file in Prometheus' own text
format, written anew every few seconds. A place is held by a lock, which ends with the process, and
the next one takes it over and counts on from there: so counters survive restarts, containers that
share the data folder share the places, and there are never more files than there were processes at
the same time.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from node.clock import utc_now
from node.health import DEAD_AFTER
from node.metrics import BUCKETS_S, Kind, Metric, Metrics, Origin
from node.roles import BEAT_S

logger = logging.getLogger(__name__)

FOLDER = "metrics"
_BOUNDS = frozenset((*BUCKETS_S, float("inf")))
_SHOWN = {one.value.name.removesuffix("_total"): one.value for one in Metric}


class Families(Collector):
    """Families of samples as they are."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Family]:
        """Give them; called by prometheus_client."""
        yield from self._families


@contextmanager
def publishing(metrics: Metrics, folder: Path, role: str) -> Iterator[None]:
    """Write down again and again what this process counts, and once more at its end.

    Where that cannot be done, the process works all the same, and the log says why.
    """
    metrics.count(Metric.PROCESS_STARTS, role=role)
    try:
        place = Place(folder, role)
    except OSError as error:
        logger.warning("the metrics of this process are not shown: %s", error)
        yield
        return
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(BEAT_S):
            _write(place, metrics)

    thread = threading.Thread(target=publish, name="metrics", daemon=True)
    with closing(place):
        _write(place, metrics)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            _write(place, metrics)


def _write(place: "Place", metrics: Metrics) -> None:
    try:
        place.write(metrics.registry.collect())
    except OSError as error:
        logger.warning("metrics not written: %s", error)


class Place:
    """The place of one process, held until it is closed.

    Parameters
    ----------
    folder
        Of all places; it is made.
    role
        Whose places are looked through for a free one.

    Raises
    ------
    OSError
        The folder cannot be used, or its file system has no locks.
    """

    def __init__(self, folder: Path, role: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count():
            self._path = folder / f"{role}-{number}.prom"
            self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
            except OSError:
                os.close(self._lock)
                raise
            else:
                break
        self._before = [one for one in _read(self._path) if one.type != Kind.GAUGE.value]

    def write(self, families: Iterable[Family]) -> None:
        """Write what was counted here before and now; whoever reads sees all of it or the last.

        Raises
        ------
        OSError
        """
        partial = self._path.with_suffix(".part")
        partial.write_bytes(generate_latest(Families(merge([self._before, families]))))
        partial.replace(self._path)

    def close(self) -> None:
        """Leave the place to the next process."""
        os.close(self._lock)


def read_places(folder: Path) -> list[Family]:
    """Add up what all processes have counted; gauges only of those that live."""
    return merge(_read_live(path) for path in sorted(folder.glob("*.prom")))


def _read_live(path: Path) -> list[Family]:
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    is_alive = abs(utc_now() - written) < DEAD_AFTER
    return [one for one in _read(path) if is_alive or one.type != Kind.GAUGE.value]


def _read(path: Path) -> list[Family]:
    """Read a file; what a power cut has damaged, or another version counted, is left out."""
    try:
        text = path.read_text(encoding="utf-8")
        return [family for family in text_string_to_metric_families(text) if _is_ours(family)]
    except FileNotFoundError:
        return []
    except ValueError as error:
        logger.warning("%s cannot be read, its counters begin anew: %s", path, error)
        return []


def _is_ours(family: Family) -> bool:
    """Say whether the table has such a metric, with these labels and buckets."""
    known = _SHOWN.get(family.name)
    if known is None or known.origin is not Origin.PROCESSES or known.kind.value != family.type:
        return False
    labels = {name for sample in family.samples for name in sample.labels}
    bounds = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    return labels - {"le"} <= known.labels.keys() and bounds in (set(), _BOUNDS)


def merge(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """Add counters and histograms up; of a gauge that several show, take the largest value."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (one for part in parts for one in part):
        families.setdefault(family.name, family)
        held = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            if sample.name.endswith("_created"):
                continue
            if family.type == Kind.GAUGE.value:
                held[key] = max(held.get(key, sample.value), sample.value)
            else:
                held[key] = held.get(key, 0.0) + sample.value
    return [_rebuilt(family, values[name]) for name, family in families.items()]


def _rebuilt(
    family: Family, values: dict[tuple[str, tuple[tuple[str, str], ...]], float]
) -> Family:
    rebuilt = Family(family.name, family.documentation, family.type)
    for (name, labels), value in values.items():
        rebuilt.add_sample(name, dict(labels), value)
    return rebuilt
