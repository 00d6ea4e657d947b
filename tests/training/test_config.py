"""A config says what it means, and says no in one sentence."""

import dataclasses
import json

import pytest
import torch

from igr.errors import UserError
from igr.training.config import TrainConfig, smoke


@pytest.mark.parametrize(
    ("latent", "kl", "expected"),
    [
        ("igr", "discrete", {"temperature": 0.4, "scale": "fixed", "prior_temperature": None}),
        ("igr", "relaxed", {"temperature": 0.15, "scale": "free", "prior_temperature": None}),
        ("gumbel-softmax", "discrete", {"temperature": 0.67, "prior_temperature": 0.5}),
        ("gumbel-softmax", "relaxed", {"temperature": 0.67, "prior_temperature": 0.5}),
    ],
)
def test_open_settings_are_filled_by_latent_and_kl(latent, kl, expected):
    config = TrainConfig(latent=latent, kl=kl).resolved()
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (5, 1), (19, 4), (20, 5), (300, 5)])
def test_the_relaxed_kl_is_warmed_up_over_the_first_of_the_epochs(epochs, warmup):
    assert TrainConfig(kl="relaxed", epochs=epochs).resolved().kl_warmup == warmup
    assert TrainConfig(kl="discrete", epochs=epochs).resolved().kl_warmup == 0


def test_what_was_given_is_kept():
    config = TrainConfig(temperature=0.9, scale="free", kl="relaxed", kl_warmup=0).resolved()
    assert (config.temperature, config.scale, config.kl_warmup) == (0.9, "free", 0)
    assert config.resolved() == config


BAD = {
    "data": ({"data": "mnits"}, r"did you mean mnist\?"),
    "network": ({"network": "dens"}, r"got 'dens'; did you mean dense\?"),
    "latent": ({"latent": "gumbel"}, r"did you mean gumbel-softmax\?"),
    "kl": ({"kl": "exact"}, "expected kl to be one of discrete, relaxed; got 'exact'"),
    "likelihood": (
        {"likelihood": "norml"},
        r"normal, normal-elu; got .*did you mean normal\?",
    ),
    "binarization": ({"binarization": "random"}, "expected binarization to be one of fixed, stochastic"),
    "binarization of grey images": (
        {"likelihood": "normal", "binarization": "stochastic"},
        "expected no binarization with the likelihood normal",
    ),
    "scale": ({"scale": "free?"}, r"did you mean free\?"),
    "precision": ({"precision": "float16"}, "expected precision to be one of float32, float64"),
    "zero temperature": ({"temperature": 0.0}, "expected temperature to be a finite number above"),
    "negative temperature": ({"temperature": -1.0}, "got -1.0; change temperature"),
    "nan temperature": ({"temperature": float("nan")}, "expected temperature .* got nan"),
    "infinite rate": ({"learning_rate": float("inf")}, "expected learning_rate .* got inf"),
    "one category": ({"num_categories": 1}, "whole number of at least 2; got 1"),
    "no epochs": ({"epochs": 0}, "expected epochs to be a whole number of at least 1; got 0"),
    "negative seed": ({"seed": -1}, "expected seed"),
    "device": ({"device": "gpu"}, "expected device to be cpu, cuda or cuda:N; got 'gpu'"),
    "other device": ({"device": "meta"}, "expected device to be one of cpu, cuda; got 'meta'"),
    "scale of another latent": (
        {"latent": "gumbel-softmax", "scale": "free"},
        "expected no scale with the latent gumbel-softmax",
    ),
}


@pytest.mark.parametrize(("settings", "message"), BAD.values(), ids=BAD.keys())
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message) as error:
        TrainConfig(**settings).resolved()
    assert "\n" not in str(error.value)


def test_only_a_free_scale_under_the_discrete_kl_is_warned_of():
    free = TrainConfig(scale="free", kl="discrete").resolved()
    assert len(free.warnings()) == 1
    assert "discrete model" in free.warnings()[0]
    for kl in ("relaxed", "discrete"):
        assert TrainConfig(kl=kl).resolved().warnings() == []


def test_json_there_and_back():
    config = TrainConfig(latent="gumbel-softmax", learning_rate=3e-4, max_images=7).resolved()
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_json_over_a_base_changes_only_what_it_names():
    base = TrainConfig(epochs=7, seed=3)
    assert TrainConfig.from_json({"seed": 4}, base) == dataclasses.replace(base, seed=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, r"each key of the config .* got 'epoch'; did you mean epochs\?"),
        ({"epochs": "3"}, "expected epochs to be a whole number; got '3'"),
        ({"epochs": True}, "expected epochs to be a whole number; got True"),
        ({"epochs": 3.0}, "expected epochs to be a whole number; got 3.0"),
        ({"temperature": "low"}, "expected temperature to be a number or null; got 'low'"),
        ({"latent": None}, "expected latent to be text; got None"),
        ({"learning_rate": 10**400}, "expected learning_rate to be a number; got 1000"),
        ([1, 2], r"expected settings by name; got \[1, 2\]"),
    ],
)
def test_json_of_the_wrong_form_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        TrainConfig.from_json(values)


def test_json_takes_whole_numbers_where_numbers_are_meant():
    config = TrainConfig.from_json({"temperature": 1, "learning_rate": 2})
    assert (config.temperature, config.learning_rate) == (1.0, 2.0)
    assert isinstance(config.learning_rate, float)


def test_the_smoke_config_is_small_and_otherwise_the_same():
    config = TrainConfig(latent="gumbel-softmax", num_variables=7, max_images=30, batch_size=20)
    small = smoke(config)
    assert (small.epochs, small.max_images, small.batch_size) == (5, 30, 20)
    assert small.latent == "gumbel-softmax"
    assert small.num_variables == 7
    small.resolved()


def test_the_run_name_is_readable():
    name = TrainConfig(seed=3).resolved().run_name
    assert name == "digits-dense_nonlinear-igr-discrete-t0.4-s3"


def test_precision_names_a_dtype():
    assert TrainConfig(precision="float64").dtype == torch.float64


def test_every_setting_is_explained_to_the_user():
    import inspect
    import re

    source = inspect.getsource(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        assert re.search(rf'\n    {field.name}: [^\n]+\n    """[^"]+\."""', source), field.name
