import pytest

from config import Settings
from config.hints import settings_hints

PACS = {"ae_title": "PACS", "host": "pacs", "roles": ["destination"]}


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({}, ["nothing is ever removed"]),
        ({"retention": {"unused_days": 9}}, []),
        ({"retention": {"max_gb": 9}}, ["sent nowhere"]),
        ({"retention": {"results_days": 9}, "peers": {"pacs": PACS}}, ["peers.pacs.proofs"]),
        ({"retention": {"max_gb": 9}, "peers": {"pacs": PACS | {"proofs": ["find"]}}}, []),
    ],
)
def test_what_may_not_have_been_meant(sections: dict, says: list[str]):
    hints = list(settings_hints(Settings(**sections)))
    assert len(hints) == len(says)
    assert all(word in hint for word, hint in zip(says, hints, strict=True))
