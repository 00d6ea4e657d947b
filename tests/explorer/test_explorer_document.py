"""The page without a browser: what becomes of a document when its controls are moved."""

import json

import numpy as np
import pytest

pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")

from bokeh.document import Document

from igr.explorer import page
from igr.explorer.page import explore
from igr.explorer.settings import KINDS


class Tab:
    """A page whose timers run when they are told to."""

    def __init__(self) -> None:
        self.document = Document()
        explore(self.document)

    def __getitem__(self, name: str):
        return self.document.get_model_by_name(name)

    def move(self, **values: object) -> int:
        """Moves controls and lets the timers run; how many there were."""
        for name, value in values.items():
            self[name].value = value
        return self.run()

    def run(self) -> int:
        timers = list(self.document.session_callbacks)
        for timer in timers:
            self.document.remove_timeout_callback(timer)
            timer.callback()
        return len(timers)

    @property
    def message(self) -> str:
        return self["message"].text


@pytest.fixture(scope="module")
def tab() -> Tab:
    return Tab()


def test_the_first_picture_is_drawn_once_and_without_a_timer():
    assert Tab().document.session_callbacks == []


def test_moves_that_come_together_are_drawn_once(tab: Tab):
    for k in range(20):
        tab["temperature"].value = -1 + k / 20
    assert tab.run() == 1
    assert tab["distance_median"].data["temperature"] == [float(f"{10 ** (-1 + 19 / 20):.3g}")]


@pytest.mark.parametrize("family", KINDS)
def test_every_control_of_a_law_has_a_part_in_its_lines(tab: Tab, family: str):
    tab.move(family=family)
    for name in (
        "parameter_1",
        "temperature",
        "scale",
        "delta",
        "strength",
        "flow_seed",
        "num_samples",
        "seed",
    ):
        before = tab["program"].text
        slider = tab[name]
        tab.move(**{name: slider.value + slider.step * (1 if name.endswith("seed") else -1)})
        assert tab.message == "", name
        assert (tab["program"].text != before) == slider.visible, name


def test_controls_that_a_law_does_not_have_are_hidden(tab: Tab):
    shown = {}
    for family in KINDS:
        tab.move(family=family)
        shown[family] = [name for name in ("scale", "delta", "strength", "flow_seed") if tab[name].visible]
    normal = ["scale", "delta"]
    assert shown == {
        "igr": normal,
        "gumbel-softmax": [],
        "igr-sb": normal,
        "igr-sb-log": normal,
        "igr-planar": [*normal, "strength", "flow_seed"],
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 400.0),
        ("temperature", -400.0),
        ("temperature", float("nan")),
        ("delta", -7.0),
        ("num_categories", 2.5),
        ("num_categories", 10**9),
        ("num_categories", -1),
        ("parameter_1", float("inf")),
        ("scale", 0.0),
        ("num_samples", 10**9),
        ("seed", None),
        ("seed", -1),
    ],
)
def test_bad_input_is_one_sentence_and_the_pictures_stay(tab: Tab, name: str, value: object):
    before, usual = tab["program"].text, tab[name].value
    tab.move(**{name: value})
    assert "expected " in tab.message
    assert tab.message.count(";") == 2
    assert tab["message"].visible
    assert tab["program"].text == before
    tab.move(**{name: usual})
    assert tab.message == ""
    assert not tab["message"].visible


def test_an_unknown_law_is_refused(tab: Tab):
    tab.move(family="<b>igr</b>")
    assert "expected the law to be one of" in tab.message
    assert "<b>" not in tab.message
    tab.move(family="igr")


def test_what_the_library_refuses_is_said(tab: Tab, monkeypatch: pytest.MonkeyPatch):
    def refuse(settings: object) -> None:
        raise NotImplementedError("discrete: expected wider sticks; got a needle; take a wider one.")

    monkeypatch.setattr(page, "scene", refuse)
    tab.move(temperature=-0.77)
    assert "discrete: expected wider sticks; got a needle; take a wider one. The pictures show" in tab.message


def test_the_noise_button_takes_the_next_seed():
    tab = Tab()
    before = tab["points"].data["x"]
    button = tab["noise"]
    button._trigger_event(button_click(button))
    tab.run()
    assert tab["seed"].value == 1
    assert np.abs(tab["points"].data["x"] - before).max() > 0.1
    tab.move(seed=9999)
    button._trigger_event(button_click(button))
    assert tab["seed"].value == 0


def button_click(button):
    from bokeh.events import ButtonClick

    return ButtonClick(button)


def test_the_buttons_start_from_their_laws():
    tab = Tab()
    for name, first in (("peaked", 0.7), ("uniform", 1 / 3)):
        tab[name]._trigger_event(button_click(tab[name]))
        tab.run()
        assert tab["discrete_law"].data["prob"][0] == pytest.approx(first, abs=0.01)
    laws = []
    for _ in range(2):
        tab["random"]._trigger_event(button_click(tab["random"]))
        tab.run()
        laws.append(tab["discrete_law"].data["prob"])
    assert np.abs(laws[0] - laws[1]).max() > 0.05


def test_two_pages_share_nothing():
    """As a model of bokeh would be, whose second page then fails."""
    one, other = Tab(), Tab()
    one.move(temperature=0.9)
    assert "temperature=0.5" in other["program"].text
    for tab in (one, other):
        tab.document.validate()
    ids = [{model.id for model in tab.document.models} for tab in (one, other)]
    assert ids[0] & ids[1] == set()


def test_the_document_names_no_address(tab: Tab):
    text = json.dumps(tab.document.to_json(), default=str)
    assert "http:" not in text
    assert "https:" not in text
