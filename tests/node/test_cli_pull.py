"""What people are told when they order what a PACS has; nothing here talks to one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from doubles import Held
from typer.testing import CliRunner

from node import console
from node.cli import app


@pytest.fixture
def called(
    hold: Callable[..., Held], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run a command on a node that knows an archive."""
    monkeypatch.setattr(console.out, "width", 250)
    monkeypatch.setattr(console.err, "width", 250)
    held = hold(late=12)
    toml = held.services.files.data_dir.parent / "hepar.toml"
    toml.write_text(
        'data_dir = "data"\n[pull]\nmax_rows = 3\n[peers.pacs]\nae_title = "PACS"\n'
        'host = "127.0.0.1"\nport = 1\n[peers.web]\nurl = "http://127.0.0.1:1/dicom-web"\n'
    )

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(toml)])

    return run


def pulls(called) -> list[dict]:
    return json.loads(called("pulls", "list", "--json").stdout)


def test_a_list_is_ordered_shown_canceled_and_taken_up_again(called, tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("Name;Accession No\nDoe;A1\nRoe;A2\nDoe;A1\n")
    done = called("pull", "--from", "pacs", "--list", str(path), "--at-night")
    assert done.exit_code == 0, done.output
    assert "Pull 1: 2 rows from pacs, at night." in done.output
    assert "list.csv, line 4: A1 is left out: it is there already, in line 2." in done.output
    assert "The node does not run" in done.output
    assert "at night" in called("pulls", "list").output
    shown = json.loads(called("pulls", "show", "1", "--json").stdout)
    assert [(row["key"], row["value"]) for row in shown["rows"]] == [
        ("accession", "A1"),
        ("accession", "A2"),
    ]
    assert shown["counts"] == {"WAITING": 2}
    assert shown["actor"].startswith("user:")
    assert "1 row canceled." in called("pulls", "cancel", "1", "--row", "2").output
    text = called("pulls", "show", "1").output
    assert "1 WAITING, 1 CANCELED" in text
    assert "accession A2" in text
    [row] = json.loads(called("pulls", "retry", "1", "--json").stdout)
    assert (row["id"], row["state"]) == (2, "WAITING")


def test_kinds_of_numbers_go_into_one_list(called):
    done = called(
        *("pull", "--from", "pacs", "--accession", "A1", "--patient", "P1"),
        *("--study", "1.2.3", "--json"),
    )
    assert done.exit_code == 0, done.output
    [batch] = pulls(called)
    rows = json.loads(called("pulls", "show", batch["batch"], "--json").stdout)["rows"]
    assert [row["key"] for row in rows] == ["accession", "patient", "study"]
    assert rows[0]["series_uids"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--accession", "*"], "* and ? would match others too"),
        (["--accession", ""], "it is empty"),
        (["--patient", "Doe*"], "* and ? would match others too"),
        (["--study", "*", "--at-night"], ""),
        ([], "give --study, --accession, --patient or --list"),
        (["--accession", "A", "--series", "1.2"], "--series goes with --study"),
        (["--accession", "A", "--by", "fax"], "--by is one of get, move"),
        (["--accession", "A", "--by", "move"], "C-MOVE needs 'source' in peers.pacs.roles"),
        ([f"--accession={value}" for value in "ABCD"], "pull.max_rows"),
        (["--list", "none.csv"], "none.csv cannot be read: No such file"),
    ],
)
def test_what_cannot_be_ordered_is_told(called, arguments: list[str], said: str):
    done = called("pull", "--from", "pacs", *arguments)
    assert done.exit_code != 0
    told = " ".join((done.output + str(done.exception)).replace("\u2502", " ").split())
    assert said in told
    assert pulls(called) == []


def test_a_list_with_a_bad_line_is_refused_as_a_whole(called, tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("A1\nA*\n")
    done = called("pull", "--from", "pacs", "--list", str(path))
    assert "1 lines of" in str(done.exception)
    assert "line 2: 'A*'" in str(done.exception)
    assert pulls(called) == []


def test_who_is_asked_must_be_in_the_settings(called):
    done = called("pull", "--from", "X@127.0.0.1:104", "--accession", "A1")
    assert "The running node works the list off, so it must know the peer." in str(done.exception)
    done = called("pull", "--from", "web", "--accession", "A1", "--by", "move")
    assert "it cannot be asked by C-MOVE" in str(done.exception)


def test_a_pull_that_is_not_there_is_told(called):
    done = called("pulls", "show", "7")
    assert done.exit_code == 1
    assert "there is no pull 7; `hepar pulls list` lists them" in str(done.exception)


def test_a_query_without_an_answer_says_so(called):
    done = called("query", "--from", "pacs", "--accession", "A1", "--json")
    assert done.exit_code == 1
    [answer] = json.loads(done.stdout)
    assert answer["value"] == "A1"
    assert "cannot be reached" in answer["error"]
    assert called("query", "--from", "pacs").exit_code == 2
