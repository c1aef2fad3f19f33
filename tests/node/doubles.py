"""A test double of the network, and a node's stores without processes."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np

from config import RuleAction
from dicom_io.description import describe
from dicom_io.headers import read_attributes, read_header
from dicom_io.rules import Decision
from inference.findings import RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import (
    MANIFEST_NAME,
    ModelIdentity,
    ModelPackage,
    find_package,
    read_package,
)
from inference.volume import Volume
from node.clock import utc_now
from node.services import Services
from storage.records import JobRecord, NewJob, Sender

WRITTEN = 4
"""Slices of a series of the fixture `write`."""
MODEL = ModelIdentity(name="double", version="1", digest="d" * 64, license="for tests")


class BoxSegmenter:
    """A test double of the network: a box is the liver, with a smaller one as its lesion."""

    identity = MODEL

    def segment(self, volume: Volume, progress: Callable[[str, float], None]) -> Segmentation:
        progress("segment", 0.5)
        labels = np.zeros(volume.shape, np.uint8)
        labels[3:9, 8:24, 8:24] = Label.LIVER
        labels[4:6, 10:14, 10:14] = Label.TUMOR
        run = RunRecord(device="cpu", backend="double", precision="exact", timings_s={})
        return Segmentation(labels=volume.with_array(labels), model=MODEL, run=run)


def write_package(folder: Path, **papers: str) -> ModelPackage:
    """Write a package with the papers of the shipped one, changed, and weights that are none."""
    shipped = find_package("hepar-liver-ct")
    text = (shipped.folder / MANIFEST_NAME).read_text(encoding="utf-8")
    for key, value in papers.items():
        text = re.sub(rf'^{key} = ".*"', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
    folder.mkdir(parents=True)
    for weights in shipped.manifest.weight_files:
        content = weights.file.encode()
        (folder / weights.file).write_bytes(content)
        text = text.replace(weights.sha256, sha256(content).hexdigest())
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return read_package(folder)


@dataclass(frozen=True, kw_only=True)
class Held:
    """The stores, and the files of the series that lies in them."""

    services: Services
    series_uid: str
    paths: list[Path]

    def receive(self, path: Path, ae_title: str = "SCANNER") -> None:
        """Take in an instance as the receiver does."""
        header = read_header(path)
        spooled = self.services.files.spool_path()
        shutil.copy(path, spooled)
        stored = self.services.files.commit_instance(spooled, header)
        self.services.catalog.add_instance(header, stored, Sender(ae_title), utc_now())

    def queue(self, model_digest: str = MODEL.digest) -> JobRecord:
        """Settle the series and queue its job."""
        catalog = self.services.catalog
        job = catalog.settle(
            catalog.get_series(self.series_uid),
            Decision(action=RuleAction.PROCESS, rule="test", reason="for a test"),
            job=NewJob(model_name="double", model_version="1", model_digest=model_digest),
            now=utc_now() + timedelta(milliseconds=1),
            described=describe(read_attributes(self.paths[0])),
        )
        assert job is not None
        return job
