"""The command as a person calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from doubles import write_package
from pydicom import dcmread

from config import Settings
from dicom_io.ct import write_ct_series
from dicom_io.nifti import write_nifti
from inference.measure import dice
from inference.phantom import PhantomSettings, make_phantom
from node.demo import _clear
from node.services import open_services


def hepar(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HEPAR_")}
    return subprocess.run(
        [sys.executable, "-m", "node", *map(str, arguments)],
        cwd=cwd,
        env={**environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(seed=4, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2)))


def test_light_commands_load_no_network_engine():
    heavy = "{'torch', 'onnxruntime', 'openvino'}"
    code = f"import sys, node.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_wrong_settings_end_with_2_and_name_the_key(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text("[receive]\nquiet_ms = 2\n")
    done = hepar("config", "check", cwd=tmp_path)
    assert done.returncode == 2
    assert "receive.quiet_ms" in done.stderr
    assert "quiet_s" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["jobs"], ["serve", "--roles", "nonsense"], ["nonsense"], ["echo"]]
)
def test_wrong_calls_end_with_2(tmp_path: Path, arguments: list[str]):
    assert hepar(*arguments, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["echo", "nobody"], 2, "There is no peer 'nobody'"),
        (["echo", "X@127.0.0.1:1"], 1, "cannot be reached"),
        (["segment", "absent", "-o", "out"], 2, "There is no file or folder absent"),
        (["segment", "scan [1]", "-o", "out"], 2, "There is no file or folder scan [1]"),
        (["segment", ".", "-o", "out"], 2, "No DICOM instance was found"),
        (["jobs", "list"], 1, "hepar db upgrade"),
        (["model", "show", "nonsense"], 1, "nonsense"),
        (["config", "check", "--set", "node.port"], 2, "KEY=VALUE"),
        (["config", "check", "--set", "node.port=http"], 2, "node.port"),
        (["demo", "--out", "."], 1, "name an empty folder"),
    ],
)
def test_failures_say_why(tmp_path: Path, arguments: list[str], code: int, says: str):
    (tmp_path / "notes.txt").write_text("not of a demo")
    done = hepar(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_an_interrupted_demo_does_not_block_the_next(tmp_path: Path):
    _clear(tmp_path / "demo")
    (tmp_path / "demo" / "ct").mkdir()
    _clear(tmp_path / "demo")
    assert not (tmp_path / "demo" / "ct").exists()


def test_rules_with_unknown_attributes_are_wrong_settings(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text(
        "[[rules]]\nname = 'x'\naction = 'skip'\nwhen = {SeriesDescripton = 'liver'}\n"
    )
    done = hepar("config", "check", cwd=tmp_path)
    assert done.returncode == 2
    assert "SeriesDescription" in done.stderr


def test_config_show_gives_value_and_origin(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text("[node]\nae_title = 'LIVER'\n")
    done = hepar("config", "show", "--json", "--set", "node.port=11113", cwd=tmp_path)
    rows = {row["key"]: row for row in json.loads(done.stdout)}
    assert rows["node.ae_title"]["value"] == "LIVER"
    assert "hepar.toml" in rows["node.ae_title"]["origin"]
    assert rows["node.port"] == rows["node.port"] | {"value": 11113, "origin": "command line"}
    assert rows["receive.quiet_s"]["origin"] == "default"


def test_db_upgrade_makes_a_database_that_lists_no_jobs(tmp_path: Path):
    assert hepar("db", "upgrade", cwd=tmp_path).returncode == 0
    assert json.loads(hepar("jobs", "list", "--json", cwd=tmp_path).stdout) == []


@pytest.mark.peer
def test_a_database_of_postgresql_is_upgraded_when_told_to(tmp_path: Path, postgresql):
    url = postgresql.new_database(template="template0")
    (tmp_path / "hepar.toml").write_text(f'[database]\nurl = "{url}"\n')
    early = hepar("serve", cwd=tmp_path)
    assert early.returncode == 1
    assert "run `hepar db upgrade`" in " ".join(early.stderr.split())
    assert hepar("db", "upgrade", cwd=tmp_path).returncode == 0
    assert json.loads(hepar("jobs", "list", "--json", cwd=tmp_path).stdout) == []
    shown = hepar("config", "show", "--json", cwd=tmp_path).stdout
    rows = {row["key"]: row["value"] for row in json.loads(shown)}
    assert rows["database.url"]
    assert "s3cret" not in shown + hepar("config", "show", cwd=tmp_path).stdout


def test_an_unknown_database_is_wrong_settings(tmp_path: Path):
    url = "mysql://hepar:s3cret@127.0.0.1/hepar"
    done = hepar("config", "check", "--set", f"database.url={url}", cwd=tmp_path)
    assert done.returncode == 2
    assert "database.url" in done.stderr
    assert "s3cret" not in done.stderr


def test_models_are_listed_and_verified(tmp_path: Path):
    [model] = json.loads(hepar("model", "list", "--json", cwd=tmp_path).stdout)
    assert hepar("model", "verify", model["name"], cwd=tmp_path).returncode == 0
    shown = json.loads(hepar("model", "show", model["name"], cwd=tmp_path).stdout)
    assert shown["digest"] == model["digest"]


def test_a_model_is_added_and_removed(tmp_path: Path):
    package = write_package(tmp_path / "source", name="mine", version="1.0.0")
    assert hepar("db", "upgrade", cwd=tmp_path).returncode == 0
    added = hepar("model", "add", "source", cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    assert "mine@1.0.0 lies in" in added.stdout
    shipped, mine = json.loads(hepar("model", "list", "--json", cwd=tmp_path).stdout)
    assert (shipped["origin"], shipped["in_use"]) == ("shipped", True)
    assert (mine["reference"], mine["origin"], mine["in_use"]) == ("mine@1.0.0", "added", False)
    assert mine["digest"] == package.identity.digest
    assert mine["metrics"] == package.manifest.metrics
    shown = json.loads(hepar("model", "show", "mine", cwd=tmp_path).stdout)
    assert shown["digest"] == package.identity.digest
    assert "mine@1.0.0" in hepar("model", "list", cwd=tmp_path).stdout
    missing = hepar("jobs", "reprocess", "1", "--model", "mine", cwd=tmp_path)
    assert (missing.returncode, missing.stderr.strip()) == (1, "there is no job 1")
    refused = hepar("model", "remove", "mine", "--set", "inference.model=mine", cwd=tmp_path)
    assert refused.returncode == 1
    assert "in use" in refused.stderr
    assert hepar("model", "remove", "mine", cwd=tmp_path).returncode == 0
    assert len(json.loads(hepar("model", "list", "--json", cwd=tmp_path).stdout)) == 1
    with open_services(Settings(data_dir=tmp_path / "hepar-data")) as services:
        done = [line.detail["action"] for line in services.audit.list_entries()]
    assert done == ["model remove", "model add"]


def test_segment_of_a_dicom_folder(tmp_path: Path, phantom):
    write_ct_series(phantom.volume, tmp_path / "ct")
    done = hepar("segment", "ct", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "labels.nii.gz",
        "montage.png",
        "preview.png",
        "report.html",
        "report.json",
        "report.pdf",
        "seg.dcm",
        "sr.dcm",
        "summary.dcm",
    }
    labels = SimpleITK.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    found = SimpleITK.GetArrayFromImage(labels)
    assert set(np.unique(found)) <= {0, 1, 2}
    assert dice(found > 0, phantom.labels.array > 0) > 0.9
    assert dcmread(tmp_path / "out" / "sr.dcm").Modality == "SR"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads(done.stdout)
    assert report["model"]["name"]
    assert report["run"]["device"] == "cpu"


def test_segment_of_a_nifti_file(tmp_path: Path, phantom):
    write_nifti(phantom.volume, tmp_path / "ct.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "ct.nii.gz"))
    done = hepar("segment", "ct.nii.gz", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "liver without lesions" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "labels.nii.gz",
        "montage.png",
        "preview.png",
        "report.html",
        "report.json",
        "report.pdf",
    }
    labels = SimpleITK.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert labels.GetSize() == image.GetSize()
    assert labels.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
    assert dice(SimpleITK.GetArrayFromImage(labels) > 0, phantom.labels.array > 0) > 0.9


def test_several_series_ask_for_a_choice(tmp_path: Path, phantom):
    from dicom_io.ct_attributes import CtIdentity

    small = make_phantom(
        PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    write_ct_series(small.volume, tmp_path / "ct" / "a")
    write_ct_series(small.volume, tmp_path / "ct" / "b", identity=CtIdentity.from_seed(2))
    done = hepar("segment", "ct", "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "choose one with --series" in " ".join(done.stderr.split())
