"""What systemd is told of the node, where it has started it (`Type=notify`)."""

import logging
import os
import socket

logger = logging.getLogger(__name__)

READY = "READY=1"
"""The roles are started."""
STOPPING = "STOPPING=1"
"""The roles are asked to stop."""


def tell(state: str) -> None:
    """Send a state to the socket that the service manager listens on, if there is one.

    References
    ----------
    sd_notify(3)
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        # A name of Linux without a file.
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("the service manager was not told %s: %s", state, error)
