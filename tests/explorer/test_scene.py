"""What is drawn is what the laws are."""

import contextlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from igr.diagnostics import vertex_distance
from igr.explorer import captions, laws
from igr.explorer.lines import lines
from igr.explorer.scene import NEAR, PIXELS, curve_places, scene
from igr.explorer.settings import KINDS, Settings, num_parameters
from igr.ternary import CORNERS, to_plane


def settings(family: str, count: int = 3, **more: object) -> Settings:
    parameters = tuple(round(0.8 - 0.5 * k, 2) for k in range(num_parameters(family, count)))
    return Settings(family, count, parameters, **more)


CASES = [
    settings(family, count, delta=delta, seed=3)
    for family, kind in KINDS.items()
    for count, delta in ((2, 1.0), (3, 1.0), (3, 0.3), (5, 1.0))
    if count >= kind.least and (delta == 1.0 or kind.largest_delta)
]
# Drawn once for all tests.
shown = lru_cache(maxsize=None)(scene)
NAMES = [f"{case.family}-{case.num_categories}-{case.delta}" for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_lines_print_what_is_shown(case: Settings):
    """The numbers of the scene, to all digits that are printed; the program is run as it stands."""
    found = shown(case)
    printed = io.StringIO()
    names: dict = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(found.lines, "lines", "exec"), names)
    first, *_, distance, relaxed, discrete = printed.getvalue().splitlines()
    assert first == found.law
    assert f"{found.median_distance:.4f}" in distance
    assert f" {found.relaxed_kl.value:.4f} " in relaxed
    assert ("±" in relaxed) == (found.relaxed_kl.error is not None)
    assert f" {found.discrete_kl.value:.4f} " in discrete
    np.testing.assert_array_equal(names["z"].numpy(), found.points)
    np.testing.assert_array_equal(names["discrete"].probs.numpy(), found.probs)
    np.testing.assert_array_equal(names["frequencies"].probs.numpy(), found.frequencies)
    assert max(map(len, found.lines.splitlines())) <= 80


def test_the_guide_has_the_lines_of_the_page_as_it_opens():
    guide = Path(__file__).parents[2] / "docs" / "explorer.md"
    assert f"```python\n{lines(Settings())}```" in guide.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_prior_is_uniform_over_what_can_win(case: Settings):
    found = shown(case)
    count = case.num_categories
    wanted = np.full(count, 1 / count)
    if case.family == "igr-sb":
        wanted = np.append(np.full(count - 1, 1 / (count - 1)), 0.0)
    np.testing.assert_allclose(found.prior_probs, wanted, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_law_beside_its_own_prior_has_no_divergence(case: Settings):
    """So the closed forms and the means over the points are those of the law and the prior that are named."""
    law = laws.relaxation(case)
    prior = laws.uniform(case)
    noise = laws.noise(case, law)
    if case.family != "igr-planar" and not (case.family == "igr-sb-log" and case.delta != 1.0):
        nothing = laws.relaxed_kl(case, prior, prior, noise)
        assert nothing.value == pytest.approx(0.0, abs=1e-5)
    assert shown(case).relaxed_kl.value > 0


@pytest.mark.parametrize("family", ["igr", "igr-sb-log"])
def test_the_mean_over_the_points_agrees_with_the_closed_form(family: str):
    case = settings(family, num_samples=5000)
    law, prior = laws.relaxation(case), laws.uniform(case)
    exact = laws.relaxed_kl(case, law, prior, laws.noise(case, law))
    _, log_prob = law.rsample_and_log_prob(noise=laws.noise(case, law))
    differences = log_prob - prior.log_prob_of_log(law.rsample_log(noise=laws.noise(case, law)))
    error = differences.std() / len(differences) ** 0.5
    assert abs((differences.mean() - exact.value) / error) < 5


def test_the_closed_form_is_that_of_the_gaussians_of_law_and_prior():
    """Of IGR-I beside the prior that is named: scale one, and the mean for which all three win alike."""
    found = scene(Settings(parameters=(0.7, -1.2), scale=0.6))
    offset = np.array([0.7, -1.2]) - found.prior_mean
    wanted = (-np.log(0.6) + (0.6**2 + offset**2 - 1.0) / 2.0).sum()
    assert found.relaxed_kl.value == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_errors_are_those_of_means_and_shares(case: Settings):
    found = shown(case)
    count = case.num_samples
    np.testing.assert_array_equal(found.winners, found.points.argmax(-1))
    shares = np.bincount(found.winners, minlength=case.num_categories) / count
    np.testing.assert_allclose(found.frequencies, shares, atol=1e-6)
    np.testing.assert_allclose(found.frequencies_error, np.sqrt(shares * (1 - shares) / count), atol=1e-6)
    near = np.sqrt(((found.points - np.eye(case.num_categories)[found.winners]) ** 2).sum(-1)) < NEAR
    assert found.share_near == pytest.approx(near.mean(), abs=1e-3)
    if found.relaxed_kl.error is not None:
        law, prior = laws.relaxation(case), laws.uniform(case)
        log_z = law.rsample_log(noise=laws.noise(case, law))
        differences = (law.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)).double()
        assert found.relaxed_kl.error == pytest.approx(differences.std().item() / count**0.5, rel=2e-2)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_captions_say_how_each_number_was_obtained(case: Settings):
    found = shown(case)
    said = {True: "exact, in closed form", False: "no closed form"}
    assert captions.relaxed_kl(found).startswith(said[found.relaxed_kl.error is None])
    assert (captions.discrete_kl(found) == "exact") == (found.discrete_kl.error is None)
    assert ("Bars: exact" in captions.law(found)) == (found.probs_error is None)
    if case.family != "igr-sb":
        depends = "depends on the temperature" in captions.law(found)
        assert depends == (case.delta != 1.0)
        assert ("no part in it" in captions.law(found)) != depends
    assert (f"{found.share_near:.0%} of the" in captions.points(found)) == (0 < found.share_near < 1)


@pytest.mark.parametrize("family", KINDS)
def test_frequencies_are_within_their_errors(family: str):
    found = scene(settings(family, num_samples=5000))
    error = np.hypot(found.frequencies_error, 0.0 if found.probs_error is None else found.probs_error)
    assert (np.abs(found.frequencies - found.probs) <= 5 * error + 1e-3).all()


@pytest.mark.parametrize("family", KINDS)
def test_the_density_on_the_triangle_integrates_to_one(family: str):
    """At a temperature at which nothing is hidden between the pixels."""
    found = scene(settings(family, temperature=1.0, strength=0.3))
    assert found.share_on_pixels == pytest.approx(1.0, abs=0.02)
    assert "not seen" not in captions.density(found)


@pytest.mark.parametrize("family", KINDS)
def test_where_the_pixels_miss_the_density_it_is_said(family: str):
    found = scene(settings(family, temperature=0.01))
    assert found.share_on_pixels < 0.5
    assert "not seen" in captions.density(found)


def test_the_density_is_where_the_points_are():
    """So both triangles have their corners alike."""
    found = scene(Settings(parameters=(2.0, -2.0), temperature=1.0, num_samples=5000))
    x, y = to_plane(torch.from_numpy(found.points)).T.numpy()
    height = CORNERS[2][1]
    counts, _, _ = np.histogram2d(y, x, bins=7, range=[[0, height], [0, 1]])
    density = np.where(np.isfinite(found.density), np.exp(found.density), 0.0)
    density = density.reshape(7, PIXELS // 7, 7, PIXELS // 7).sum((1, 3))
    assert np.corrcoef(counts.ravel(), density.ravel())[0, 1] > 0.99
    flipped = np.corrcoef(counts.ravel(), density[:, ::-1].ravel())[0, 1]
    assert flipped < 0.5


@pytest.mark.parametrize("family", [name for name, kind in KINDS.items() if kind.least == 2])
def test_the_density_of_two_categories_integrates_to_one(family: str):
    found = scene(settings(family, 2, temperature=1.0, strength=0.3))
    assert found.density.sum() / len(curve_places()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("family", "delta"),
    [("gumbel-softmax", 1.0), ("igr", 0.3), ("igr-sb", 0.3), ("igr-sb-log", 3.0), ("igr-planar", 0.3)],
)
def test_the_curves_are_those_of_the_law_at_each_temperature(family: str, delta: float):
    found = scene(settings(family, temperature=0.7, delta=delta))
    law = laws.relaxation(found.settings)
    noise = laws.noise(found.settings, law)
    levels = torch.tensor([0.05, 0.5, 0.95])
    for temperature, quantiles in list(zip(found.temperatures, found.quantiles.T, strict=True))[::6]:
        other = law.with_temperature(float(temperature))
        wanted = vertex_distance(other.rsample_log(noise=noise)).quantile(levels)
        np.testing.assert_allclose(quantiles, wanted.numpy(), atol=2e-4)
    assert (np.diff(found.quantiles, axis=0) >= 0).all()


@pytest.mark.parametrize("temperature", [0.01, pytest.param(10.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("family", "delta"),
    [(family, delta) for family, kind in KINDS.items() for delta in (1e-6, kind.largest_delta) if delta],
)
def test_the_ends_of_the_sliders(family: str, delta: float, temperature: float):
    for count, value, scale in ((3, 5.0, 3.0), (10, -5.0, 0.1)):
        parameters = (value,) * num_parameters(family, count)
        case = Settings(family, count, parameters, scale, temperature, delta, 100, strength=3.0)
        found = scene(case)
        assert np.isfinite(found.points).all()
        assert np.isfinite(found.probs).all()
        assert np.isfinite(found.quantiles).all()
        for words in (captions.points, captions.density, captions.law, captions.distance, captions.prior):
            assert "nan" not in words(found)
        assert "nan" not in captions.number(found.relaxed_kl)


def test_the_noise_is_the_same_for_all_parameters():
    one, other = (scene(Settings(parameters=(value, 0.0))) for value in (0.0, 0.001))
    assert 0 < np.abs(one.points - other.points).max() < 0.001
    anew = scene(Settings(parameters=(0.0, 0.0), seed=1))
    assert np.abs(one.points - anew.points).max() > 0.1


def test_the_density_leaves_the_law_as_it_is():
    law = laws.relaxation(settings("igr-planar"))
    laws.unchecked(law, torch.float64)
    assert law.transform.layers[0].u.dtype == torch.float32
