"""Peers by name, as ``AETITLE@host:port``, or as a URL."""

import re

from pydantic import ValidationError

from config import AnyPeer, PeerSettings, Settings, WebPeerSettings
from node.errors import UnknownPeer

_ADDRESS = re.compile(r"(?P<ae_title>[^@]+)@(?P<host>[^@]+):(?P<port>\d+)")


def find_peer(settings: Settings, name: str) -> AnyPeer:
    """Give the peer of this name, or the one that ``AETITLE@host:port`` or a URL spells.

    Raises
    ------
    UnknownPeer
        When it is none of these.
    """
    if name in settings.peers:
        return settings.peers[name]
    spelled = _ADDRESS.fullmatch(name)
    try:
        if "://" in name:
            return WebPeerSettings(url=name)
        if spelled is None:
            raise UnknownPeer(name, settings.peers)
        return PeerSettings.model_validate(spelled.groupdict())
    except ValidationError:
        raise UnknownPeer(name, settings.peers) from None
