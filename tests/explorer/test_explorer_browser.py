"""The page in a real browser: what is moved is what is drawn, and what is copied runs."""

import contextlib
import io
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import explorer_page
from explorer_page import Page, Pixels

explorer_page.chromium()

import explorer_pixels  # noqa: E402
from igr.errors import UserError  # noqa: E402 (after the look for a browser)
from igr.explorer import captions  # noqa: E402
from igr.explorer.lines import lines  # noqa: E402
from igr.explorer.process import Served  # noqa: E402
from igr.explorer.scene import scene  # noqa: E402
from igr.explorer.settings import KINDS, Settings, num_parameters  # noqa: E402
from igr.ternary import to_plane  # noqa: E402


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with explorer_page.server() as found:
        yield found


@pytest.fixture(scope="module")
def address(server: Served) -> str:
    return server.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with explorer_page.browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Page]:
    found = Page(browser, address)
    yield found
    found.close()


def settings_of(found: dict[str, Any]) -> Settings:
    """What the controls of the page are at."""
    family, count = found["family"], found["num_categories"]
    gumbel, planar = family == "gumbel-softmax", family == "igr-planar"
    parameters = [found[f"parameter_{k + 1}"] for k in range(num_parameters(family, count))]
    return Settings(
        family=family,
        num_categories=count,
        parameters=tuple(round(float(value), 6) for value in parameters),
        scale=1.0 if gumbel else round(float(found["scale"]), 6),
        temperature=float(f"{10 ** found['temperature']:.3g}"),
        delta=1.0 if gumbel else float(f"{10 ** found['delta']:.3g}"),
        num_samples=found["num_samples"],
        seed=found["seed"],
        flow_seed=found["flow_seed"] if planar else 0,
        strength=round(float(found["strength"]), 6) if planar else 1.0,
    )


def settled(page: Page) -> Settings:
    """What the controls are at, once the pictures have followed; the program is what changes last."""
    deadline = time.monotonic() + explorer_page.PATIENCE / 1000
    while True:
        found = page.controls()
        # Where two categories are left to a law that has three, the server has not answered yet.
        with contextlib.suppress(UserError):
            settings = settings_of(found)
            if lines(settings) == found["program"]:
                return settings
        assert time.monotonic() < deadline, found
        time.sleep(0.03)


def check(page: Page) -> Settings:
    """All pictures and numbers are those that the library computes."""
    settings = settled(page)
    wanted = scene(settings)
    np.testing.assert_allclose(page.column("discrete_law", "prob"), wanted.probs, atol=1e-6)
    np.testing.assert_allclose(page.column("discrete_law", "share"), wanted.frequencies, atol=1e-6)
    np.testing.assert_allclose(page.column("distance_quantiles", "median"), wanted.quantiles[1], atol=1e-6)
    assert page.column("distance_median", "temperature") == [settings.temperature]
    np.testing.assert_allclose(page.column("distance_median", "median"), wanted.median_distance, rtol=1e-6)
    assert f" {captions.number(wanted.relaxed_kl)} " in page.text("relaxed_kl")
    assert f" {captions.number(wanted.discrete_kl)} " in page.text("discrete_kl")
    if settings.num_categories == 3:
        x, y = to_plane(torch.from_numpy(wanted.points)).T.numpy()
        np.testing.assert_allclose(page.column("points", "x"), x, atol=1e-6)
        np.testing.assert_allclose(page.column("points", "y"), y, atol=1e-6)
        assert (page.column("points", "winner") == wanted.winners).all()
        shown = page.image()
        finite = np.isfinite(wanted.density)
        assert (np.isfinite(shown) == finite).all()
        np.testing.assert_allclose(shown[finite], wanted.density[finite], rtol=1e-5, atol=1e-5)
    elif settings.num_categories == 2:
        np.testing.assert_allclose(page.column("first_density", "y"), wanted.density, rtol=1e-6)
        np.testing.assert_allclose(page.column("first_weight", "top").mean(), 1.0)
    else:
        weights = page.column("weights", "y").reshape(-1, settings.num_categories)
        np.testing.assert_allclose(weights, wanted.points[: len(weights)], atol=1e-6)
    return settings


def look(page: Page) -> dict[str, Pixels]:
    """The pixels of the pictures that are shown, in which all is where the library's numbers say."""
    settings = check(page)
    pictures = page.pictures()
    explorer_pixels.check(pictures, page.ranges(), scene(settings))
    return pictures


def changed(before: dict[str, Pixels], after: dict[str, Pixels]) -> set[str]:
    """The names of the pictures that are not what they were, pixel for pixel."""
    assert before.keys() == after.keys()
    return {name for name, picture in before.items() if not np.array_equal(picture, after[name])}


def test_the_first_picture_is_that_of_the_default(page: Page):
    assert check(page) == Settings()
    assert page.text("message").strip() == ""


def test_the_start_takes_few_seconds(page: Page, server: Served):
    """Those of the server's own computing, which is slower too where other tests want the cores."""
    status = Path(f"/proc/{server.process.pid}/stat")
    if not status.is_file():
        pytest.skip("needs /proc, which tells how long a process has computed")
    used = status.read_text().rpartition(")")[2].split()
    seconds = sum(map(int, used[11:13])) / os.sysconf("SC_CLK_TCK")
    assert 0.5 < seconds < 8


def test_nothing_leaves_this_machine(page: Page, address: str):
    """Neither a request of the page, nor an address that it would ask for."""
    host = address.removeprefix("http://")
    assert page.requests
    assert any(request.startswith("ws://") for request in page.requests)
    assert [request for request in page.requests if request.split("://")[1].split("/")[0] + "/" != host] == []
    with urllib.request.urlopen(address, timeout=60) as answer:
        html = answer.read().decode()
    assert "bokeh.min.js" in html
    assert re.findall(r"https?://[^\s\"'<>]*|[\"'(]//[^\s\"'<>]*", html) == []


@pytest.mark.parametrize(
    ("name", "key", "times", "same"),
    [
        ("temperature", "ArrowLeft", 3, {"law"}),
        ("parameter_2", "ArrowRight", 20, set()),
        pytest.param("delta", "PageDown", 2, set(), marks=pytest.mark.slow),
        pytest.param("num_samples", "ArrowRight", 1, {"density", "distance"}, marks=pytest.mark.slow),
    ],
)
def test_a_slider_changes_the_pictures(page: Page, name: str, key: str, times: int, same: set[str]):
    before, pictures = page.value(name), look(page)
    page.press(name, key, times)
    assert page.value(name) != before
    assert changed(pictures, look(page)) == {"triangle", "density", "law", "distance"} - same


def test_points_move_and_are_not_drawn_anew(page: Page):
    page.set(temperature=-0.3)
    settled(page)
    before = page.column("points", "x")
    page.set(temperature=-0.29)
    settled(page)
    moved = np.abs(page.column("points", "x") - before)
    assert 0 < moved.max() < 0.02
    page.tab.get_by_text("New noise").click()
    page.wait("() => Bokeh.documents[0].get_model_by_name('seed').value === 1")
    assert check(page).seed == 1
    assert np.abs(page.column("points", "x") - before).max() > 0.3
    page.set(seed=0)


def first_number(text: str) -> float:
    return float(re.search(r"-?[\d.]+", text)[0])


@pytest.mark.parametrize(
    "family",
    # The lines of all laws are run without a browser too; here a law with an exact KL and one without.
    [
        pytest.param(family, marks=[] if family in ("igr", "igr-planar") else [pytest.mark.slow])
        for family in sorted(KINDS)
    ],
)
def test_every_law_can_be_chosen_and_its_lines_run(page: Page, family: str):
    page.set(num_categories=3, delta=0.0, scale=1.0, temperature=-0.3)
    page.tab.locator("select").select_option(label=KINDS[family].title)
    look(page)
    settings = settled(page)
    assert settings.family == family
    wanted = scene(settings)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.tab.get_by_text("Copy", exact=True).click()
    page.tab.get_by_text("Copied").wait_for()
    copied = page.tab.evaluate("navigator.clipboard.readText()")
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(copied, "copied", "exec"), names)
    np.testing.assert_allclose(names["z"].numpy(), wanted.points, atol=1e-6)
    probs = names["discrete"].probs.numpy()
    np.testing.assert_allclose(probs, page.column("discrete_law", "prob"), atol=1e-6)
    shown = printed.getvalue().splitlines()
    assert shown[0] == wanted.law
    for name, found in (("relaxed", wanted.relaxed_kl), ("discrete", wanted.discrete_kl)):
        line = next(line for line in shown if line.startswith(f"KL of the {name} laws"))
        assert first_number(line) == pytest.approx(found.value, abs=1e-4)
        assert first_number(page.text(f"{name}_kl")) == pytest.approx(found.value, abs=1e-3)


def test_another_law_starts_with_the_same_discrete_law(page: Page):
    page.set(num_categories=3, family="igr", delta=0.0, scale=1.0)
    settled(page)
    wanted = [0.7, 0.15, 0.15]
    page.tab.get_by_text("Peaked").click()
    first = "Bokeh.documents[0].get_model_by_name('discrete_law').data.prob[0]"
    page.wait(f"() => Math.abs({first} - 0.7) < 0.01")
    settled(page)
    np.testing.assert_allclose(page.column("discrete_law", "prob"), wanted, atol=0.01)
    page.set(family="igr-sb-log")
    check(page)
    np.testing.assert_allclose(page.column("discrete_law", "prob"), wanted, atol=0.01)


@pytest.mark.parametrize("count", [2, 10])
def test_other_numbers_of_categories(page: Page, count: int):
    page.set(family="igr")
    page.set(num_categories=count)
    assert check(page).num_categories == count
    pictures = ("triangle", "interval", "strips", "density", "spread")
    visible = [name for name in pictures if page.value(name, "visible")]
    assert visible == ["interval" if count == 2 else "strips", "spread"]
    sliders = [number for number in range(1, 11) if page.value(f"parameter_{number}", "visible")]
    assert sliders == list(range(1, count))
    pictures = look(page)
    page.press("temperature", "ArrowLeft", 3)
    assert changed(pictures, look(page)) == {visible[0], "spread", "distance"}


def test_two_categories_are_too_few_for_sticks(page: Page):
    page.set(family="igr", num_categories=2)
    settled(page)
    page.set(family="igr-sb")
    assert check(page).num_categories == 3
    assert page.value("num_categories", "start") == 3
    assert page.value("delta", "end") == 0
    page.set(family="igr")
    settled(page)
    assert page.value("num_categories", "start") == 2


def test_bad_input_is_one_sentence_on_the_page(page: Page):
    page.set(num_categories=3, family="igr", temperature=-0.3)
    settled(page)
    before = page.column("points", "x")
    said = "Bokeh.documents[0].get_model_by_name('message').text"
    for values in ({"temperature": 400}, {"seed": None}):
        usual = {name: page.value(name) for name in values}
        page.set(**values)
        page.wait(f"() => {said} !== ''")
        message = page.text("message").strip()
        assert message.startswith("expected "), values
        assert message.endswith("The pictures show the last state that could be drawn."), message
        assert (page.column("points", "x") == before).all()
        page.set(**usual)
        page.wait(f"() => {said} === ''")
    check(page)


def test_a_quick_drag_draws_the_last_state_and_not_all(page: Page):
    page.set(num_categories=3, family="igr")
    settled(page)
    page.tab.evaluate(
        """() => {
            window.times = 0;
            const program = Bokeh.documents[0].get_model_by_name("program");
            program.properties.text.change.connect(() => { window.times += 1; });
        }"""
    )
    # As fast as a mouse moves: one value for each frame of the screen.
    page.tab.evaluate(
        """async () => {
            const slider = Bokeh.documents[0].get_model_by_name("temperature");
            for (let k = 0; k < 15; k++) {
              slider.value = -1 + k / 15;
              await new Promise((next) => requestAnimationFrame(next));
            }
        }"""
    )
    last = float(f"{10 ** (-1 + 14 / 15):.3g}")
    assert check(page).temperature == last
    assert page.tab.evaluate("window.times") < 15


# Of what is drawn in each picture, and of the ends of its axes.
FAULTS = [
    (3, "triangle", "renderers[3].visible = false"),
    (3, "triangle", "x_range.end = 1.3"),
    (3, "triangle", "y_range.start = -0.2"),
    (3, "density", "renderers[3].visible = false"),
    (3, "density", "renderers[3].glyph.dh = 0.8"),
    *((3, "law", f"renderers[{k}].visible = false") for k in (0, 1)),
    (3, "law", "y_range.end = 0.25"),
    *((3, "distance", f"renderers[{k}].visible = false") for k in (0, 1, 2)),
    (3, "distance", "x_range.start = 1"),
    (2, "interval", "renderers[0].visible = false"),
    (2, "interval", "renderers[1].visible = false"),
    (2, "interval", "y_range.end = 0.5"),
    (2, "spread", "renderers[0].visible = false"),
    (2, "spread", "y_range.end = 0.01"),
    (10, "strips", "renderers[0].visible = false"),
    (10, "strips", "y_range.end = 0.1"),
    (10, "strips", "x_range.end = 5"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "name", "fault"), FAULTS)
def test_what_is_drawn_wrongly_is_seen(page: Page, count: int, name: str, fault: str):
    page.set(family="igr")
    page.set(num_categories=count, temperature=-0.3, delta=0.0)
    look(page)
    page.tab.evaluate(f"name => {{ Bokeh.documents[0].get_model_by_name(name).{fault}; }}", name)
    with pytest.raises(AssertionError):
        look(page)
    page.open(page.tab.url)


@pytest.mark.slow
def test_two_tabs_do_not_disturb_each_other(page: Page, browser: Any, address: str):
    page.set(num_categories=3, family="igr", temperature=-0.3)
    settings = settled(page)
    other = Page(browser, address)
    assert check(other) == Settings()
    other.set(temperature=0.5)
    other.set(family="gumbel-softmax")
    assert check(page) == settings
    assert check(other).family == "gumbel-softmax"
    other.close()
    page.set(temperature=-0.5)
    check(page)


INSIDE = """() => {
    const side = document.querySelector(".side").getBoundingClientRect();
    const inner = [];
    const collect = (root) => {
      for (const element of root.querySelectorAll("*")) {
        if (element.matches("button, select, input, .noUi-target")) inner.push(element);
        if (element.shadowRoot) collect(element.shadowRoot);
      }
    };
    collect(document.querySelector(".side"));
    const seen = inner.map((element) => element.getBoundingClientRect()).filter((box) => box.width > 0);
    return [side.right, seen.length, seen.every((box) => box.left > side.left && box.right < side.right)];
}"""


@pytest.mark.parametrize("width", [600, 800, 1366, 1920])
def test_controls_stand_beside_the_pictures_in_windows_of_all_widths(page: Page, width: int):
    """Or a slider would move what is not seen, on pages that are narrow but not those of telephones."""
    usual = page.tab.viewport_size
    page.tab.set_viewport_size({"width": width, "height": 768})
    right, count, is_inside = page.tab.evaluate(INSIDE)
    assert count > 8
    assert is_inside
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    assert page.tab.evaluate("document.querySelector('.main').getBoundingClientRect().left") > right
    page.tab.set_viewport_size(usual)


def test_a_browser_that_likes_the_dark_shows_the_same_page(page: Page):
    page.set(num_categories=3, family="igr")
    settled(page)
    bright = page.pictures()
    page.tab.emulate_media(color_scheme="dark")
    assert changed(bright, page.pictures()) == set()
    # The scheme of the texts and controls between them.
    assert page.tab.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light only"
    page.tab.emulate_media(color_scheme="light")


@pytest.mark.parametrize("slider", ["temperature", "parameter_1"])
def test_a_slider_is_answered_in_time(page: Page, slider: str):
    """Two moves of the dearest law, of as many as it takes: other tests want the cores too."""
    page.set(num_categories=3, family="igr-planar", num_samples=5000)
    settled(page)
    page.focus(slider)
    taken: list[float] = []
    while sum(answer <= 300 for answer in taken) < 2:
        assert len(taken) < 20, taken
        taken.append(page.answer("ArrowRight"))


def test_the_browser_has_nothing_to_complain_of(page: Page):
    assert page.complaints == []


def test_a_server_that_ends_is_told(page: Page, server: Served):
    """The last test: without a server nothing moves."""
    server.process.send_signal(signal.SIGINT)
    told = page.tab.get_by_role("alert")
    told.wait_for()
    assert told.get_attribute("class") == "error"
    assert told.text_content().startswith("The server has ended")
    assert told.text_content().endswith("Start igr explore again and reload the page.")
    assert server.process.wait(timeout=60) == 130
