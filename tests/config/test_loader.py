from pathlib import Path

import pytest

import config
from config import PeerRole, SettingsError, WebPeerSettings, load_settings

EXAMPLE = Path(config.__file__).parent / "example.toml"


def write(folder: Path, text: str) -> Path:
    path = folder / "hepar.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_smallest_useful_file_works_as_it_stands():
    settings = load_settings(EXAMPLE, environ={}).settings
    assert settings.node.ae_title == "HEPAR"
    assert settings.peers["pacs"].roles == {PeerRole.SOURCE, PeerRole.DESTINATION}
    assert list(settings.destinations) == list(settings.sources) == ["pacs"]
    assert settings.receive.quiet_s == 2.0
    assert [rule.name for rule in settings.rules] == ["localizer", "not a CT", "CT"]


def test_paths_are_relative_to_the_file(tmp_path: Path):
    path = write(tmp_path, 'data_dir = "held"\n[inference]\nmodel = "./mine"\n')
    settings = load_settings(path, environ={}).settings
    assert settings.data_dir == tmp_path / "held"
    assert Path(settings.inference.model) == tmp_path / "mine"
    assert settings.database_url == f"sqlite:///{tmp_path / 'held' / 'hepar.db'}"


def test_certificates_lie_beside_the_file(tmp_path: Path):
    path = write(tmp_path, "[node.tls]\ncertificate = 'c'\nkey = '/k'\nauthorities = 'a/b'\n")
    tls = load_settings(path, environ={}).settings.node.tls
    assert tls.certificate == tmp_path / "c"
    assert (tls.key, tls.authorities) == (Path("/k"), tmp_path / "a" / "b")


def test_the_certificate_of_the_pages_lies_beside_the_file(tmp_path: Path):
    path = write(tmp_path, "[web.tls]\ncertificate = 'tls/pages.pem'\nkey = '/k'\n")
    tls = load_settings(path, environ={}).settings.web.tls
    assert (tls.certificate, tls.key) == (tmp_path / "tls" / "pages.pem", Path("/k"))


def test_command_line_wins_over_environment_over_file(tmp_path: Path):
    path = write(tmp_path, "[node]\nport = 1\nmax_associations = 1\nae_title = 'FILE'\n")
    loaded = load_settings(
        path,
        environ={"HEPAR_NODE__PORT": "2", "HEPAR_NODE__MAX_ASSOCIATIONS": "2"},
        overrides={"node": {"port": 3}},
    )
    node = loaded.settings.node
    assert (node.port, node.max_associations, node.ae_title) == (3, 2, "FILE")
    assert loaded.origins["node", "port"] == "command line"
    assert loaded.origins["node", "max_associations"] == (
        "environment HEPAR_NODE__MAX_ASSOCIATIONS"
    )
    assert loaded.origins["node", "ae_title"] == f"file {path}"
    assert ("node", "host") not in loaded.origins


def test_peers_can_come_from_the_environment():
    environ = {"HEPAR_PEERS__PACS__AE_TITLE": "PACS", "HEPAR_PEERS__PACS__HOST": "pacs.example"}
    assert load_settings(environ=environ).settings.peers["pacs"].host == "pacs.example"


def test_other_variables_with_our_prefix_are_left_alone():
    load_settings(environ={"HEPAR_TEST_DATA": "somewhere", "HEPAR_CONFIG": "x"})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[receive]\nquiet_ms = 3\n", ["receive.quiet_ms", "unknown key", "'quiet_s'"]),
        ("[recieve]\nquiet_s = 3\n", ["recieve", "unknown key", "'receive'"]),
        ("[peers.a]\nae_title = 'A'\nhots = 'x'\n", ["peers.a.hots", "'host'"]),
        ("[peers.a]\nae_title = 'A'\n", ["peers.a.host", "required"]),
        ("[peers.a]\nurl = 'https://a/b'\npasword = 'x'\n", ["peers.a.pasword", "'password'"]),
        ("[peers.a]\nurl = 'https://a/b'\nhost = 'a'\n", ["peers.a:", "`url`", "`host`"]),
        ("[peers.a]\nurl = 'a.example/b'\n", ["peers.a.url", "https://host/path"]),
        ("[peers.a]\nurl = 'http://u:pw@a/b'\n", ["peers.a.url", "keys of their own"]),
        ("[peers.a]\nurl = 'http://a/b?c'\n", ["peers.a.url", "neither ? nor #"]),
        ("[peers.a]\nurl = 'http://a'\nuser = 'u'\n", ["peers.a", "belong together"]),
        (
            "[peers.a]\nurl = 'http://a'\nuser = 'u'\npassword = 'p'\ntoken = 't'\n",
            ["peers.a", "not both"],
        ),
        (
            "[peers.a]\nurl = 'http://a'\nroles = ['source']\n",
            ["peers.a.roles", "cannot send", "hepar pull"],
        ),
        (
            "[peers.a]\nurl = 'http://a'\nproofs = ['commitment']\n",
            ["peers.a.proofs", "over DIMSE", "'find' or 'get'"],
        ),
        (
            "[peers.a]\nurl = 'http://a'\n[peers.a.poll]\nby = 'move'\n",
            ["peers.a.poll", "polled by 'get'"],
        ),
        (
            "[peers.a]\nae_title = 'A'\nhost = 'a'\n[peers.a.poll]\nby = 'move'\n",
            ["peers.a", "needs the role 'source'"],
        ),
        ("[peers.a]\nurl = 'http://a'\n[peers.a.poll]\nday = 1\n", ["a.poll.day", "'days'"]),
        ("[node]\nport = 'dicom'\n", ["node.port", "integer"]),
        ("[node]\nport = 70000\n", ["node.port", "65535"]),
        ("[node]\nae_title = 'SEVENTEEN LETTERS'\n", ["node.ae_title", "16 characters"]),
        ("[node]\nae_title = 'A\\\\B'\n", ["node.ae_title", "backslash"]),
        ("[receive]\nquiet_s = -1\n", ["receive.quiet_s", "greater than or equal to 0"]),
        ("[[rules]]\nname = 'x'\naction = 'drop'\n", ["action", "'process' or 'skip'"]),
        (
            "[[rules]]\nname = 'x'\naction = 'skip'\nwhen = {Modality = {}}\n",
            ["a condition needs one of"],
        ),
        (
            "[results]\nseg_series_number = 5\nsr_series_number = 5\n",
            ["seg_series_number", "must differ"],
        ),
        ("[profiles.x]\nobjects = ['sr']\n", ["profiles.x", "'sr' needs 'seg'"]),
        ("[profiles.x]\nobjects = ['key-objects']\n", ["profiles.x", "add another"]),
        ("[profiles.x]\nobjects = []\n", ["profiles.x.objects", "at least 1"]),
        ("[profiles.x]\nsegmantation = 'binary'\n", ["profiles.x.segm", "'segmentation'"]),
        (
            "[profiles.x]\nsegmentation = 'fractional'\n",
            ["profiles.x", "lesions = 'together'"],
        ),
        (
            "[peers.a]\nurl = 'http://a'\nprofile = 'ohfi'\n",
            [
                "peers.a.profile",
                "'ohfi'",
                "ohif, orthanc, rt",
                "it needs the section [profiles.ohfi]",
            ],
        ),
        (
            "[inference]\ntumor_engine = 'gmm'\n[profiles.x]\nsegmentation = 'fractional'\n"
            "lesions = 'together'\n",
            ["profiles.x.segmentation", "needs the section", "'binary'"],
        ),
        ("data_dir = [\n", ["not valid TOML"]),
        (
            "[peers.a]\nae_title = 'A'\nhost = 'h'\ntls = 'on'\n",
            ["peers.a.tls needs the section [node.tls]"],
        ),
        ("[node.tls]\ncertificate = 'c'\nkey = 'k'\n", ["node.tls.authorities", "required"]),
    ],
)
def test_refusals_name_key_and_remedy(tmp_path: Path, text: str, parts: list[str]):
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as refusal:
        load_settings(path, environ={})
    for part in parts if _is_about_two_keys(parts) else [*parts, str(path)]:
        assert part in str(refusal.value)


def _is_about_two_keys(parts: list[str]) -> bool:
    """Say whether no single line of the file is to blame."""
    return any("must differ" in part or "needs the section" in part for part in parts)


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"HEPAR_NODE__PORT": "abc"}, ["node.port", "HEPAR_NODE__PORT"]),
        ({"HEPAR_NOOD__PORT": "1"}, ["HEPAR_NOOD__PORT", "no section 'nood'", "HEPAR_NODE"]),
        ({"HEPAR_NODE__PROT": "1"}, ["node.prot", "'port'"]),
    ],
)
def test_environment_is_refused_like_the_file(environ: dict[str, str], parts: list[str]):
    with pytest.raises(SettingsError) as refusal:
        load_settings(environ=environ)
    for part in parts:
        assert part in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"There is no settings file .*absent\.toml"):
        load_settings(tmp_path / "absent.toml", environ={})


def test_secrets_are_masked():
    url = "postgresql://hepar:secret@db/hepar"
    settings = load_settings(environ={"HEPAR_DATABASE__URL": url}).settings
    assert settings.database_url == url
    assert "secret" not in repr(settings)


def test_a_peer_with_a_url_is_a_dicomweb_service(tmp_path: Path):
    path = write(
        tmp_path,
        "[peers.web]\nurl = 'https://pacs.example/dicom-web/'\nuser = 'hepar'\n"
        "authorities = 'ca.pem'\nroles = ['destination']\nproofs = ['find', 'get']\n"
        "[peers.pacs]\nae_title = 'PACS'\nhost = 'pacs'\nroles = ['source', 'destination']\n",
    )
    settings = load_settings(path, environ={"HEPAR_PEERS__WEB__PASSWORD": "secret"}).settings
    web = settings.peers["web"]
    assert isinstance(web, WebPeerSettings)
    assert web.address == "https://pacs.example/dicom-web"
    assert web.authorities == tmp_path / "ca.pem"
    assert web.password.get_secret_value() == "secret"
    assert "secret" not in repr(settings)
    assert set(settings.destinations) == {"web", "pacs"}
    assert set(settings.sources) == {"pacs"}
    assert settings.peers["pacs"].address == "pacs:104"


def test_a_peer_may_be_a_url_of_the_environment_only():
    environ = {"HEPAR_PEERS__WEB__URL": "http://a/b", "HEPAR_PEERS__WEB__ROLES": '["destination"]'}
    assert list(load_settings(environ=environ).settings.destinations) == ["web"]


def test_profiles_are_ready_made_and_can_be_replaced(tmp_path: Path):
    path = write(
        tmp_path,
        "[peers.pacs]\nurl = 'http://a'\nroles = ['destination']\nprofile = 'mine'\n"
        "[profiles.mine]\nobjects = ['seg']\nsegmentation = 'labelmap'\n"
        "[profiles.rt]\nobjects = ['rtstruct', 'pdf']\n",
    )
    settings = load_settings(path, environ={"HEPAR_PROFILES__MINE__EMPTY_FRAMES": "true"}).settings
    assert set(settings.profiles) == {"ohif", "slicer", "orthanc", "sc-only", "rt", "mine"}
    assert settings.profiles["rt"].objects == ("rtstruct", "pdf")
    assert settings.delivered_profiles == {"mine": settings.profiles["mine"]}
    assert settings.profiles["mine"].empty_frames
    assert load_settings(environ={}).settings.delivered_profiles.keys() == {"ohif"}
