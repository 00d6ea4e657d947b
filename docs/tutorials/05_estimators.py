"""
Gradient estimators compared
============================

How does one find the gradient of an expectation :math:`E f(d)` in the parameters of the law of :math:`d`,
when :math:`d` is discrete? There is no one best answer. Some estimators are *biased*: they are wrong on
average, by an amount that no number of samples takes away. Some are *noisy*: they are right on average, over
very many samples. And some cost more than others.

:mod:`igr.estimators` has thirteen of them behind one signature, and :func:`igr.estimators.probe` measures all
three of these for a function and a law of yours. This page does so on a problem so small that the exact
gradient is known, and then lets the estimators solve it.
"""

# %%
# The problem
# -----------
# Three dials can each be set to 0, 1, 2 or 4, and their sum should be 5. So there are three variables with
# four categories, 64 outcomes, and a loss that grows with the distance from 5. It is smooth, since many
# estimators ask for the gradient of the function; functions take points with shape (S, ..., V, K) and give a
# number for each, with shape (S, ...).

import matplotlib.pyplot as plt
import torch

import igr
import igr.plot
from igr import estimators

torch.set_num_threads(1)  # enough for tensors as small as these
torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
VALUES = torch.tensor([0.0, 1.0, 2.0, 4.0])


def total(dials):
    return (dials @ VALUES).sum(-1)


def loss_of(dials):
    return torch.sqrt(1 + (total(dials) - 5).square()) - 1


categories = torch.cartesian_prod(*[torch.arange(4)] * 3)
outcomes = torch.nn.functional.one_hot(categories, 4).float()  # [64, 3, 4]


def probabilities(logits):
    """Of the 64 outcomes, for logits with shape (..., 3, 4)."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return torch.exp(sum(log_probs[..., dial, categories[:, dial]] for dial in range(3)))


logits = torch.zeros(3, 4, requires_grad=True)
expected_loss = (probabilities(logits) * loss_of(outcomes)).sum()
(exact,) = torch.autograd.grad(expected_loss, logits)
print(f"expected loss of dials set at random: {expected_loss:.3f}")
print("its gradient, the same for each dial:", exact[0].numpy().round(3))

# %%
# Every estimator is called with the function, the law, and a number of samples. The gradient of the ``loss``
# that it returns is its estimate of the gradient:

law = igr.GumbelSoftmax(0.5, logits=logits)
found = estimators.ScoreFunction("leave_one_out")(
    loss_of, law, num_samples=8, generator=generator
)
(estimate,) = torch.autograd.grad(found.loss, logits)
print("one estimate, for the first dial:", estimate[0].numpy().round(3))

# %%
# Bias, variance and cost
# -----------------------
# One estimate says little. ``probe`` takes forty thousand of each and compares their mean with the exact
# gradient, which it finds by itself, by enumeration. Of the thirteen, ``disarm`` is for binary variables,
# ``vimco`` for bounds of several samples, and the score function with a moving average has seen nothing yet
# that it could average.

names = [
    "straight_through",
    "gumbel_straight_through",
    "rao_blackwell_straight_through",
    "gapped_straight_through",
    "reinmax",
    "pathwise",
    "score_function",
    "score_function_leave_one_out",
    "rebar",
    "relax",
]
report = estimators.probe(
    loss_of, law, names, num_samples=2, num_gradients=40_000, generator=generator
)
print(report)

# %%
# The same as a picture. (For a file of your own, :func:`igr.plot.probe_figure` draws both panels with a
# legend.)

figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
igr.plot.estimator_biases(panels[0], report)
_ = igr.plot.estimator_variances(panels[1], report)

# %%
# Blue circles say of themselves that they are unbiased, and orange squares that they are biased. The grey bar
# is what sampling alone would give. What stands there:
#
# - All that claim to be unbiased are so: their distance from the exact gradient is of the size of the noise,
#   and the worst z-score over all coordinates is below 5.
# - The bias of the others is plain to see, and largest for ``straight_through``: nearly as large as the
#   gradient itself. Only that of ``reinmax`` is so small that forty thousand estimates hardly show it.
# - What they offer in exchange is a small variance. The score function has the largest. A baseline
#   (``leave_one_out``) takes a part of that away, and a control variate (``rebar``, ``relax``) more.
# - The times, on whatever machine made this page, are those of the estimators alone, since the function costs
#   nothing here. In a model it is the function that is dear: most estimators call it once for each sample,
#   while ``rebar`` and ``relax`` call it at a relaxed point too and ask for its gradient there.
#
# Control variates learn
# ----------------------
# ``rebar`` and ``relax`` have parameters of their own: a temperature, a coefficient, a constant, and for
# ``relax`` a small network. Above they were as they are made. They are trained on ``control_loss``, the mean
# square of the gradient, which is the variance but for a constant. None of that makes them biased.

learned = {"rebar": estimators.REBAR(), "relax": estimators.RELAX()}
for estimator in learned.values():
    estimator(
        loss_of, law, num_samples=2, generator=generator
    )  # makes the weights of the network
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.01)
    for _ in range(400):
        control_loss = estimator(loss_of, law, num_samples=64, generator=generator).control_loss
        optimizer.zero_grad()
        control_loss.backward()
        optimizer.step()
trained = estimators.probe(
    loss_of, law, learned, num_samples=2, num_gradients=40_000, generator=generator
)
before = {row.name: row for row in report.rows}
for row in trained.rows:
    change = f"{before[row.name].variance:.2f} -> {row.variance:.2f}"
    print(f"{row.name}: variance {change}, worst z {row.worst_z:.1f}")
print(
    "rebar has learned",
    {name: round(value, 2) for name, value in learned["rebar"].learned().items()},
)

# %%
# Does bias matter?
# -----------------
# Now each estimator turns the dials: 500 steps of Adam on the logits, from the same start, two samples a
# step. Laws may have batch dimensions, so a hundred independent runs are one call. At every step we look at
# the exact expected loss, which no estimator is told.

NUM_RUNS, NUM_STEPS = 100, 500


def minimize(name):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(NUM_RUNS, 3, 4, requires_grad=True)
    estimator = estimators.by_name(name)
    estimator(loss_of, igr.GumbelSoftmax(0.5, logits=logits), 2, generator=generator)
    groups = [{"params": [logits], "lr": 0.05}]
    if list(estimator.parameters()):
        groups.append({"params": estimator.parameters(), "lr": 0.01})
    optimizer = torch.optim.Adam(groups)
    losses = []
    for _ in range(NUM_STEPS):
        with torch.no_grad():
            losses.append(probabilities(logits) @ loss_of(outcomes))
        found = estimator(loss_of, igr.GumbelSoftmax(0.5, logits=logits), 2, generator=generator)
        objective = found.loss.sum()
        if found.control_loss is not None:
            objective = objective + found.control_loss  # its gradient reaches the estimator alone
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    return torch.stack(losses), logits.detach()  # [steps, runs], [runs, 3, 4]


bands, table = [], {}
for name in (
    "straight_through",
    "reinmax",
    "score_function",
    "score_function_leave_one_out",
    "rebar",
    "relax",
):
    losses, logits = minimize(name)
    low, middle, high = losses.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1).tolist()
    bands.append(igr.plot.Band(name, range(NUM_STEPS), low, middle, high))
    probs, sums = probabilities(logits), total(outcomes)
    mean = probs @ sums
    spread = torch.sqrt(probs @ sums.square() - mean.square())
    table[name] = (losses[-1].mean(), mean.mean(), spread.mean())

figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
igr.plot.quantile_bands(axes, bands, xlabel="step", ylabel="expected loss", columns=3)
axes.set_yscale("log")
_ = axes.set_title("median of 100 runs, and 10 to 90 % of them", fontsize=10)

# %%
# At the end, on average over the runs: the expected loss, and the mean and the standard deviation of the sum
# of the dials under the law that was found.

print(f"{'':<30}{'loss':>8}{'mean sum':>11}{'deviation':>11}")
for name, numbers in table.items():
    print(f"{name:<30}{numbers[0]:>8.3f}{numbers[1]:>11.2f}{numbers[2]:>11.2f}")

# %%
# Straight-through gets the mean of the sum right, and hardly anything else: the dials still come up nearly at
# random. That is its bias. It takes the slope of the function at a sample for the change that another
# category would make. Once the slopes above 5 and those below cancel, nothing is left on average, however
# much the sum varies. More samples are of no use, since a bias is what all of them have in common.
#
# All others find settings of the dials that make 5. The unbiased ones differ in nothing but their noise: the
# two score functions are still on their way when ``rebar`` and ``relax`` have nearly arrived. ``reinmax``,
# whose bias is small here and whose variance is smaller than theirs, is as good as these.
#
# The same for IGR
# ----------------
# Nothing but the law changes; the gradient is now one in means and scales, and the outcomes are enumerated
# with the exact discrete law.

even = igr.InvertibleGaussian.from_probs(torch.full((3, 4), 0.25), temperature=0.5)
some = ["straight_through", "reinmax", "score_function_leave_one_out", "rebar"]
print(
    estimators.probe(
        loss_of, even, some, num_samples=2, num_gradients=20_000, generator=generator
    )
)

# %%
# The order is the same in bias. What an estimate has to pay for is the exact law of the categories, which
# takes an integral here.
#
# What to choose
# --------------
# - The function has no gradient, or must not be asked between the vertices: ``score_function_leave_one_out``
#   with as many samples as you can pay for. For two categories there is ``disarm``.
# - The function has a gradient, and the estimate must be unbiased: ``rebar``. The network of ``relax`` takes
#   hardly any more variance away here; it needs a harder function and a longer training.
# - The function has a gradient, and a small bias does no harm: ``reinmax``, with little variance at the price
#   of one evaluation.
# - What you want is the relaxed model itself: ``pathwise``, which is exact for that one.
# - ``straight_through`` where the function is nearly linear in each variable; it is exact where it is linear.
#   Not here.
#
# Sixty-four outcomes say nothing certain about your network. Call ``probe`` with your function and your law;
# with more than 16,384 joint outcomes a long run of the score function takes the place of enumeration.
# :doc:`/estimators` has the whole table, with what each one needs and for which laws it exists, and
# ``igr study run toy`` and ``igr study run estimators-vae`` compare them along whole trainings
# (:doc:`/results/README`). In a model of the command line it is ``igr train --estimator reinmax``.
