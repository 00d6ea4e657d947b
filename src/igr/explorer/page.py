"""The page: what happens when a control is moved."""

from html import escape
from importlib.resources import files

import torch
from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.events import ConnectionLost
from bokeh.models import CustomJS

from igr.errors import unknown_name
from igr.explorer import style, targets
from igr.explorer.controls import Controls
from igr.explorer.pictures import Pictures
from igr.explorer.scene import scene
from igr.explorer.settings import KINDS, Settings

# Milliseconds in which the moves of a slider are gathered; the last of them is drawn.
GATHER = 15
# What the library raises for a law that it cannot build or compute.
REFUSALS = (ValueError, TypeError, NotImplementedError, RuntimeError)

# The server cannot say so itself.
LOST = "The server has ended, so nothing moves any more. Start igr explore again and reload the page."
_SAY_LOST = "message.text = text; message.visible = true;"


def explore(document: Document) -> None:
    """Fills a document with the page; each tab of a browser has a document and a state of its own."""
    _Page(document)


class _Page:
    """The state of one tab."""

    def __init__(self, document: Document) -> None:
        self._document = document
        # Until the first picture is there, which is drawn below.
        self._is_due = True
        self._num_random = 0
        self._probs = torch.empty(0)
        self._controls = Controls(self._changed, self._kind_changed, self._start_from)
        self._pictures = Pictures()
        self._message = style.text("message")
        with document.models.freeze():
            for root in (self._controls.root, self._message, *self._pictures.roots):
                document.add_root(root)
        # Bokeh would try to go on with a server that is started later, which knows nothing of this page.
        document.config.update(reconnect_session=False, notify_connection_status=False)
        lost = CustomJS(args={"message": self._message, "text": _box(LOST)}, code=_SAY_LOST)
        document.js_on_event(ConnectionLost, lost)
        document.title = "igr explore"
        page = files("igr.explorer").joinpath("page.html").read_text(encoding="utf-8")
        document.template = get_env().from_string("{% extends base %}{% from macros import embed %}" + page)
        document.template_variables["font"] = style.FONT
        self._controls.show(Settings())
        self._draw()

    def _changed(self) -> None:
        """Draws soon, once for all the moves that arrive until then."""
        if not self._is_due:
            self._is_due = True
            self._document.add_timeout_callback(self._draw, GATHER)

    def _draw(self) -> None:
        self._is_due = False
        try:
            found = scene(self._controls.settings())
        except REFUSALS as error:
            self._say(f"{_sentence(error)}. The pictures show the last state that could be drawn.")
            return
        self._say("")
        self._probs = torch.from_numpy(found.probs)
        self._pictures.show(found)

    def _kind_changed(self, family: str) -> None:
        """Goes on with the same discrete law, as far as the other law can have it."""
        if family not in KINDS:
            self._say(f"{unknown_name('the law', family, KINDS)}.")
            return
        self._controls.show_kind()
        self._start_from(None)

    def _start_from(self, name: str | None) -> None:
        """Moves the parameters to a discrete law by name, or to the one that is shown."""
        try:
            settings = self._controls.settings()
            count = settings.num_categories
            if name == "random":
                self._num_random += 1
                probs = targets.random(count, self._num_random)
            elif name is not None:
                probs = {"uniform": targets.uniform, "peaked": targets.peaked}[name](count)
            else:
                probs = targets.over(self._probs, count)
            self._controls.show_values(targets.parameters_for(probs, settings))
        except REFUSALS as error:
            self._say(f"{_sentence(error)}. The parameters stay where they are.")
            return
        self._changed()

    def _say(self, message: str) -> None:
        self._message.visible = bool(message)
        self._message.text = _box(message) if message else ""


def _sentence(error: Exception) -> str:
    return str(error).removesuffix(".")


def _box(message: str) -> str:
    return f'<div class="error" role="alert">{escape(message)}</div>'
