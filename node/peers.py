"""Peers by name, or as ``AETITLE@host:port``."""

import re

from pydantic import ValidationError

from config import PeerSettings, Settings
from node.errors import UnknownPeer

_ADDRESS = re.compile(r"(?P<ae_title>[^@]+)@(?P<host>[^@]+):(?P<port>\d+)")


def find_peer(settings: Settings, name: str) -> PeerSettings:
    """Give the peer of this name, or the one that ``AETITLE@host:port`` spells.

    Raises
    ------
    UnknownPeer
        When it is neither.
    """
    if name in settings.peers:
        return settings.peers[name]
    spelled = _ADDRESS.fullmatch(name)
    if spelled is None:
        raise UnknownPeer(name, settings.peers)
    try:
        return PeerSettings.model_validate(spelled.groupdict())
    except ValidationError:
        raise UnknownPeer(name, settings.peers) from None
