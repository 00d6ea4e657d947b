"""Every latent, network, likelihood and data set that make sense together train and are evaluated.

On the digits every latent meets every network; every other set meets every latent, network and likelihood,
though not all pairs of them.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.data import Dataset, load
from igr.evaluation import evaluate
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS
from igr.models.pictures import prior_samples, traversals
from igr.training.build import build_model
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from small_celeba import celeba_prepared

TINY = TrainConfig(
    max_images=20,
    batch_size=10,
    epochs=1,
    num_samples=1,
    num_eval_samples=2,
    learning_rate=1e-3,
    tensorboard=False,
    track_gradients=True,
)
SIZES = {"num_variables": 2, "num_categories": 4}
CAPACITIES = {
    "continuous_dim": 3,
    "continuous_capacity": (0.0, 5.0, 10),
    "discrete_capacity": (0.0, 5.0, 10),
}
# More sticks than are needed, so that some are cut.
STICKS = {"num_categories": 14, "stick_threshold": 0.5}

MODELS: dict[str, dict[str, Any]] = {
    **{name: {"latent": name, **SIZES} for name in LATENTS},
    "gaussian": {"latent": GAUSSIAN, "continuous_dim": 3},
    **{f"joint vae of {name}": {"latent": name, **SIZES, **CAPACITIES} for name in LATENTS},
}
# What has little to do with networks and images meets some of them only.
VARIANTS: dict[str, dict[str, Any]] = {
    "igr relaxed": {"latent": "igr", "kl": "relaxed", **SIZES},
    "gumbel-softmax landing": {
        **{"latent": "gumbel-softmax", "kl": "relaxed", "stick_the_landing": True, **SIZES},
    },
    "igr-planar landing": {"latent": "igr-planar", "stick_the_landing": True, "flow_layers": 1, **SIZES},
    "gaussian beside igr": {"latent": "igr", "continuous_dim": 3, "kl": "relaxed", **SIZES},
    "igr-sb straight through": {"latent": "igr-sb", "straight_through": True, **SIZES},
}
for _name in ("igr-sb-truncated", "joint vae of igr-sb-truncated"):
    MODELS[_name] = {**MODELS[_name], **STICKS}
for _name in ("bernoulli", "joint vae of bernoulli"):
    MODELS[_name] = {**MODELS[_name], "num_categories": 2}
FORMS: tuple[dict[str, str], ...] = (
    *({"likelihood": name} for name in LIKELIHOODS),
    {"binarization": "stochastic"},
)


def covering(shift: int) -> list[tuple[str, str, dict[str, str]]]:
    """Every latent, alone or in a JointVAE, with networks and forms of the images in turn."""
    networks = itertools.cycle([*NETWORKS, *NETWORKS][shift : shift + len(NETWORKS)])
    # With one more than there are networks, the two do not keep company all along.
    forms = itertools.cycle([*FORMS, FORMS[shift]])
    models = [
        f"joint vae of {name}" if (number + shift) % 2 and name in LATENTS else name
        for number, name in enumerate([*LATENTS, GAUSSIAN])
    ]
    return list(zip(models, networks, forms, strict=False))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Read once, which takes as long as a run."""
    return load("digits")


def check(config: TrainConfig, path: Path) -> None:
    """Trains, and looks at everything that comes of it."""
    config = config.resolved()
    train(config, path)
    (line,) = RunFolder(path).metrics()
    figures = {key: value for key, value in line.items() if key.startswith(("train_", "validation_"))}
    assert all(math.isfinite(value) for value in figures.values())
    assert 0 <= line["train_vanishing_gradients"] < 1
    run = load_run(path)
    fresh = build_model(config, run.dataset.image_shape)
    for (name, before), after in zip(fresh.named_parameters(), run.model.parameters(), strict=True):
        assert not torch.equal(before, after), f"{name} was not trained"
    found = evaluate(run, max_images=10, legacy=True)
    estimates = [*found.bounds.values(), found.discrete_kl, found.legacy_estimate]
    assert all(math.isfinite(figure.value) for figure in estimates if figure is not None)
    is_exact = config.has_categories and LATENTS[config.latent].has_exact_law()
    has_pre_image = config.latent.startswith("igr")
    present = {
        "relaxed_elbo": True,
        "discrete_elbo": is_exact,
        "importance_weighted": is_exact or not config.has_categories,
        "importance_weighted_pre_image": has_pre_image,
    }
    assert {key: figure is not None for key, figure in found.bounds.items()} == present
    assert (found.discrete_kl is not None) == is_exact
    shape = config.image_shape
    drawn = prior_samples(run.model, 3, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, *shape)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    count = (config.continuous_dim or 0) + (config.num_variables if config.has_categories else 0)
    image = run.dataset.test.images[:1].float() / 255
    assert len(traversals(run.model, image, config.posterior_temperature, 2)) == count


def of(model: str, network: str, data: str, form: dict[str, str] | None = None) -> TrainConfig:
    return replace(TINY, data=data, network=network, **(MODELS | VARIANTS)[model], **(form or {}))


PAIRS = [
    *itertools.product(MODELS, NETWORKS),
    *zip(VARIANTS, NETWORKS, strict=True),
]


@pytest.mark.parametrize("number", range(len(PAIRS)), ids=[" with ".join(pair) for pair in PAIRS])
def test_every_latent_trains_with_every_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset, number: int
) -> None:
    monkeypatch.setattr("igr.data.load", lambda name, data_dir: digits)
    # Another form at each turn of the networks.
    form = FORMS[(number + number // len(NETWORKS)) % len(FORMS)]
    check(of(*PAIRS[number], "digits", form), tmp_path / "run")


@pytest.mark.parametrize("number", range(len(LATENTS) + 1))
@pytest.mark.parametrize("data", ["mnist", "fmnist", "omniglot"])
def test_every_latent_trains_on_every_published_set(
    tmp_path: Path, real_cache: Path, a_cache_of_its_own: Path, data: str, number: int
) -> None:
    # The cache of the session is left as it is; priors that are fitted go elsewhere.
    a_cache_of_its_own.mkdir()
    for file in real_cache.iterdir():
        (a_cache_of_its_own / file.name).symlink_to(file)
    shift = ["mnist", "fmnist", "omniglot"].index(data)
    model, network, form = covering(shift)[number]
    check(of(model, network, data, form), tmp_path / "run")


@pytest.fixture(scope="module")
def celeba_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder that has the small archive, which stands for CelebA meanwhile."""
    folder = tmp_path_factory.mktemp("celeba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IGR_CACHE_DIR", str(folder / "cache"))
        with celeba_prepared(folder, (10, 10, 10)):
            yield folder / "cache"


@pytest.mark.parametrize("number", range(len(LATENTS) + 1))
def test_every_latent_trains_on_celeba(
    tmp_path: Path, celeba_cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("IGR_CACHE_DIR", str(celeba_cache))
    model, network, form = covering(3)[number]
    config = replace(of(model, network, "celeba", form), batch_size=5)
    assert config.image_shape == (3, 64, 64)
    check(config, tmp_path / "run")


def test_the_sets_meet_every_network_and_every_form() -> None:
    for shift in range(4):
        models, networks, forms = zip(*covering(shift), strict=True)
        assert {MODELS[model]["latent"] for model in models} == {*LATENTS, GAUSSIAN}
        assert set(networks) == set(NETWORKS)
        assert {tuple(form.items()) for form in forms} == {tuple(form.items()) for form in FORMS}
    met = {model for shift in range(2) for model, _, _ in covering(shift)}
    assert met == set(MODELS)
