"""A config says what it means, and says no in one sentence."""

import dataclasses
import json

import pytest
import torch

from igr.data import SOURCES
from igr.errors import UserError
from igr.models.latents import LATENTS
from igr.training.config import TrainConfig
from igr.training.run_config import RunConfig


@pytest.mark.parametrize(
    ("latent", "kl", "expected"),
    [
        ("igr", "discrete", {"temperature": 0.4, "scale": "fixed", "prior_temperature": None}),
        ("igr", "relaxed", {"temperature": 0.15, "scale": "free", "prior_temperature": None}),
        ("gumbel-softmax", "discrete", {"temperature": 0.67, "prior_temperature": 0.5}),
        ("gumbel-softmax", "relaxed", {"temperature": 0.67, "prior_temperature": 0.5}),
        ("igr", None, {"kl": "discrete", "temperature": 0.4, "scale": "fixed", "flow_layers": None}),
        ("gumbel-softmax", None, {"kl": "discrete", "stick_threshold": None, "continuous_dim": 0}),
        ("igr-sb", None, {"kl": "discrete", "temperature": 0.05, "scale": "fixed"}),
        ("igr-sb-log", None, {"kl": "discrete", "temperature": 0.4, "scale": "fixed"}),
        ("igr-sb-log", "relaxed", {"temperature": 0.15, "scale": "free", "stick_quantile": None}),
        (
            "igr-sb-truncated",
            None,
            {"kl": "discrete", "scale": "fixed", "stick_threshold": 0.9, "stick_quantile": 0.75},
        ),
        (
            "igr-planar",
            None,
            {"kl": "relaxed", "temperature": 0.15, "scale": "free", "flow_layers": 4, "kl_warmup": 5},
        ),
        (
            "gaussian",
            None,
            {"kl": "relaxed", "temperature": None, "continuous_dim": 10, "kl_warmup": 0, "scale": None},
        ),
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
    "temperature of the prior of sticks": (
        {"latent": "igr-sb", "prior_temperature": 0.5},
        "expected no prior_temperature with the latent igr-sb, which has none; got 0.5; leave",
    ),
    "layers of no flow": ({"flow_layers": 2}, "expected no flow_layers with the latent igr,"),
    "sticks of igr-sb": (
        {"latent": "igr-sb", "stick_threshold": 0.5},
        "expected no stick_threshold with the latent igr-sb,",
    ),
    "landing of igr": ({"stick_the_landing": True}, "expected no stick_the_landing with the latent igr,"),
    "categories of gaussian": (
        {"latent": "gaussian", "num_categories": 5},
        "expected no num_categories with the latent gaussian, which has none; got 5",
    ),
    "variables of gaussian": ({"latent": "gaussian", "num_variables": 5}, "expected no num_variables"),
    "temperature of gaussian": ({"latent": "gaussian", "temperature": 0.5}, "expected no temperature"),
    "prior of gaussian": ({"latent": "gaussian", "prior": "p.json"}, "expected no prior with"),
    "straight through gaussian": (
        {"latent": "gaussian", "straight_through": True},
        "expected no straight_through with the latent gaussian",
    ),
    "scale of gaussian": ({"latent": "gaussian", "scale": "free"}, "expected no scale with"),
    "no dimension": (
        {"latent": "gaussian", "continuous_dim": 0},
        "expected continuous_dim of at least 1 with the latent gaussian; got 0",
    ),
    "discrete KL of planar": (
        {"latent": "igr-planar", "kl": "discrete"},
        "expected kl relaxed with the latent igr-planar, of which no exact discrete law is known; got disc",
    ),
    "discrete KL of gaussian": (
        {"latent": "gaussian", "kl": "discrete"},
        "expected kl relaxed with the latent gaussian",
    ),
    "landing with the discrete KL": (
        {"latent": "gumbel-softmax", "stick_the_landing": True, "kl": "discrete"},
        "expected no stick_the_landing with kl discrete, which is not sampled; got true; use kl relaxed",
    ),
    "autocast of float64": (
        {"autocast": True, "precision": "float64"},
        "expected precision float32 with autocast; got float64; leave one of them out",
    ),
    "landing with the default KL": (
        {"latent": "gumbel-softmax", "stick_the_landing": True},
        "expected no stick_the_landing with kl discrete",
    ),
    "two sticks": (
        {"latent": "igr-sb", "num_categories": 2},
        "expected num_categories of at least 3 with the latent igr-sb; got 2",
    ),
    "two truncated sticks": (
        {"latent": "igr-sb-truncated", "num_categories": 2},
        "expected num_categories of at least 3 with the latent igr-sb-truncated",
    ),
    "a threshold of one": (
        {"latent": "igr-sb-truncated", "stick_threshold": 1.0},
        "expected stick_threshold to be a number between 0 and 1; got 1.0",
    ),
    "a quantile of zero": (
        {"latent": "igr-sb-truncated", "stick_quantile": 0.0},
        "expected stick_quantile to be a number above 0 and at most 1; got 0.0",
    ),
    "no layers": (
        {"latent": "igr-planar", "flow_layers": 0},
        "expected flow_layers .* from 1 to 1000; got 0",
    ),
    "many layers": (
        {"latent": "igr-planar", "flow_layers": 1001},
        "expected flow_layers to be a whole number from 1 to 1000; got 1001; change flow_layers",
    ),
    "negative dimension": ({"continuous_dim": -1}, "expected continuous_dim .* at least 0; got -1"),
    "one capacity": (
        {"continuous_dim": 2, "continuous_capacity": (0.0, 5.0, 100)},
        "expected continuous_capacity and discrete_capacity together, .* got continuous_capacity with",
    ),
    "the other capacity": (
        {"continuous_dim": 2, "discrete_capacity": (0.0, 5.0, 100)},
        "together, .* got discrete_capacity with the latent igr and continuous_dim 2;",
    ),
    "capacities without a Gaussian": (
        {"continuous_capacity": (0.0, 5.0, 100), "discrete_capacity": (0.0, 5.0, 100)},
        "at least 1; got continuous_capacity and discrete_capacity with .* continuous_dim 0;",
    ),
    "capacities without categories": (
        {
            "latent": "gaussian",
            "continuous_capacity": (0.0, 5.0, 100),
            "discrete_capacity": (0.0, 5.0, 100),
        },
        "with a categorical latent",
    ),
    "weight of no capacities": (
        {"continuous_dim": 2, "capacity_weight": 3.0},
        "expected capacities beside capacity_weight; got none; give",
    ),
    **{
        f"capacity {capacity}": (
            {
                "continuous_dim": 2,
                "continuous_capacity": (0.0, 5.0, 100),
                "discrete_capacity": capacity,
            },
            f"expected discrete_capacity to rise from LOWER to UPPER nats, .* got {message}; change",
        )
        for capacity, message in (
            ((5.0, 4.0, 100), "5 4 100"),
            ((-1.0, 4.0, 100), "-1 4 100"),
            ((0.0, 4.0, 0), "0 4 0"),
            ((0.0, float("inf"), 10), "0 inf 10"),
            ((float("nan"), 1.0, 10), "nan 1 10"),
        )
    },
    "weight of capacities": (
        {
            "continuous_dim": 2,
            "continuous_capacity": (0.0, 5.0, 100),
            "discrete_capacity": (0.0, 5.0, 100),
            "capacity_weight": 0.0,
        },
        "expected capacity_weight to be a finite number above 0; got 0.0",
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
        (
            {"continuous_capacity": [0.0, 5.0]},
            r"expected continuous_capacity to be 3 numbers; got 2, \[0.0, 5.0\]; change",
        ),
        ({"continuous_capacity": []}, "expected continuous_capacity to be 3 numbers; got 0"),
        ({"continuous_capacity": [0, 5, 2.5]}, "expected continuous_capacity .* whole number; got 2.5"),
        ({"discrete_capacity": [0, "5", 2]}, "expected discrete_capacity to be a number; got '5'"),
        ({"discrete_capacity": 5}, "expected discrete_capacity to be a list of numbers or null; got 5"),
        ({"discrete_capacity": "0 5 2"}, "expected discrete_capacity to be a list of numbers or null; got"),
        ({"discrete_capacity": [0, [5], 2]}, r"expected discrete_capacity to be a number; got \[5\]"),
        ({"stick_the_landing": 1}, "expected stick_the_landing to be true or false; got 1"),
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
    small = config.small()
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

    source = inspect.getsource(TrainConfig) + inspect.getsource(RunConfig)
    for field in dataclasses.fields(TrainConfig):
        assert re.search(rf'\n    {field.name}: [^\n]+\n    """[^"]+\."""', source), field.name


JOINT = {
    "latent": "igr",
    "continuous_dim": 3,
    "continuous_capacity": (0.0, 5.0, 25_000),
    "discrete_capacity": (1.0, 5.0, 100),
}


def test_capacities_make_a_joint_vae_of_the_paper():
    config = TrainConfig(**JOINT, kl="relaxed").resolved()
    assert (config.capacity_weight, config.kl_warmup) == (30.0, 0)
    assert config.resolved() == config
    capacities = config.capacities
    assert capacities["continuous_capacity"].at(5000) == pytest.approx(1.0)
    assert capacities["discrete_capacity"].at(50) == pytest.approx(3.0)
    assert TrainConfig(**JOINT, capacity_weight=100.0).resolved().capacity_weight == 100.0
    plain = TrainConfig(continuous_dim=3, kl="relaxed").resolved()
    assert (plain.capacity_weight, plain.kl_warmup, plain.capacities) == (None, 5, {})


def test_capacities_come_back_from_json():
    config = TrainConfig(**JOINT).resolved()
    found = TrainConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert found == config
    assert hash(found) == hash(config)
    given = TrainConfig.from_json({"discrete_capacity": [0, 5, 25]})
    assert given.discrete_capacity == (0.0, 5.0, 25)
    assert [type(number) for number in given.discrete_capacity] == [float, float, int]
    assert TrainConfig.from_json({"discrete_capacity": None}, given).discrete_capacity is None


@pytest.mark.parametrize("latent", [*LATENTS, "gaussian"])
def test_resolved_configs_of_every_latent_resolve_to_themselves_and_have_names(latent):
    config = TrainConfig(latent=latent).resolved()
    assert config.resolved() == config
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))).resolved() == config
    assert all(char.isalnum() or char in "-_." for char in config.run_name)
    # Nothing that the latent knows of is left open, but for what may follow another setting.
    own = LATENTS[latent].options - {"prior_temperature"} if latent in LATENTS else set()
    assert all(getattr(config, option) is not None for option in own)


def test_run_names_tell_latents_apart():
    names = {
        TrainConfig(**settings).resolved().run_name: settings
        for settings in (
            {},
            {"continuous_dim": 3},
            {"straight_through": True},
            {"kl": "relaxed"},
            {"latent": "gaussian"},
            {"latent": "igr-planar"},
        )
    }
    assert set(names) == {
        "digits-dense_nonlinear-igr-discrete-t0.4-s0",
        "digits-dense_nonlinear-igr-gaussian3-discrete-t0.4-s0",
        "digits-dense_nonlinear-igr-st-discrete-t0.4-s0",
        "digits-dense_nonlinear-igr-relaxed-t0.15-s0",
        "digits-dense_nonlinear-gaussian-s0",
        "digits-dense_nonlinear-igr-planar-relaxed-t0.15-s0",
    }


def test_images_have_the_shape_that_the_network_takes(monkeypatch):
    def shape(**settings):
        return TrainConfig(**settings).image_shape

    assert shape(network="conv_jointvae") == (1, 32, 32)
    assert shape(network="conv_jointvae", data="mnist") == (1, 32, 32)
    assert shape(network="conv_jointvae", data="celeba") == (3, 64, 64)
    assert shape(network="conv", data="omniglot") == (1, 28, 28)
    assert shape(network="conv") == (1, 8, 8)
    assert shape(network="dense", data="celeba") == (3, 64, 64)
    monkeypatch.setitem(SOURCES, "digits", dataclasses.replace(SOURCES["digits"], image_shape=(1, 6, 8)))
    with pytest.raises(
        UserError, match="for a network with convolutions; got 6 x 8; use a dense one, or conv_join"
    ):
        TrainConfig(network="conv").resolved()


# What the first version wrote into config.json, and under which defaults.
FIRST = {
    "data": "digits",
    "data_dir": None,
    "max_images": None,
    "network": "dense_nonlinear",
    "likelihood": "bernoulli",
    "binarization": "fixed",
    "latent": "gumbel-softmax",
    "num_variables": 20,
    "num_categories": 10,
    "kl": "discrete",
    "temperature": 0.67,
    "prior_temperature": 0.5,
    "scale": None,
    "num_samples": 1,
    "num_eval_samples": 100,
    "kl_warmup": 0,
    "epochs": 100,
    "batch_size": 100,
    "learning_rate": 0.001,
    "seed": 0,
    "eval_every": 1,
    "checkpoint_every": 10,
    "tensorboard": True,
    "precision": "float32",
    "device": "cpu",
}


@pytest.mark.parametrize(
    "change", [{}, {"latent": "igr", "temperature": 0.4, "prior_temperature": None, "scale": "fixed"}]
)
def test_a_config_of_the_first_version_is_the_same_run_now(change):
    values = FIRST | change
    config = TrainConfig.from_json(values).resolved()
    assert {key: getattr(config, key) for key in values} == values
    later = {key: value for key, value in config.to_json().items() if key not in values}
    assert later == {
        "estimator": "pathwise",
        "continuous_dim": 0,
        "prior": None,
        "flow_layers": None,
        "stick_threshold": None,
        "stick_quantile": None,
        "straight_through": False,
        "stick_the_landing": False,
        "continuous_capacity": None,
        "discrete_capacity": None,
        "capacity_weight": None,
        "track_gradients": False,
        "autocast": False,
    }


def test_what_files_are_named_is_kept_as_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(data_dir="images", prior="prior.json").resolved()
    assert (config.data_dir, config.prior) == (str(tmp_path / "images"), str(tmp_path / "prior.json"))
