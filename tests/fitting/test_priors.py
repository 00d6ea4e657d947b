"""Uniform priors: uniform as far as they say, and kept in a cache that nothing in it can spoil."""

import json
import math
import threading
import warnings
from pathlib import Path

import pooch
import pytest
import torch

from igr import GumbelSoftmax, InvertibleGaussian
from igr.data import cache as data_cache
from igr.fitting import Fit, fit_uniform_prior, priors, uniform_prior
from igr.fitting.families import FAMILIES

EXACT = [
    (family, count)
    for family in ("gumbel-softmax", "igr", "igr-sb", "igr-sb-log")
    for count in (2, 3, 4, 50)
    if (family, count) != ("igr-sb", 2)
]


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "priors").glob("*"))


def same(one: Fit, other: Fit) -> bool:
    return one.to_json() == other.to_json()


def no_fit(*arguments: object, **settings: object) -> Fit:
    raise AssertionError("fitted, though it is in the cache")


@pytest.mark.parametrize(("family", "count"), EXACT)
def test_exact_laws_are_uniform(family, count):
    # Wide sticks are found faster; at scale 1 there are the smaller numbers of categories.
    scale = 3.0 if count == 50 and family != "gumbel-softmax" else 1.0
    law = uniform_prior(count, family, temperature=0.3, scale=scale, dtype=torch.float64, cache=False)
    winners = count - 1 if family == "igr-sb" else count
    expected = torch.full((winners,), 1 / winners, dtype=torch.float64)
    if family == "igr-sb":
        expected = torch.cat([expected, expected.new_zeros(1)])
    assert 0.5 * (law.discrete().probs - expected).abs().sum() < 1e-9
    assert (law.num_categories, law.temperature, law.dtype) == (count, 0.3, torch.float64)
    if family != "gumbel-softmax":
        assert bool((law.scale == scale).all())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["igr-sb", "igr-sb-log"])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_narrow_sticks_are_uniform_over_fifty_categories(family, scale):
    # Newton's method stops within 1e-9 on its own mesh, and the law is measured on another one.
    assert fit_uniform_prior(50, family, scale=scale, cache=False).total_variation < 2e-9


def test_of_the_planar_flow_the_fit_says_how_far_it_is():
    found = fit_uniform_prior(4, "igr-planar", num_iterations=200, cache=False)
    assert found.method == "relaxed"
    assert found.num_iterations == 200
    # An estimate of other draws agrees with that of the fit.
    law = found.distribution(1.0)
    draws = 200_000
    again = law.discrete("monte_carlo", num_samples=draws, generator=torch.Generator().manual_seed(5)).probs
    error = torch.sqrt(found.probs * (1 - found.probs) * (1 / found.num_draws + 1 / draws))
    assert bool(((again.double() - found.probs).abs() < 5 * error).all())
    # Near, and no more than that: the mean of relaxed samples is not the law.
    noise = math.sqrt(0.5 / math.pi) * found.standard_error.sum()
    assert found.total_variation < 0.02 + noise
    # 3 degrees of freedom: half of chi-square over the number of draws, far above which the rest is bias.
    assert found.kl < 0.002


def test_closed_forms_are_those_of_the_distributions(a_cache_of_its_own):
    for dtype in (torch.float32, torch.float64):
        law = uniform_prior(7, temperature=0.5, scale=2.0, dtype=dtype)
        expected = InvertibleGaussian.uniform(7, 0.5, 2.0, dtype=dtype)
        assert torch.equal(law.loc, expected.loc)
        assert torch.equal(law.scale, expected.scale)
        logits = uniform_prior(7, "gumbel-softmax", temperature=0.5, dtype=dtype)
        assert isinstance(logits, GumbelSoftmax)
        assert torch.equal(logits.logits, torch.zeros(7, dtype=dtype))
    for family in ("igr", "gumbel-softmax"):
        found = fit_uniform_prior(7, family)
        assert (found.num_iterations, found.num_draws) == (0, None)
        assert found.total_variation < 1e-9
        law, other = found.distribution(0.5), uniform_prior(7, family, temperature=0.5)
        noise = law.draw_noise((3,))
        torch.testing.assert_close(law.rsample_log(noise=noise), other.rsample_log(noise=noise))
        assert same(Fit.from_json(json.loads(json.dumps(found.to_json()))), found)
    assert not a_cache_of_its_own.exists()


def test_the_prior_is_the_distribution_of_the_fit(a_cache_of_its_own):
    law = uniform_prior(4, "igr-sb-log", temperature=torch.tensor([0.1, 1.0]))
    found = fit_uniform_prior(4, "igr-sb-log")
    assert law.batch_shape == (2,)
    assert torch.equal(law.loc[0], found.parameters["loc"].float())
    assert len(kept(a_cache_of_its_own)) == 1


@pytest.mark.parametrize("family", ["igr-sb", "igr-sb-log", "igr-planar"])
def test_a_fit_is_made_once_and_kept_to_the_last_bit(family, a_cache_of_its_own, monkeypatch, tmp_path):
    steps = 2 if family == "igr-planar" else None
    made = fit_uniform_prior(3, family, num_iterations=steps)
    (path,) = kept(a_cache_of_its_own)
    monkeypatch.setattr(priors, "fit", no_fit)
    before = path.read_bytes()
    again = fit_uniform_prior(3, family, num_iterations=steps)
    assert same(made, again)
    for name, value in made.parameters.items():
        assert torch.equal(value, again.parameters[name])
    assert path.read_bytes() == before
    again.save(tmp_path / "prior.json")
    assert same(Fit.load(tmp_path / "prior.json"), made)


def test_every_setting_has_a_fit_of_its_own(a_cache_of_its_own):
    made = [
        fit_uniform_prior(3, "igr-sb"),
        fit_uniform_prior(4, "igr-sb"),
        fit_uniform_prior(3, "igr-sb", scale=2.0),
        fit_uniform_prior(3, "igr-sb-log"),
        fit_uniform_prior(3, "igr-planar", num_iterations=2),
        fit_uniform_prior(3, "igr-planar", num_iterations=3),
        fit_uniform_prior(3, "igr-planar", num_iterations=2, seed=1),
        fit_uniform_prior(3, "igr-planar", num_iterations=2, scale=2.0),
    ]
    assert len(kept(a_cache_of_its_own)) == len(made)
    assert len({json.dumps(found.to_json()) for found in made}) == len(made)
    # Nothing of sticks is random.
    fit_uniform_prior(3, "igr-sb", seed=1)
    assert len(kept(a_cache_of_its_own)) == len(made)


def test_the_planar_flow_depends_on_the_seed_alone():
    def parameters(seed: int) -> dict[str, list]:
        torch.manual_seed(seed + 100)
        found = fit_uniform_prior(3, "igr-planar", seed=seed, num_iterations=2, cache=False)
        return found.to_json()["parameters"]

    before = torch.get_rng_state()
    assert parameters(0) == parameters(0) != parameters(1)
    torch.set_rng_state(before)
    fit_uniform_prior(3, "igr-planar", num_iterations=2, cache=False)
    assert torch.equal(torch.get_rng_state(), before)


def other_version(text: str) -> str:
    return json.dumps({**json.loads(text), "format": 99})


def other_settings(text: str) -> str:
    values = json.loads(text)
    return json.dumps({**values, "settings": {**values["settings"], "scale": 2.0}})


def changed_digit(text: str) -> str:
    values = json.loads(text)
    values["fit"]["parameters"]["loc"][0] += 0.1
    return json.dumps(values)


def old_fit(text: str) -> str:
    values = json.loads(text)
    values["fit"]["format"] = 0
    return json.dumps({**values, "sha256": priors._digest(values["fit"])})


SPOILS = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "not JSON": lambda text: "a prior",
    "no object": lambda text: "[1, 2]",
    "null": lambda text: "null",
    "a fit alone": lambda text: json.dumps(json.loads(text)["fit"]),
    "foreign": lambda text: '{"format": 1, "settings": {}, "fit": {}}',
    "deep": lambda text: "[" * 100_000,
    "of another version": other_version,
    "of another scale": other_settings,
    "with a changed digit": changed_digit,
    "with an old fit": old_fit,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_file_that_is_not_the_prior_is_made_anew(spoil, a_cache_of_its_own):
    made = fit_uniform_prior(3, "igr-sb")
    (path,) = kept(a_cache_of_its_own)
    whole = json.loads(path.read_text())
    path.write_text(spoil(path.read_text()))
    assert fit_uniform_prior(3, "igr-sb").to_json()["parameters"] == made.to_json()["parameters"]
    assert json.loads(path.read_text())["fit"]["parameters"] == whole["fit"]["parameters"]
    assert kept(a_cache_of_its_own) == [path]
    assert priors._read(priors._settings("", 3, "igr-sb", 1.0, 0, None)) is not None


def test_bytes_that_are_no_text_are_made_anew(a_cache_of_its_own):
    fit_uniform_prior(3, "igr-sb")
    (path,) = kept(a_cache_of_its_own)
    path.write_bytes(b"\xff\xfe\x00")
    fit_uniform_prior(3, "igr-sb")
    assert json.loads(path.read_text())["format"] == 1


def test_another_number_of_categories_under_the_name_is_made_anew(a_cache_of_its_own):
    fit_uniform_prior(4, "igr-sb")
    (path,) = kept(a_cache_of_its_own)
    path.rename(path.with_name(path.name.replace("-4-", "-3-")))
    assert fit_uniform_prior(3, "igr-sb").num_categories == 3


def test_without_cache_nothing_is_read_or_written(a_cache_of_its_own, monkeypatch):
    fit_uniform_prior(3, "igr-sb", cache=False)
    uniform_prior(3, "igr-sb", temperature=1.0, cache=False)
    assert not a_cache_of_its_own.exists()
    fit_uniform_prior(3, "igr-sb")
    monkeypatch.setattr(priors, "fit", no_fit)
    with pytest.raises(AssertionError, match="fitted"):
        fit_uniform_prior(3, "igr-sb", cache=False)


@pytest.mark.parametrize("function", ["fit_uniform_prior", "uniform_prior"])
def test_a_cache_that_cannot_be_written_is_a_warning_that_points_at_the_caller(
    function, monkeypatch, tmp_path
):
    # A file stands where the folder should: this stops root too.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    settings = {"temperature": 1.0} if function == "uniform_prior" else {}
    with pytest.warns(UserWarning, match=rf"^{function}: expected .*; got .*; name another .*\.$") as caught:
        found = getattr(priors, function)(3, "igr-sb", **settings)
    assert [one.filename for one in caught] == [__file__]
    law = found if function == "uniform_prior" else found.distribution(1.0)
    assert law.discrete().probs[0].item() == pytest.approx(0.5)


def test_a_write_that_fails_leaves_the_file_as_it_was(a_cache_of_its_own, monkeypatch):
    fit_uniform_prior(3, "igr-sb")
    (path,) = kept(a_cache_of_its_own)
    path.write_text("damaged")

    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        fit_uniform_prior(3, "igr-sb")
    monkeypatch.undo()
    assert kept(a_cache_of_its_own) == [path]
    assert path.read_text() == "damaged"


def test_a_reader_never_sees_half_a_file(a_cache_of_its_own):
    settings = priors._settings("", 3, "igr-sb", 1.0, 0, None)
    found = fit_uniform_prior(3, "igr-sb")
    (path,) = kept(a_cache_of_its_own)
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            if priors._read(settings) is None:
                wrong.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        priors._write("", settings, found)
    done.set()
    reader.join()
    assert not wrong


@pytest.mark.parametrize("shared", [None, "", "relative", "/some/where"])
def test_the_cache_folder_is_that_of_the_data_sets(shared, monkeypatch, tmp_path):
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "named"))
    assert priors._cache_folder() == data_cache.folder() == tmp_path / "named"
    monkeypatch.setenv("HOME", str(tmp_path))
    if shared is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", shared)
    for named in (None, ""):
        if named is None:
            monkeypatch.delenv("IGR_CACHE_DIR")
        else:
            monkeypatch.setenv("IGR_CACHE_DIR", named)
        assert priors._cache_folder() == data_cache.folder() == pooch.os_cache("igr")


def test_sticks_whose_law_is_not_known_are_an_error_and_not_kept(a_cache_of_its_own):
    with pytest.raises(RuntimeError, match=r"^uniform_prior: expected a scale .*; got 0.001 for 3 .*\.$"):
        uniform_prior(3, "igr-sb", temperature=1.0, scale=0.001)
    assert not a_cache_of_its_own.exists()


def test_a_fit_that_did_not_converge_is_an_error_and_not_kept(a_cache_of_its_own, monkeypatch):
    def stopped(*arguments: object, **settings: object) -> Fit:
        found = fit(*arguments, **settings)
        found.converged.fill_(False)
        return found

    fit = priors.fit
    monkeypatch.setattr(priors, "fit", stopped)
    with pytest.raises(
        RuntimeError, match=r"^fit_uniform_prior: expected to reach .* give a scale nearer to 1"
    ):
        fit_uniform_prior(3, "igr-sb")
    assert not a_cache_of_its_own.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"family": "igrsb"}, ValueError, "expected family to be one of .*; got 'igrsb'"),
        ({"family": None}, ValueError, "expected family"),
        ({"num_categories": 1}, ValueError, "num_categories of at least 2; got 1"),
        ({"num_categories": 2, "family": "igr-sb"}, ValueError, "num_categories of at least 3; got 2"),
        ({"num_categories": 4.0}, TypeError, "num_categories to be an int"),
        ({"scale": 0.0}, ValueError, "scale to be positive and finite; got 0.0"),
        ({"scale": -1}, ValueError, "scale to be positive"),
        ({"scale": math.inf}, ValueError, "scale to be positive"),
        ({"scale": math.nan}, ValueError, "scale to be positive"),
        ({"scale": torch.ones(3)}, TypeError, "scale to be a number"),
        ({"family": "gumbel-softmax", "scale": 2.0}, ValueError, "expected no scale"),
        ({"seed": -1}, ValueError, "seed of at least 0"),
        ({"seed": 2**63}, ValueError, "seed below"),
        ({"seed": 0.5}, TypeError, "seed to be an int"),
        ({"num_iterations": 3}, ValueError, "expected no num_iterations for the family igr"),
        ({"num_iterations": 0, "family": "igr-planar"}, ValueError, "num_iterations of at least 1"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments, error, match):
    arguments = {"num_categories": 4, **arguments}
    with pytest.raises(error, match=f"^fit_uniform_prior: .*{match}"):
        fit_uniform_prior(**arguments)
    with pytest.raises(error, match=f"^uniform_prior: .*{match}"):
        uniform_prior(**arguments, temperature=1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bad_temperature_is_refused_before_the_fit(family, monkeypatch):
    monkeypatch.setattr(priors, "fit", no_fit)
    with pytest.raises(ValueError, match=r"uniform_prior: expected temperature to be positive"):
        uniform_prior(4, family, temperature=0.0)
    with pytest.raises(TypeError, match="expected temperature to be a number or a tensor"):
        uniform_prior(4, family, temperature="1")


def test_no_warning_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uniform_prior(3, "igr-sb", temperature=1.0)
        uniform_prior(3, "igr-sb", temperature=1.0)
