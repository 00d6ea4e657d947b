"""The README says what was measured: every number of it is that of a committed result."""

import pytest

from measured import Page, result_of, timed

SHAPES = ("batch 100, variables 20, K 10", "batch 256, variables 64, K 64", "batch 1024, variables 1, K 1000")
EPOCH = "one epoch of 55,000 images in batches of 100, dense_nonlinear, 20 variables, K = 10:"
BOUNDS = ("relaxed_elbo", "discrete_elbo", "importance_weighted", "importance_weighted_pre_image")


def ratio(script, table, row):
    return timed(script, table, row)["ratio"]


def say_the_draws(page):
    for name, row in (
        ("`torch.nn.functional.gumbel_softmax`", "torch.nn.functional.gumbel_softmax"),
        ("`igr.functional.gumbel_softmax`", "igr, Gumbel-Softmax"),
        ("`igr.functional.invertible_gaussian`", "igr, IGR-I"),
        ("relaxit's `InvertibleGaussian`", "relaxit, InvertibleGaussian"),
        (
            "TensorFlow Probability's `RelaxedOneHotCategorical`, JAX, compiled",
            "TensorFlow Probability on JAX, RelaxedOneHotCategorical",
        ),
        (
            "Pyro's `RelaxedOneHotCategoricalStraightThrough`",
            "Pyro, RelaxedOneHotCategoricalStraightThrough",
        ),
    ):
        page.says(f"| {name} | <> | <> | <> |", *(ratio("peers", shape, row) for shape in SHAPES))
    sticks = [ratio("sampling", shape, "igr.InvertibleGaussian, sticks in lengths") for shape in SHAPES]
    page.says("IGR-SB (lengths) takes <>, <> and <> at these three shapes", *sticks)
    for shape in SHAPES[1:]:
        igr, normals = (
            timed("sampling", shape, row)["milliseconds"]
            for row in ("igr.functional.invertible_gaussian", "torch.randn of as many alone")
        )
        assert igr == pytest.approx(normals, rel=0.15)
    lengths, log_ratios, planar = (
        ratio("sampling", "the family at batch 100, variables 20, K 50", row)
        for row in ("IGR-SB, lengths", "IGR-SB, log", "IGR-Planar, one layer")
    )
    page.says(
        "At (100, 20, K = 50) it takes <> times as long as IGR-I, by log-ratios <> times,",
        lengths,
        log_ratios,
    )
    page.says("and IGR-Planar with one layer <> times", planar)
    for law in ("IGR-I", "IGR-SB, lengths", "IGR-SB, log"):
        assert ratio("sampling", f"{law}, batch 8", "K 100,000") == pytest.approx(2, rel=0.15)


def say_the_exact_laws(page):
    title = "batch 100, variables 20, K 10"
    each, one, divergence_each, divergence_one = (
        ratio("discrete_law", title, f"{what}, {scales}")
        for what in ("exact law", "its divergence from the uniform law")
        for scales in ("a scale each", "one scale")
    )
    page.says("costs <> calls of torch's `gumbel_softmax` at (100, 20, K = 10), <> where", each, one)
    errors = [
        title.split("largest error: a scale each ")[1][:7] for title in result_of("discrete_law")["tables"]
    ]
    page.says("with an error of <> in float32", max(map(float, errors)))
    page.says("with the gradient (`law.discrete_kl`) <> and <>.", divergence_each, divergence_one)


def say_the_epochs(page):
    page.says(
        "takes <> (IGR, closed-form KL) and <> (Gumbel-Softmax) times a loop",
        ratio("train_epoch", f"{EPOCH} against the bare loop", "igr, IGR-I, relaxed KL (closed form)"),
        ratio(
            "train_epoch",
            f"{EPOCH} against the bare loop with gumbel_softmax",
            "igr, Gumbel-Softmax, discrete KL",
        ),
    )
    exact = "igr, IGR-I, discrete KL (exact law)"
    page.says(
        "it takes <> times that loop with the closed form, and <> times our own epoch",
        ratio("train_epoch", f"{EPOCH} exact law against the bare loop", exact),
        ratio("train_epoch", f"{EPOCH} exact law against closed form", exact),
    )
    epochs = [timed("sop_epoch", "3 epochs", f"igr, {latent}") for latent in ("igr", "gumbel-softmax")]
    page.says(
        "takes <> (IGR) and <> (binary Concrete) times a loop by hand", *(found["ratio"] for found in epochs)
    )
    page.says(
        "with blocks between <> and <>.",
        min(found["ratio_low"] for found in epochs),
        max(found["ratio_high"] for found in epochs),
    )
    for found in epochs:
        assert 2 <= found["milliseconds"] / 3000 <= 3
    nine, *seventeen = (
        ratio("mixture_step", f"a step, weights {weights}", f"50 truncated at {kept} kept")
        for kept, weights in (("0.99, 9", "IGR"), ("0.9999, 17", "Kumaraswamy"), ("0.9999, 17", "IGR"))
    )
    page.says("a mixture model with <> components takes <> of its time", 50, nine)
    page.says("keeps nine of them, <> to <> where it keeps seventeen", *seventeen)
    five, all_of_them = (
        [
            ratio("replicas", f"a run of 10 epochs of digits, {latent},", f"{count} replicas")
            for latent in ("igr", "gumbel-softmax")
        ]
        for count in (5, 35)
    )
    assert round(all_of_them[0], 2) == round(all_of_them[1], 2)
    page.says("<> trained as replicas (`--replicas`) take <> of their time", 35, all_of_them[0])
    page.says("five <> to <>.", *five)
    page.says(
        "take <> (IGR) and <> (Gumbel-Softmax) times the decoder's products",
        *(
            ratio("evaluation", f"32 images with 1000 samples each, {latent}", "every bound")
            for latent in ("igr", "gumbel-softmax")
        ),
    )
    page.sets("All bounds of 32 MNIST images with 1,000 samples each")
    start = timed("start_up", "whole processes", "igr train --data mnist, to the first step")
    page.says("takes <> s from the start of the process to its first step", start["milliseconds"] / 1000)


def say_the_bounds(page, folder, name_of):
    for run, name in name_of.items():
        found = result_of(f"{folder}/{run}")
        bounds = found["evaluation"]["bounds"]
        cells, numbers = [], []
        for kind in BOUNDS:
            bound = bounds.get(kind)  # Gumbel-Softmax has no pre-image
            cells.append("<> ± <>" if bound else "-")
            numbers += (bound["value"], bound["standard_error"]) if bound else ()
        page.says(f"| {name} | {found['config']['kl']} | {' | '.join(cells)} |", *numbers)


def say_the_runs(page):
    demo = {
        f"{latent}-{kl}": latent for latent in ("gumbel-softmax", "igr") for kl in ("relaxed", "discrete")
    }
    say_the_bounds(page, "demo", demo)
    found = [result_of(f"demo/{run}") for run in demo]
    for each in found:
        config, evaluation = each["config"], each["evaluation"]
        assert (config["data"], config["epochs"], evaluation["num_samples"]) == ("digits", 120, 100)
    page.sets("digits, 120 epochs, one seed, untuned temperatures", "100 samples")
    seconds = sum(each[part]["seconds"] for each in found for part in ("training", "evaluation"))
    page.says("`make demo` took <> s of training and evaluation", seconds)
    mnist = {}
    for run in ("gumbel-softmax-relaxed", "igr-relaxed", "gumbel-softmax-discrete", "igr-discrete"):
        config = result_of(f"mnist/{run}")["config"]
        assert (config["data"], config["epochs"], config["network"]) == ("mnist", 20, "dense_nonlinear")
        scale = ", scale 1" if run == "igr-discrete" else ""
        mnist[run] = f"{config['latent']} ({config['temperature']}{scale})"
    for latent in ("gumbel-softmax", "igr"):
        mnist[f"{latent}-relaxed-no-warmup"] = f"{mnist[f'{latent}-relaxed']}, no warm-up"
    say_the_bounds(page, "mnist", mnist)
    page.sets("20 variables with 10 categories, 20 epochs, one seed, untuned", "all 10,000 test images")
    for run in mnist:
        assert result_of(f"mnist/{run}")["evaluation"]["num_data"] == 10_000


def test_every_number_has_its_source():
    page = Page("README.md")
    say_the_draws(page)
    say_the_exact_laws(page)
    say_the_epochs(page)
    say_the_runs(page)
    page.sets(
        "NeurIPS 2020",
        "K - 1",
        r"at temperatures 1 and 0\.3",
        r"\(0\.5, 0\.3, 0\.2\)",
        r"Python 3\.11",
        r"torch 2\.13",
        r"\((100, 20, 10|256, 64, 64|1024, 1, 1000)\)",
        "100,000 categories take about twice as long as 50,000",
        "60 lines",
    )
    page.check()


def test_it_names_the_processors():
    scripts = ("peers", "sampling", "discrete_law", "train_epoch", "evaluation")
    rest = ("sop_epoch", "mixture_step", "replicas", "start_up")
    for names, processor in ((scripts, "Intel(R) Xeon(R) Processor"), (rest, "AMD EPYC")):
        for name in names:
            machine = result_of(name)["machine"]
            assert (machine["processor"], machine["logical_cores"]) == (processor, 2), name
            assert machine["torch"].startswith("2.13.")
