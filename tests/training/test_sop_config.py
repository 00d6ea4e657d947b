"""Settings of structured output prediction."""

import dataclasses
import json

import pytest

from igr.errors import UserError
from igr.training.kinds import CONFIGS, config_class
from igr.training.sop_config import SOPConfig


def test_open_settings_are_filled_in_and_stay():
    config = SOPConfig().resolved()
    assert (config.temperature, config.num_samples, config.scale, config.flow_layers) == (
        1.0,
        1,
        "fixed",
        None,
    )
    assert config.resolved() == config
    planar = SOPConfig(latent="igr-planar", scale="free", num_samples=5).resolved()
    assert (planar.scale, planar.flow_layers, planar.num_samples) == ("free", 2, 5)
    assert SOPConfig(latent="gumbel-softmax").resolved().scale is None
    again = SOPConfig.from_json(json.loads(json.dumps(planar.to_json())))
    assert again == planar


BAD = {
    "sticks": ({"latent": "igr-sb"}, "the one stick always wins"),
    "log sticks": ({"latent": "igr-sb-log"}, "in log space changes nothing"),
    "latent": ({"latent": "igr-plnar"}, "did you mean igr-planar"),
    "network": (
        {"network": "dense"},
        "expected network to be one of double_linear, nonlinear, triple_linear",
    ),
    "scale of gumbel": (
        {"latent": "gumbel-softmax", "scale": "free"},
        "expected no scale with the latent gumbel",
    ),
    "layers of igr": ({"flow_layers": 2}, "expected no flow_layers with the latent igr"),
    "many layers": (
        {"latent": "igr-planar", "flow_layers": 1001},
        "expected flow_layers to be a whole number from 1 to 1000; got 1001; change flow_layers",
    ),
    "units": ({"num_units": 0}, "expected num_units to be a whole number of at least 1"),
    "decay": ({"learning_rate_decay": -1.0}, "expected learning_rate_decay to be a number of at least 0"),
    "least": ({"min_learning_rate": 0.0}, "expected min_learning_rate to be a finite number above 0"),
    "temperature": ({"temperature": 0.0}, "expected temperature to be a finite number above 0"),
    "samples": ({"num_samples": 0}, "expected num_samples to be a whole number of at least 1"),
    "device": ({"device": "tpu"}, "expected device to be"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_is_refused(name):
    settings, said = BAD[name]
    with pytest.raises(UserError, match=said):
        SOPConfig(**settings).resolved()


def test_the_learning_rate_falls_as_in_the_experiments():
    config = SOPConfig()
    assert config.learning_rate_at(0) == 1e-3
    assert config.learning_rate_at(1000) == pytest.approx(5e-4)
    assert config.learning_rate_at(9000) == pytest.approx(1e-4)
    assert config.learning_rate_at(100_000) == 1e-4
    assert SOPConfig(learning_rate_decay=0.0).learning_rate_at(10_000) == 1e-3
    # One that starts below the least stays where it is.
    assert SOPConfig(learning_rate=1e-5).learning_rate_at(5000) == 1e-5


def test_names_tell_runs_apart():
    names = {
        dataclasses.replace(SOPConfig(), **settings).resolved().run_name
        for settings in (
            {},
            {"straight_through": True},
            {"scale": "free"},
            {"num_samples": 5},
            {"latent": "gumbel-softmax"},
            {"network": "nonlinear"},
            {"seed": 1},
            {"temperature": 0.5},
            {"data": "mnist"},
        )
    }
    assert len(names) == 9
    assert "sop-digits-double_linear-igr-n1-t1-s0" in names


def test_a_free_scale_is_warned_of():
    assert SOPConfig(scale="free").resolved().warnings()
    assert not SOPConfig(scale="free", straight_through=True).resolved().warnings()
    assert not SOPConfig().resolved().warnings()


def test_kinds_are_found_by_name():
    assert config_class("sop") is SOPConfig
    assert set(CONFIGS) == {"vae", "sop", "dlgmm"}
    with pytest.raises(
        UserError, match="expected model to be one of dlgmm, sop, vae; got 'spo'; did you mean sop"
    ):
        config_class("spo")


def test_small_is_small():
    small = SOPConfig(num_samples=50, batch_size=100).small().resolved()
    assert (small.epochs, small.max_images, small.batch_size, small.num_samples) == (5, 500, 50, 1)
