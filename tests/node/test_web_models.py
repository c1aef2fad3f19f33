"""The pages of the models."""

import pytest
from doubles import write_package

from node.models import add_model
from node.web.markdown import render_markdown
from storage.states import AuditEvent, UserRole

OTHER = "other@1.0.0"


@pytest.fixture
def held(hold, free_port, tmp_path):
    """A node with an added model beside the shipped one."""
    held = hold(late=12, web={"port": free_port()})
    folder = tmp_path / "package"
    write_package(folder, name="other", version="1.0.0")
    (folder / "MODEL_CARD.md").write_text("# Card <b>x</b>\n\n| a |\n|---|\n| 1 |\n")
    add_model(held.services, folder)
    return held


@pytest.fixture
def visit(held, serve):
    return serve(held)


def test_the_models_and_their_papers(visit):
    browser = visit("anna", UserRole.VIEWER)
    page = browser.get("/models").text
    assert page.index("hepar-liver-ct") < page.index("in use") < page.index(OTHER)
    assert "non-commercial research only" in page
    shipped = browser.get("/models/hepar-liver-ct@0.4.0").text
    for said in ("3D-IRCADb-01, patients", "liver dice", "0.971", "fold 4", "Intended use"):
        assert said in shipped
    page = browser.get(f"/models/{OTHER}").text
    assert "<h2>Card &lt;b&gt;x&lt;/b&gt;</h2>" in page
    assert "<td>1</td>" in page
    assert "has not checked these figures" in page
    assert "/verify" not in page
    assert browser.get("/models/nowhere@1.0.0").status_code == 404


def test_files_are_compared_with_the_manifest(held, visit):
    browser = visit("anna", UserRole.OPERATOR)
    browser.get(f"/models/{OTHER}")
    assert "All files are as the manifest says" in browser.post(f"/models/{OTHER}/verify").text
    weights = held.services.settings.model_folders[0] / OTHER / "segmenter.onnx"
    weights.write_bytes(b"other")
    answer = browser.post(f"/models/{OTHER}/verify")
    browser.get(f"/models/{OTHER}")
    answer = browser.post(f"/models/{OTHER}/verify")
    assert answer.status_code == 409
    assert "is not the file that the manifest names" in answer.text


def test_administrators_remove_what_was_added(held, visit):
    browser = visit("anna")
    browser.get("/models/hepar-liver-ct@0.4.0")
    refused = browser.post("/models/hepar-liver-ct@0.4.0/remove")
    assert refused.status_code == 409
    assert "is no added model" in refused.text
    browser.get(f"/models/{OTHER}")
    answer = browser.post(f"/models/{OTHER}/remove")
    assert f"{OTHER} is removed" in answer.text
    assert not (held.services.settings.model_folders[0] / OTHER).exists()
    [line] = held.services.audit.list_entries([AuditEvent.ACTION])
    assert (line.detail["action"], line.detail["model"]) == ("model remove", OTHER)


def test_others_do_not(visit):
    browser = visit("anna", UserRole.OPERATOR)
    assert "/remove" not in browser.get(f"/models/{OTHER}").text
    assert browser.post(f"/models/{OTHER}/remove").status_code == 403


def test_what_cannot_be_used_says_why(held, visit):
    folder = held.services.settings.model_folders[0] / "broken"
    folder.mkdir()
    (folder / "manifest.toml").write_text("nonsense")
    page = visit("anna").get("/models").text
    assert "Not usable" in page
    assert "broken" in page


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](http://elsewhere.example/x.png)",
        "<img src=x onerror=alert(1)>",
    ],
)
def test_cards_run_nothing_and_fetch_nothing(text):
    page = render_markdown(text)
    assert "<script" not in page
    assert "<img" not in page
    assert 'href="javascript' not in page
