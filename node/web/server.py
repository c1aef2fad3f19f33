"""The web server of the node."""

import logging
import threading
import time

import uvicorn

from node.services import Services
from node.web.app import build_app
from node.web.setup_token import make_setup_token

logger = logging.getLogger(__name__)

_START_POLL_S = 0.02
_USER_POLL_S = 2.0
_MAX_REQUESTS = 200
_KEEP_ALIVE_S = 30


class WebServer:
    """uvicorn in a thread of the web role."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._web = services.settings.web
        tls = self._web.tls
        config = uvicorn.Config(
            build_app(services),
            host=self._web.host,
            port=self._web.port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Who is behind a proxy is told by `node.web.proxy`.
            proxy_headers=False,
            limit_concurrency=_MAX_REQUESTS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="web")

    def needs_user(self) -> bool:
        """Say whether it may not listen yet: others can reach it, and nobody could log in."""
        proxy = self._web.proxy
        is_guarded = self._web.is_loopback or (proxy is not None and proxy.user_header != "")
        return not is_guarded and not self._services.users.exist()

    def start(self, stop: threading.Event | None = None) -> None:
        """Listen and serve; beyond loopback, wait for a user or for `stop` first.

        Raises
        ------
        OSError
            When the address cannot be bound; uvicorn's log line says why.
        """
        self._wait_for_user(stop or threading.Event())
        if stop is not None and stop.is_set():
            return
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError(f"cannot listen on {self._web.host}:{self._web.port}")
            time.sleep(_START_POLL_S)
        self._tell_where()

    def _wait_for_user(self, stop: threading.Event) -> None:
        if self.needs_user():
            logger.warning(
                "web.host is %s, and there is no user: the pages are not served until one is made "
                "by `hepar users add NAME --role administrator`",
                self._web.host,
            )
        while self.needs_user() and not stop.wait(_USER_POLL_S):
            pass

    def _tell_where(self) -> None:
        proxy = self._web.proxy
        if self._services.users.exist() or (proxy is not None and proxy.user_header):
            logger.info("pages are at %s/", self._web.address)
            return
        token = make_setup_token(self._services.files.data_dir)
        logger.warning(
            "there is no user yet; make the first one at %s/setup?token=%s",
            self._web.address,
            token,
        )

    def stop(self) -> None:
        """Finish the requests in progress and stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
