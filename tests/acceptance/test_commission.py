"""`hepar commission` on a real node with a real archive, which gives back what it has, or not."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from node import returned
from node.cli import app

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def node(make_shared_node, make_shared_orthanc):
    orthanc = make_shared_orthanc()
    node = make_shared_node(orthanc.toml + 'proofs = ["find"]\n')
    orthanc.know(node.port)
    node.orthanc = orthanc
    return node


def checks_of(text: str) -> dict[str, dict[str, str]]:
    return {check["check"]: check for check in json.loads(text)["checks"]}


def test_what_the_archive_has_is_judged_and_can_be_signed(node, tmp_path: Path):
    folder = tmp_path / "signed"
    done = node.hepar("commission", "--to", "archive", "-o", str(folder), "--with-ct", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = checks_of(done.stdout)
    assert {check["verdict"] for check in checks.values()} == {"good"}
    assert checks["given back by the archive"]["detail"] == "3 of 3 objects"
    assert float(checks["alignment: Dice of the liver, SEG as read back"]["detail"]) > 0.9
    report = json.loads(done.stdout)
    page = (folder / "sign-off.html").read_text(encoding="utf-8")
    for said in (report["patient_id"], node.services.jobs.get(report["job"]).model_digest):
        assert said in page
    assert "data:image/png;base64," in page
    assert "Delete the test study" in page
    studies = json.loads(node.orthanc.get("/studies"))
    tags = json.loads(node.orthanc.get(f"/studies/{studies[0]}"))["PatientMainDicomTags"]
    assert len(studies) == 1
    assert tags["PatientID"] == report["patient_id"]
    assert "hepar commission: read back" in done.stderr


def test_an_archive_that_turns_the_segmentation_upside_down_fails(
    node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    get_instance = returned.get_instance

    def turned(*arguments):
        found = get_instance(*arguments)
        if found.Modality == "SEG":
            bits = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), bitorder="little")
            shape = found.NumberOfFrames, found.Rows, found.Columns
            frames = bits[: np.prod(shape)].reshape(shape)[:, ::-1]
            found.PixelData = np.packbits(frames, bitorder="little").tobytes()
        return found

    monkeypatch.setattr(returned, "get_instance", turned)
    folder = tmp_path / "turned"
    command = ["commission", "--to", "archive", "-o", str(folder), "--config", str(node.config)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 1, done.output
    checks = checks_of(done.stdout)
    assert "seg.dcm: Pixel Data" in checks["the same as sent"]["detail"]
    dice = checks["alignment: Dice of the liver, SEG as read back"]
    assert dice["verdict"] == "bad"
    assert float(dice["detail"]) < 0.9
    assert "NOT PASSED" in (folder / "sign-off.html").read_text(encoding="utf-8")
