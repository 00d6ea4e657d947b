"""The page of ``igr explore`` in a browser: a server, Chromium, and what the page holds."""

import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from igr.explorer.process import Served, serving

Pixels = NDArray[np.int16]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Patient: other tests want the cores too.
PATIENCE = 30_000
CONTROLS = [
    *("family", "num_categories", "temperature", "scale", "delta", "strength", "flow_seed"),
    *("num_samples", "seed", "program"),
    *(f"parameter_{number}" for number in range(1, 11)),
]
WITH_AXES = ["interval", "strips", "spread", "law", "distance"]
PICTURES = ["triangle", "density", *WITH_AXES]
READY = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"


def chromium() -> str:
    """The path of the browser; skips where there is none."""
    pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")
    pytest.importorskip("playwright", reason="needs playwright, of the extra dev, to drive Chromium")
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    names = ", ".join(BROWSERS)
    pytest.skip(f"needs a browser ({names}), such as Debian's package chromium", allow_module_level=True)


@contextmanager
def server() -> Iterator[Served]:
    """``igr explore`` in an environment that would send the browser of Bokeh's own servers elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("BOKEH_RESOURCES", "cdn")
        with serving() as found:
            yield found


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root, as in containers.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


class Page:
    """One tab."""

    def __init__(self, browser: Any, address: str) -> None:
        self.context = browser.new_context(viewport={"width": 1000, "height": 700})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(PATIENCE)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", self._heard)
        self.tab.on("websocket", lambda socket: self.requests.append(socket.url))
        self.open(address)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, address: str) -> None:
        """Loads the page until all is drawn."""
        self.tab.goto(address)
        self.tab.wait_for_function(READY)

    def value(self, name: str, key: str = "value") -> Any:
        """A property of a model."""
        return self.tab.evaluate(
            "([name, key]) => Bokeh.documents[0].get_model_by_name(name)[key]", [name, key]
        )

    def column(self, source: str, key: str) -> np.ndarray:
        """A column of numbers."""
        return np.array(
            self.tab.evaluate(
                "([name, key]) => Array.from(Bokeh.documents[0].get_model_by_name(name).data[key])",
                [source, key],
            )
        )

    def image(self) -> np.ndarray:
        """The pixels of the density."""
        rows = self.tab.evaluate(
            """() => {
                const image = Bokeh.documents[0].get_model_by_name("density_pixels").data.image[0];
                return [image.shape, Array.from(image, (x) => Number.isNaN(x) ? null : x)];
            }"""
        )
        return np.array(rows[1], dtype=float).reshape(rows[0])

    def text(self, name: str) -> str:
        """A text as it is read."""
        return re.sub(r"<[^>]*>", " ", self.value(name, "text"))

    def set(self, **values: Any) -> None:
        """Moves controls at once, as a program may do."""
        self.tab.evaluate(
            """(values) => {
                for (const [name, value] of Object.entries(values)) {
                  Bokeh.documents[0].get_model_by_name(name).value = value;
                }
            }""",
            values,
        )

    def controls(self) -> dict[str, Any]:
        """The values of all controls by name, and the program."""
        return self.tab.evaluate(
            """(names) => Object.fromEntries(names.map((name) => {
                const model = Bokeh.documents[0].get_model_by_name(name);
                return [name, name === "program" ? model.text : model.value];
            }))""",
            CONTROLS,
        )

    def focus(self, name: str) -> None:
        """Gives the keyboard to a slider."""
        self.tab.evaluate(
            """(name) => {
                const model = Bokeh.documents[0].get_model_by_name(name);
                Bokeh.index.find_one(model).shadow_el.querySelector(".noUi-handle").focus();
            }""",
            name,
        )

    def press(self, name: str, key: str, times: int = 1) -> None:
        """Moves a slider by the keyboard."""
        self.focus(name)
        for _ in range(times):
            self.tab.keyboard.press(key)

    def answer(self, key: str) -> float:
        """Milliseconds from a key that moves a slider until its pictures are on the screen.

        The program is what the page changes last, and the second frame after that shows all.
        """
        self.tab.evaluate(
            """() => {
                const {text} = Bokeh.documents[0].get_model_by_name("program").properties;
                window.taken = new Promise((resolve, reject) => {
                  let pressed;
                  setTimeout(() => reject(new Error("no answer in ten seconds")), 10000);
                  const drawn = () => requestAnimationFrame(() => requestAnimationFrame(() => {
                    resolve(performance.now() - pressed);
                  }));
                  const once = () => { text.change.disconnect(once); drawn(); };
                  const stamp = () => { pressed = performance.now(); text.change.connect(once); };
                  document.addEventListener("keydown", stamp, {capture: true, once: true});
                });
            }"""
        )
        self.tab.keyboard.press(key)
        return float(self.tab.evaluate("window.taken"))

    def pictures(self) -> dict[str, Pixels]:
        """Red, green and blue, [height, width, 3], of each picture that is shown, from one look at all."""
        self.tab.evaluate(
            "() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))"
        )
        boxes = self.tab.evaluate(
            """(names) => names.map((name) => {
                const model = Bokeh.documents[0].get_model_by_name(name);
                const box = Bokeh.index.find_one(model).el.getBoundingClientRect();
                return model.visible ? [name, box.x + scrollX, box.y + scrollY, box.width, box.height] : null;
            }).filter((found) => found)""",
            PICTURES,
        )
        image = Image.open(io.BytesIO(self.tab.screenshot(full_page=True)))
        whole = np.asarray(image.convert("RGB")).astype(np.int16)
        found = {}
        for name, *box in boxes:
            left, top, width, height = map(round, box)
            # Chromium leaves traces of earlier frames in the outermost pixels now and then.
            found[name] = whole[top + 2 : top + height - 2, left + 2 : left + width - 2]
        return found

    def ranges(self) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
        """The ends of the axes of the pictures that have some and are shown, as the page has them."""
        found = self.tab.evaluate(
            """(names) => names.map((name) => {
                const {visible, x_range: x, y_range: y} = Bokeh.documents[0].get_model_by_name(name);
                return visible ? [name, [x.start, x.end], [y.start, y.end]] : null;
            }).filter((found) => found)""",
            WITH_AXES,
        )
        return {name: (tuple(x), tuple(y)) for name, x, y in found}

    def wait(self, condition: str, argument: object = None) -> None:
        """Waits for a condition, a function in JavaScript."""
        self.tab.wait_for_function(condition, arg=argument)

    def close(self) -> None:
        """Closes the tab."""
        self.context.close()
