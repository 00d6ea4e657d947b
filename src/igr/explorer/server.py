"""The server of the page, for this machine alone."""

import asyncio
import contextlib
import logging
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import Any

import torch
from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.resources import Resources
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.static_handler import StaticHandler
from bokeh.settings import settings
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from igr.errors import UserError
from igr.explorer.page import explore

ADDRESS = "127.0.0.1"
# Taken if it is free and no other is asked for.
USUAL_PORT = 5010


def serve(port: int | None, *, show: bool, started: Callable[[str], None]) -> None:
    """Serves the page until the process is interrupted.

    Arguments:
        port: The port; ``0`` for any that is free, ``None`` for the usual one or, if that cannot be had, any.
        show: Whether to open a browser.
        started: Called with the address of the page once it answers.

    Raises:
        UserError: The port cannot be had.
        KeyboardInterrupt: Ctrl-C.
    """
    for name in ("bokeh", "tornado"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The browser has work for the other cores.
    torch.set_num_threads(1)
    asyncio.run(_serve(port, show, started))


class _Refusal(RequestHandler):
    """The answer to a request that no page of this server has made."""

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain")
        self.finish("This page is for its own machine alone; open the address that igr explore says.\n")


class _Tornado(BokehTornado):  # type: ignore[misc]
    """A server of this page alone, which no variable of the environment sends elsewhere.

    Arguments:
        port: That of the page.
    """

    def __init__(self, port: int) -> None:
        self._names = [f"{ADDRESS}:{port}", f"localhost:{port}"]
        # As an argument it would be what BOKEH_ALLOW_WS_ORIGIN replaces.
        settings.allowed_ws_origin = self._names
        super().__init__(
            {"/": Application(FunctionHandler(explore))},
            # Bokeh would write them into the page, and cookies of all servers on this machine come here.
            include_headers=[],
            include_cookies=[],
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate:
        """Refuses what other sites ask for, before anything is computed."""
        found: HTTPMessageDelegate = (
            self.get_handler_delegate(request, _Refusal)
            if self._is_foreign(request)
            else super().find_handler(request, **kwargs)
        )
        return found

    def _is_foreign(self, request: HTTPServerRequest) -> bool:
        # Another site may give its name to 127.0.0.1, after which its pages are of one origin with this one.
        host = request.host.lower()
        if (host if ":" in host else f"{host}:80") not in self._names:
            return True
        # A script for pages of other sites, with a session for each.
        if request.path == "/autoload.js":
            return True
        # Each page is computed as it is asked for. Who follows a link wants one; pictures and frames do not.
        site, *kind = (request.headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Mode", "Dest"))
        return site == "cross-site" and kind != ["navigate", "document"]

    def resources(self, absolute_url: str | bool | None = None) -> Resources:
        """Scripts from this server, and those only that the page needs: half of all is for mathematics."""
        return Resources(
            mode="server",
            root_url="/",
            path_versioner=StaticHandler.append_version,
            components=["bokeh", "bokeh-widgets"],
        )


async def _serve(port: int | None, show: bool, started: Callable[[str], None]) -> None:
    listener = _listener(port)
    taken = listener.getsockname()[1]
    tornado = _Tornado(taken)
    http = HTTPServer(tornado)
    http.add_socket(listener)
    server = BaseServer(IOLoop.current(), tornado, http)
    server.start()
    address = f"http://{ADDRESS}:{taken}/"
    started(address)
    if show:
        # It may wait for the browser to end, and the browser for its page; Ctrl-C waits for neither.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        await asyncio.Event().wait()
    finally:
        server.stop(wait=False)


def _listener(port: int | None) -> socket.socket:
    if port is None:
        # Whatever the reason is: systems forbid ports that they keep for themselves.
        with contextlib.suppress(OSError):
            return _bound(USUAL_PORT)
    try:
        return _bound(port or 0)
    except OSError as error:
        raise UserError(
            f"expected a port that is free; got {port or 'none'} ({error.strerror or error}); choose another "
            "with --port, or leave it out"
        ) from error


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    try:
        if sys.platform != "win32":
            # Or a port would stay taken for a minute after its last page; there it would be shared.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setblocking(False)
        found.bind((ADDRESS, port))
        found.listen()
    except OSError:
        found.close()
        raise
    return found
