"""Every key of the settings with value, default and origin."""

from config import load_settings
from config.listing import list_settings


def test_values_defaults_and_origins(tmp_path):
    path = tmp_path / "hepar.toml"
    path.write_text(
        '[peers.pacs]\nae_title = "A"\nhost = "h"\nroles = ["source", "destination"]\n'
        '[peers.web]\nurl = "https://h/d"\ntoken = "secret"\n',
        encoding="utf-8",
    )
    loaded = load_settings(
        path,
        overrides={"receive": {"quiet_s": 1.0}},
        environ={"HEPAR_NODE__PORT": "104"},
    )
    rows = {row.key: row for row in list_settings(loaded)}
    assert (rows["receive.quiet_s"].value, rows["receive.quiet_s"].default) == (1.0, 5.0)
    assert rows["receive.quiet_s"].origin == "command line"
    assert rows["node.port"].origin == "environment HEPAR_NODE__PORT"
    assert rows["peers.pacs.roles"].value == "destination, source"
    assert rows["peers.pacs.host"].default == "required"
    assert rows["peers.pacs.host"].origin == f"file {path}"
    assert rows["rules"].value == rows["rules"].default
    assert rows["rules"].value.startswith("localizer: skip, ")
    assert rows["rules"].origin == "default"
    assert "secret" not in str(rows["peers.web.token"])
    assert all(row.meaning for row in rows.values())
