"""What a reverse proxy says of a request, believed from the declared addresses only."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

FROM_PROXY = "from_proxy"
"""Key of the scope: whether the request came through the proxy."""


class BehindProxy:
    """Take address and scheme of the browser from the headers of the proxy.

    Parameters
    ----------
    app
        What serves the request.
    networks
        Addresses of the proxy.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = networks
        self._app = app
        trusted = [str(network) for network in networks]
        self._reading = ProxyHeadersMiddleware(app, trusted_hosts=trusted)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and self._is_proxy(scope):
            scope[FROM_PROXY] = True
            await self._reading(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._app(scope, receive, send)

    def _is_proxy(self, scope: Scope) -> bool:
        client = scope.get("client")
        try:
            address = ip_address(client[0]) if client else None
        except ValueError:
            return False
        return address is not None and any(address in network for network in self._networks)
