"""The server of the page, for this machine alone."""

import asyncio
import errno
import logging
import socket
import sys
import webbrowser
from collections.abc import Callable

import torch
from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.resources import Resources
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.static_handler import StaticHandler
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from igr.errors import UserError
from igr.explorer.page import explore

ADDRESS = "127.0.0.1"
# Taken if it is free and no other is asked for.
USUAL_PORT = 5010


def serve(port: int | None, *, show: bool, started: Callable[[str], None]) -> None:
    """Serves the page until the process is interrupted.

    Arguments:
        port: The port; ``0`` for any that is free, ``None`` for the usual one or, if that is taken, any.
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


class _Tornado(BokehTornado):  # type: ignore[misc]
    """A server of this page alone, which no variable of the environment sends elsewhere."""

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
    application = Application(FunctionHandler(explore))
    tornado = _Tornado(
        {"/": application},
        # No page of another site may speak with this one.
        extra_websocket_origins=[f"{ADDRESS}:{taken}", f"localhost:{taken}"],
    )
    http = HTTPServer(tornado)
    http.add_socket(listener)
    server = BaseServer(IOLoop.current(), tornado, http)
    server.start()
    address = f"http://{ADDRESS}:{taken}/"
    started(address)
    if show:
        # It may wait for the browser to end, and the browser for its page.
        asyncio.get_running_loop().run_in_executor(None, webbrowser.open, address)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop(wait=False)


def _listener(port: int | None) -> socket.socket:
    try:
        return _bound(USUAL_PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return _bound(0)
        raise UserError(
            f"expected a port that is free; got {port} ({error.strerror or error}); choose another with "
            "--port, or leave it out"
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
