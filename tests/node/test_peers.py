import pytest

from config import Settings
from node.errors import UnknownPeer
from node.peers import find_peer
from node.scp import refusal_of_caller

SETTINGS = Settings(
    peers={
        "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": 4242, "roles": ["source"]},
        "archive": {"ae_title": "ARCH", "host": "127.0.0.1", "roles": ["destination"]},
        "ward": {
            "ae_title": "WARD",
            "host": "scanner.invalid",
            "roles": ["source"],
            "networks": ["10.1.0.0/16", "fd00::/8"],
        },
        "gone": {"ae_title": "GONE", "host": "scanner.invalid", "roles": ["source"]},
        "roaming": {
            "ae_title": "ROAM",
            "host": "scanner.invalid",
            "roles": ["source"],
            "check_address": False,
        },
    }
)


def test_peers_by_name_and_by_address():
    assert find_peer(SETTINGS, "pacs").port == 4242
    spelled = find_peer(SETTINGS, "STORE SCP@pacs.example:104")
    assert (spelled.ae_title, spelled.host, spelled.port) == ("STORE SCP", "pacs.example", 104)


@pytest.mark.parametrize("name", ["pasc", "A@b", "@b:1", "A@b:99999", "TOO LONG FOR AN AE@b:1"])
def test_unknown_peers_list_the_known_ones(name: str):
    with pytest.raises(UnknownPeer, match="archive, gone, pacs, roaming, ward"):
        find_peer(SETTINGS, name)


@pytest.mark.parametrize(
    ("ae_title", "address", "allowed"),
    [
        ("ORTHANC", "127.0.0.1", True),
        ("ORTHANC", "127.0.0.2", False),
        ("orthanc", "127.0.0.1", False),
        ("NOBODY", "127.0.0.1", False),
        ("ARCH", "127.0.0.1", False),
        ("WARD", "10.1.2.3", True),
        ("WARD", "10.2.2.3", False),
        ("WARD", "fd00::1", True),
        ("GONE", "127.0.0.1", False),
        ("ROAM", "192.0.2.1", True),
    ],
)
def test_callers_need_the_role_and_the_address(ae_title: str, address: str, allowed: bool):
    refusal = refusal_of_caller(SETTINGS.sources, ae_title, address)
    assert (refusal is None) is allowed
    assert allowed or ae_title in refusal
