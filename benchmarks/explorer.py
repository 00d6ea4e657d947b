"""``igr explore`` in Chromium: from the start of the process to the first picture, and a slider's answer.

    python benchmarks/explorer.py    # needs Chromium and playwright, and says so where they are missing

A start is a new process and a new tab of a browser that is running. An answer is the time from a key that
moves a slider to the second frame after all has arrived, measured in the page, each by itself. A parameter
changes all that is shown, the temperature leaves a part of it.

The limits are 5 s for a start and 0.3 s for an answer, on two cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import Any

from harness import parser, save, show, summarize
from igr.explorer.process import serving

BLOCKS = 15
STARTS = 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Of the page: the law, the number of categories, and that of points.
STATES = {
    "IGR-I, K = 3, 1,000 points": ("igr", 3, 1000),
    "IGR-I, K = 10, 5,000 points": ("igr", 10, 5000),
    "Gumbel-Softmax, K = 3, 1,000 points": ("gumbel-softmax", 3, 1000),
    "IGR-SB lengths, K = 3, 1,000 points": ("igr-sb", 3, 1000),
    "IGR-SB log-ratios, K = 10, 5,000 points": ("igr-sb-log", 10, 5000),
    "IGR-Planar, K = 3, 5,000 points": ("igr-planar", 3, 5000),
}
READY = "window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
# The program is what the page changes last.
ANSWER = """() => {
    const {text} = Bokeh.documents[0].get_model_by_name("program").properties;
    window.taken = new Promise((resolve) => {
      let pressed;
      const once = () => {
        text.change.disconnect(once);
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - pressed)));
      };
      const stamp = () => { pressed = performance.now(); text.change.connect(once); };
      document.addEventListener("keydown", stamp, {capture: true, once: true});
    });
}"""
# By its name, and where it starts from.
SLIDERS = {"temperature": -0.5, "parameter_1": 0.2}
FOCUS = """([name, value]) => {
    const slider = Bokeh.documents[0].get_model_by_name(name);
    slider.value = value;
    Bokeh.index.find_one(slider).shadow_el.querySelector(".noUi-handle").focus();
}"""


def open_page(tab: Any, address: str) -> None:
    tab.goto(address)
    tab.wait_for_function(READY)


def start_seconds(browser: Any) -> float:
    """From the start of the process to the first picture."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    start = time.perf_counter()
    with serving() as server:
        open_page(tab, server.address)
        seconds = time.perf_counter() - start
    tab.close()
    return seconds


def import_seconds() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start


def answer_seconds(tab: Any, slider: str) -> float:
    """One answer, from the same place each time."""
    tab.bring_to_front()
    tab.evaluate(FOCUS, [slider, SLIDERS[slider]])
    time.sleep(0.7)
    tab.evaluate(ANSWER)
    tab.keyboard.press("ArrowRight")
    return float(tab.evaluate("window.taken")) / 1e3


def tab_at(browser: Any, address: str, family: str, count: int, points: int) -> Any:
    """A tab whose page is in that state."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    open_page(tab, address)
    for name, value in (("family", family), ("num_categories", count), ("num_samples", points)):
        tab.evaluate(
            "([name, value]) => { Bokeh.documents[0].get_model_by_name(name).value = value; }", [name, value]
        )
        time.sleep(1.0)
    return tab


def main() -> None:
    parser(__doc__).parse_args()
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        path = None
    if path is None:
        print("not measured: it needs Chromium and the package playwright, and one of them is not here")
        return
    starts: dict[str, list[float]] = {"import torch": [], "igr explore, to the first picture": []}
    answers: dict[str, dict[str, list[float]]] = {slider: {name: [] for name in STATES} for slider in SLIDERS}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        start_seconds(browser)
        for _ in range(STARTS):
            starts["import torch"].append(import_seconds())
            starts["igr explore, to the first picture"].append(start_seconds(browser))
        with serving() as server:
            tabs = {name: tab_at(browser, server.address, *state) for name, state in STATES.items()}
            for _ in range(BLOCKS):
                for name, tab in tabs.items():
                    for slider, found in answers.items():
                        found[name].append(answer_seconds(tab, slider))
        browser.close()
    tables = {
        "the start": summarize(starts, "import torch"),
        "the temperature is answered": summarize(answers["temperature"], next(iter(STATES))),
        "the first parameter is answered": summarize(answers["parameter_1"], next(iter(STATES))),
    }
    for title, timings in tables.items():
        show(title, timings)
    print(f"\nwritten: {save('explorer', 'cpu', tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
