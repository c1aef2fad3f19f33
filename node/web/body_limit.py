"""How much a request may send: counted while it comes, so that nobody fills memory or disk."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 1 << 20
"""Forms are small."""
MAX_UPLOAD_BYTES = 200_000_000
"""Of all files together: a long series, or a multi-frame object."""


class BodyLimit:
    """Refuse a body that is too large, as soon as it is known to be.

    Parameters
    ----------
    app
        What serves the request.
    larger
        Paths that may be sent more, and how many bytes.
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int]) -> None:
        self._app = app
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._larger.get(scope["path"], MAX_BYTES)
        # What the sender announces; what comes is counted all the same.
        size = int(Headers(scope=scope).get("content-length") or 0)
        if size <= limit:
            size = 0

        async def receive_some() -> Message:
            nonlocal size
            if size <= limit:
                message = await receive()
                size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413, f"That is more than {limit / 1e6:g} MB; send less at once")
            return message

        await self._app(scope, receive_some, send)
