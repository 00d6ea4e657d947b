"""Settings of mixture models."""

import dataclasses
import json

import pytest

from igr.errors import UserError
from igr.models.stick_laws import MIXTURES
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.kinds import config_class


def test_open_settings_are_filled_in_where_they_apply_and_stay():
    found = {latent: DLGMMConfig(latent=latent).resolved() for latent in MIXTURES}
    open_ = {
        latent: (config.temperature, config.stick_threshold, config.stick_quantile)
        for latent, config in found.items()
    }
    assert open_ == {
        "dlgmm": (None, None, None),
        "dlgmm-truncated": (None, 0.99, 0.75),
        "dlgmm-igr": (1.0, None, None),
        "dlgmm-igr-truncated": (None, 0.99, 0.75),
    }
    for config in found.values():
        assert config.num_samples == 1
        assert config.resolved() == config
        assert DLGMMConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config_class("dlgmm") is DLGMMConfig


def test_defaults_are_those_of_the_experiments():
    config = DLGMMConfig().resolved()
    settings = (config.num_components, config.continuous_dim, config.learning_rate, config.epochs)
    assert settings == (20, 50, 3e-4, 300)


BAD = {
    "latent": ({"latent": "dlgmm-igrr"}, "did you mean dlgmm-igr"),
    "network": ({"network": "dense"}, "expected network to be one of dlgmm_conv, dlgmm_dense"),
    "likelihood": ({"likelihood": "norml"}, "did you mean normal"),
    "temperature": (
        {"latent": "dlgmm", "temperature": 0.5},
        "expected no temperature with the weights dlgmm, which have none; got 0.5; leave temperature out",
    ),
    "temperature of lengths": (
        {"latent": "dlgmm-igr-truncated", "temperature": 1.0},
        "expected no temperature with the weights dlgmm-igr-truncated",
    ),
    "component": ({"component": "sum"}, "expected component to be one of averaged, summed; got 'sum'"),
    "threshold": ({"stick_threshold": 0.9}, "expected no stick_threshold with the weights dlgmm-igr"),
    "threshold of one": (
        {"latent": "dlgmm-truncated", "stick_threshold": 1.0},
        "expected stick_threshold to be a number above 0 and below 1; got 1.0",
    ),
    "quantile": (
        {"latent": "dlgmm-truncated", "stick_quantile": 1.5},
        "expected stick_quantile to be a number above 0 and at most 1",
    ),
    "components": ({"num_components": 1}, "expected num_components to be a whole number of at least 2"),
    "corners": (
        {"num_components": 9, "continuous_dim": 3},
        r"expected at most 2\^continuous_dim = 8 components",
    ),
    "concentration": ({"concentration": 0.0}, "expected concentration to be a finite number above 0"),
    "separation": ({"prior_separation": -1.0}, "expected prior_separation to be a number of at least 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_is_refused(name):
    settings, said = BAD[name]
    with pytest.raises(UserError, match=said):
        DLGMMConfig(**settings).resolved()


def test_names_tell_runs_apart():
    names = {
        dataclasses.replace(DLGMMConfig(), **settings).resolved().run_name
        for settings in (
            {},
            {"latent": "dlgmm"},
            {"latent": "dlgmm-igr-truncated"},
            {"network": "dlgmm_conv"},
            {"num_components": 50},
            {"temperature": 0.5},
            {"component": "summed"},
            {"seed": 1},
            {"data": "mnist"},
        )
    }
    assert len(names) == 9
    assert "digits-dlgmm_dense-dlgmm-igr-k20-s0" in names


def test_truncation_that_cuts_nothing_is_warned_of():
    (said,) = DLGMMConfig(latent="dlgmm-truncated", num_components=9).resolved().warnings()
    assert "of 9 components none is ever cut" in said
    assert not DLGMMConfig(latent="dlgmm-truncated", num_components=10).resolved().warnings()
    assert not DLGMMConfig(latent="dlgmm", num_components=5).resolved().warnings()
