"""Grids: all combinations of what a user writes, the groups they make, and what is no grid."""

import itertools

import pytest

from igr.errors import UserError
from igr.sweeps import expand, groups_of, read_grid
from igr.sweeps.grid import takes_lists
from igr.training.config import TrainConfig


def pairs(configs: list[TrainConfig], *names: str) -> list[tuple[object, ...]]:
    return [tuple(getattr(config, name) for name in names) for config in configs]


def test_a_grid_is_the_product_of_its_axes_over_the_base():
    grid = {"temperature": [0.2, 1], "seed": [0, 1, 2], "epochs": 3}
    configs = expand(grid, TrainConfig(network="dense"))
    assert pairs(configs, "temperature", "seed") == [*itertools.product((0.2, 1.0), (0, 1, 2))]
    assert {(config.epochs, config.network) for config in configs} == {(3, "dense")}
    assert all(config == config.resolved() for config in configs)


def test_no_axes_are_the_base_alone():
    assert expand({}, TrainConfig(seed=5)) == [TrainConfig(seed=5).resolved()]


def test_a_list_of_grids_is_their_union():
    grids = [{"latent": "igr", "scale": ["fixed", "free"]}, {"latent": ["gumbel-softmax", "igr"]}]
    assert pairs(expand(grids), "latent", "scale") == [
        ("igr", "fixed"),
        ("igr", "free"),
        ("gumbel-softmax", None),
    ]


def test_flags_win_over_a_grid_and_over_what_makes_it_small():
    grid = {"seed": [0, 1], "epochs": [50, 60]}
    configs = expand(grid, flags={"seed": [2, 3, 4]}, small=True)
    assert pairs(configs, "seed", "epochs") == [(2, 5), (3, 5), (4, 5)]
    assert configs[0] == TrainConfig(seed=2).small().resolved()
    assert pairs(expand(grid, flags={"epochs": 7}, small=True), "seed", "epochs") == [(0, 7), (1, 7)]


def test_open_settings_are_filled_in_for_each_combination():
    configs = expand({"latent": ["igr", "gumbel-softmax"]})
    assert pairs(configs, "temperature", "prior_temperature") == [(0.4, None), (0.67, 0.5)]
    assert pairs(expand({"temperature": [None, 1]}), "temperature") == [(0.4,), (1.0,)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 5, 100], [(0.0, 5.0, 100)]),
        ([[0, 5, 100]], [(0.0, 5.0, 100)]),
        ([[0, 5, 100], [0, 25, 100]], [(0.0, 5.0, 100), (0.0, 25.0, 100)]),
        ((0, 5, 100), [(0.0, 5.0, 100)]),
    ],
)
def test_a_setting_of_lists_has_one_value_in_a_list_and_several_in_a_list_of_lists(given, expected):
    joint = TrainConfig(continuous_dim=2, discrete_capacity=(0.0, 5.0, 100), kl="relaxed")
    assert [
        config.continuous_capacity for config in expand({"continuous_capacity": given}, joint)
    ] == expected
    assert [takes_lists(hint) for hint in (tuple[int, ...], int, int | None)] == [True, False, False]


BAD = {
    "a number": (3, "expected a grid of settings by name; got 3; write it as a JSON object"),
    "too many combinations": (
        {"seed": [*range(100)], "epochs": [*range(1, 100)]},
        "expected at most 2,000 combinations in a grid; got 9900 or more",
    ),
    "too many values": ({"seed": [*range(10**6)]}, "combinations in a grid; got 1000000 or more"),
    "more combinations than can be counted": (
        {name: [*range(1, 1001)] for name in ("epochs", "batch_size", "num_variables", "eval_every")},
        "expected at most 2,000 combinations",
    ),
    "a long number in a combination": (
        {"seed": [-(10**400), 0]},
        "in the combination seed -10000",
    ),
    "a text": ("seed", "expected a grid of settings by name; got 'seed'"),
    "no grids": ([], "expected at least one grid; got an empty list"),
    "a list of numbers": ([1], "expected a grid of settings by name; got 1"),
    "an unknown key": ({"temprature": 1}, "each key of a grid to be one of autocast, batch_size, "),
    "a near key": ({"temprature": 1}, "got 'temprature'; did you mean temperature?"),
    "an empty axis": (
        {"temperature": []},
        "expected at least one value of temperature; got an empty list; write one, or leave temperature out",
    ),
    "a value twice": (
        {"temperature": [1, 0.5, 1.0]},
        "expected different values of temperature; got 1.0 twice; write it once",
    ),
    "a wrong type": ({"seed": [0, "1"]}, "expected seed to be a whole number; got '1'; change seed"),
    "an object": ({"seed": {"from": 0}}, "expected seed to be a whole number; got {'from': 0}"),
    "a list in a list": ({"seed": [[0]]}, "expected seed to be a whole number; got [0]"),
    "an unknown value": (
        {"kl": "exact"},
        "expected kl to be one of discrete, relaxed; got 'exact'; choose one of these",
    ),
    "a combination that cannot be": (
        {"latent": ["igr", "gumbel-softmax"], "scale": "free"},
        "in the combination latent gumbel-softmax, scale free, which a list of grids can leave out: "
        "expected no scale with the latent gumbel-softmax",
    ),
    "the default and its value": (
        {"temperature": [None, 0.4], "seed": 1},
        "expected combinations that differ; got temperature null, seed 1 and temperature 0.4, seed 1, which "
        "is the same",
    ),
}


@pytest.mark.parametrize(("grid", "said"), BAD.values(), ids=BAD.keys())
def test_what_is_no_grid_is_one_sentence(grid, said):
    with pytest.raises(UserError) as refusal:
        expand(grid)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1_000


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    path = tmp_path / "grid.json"
    with pytest.raises(UserError, match=rf"expected a grid in a JSON file at {path}; got .*No such file"):
        read_grid(path)
    for text in ("{", "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=f"expected a grid in a JSON file at {path}; got "):
            read_grid(path)
    path.write_text('[{"seed": [0, 1]}]')
    assert read_grid(path) == [{"seed": [0, 1]}]


def test_seeds_and_what_is_tuned_make_one_group():
    configs = expand({"latent": ["igr", "gumbel-softmax"], "temperature": [0.2, 0.4], "seed": [3, 1]})
    groups = groups_of(configs)
    assert [(group.key, group.seeds, group.tune_all) for group in groups] == [
        ("igr", (3, 1), True),
        ("gumbel-softmax", (3, 1), True),
    ]
    assert pairs([*groups[0].candidates], "temperature", "seed") == [(0.2, 3), (0.4, 3)]
    runs = [run.config for group in groups for run in group.tuning_runs]
    assert {*runs} == {*configs}
    assert [group.tune_all for group in groups_of(configs, tune_all=False)] == [False, False]


@pytest.mark.parametrize(
    ("grid", "keys"),
    [
        ({}, ["igr"]),
        ({"latent": "gumbel-softmax"}, ["gumbel-softmax"]),
        ({"kl": ["discrete", "relaxed"]}, ["discrete", "relaxed"]),
        (
            {"kl": ["discrete", "relaxed"], "latent": ["igr", "gumbel-softmax"]},
            ["igr-discrete", "gumbel-softmax-discrete", "igr-relaxed", "gumbel-softmax-relaxed"],
        ),
        ({"num_variables": [5, 10]}, ["num-variables5", "num-variables10"]),
        ({"max_images": [10, None]}, ["max-images10", "group-1"]),
        (
            [{"scale": ["fixed", "free"]}, {"latent": "gumbel-softmax"}],
            ["igr-fixed", "igr-free", "gumbel-softmax"],
        ),
    ],
)
def test_groups_are_named_after_what_tells_them_apart(grid, keys):
    assert [group.key for group in groups_of(expand(grid))] == keys


def test_candidates_of_a_group_need_the_same_seeds():
    grids = [{"temperature": 0.2, "seed": [0, 1]}, {"temperature": 0.4, "seed": 0}]
    with pytest.raises(UserError) as refusal:
        groups_of(expand(grids))
    assert str(refusal.value) == (
        "expected the same seeds for all candidates of a group; got 0 1 and, for temperature 0.4, 0; give "
        "them the same"
    )


def test_the_order_of_settings_is_what_folders_of_sweeps_were_named_by():
    """Another one would give other names to the runs of sweeps that were begun before."""
    assert TrainConfig.setting_names() == [
        *("data", "data_dir", "max_images", "network", "likelihood", "binarization", "latent"),
        *("num_variables", "num_categories", "continuous_dim", "kl", "temperature", "prior"),
        *("prior_temperature", "scale", "flow_layers", "stick_threshold", "stick_quantile"),
        *("straight_through", "estimator", "stick_the_landing", "continuous_capacity", "discrete_capacity"),
        *("capacity_weight", "num_samples", "num_eval_samples", "autocast", "kl_warmup", "epochs"),
        *(
            "batch_size",
            "learning_rate",
            "seed",
            "eval_every",
            "checkpoint_every",
            "track_gradients",
            "tensorboard",
        ),
        *("precision", "device"),
    ]
    groups = groups_of(expand({"kl": ["relaxed", "discrete"], "batch_size": [10, 20]}))
    assert [group.key for group in groups] == [
        "relaxed-batch-size10",
        "relaxed-batch-size20",
        "discrete-batch-size10",
        "discrete-batch-size20",
    ]
    (group,) = groups_of(expand({"prior_temperature": [0.4, 0.5], "learning_rate": [1e-4, 1e-3]}))
    assert group.run(0, 0).name.endswith("-prior-temperature0.4-lr0.0001")


def test_the_kind_of_model_is_no_setting_of_a_grid():
    with pytest.raises(UserError, match="give it as --model sop"):
        expand({"model": "sop"})
    with pytest.raises(UserError, match="each key of a grid"):
        expand({"decisive": ["latent"]})
