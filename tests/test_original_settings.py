"""The page for those who come from the original code: every setting of it has a line, every flag is one."""

import dataclasses
import re
from pathlib import Path

import torch

from igr import studies
from igr.cli.evaluate import EvaluateArguments
from igr.cli.prior import PriorArguments
from igr.cli.study import RunArguments
from igr.cli.sweep import SweepArguments
from igr.cli.train import TrainArguments
from igr.estimators import ESTIMATORS
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.networks import MIXTURE_NETWORKS, NETWORKS
from igr.models.sop import BINARY_LATENTS
from igr.models.sop import NETWORKS as SOP_NETWORKS
from igr.models.stick_laws import MIXTURES
from igr.training.kinds import CONFIGS, config_class

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "original-settings.md").read_text(encoding="utf-8")


def words(text):
    return text.split()


# Of the original.
SETTINGS = words("""
dataset_name model_type temp sample_size sample_size_testing n_required latent_discrete_n categories_n
num_of_discrete_var num_of_discrete_param latent_norm_n num_of_norm_var num_of_norm_param architecture
learning_rate batch_n epochs run_jv gamma cont_c_linspace disc_c_linspace check_every save_every
run_with_sample num_of_repetitions seeds truncation_option truncation_options threshold quantile prior_file
run_closed_form_kl sample_from_disc_kl sample_from_cont_kl stick_the_landing test_with_one_hot dtype
width_height units_per_layer weight_decay min_learning_rate test_sample_size iter_per_epoch
""")
MODELS = words("""
VAE GS_Dis IGR_I_Dis IGR_Planar_Dis IGR_SB_Finite_Dis IGR_SB_Dis GS IGR_I IGR_Planar IGR_SB_Finite IGR_SB
Relax_GS_Dis Relax_Ber_Dis Relax_IGR DLGMM DLGMM_Var DLGMM_IGR DLGMM_IGR_SB
""")


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title):
    """The cells of the rows of a table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def flags_of(*kinds):
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    return {f"--{name.replace('_', '-')}" for name in names}


def test_every_setting_of_the_original_has_a_line_and_tells_what_it_is_here():
    table = rows("Settings")
    named = [name for row in table for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted([*SETTINGS, "monitor_gradients"])
    assert all(
        re.search(r"`(--|igr )|^none: |^follows from|there are capacities|`delta=`", row[3]) for row in table
    )


def test_every_model_and_network_of_the_original_has_a_line():
    assert [name for row in rows("Models") for name in re.findall(r"`(\w+)`", row[0])] == [
        *MODELS,
        *("GS", "IGR_I", "IGR_Planar"),
        "IGR_SB",
    ]
    named = [name for row in rows("Networks") for name in re.findall(r"`(\w+)`", row[0])]
    assert named == [*NETWORKS, *MIXTURE_NETWORKS, *SOP_NETWORKS]


def test_every_flag_is_one():
    configs = [config_class(name) for name in CONFIGS]
    commands = (TrainArguments, EvaluateArguments, SweepArguments, PriorArguments, RunArguments)
    known = flags_of(*configs, *commands, *(studies.study(name).config for name in studies.STUDIES))
    found = set(re.findall(r"--[a-z][a-z-]*", PAGE))
    assert len(found) > 40
    assert found <= known, found - known
    # In the table of settings each is one of a run, or of its evaluation.
    of_runs = flags_of(*configs, EvaluateArguments, TrainArguments)
    named = {flag for row in rows("Settings") for flag in re.findall(r"--[a-z][a-z-]*", row[3])}
    assert named <= of_runs, named - of_runs


def test_every_value_is_one():
    values = {
        "latent": [*LATENTS, GAUSSIAN, *MIXTURES, *BINARY_LATENTS],
        "network": [*NETWORKS, *MIXTURE_NETWORKS, *SOP_NETWORKS],
        "model": CONFIGS,
        "estimator": ESTIMATORS,
        "kl": ("relaxed", "discrete"),
    }
    for flag, known in values.items():
        found = re.findall(rf"--{flag} ([a-z][\w-]*)", PAGE)
        assert len(found) > 2, flag
        assert {*found} <= {*known}, flag
    assert set(studies.STUDIES) == set(re.findall(r"igr study run ([\w-]+)", section("Scripts")))


def test_the_example_says_what_the_fits_reach(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(example, found)
    assert found["ours"].total_variation < 1e-12
    assert 0.005 < found["original"].total_variation < 0.05
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_every_page_that_it_links_exists():
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
