"""An archive that speaks DICOMweb only, on both sides of the node."""

import json

import pytest
from pydicom import dcmread

from benchmarks.peers import Orthanc, wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


def test_a_study_comes_and_results_go_by_dicomweb(make_node, web_archive: Orthanc, synthetic_ct):
    node = make_node(
        f'[peers.web]\nurl = "{web_archive.url}"\nuser = "hepar"\npassword = "right"\n'
        'roles = ["destination"]\nproofs = ["find", "get"]\n'
        "[peers.web.poll]\nevery_s = 1.0\ndays = 36500\n"
    )
    assert " ".join(node.hepar("echo", "web").stdout.split()) == (
        f"{web_archive.url} answers QIDO-RS."
    )
    sent = node.hepar("send", str(synthetic_ct.folder), "--to", "web")
    assert sent.returncode == 0, sent.stderr
    job = wait_until(lambda: (j := node.job()) and j.state is JobState.CONFIRMED and j, node.log)
    assert job.calling_ae_title == "DICOMWEB"
    study = str(dcmread(synthetic_ct.paths[0]).StudyInstanceUID)
    done = node.hepar("pull", "--from", "web", "--study", study, "--json")
    assert done.returncode == 0, done.stderr
    [series] = json.loads(done.stdout)
    assert (series["offered"], series["fetched"]) == (len(synthetic_ct.paths), 0), "it was polled"
    kept = json.loads(web_archive.get("/series?expand"))
    assert sorted(one["MainDicomTags"]["Modality"] for one in kept) == ["CT", "OT", "SEG", "SR"]
    refused = node.hepar("echo", "web", "--set", "peers.web.password=wrong")
    assert refused.returncode == 1
    assert "HTTP 401" in refused.stderr
    web_archive.stop()
    wait_until(lambda: "poll of web: " in node.hepar("doctor", "--running").stdout, "it is told")
