"""
Choosing a law and a temperature
================================

A relaxation has a law (Gumbel-Softmax, IGR-I, IGR-SB, IGR-Planar) and a temperature. This page shows what
each of the two does, measures on small problems what they cost, and ends with rules of thumb that come from
the numbers printed here. It takes some ten seconds on one core. What larger problems say stands in
:doc:`/which-relaxation`.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import one_hot

import igr
from igr import fitting
from igr.plot import LINES, distances_by_temperature, ternary_samples

generator = torch.Generator().manual_seed(0)

# %%
# One discrete law, four relaxations
# ----------------------------------
#
# Behind every relaxation stands a discrete law, that of the largest coordinate, and with delta at one, the default, it does not depend on the
# temperature. :func:`igr.fitting.fit` goes the other way, from a discrete law to the relaxation that has it.
# So here are four relaxations of one law, (0.5, 0.3, 0.2), at three temperatures. Each dot is a point of the
# simplex: at a corner it is one-hot, in the middle it is a mixture.

probs = torch.tensor([0.5, 0.3, 0.2])
families = {
    "Gumbel-Softmax": "gumbel-softmax",
    "IGR-I": "igr",
    "IGR-SB": "igr-sb-log",
    "IGR-Planar": "igr-planar",
}
fits = {
    name: fitting.fit(probs, family, generator=generator) for name, family in families.items()
}

figure, panels = plt.subplots(3, 4, figsize=(9, 7.6), layout="constrained")
for row, temperature in zip(panels, (2.0, 0.5, 0.1), strict=True):
    for position, (axes, (name, found)) in enumerate(zip(row, fits.items(), strict=True)):
        points = found.distribution(temperature=temperature).sample((1000,), generator=generator)
        ternary_samples(
            axes, points, title=f"{name}\ntemperature {temperature:g}", position=position
        )

print(f"{'':16}{'the law':18}shares of the largest coordinate at 2, 0.5 and 0.1")
for name, found in fits.items():
    laws = [found.distribution(temperature=temperature) for temperature in (2.0, 0.5, 0.1)]
    shares = [
        law.sample((10_000,), generator=generator).argmax(-1).bincount() / 10_000 for law in laws
    ]
    cells = [" ".join(f"{p:.2f}" for p in row.tolist()) for row in (found.probs, *shares)]
    print(f"{name:16}{cells[0]:18}{'   '.join(cells[1:])}")

# %%
# A lower temperature moves points toward the corners, and moves none of them to another corner. The four laws
# differ in how fast: at 0.5 many points of Gumbel-Softmax are in a corner, where those of the others still
# fill the triangle; at 2 the others have no point near a corner, and Gumbel-Softmax has some. So **a
# temperature of one law says nothing about another**.
#
# (IGR-SB is by log-ratios here. The paper's, by lengths of a stick, never gives its last category the largest
# weight. The law of IGR-Planar is known from draws alone, and is a little off.)
#
# The distance to the vertices
# ----------------------------
#
# What a network sees in training and what it sees afterwards, with one-hot codes, differ by the distance of
# points to their nearest vertex. Here it is for ten categories of equal probability:

tens = {
    "Gumbel-Softmax": fitting.uniform_prior(10, "gumbel-softmax"),
    "IGR-I": fitting.uniform_prior(10, "igr"),
    "IGR-SB, log-ratios": fitting.uniform_prior(10, "igr-sb-log", cache=False),
    "IGR-SB, lengths": fitting.uniform_prior(10, "igr-sb", cache=False),
}
figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
_ = distances_by_temperature(axes, tens, torch.logspace(-2, 1, 25), generator=generator)

# %%
# Lengths of sticks differ by less than one, and the temperature divides these differences, so lengths need by
# far the lowest.
#
# :func:`igr.fitting.calibrate_temperature` reads such a curve the other way: the highest temperature at which
# three quarters of the points lie within 0.2 of a vertex. At these temperatures the laws are equally
# discrete, which is where to compare them.

calibrated = {
    name: fitting.calibrate_temperature(law, generator=generator) for name, law in tens.items()
}
for name, temperature in calibrated.items():
    print(f"{name:20} three quarters within 0.2 of a vertex at temperature {temperature:.3f}")
ratio = calibrated["Gumbel-Softmax"] / calibrated["IGR-I"]
print(f"Gumbel-Softmax takes {ratio:.1f} times the temperature of IGR-I")

# %%
# The gradient
# ------------
#
# Why not take a very low temperature, then? Because a point in a corner stays there when parameters move a
# little. :func:`igr.diagnose <igr.diagnostics.diagnose>` says how discrete the points of a law are, and how
# much gradient passes through them:

law = tens["Gumbel-Softmax"].with_temperature(0.1)
print(igr.diagnose(law, temperatures=[0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6], generator=generator))

# %%
# The table at its end is the warning. At 0.1 and below, the mean of the gradient's norm is about a hundred
# times its median and more: most points pass next to nothing, and a few pass all of it. The mean does not
# vanish at low temperature, so on average nothing is lost. But it is carried by ever fewer samples, which is
# another word for variance. (At high temperature all points lie in the middle, and both fall as the
# temperature rises.)

temperatures = torch.logspace(-2, 1, 13).tolist()
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, parameter, colour in (("Gumbel-Softmax", "logits", "C0"), ("IGR-I", "loc", "C1")):
    found = igr.diagnose(tens[name], 4000, temperatures=temperatures, generator=generator)
    for statistic, line in (("mean", "-"), ("median", "--")):
        norms = getattr(found, f"gradient_norm_{statistic}")[parameter]
        axes.loglog(temperatures, norms, line, color=colour, label=f"{name}, {statistic}")
axes.set(xlabel="temperature", ylabel="norm of the gradient in the parameters", ylim=(1e-4, 2))
_ = axes.legend(frameon=False)

# %%
# A problem whose gradient is known
# ---------------------------------
#
# What one wants to minimize is the expectation of a function of one-hot vectors, E f(d). Take three variables
# of four categories, seen by a small random network f. There are 64 outcomes, so the expectation is a sum,
# and its gradient is known. To say something about more than one network, there are a hundred of them, side
# by side in one batch.

V, K, problems = 3, 4, 100
weights = torch.randn(problems, V * K, 8, generator=generator)
targets = 2 * torch.rand(problems, 8, generator=generator) - 1
vertices = one_hot(torch.cartesian_prod(*[torch.arange(K)] * V), K).float()  # [64, V, K]


def f(z):
    """Points of all problems, [*, problems, V, K], to their losses, [*, problems]."""
    hidden = (z.flatten(-2).unsqueeze(-2) @ weights).squeeze(-2)
    return (torch.tanh(hidden) - targets).square().sum(-1)


values = f(vertices.unsqueeze(1).expand(-1, problems, -1, -1))  # [64, problems]


def exact_loss(law):
    """E f(d), [*, problems], for a law with batch shape [*, problems, V]."""
    log_joint = (law.discrete().logits.unsqueeze(-3) * vertices).sum((-2, -1))
    return (log_joint.exp() * values.T).sum(-1)


def gumbel_softmax(logits, temperature):
    return igr.GumbelSoftmax(temperature, logits=logits)


def igr_i(loc, temperature):
    return igr.InvertibleGaussian(loc, 1.0, temperature)


# %%
# Bias and noise of one gradient
# ------------------------------
#
# The gradient through relaxed points is biased for that of E f(d), since f meets points inside the simplex,
# and it is noisy, since it comes of one sample. Both are measured at a random law for each problem, the same
# for both relaxations, and told as shares of the length of the exact gradient. (For one problem of your own,
# and for all thirteen estimators, there is :func:`igr.estimators.probe`.)

grid = [0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0]
p = torch.randn(problems, V, K, generator=generator).softmax(-1)
starts = {
    "Gumbel-Softmax": (gumbel_softmax, p.log()),
    "IGR-I": (igr_i, igr.InvertibleGaussian.from_probs(p, temperature=1.0).loc),
}


def bias_and_noise(law_of, parameters, temperature, count=1000):
    """Root mean squares over the problems, as shares of the length of the exact gradient."""
    parameters = parameters.clone().requires_grad_()
    (exact,) = torch.autograd.grad(exact_loss(law_of(parameters, temperature)).sum(), parameters)
    # Each sample has parameters of its own, so that a backward pass keeps gradients apart.
    copies = parameters.detach().expand(count, *parameters.shape).requires_grad_()
    loss = f(law_of(copies, temperature).rsample(generator=generator)).sum()
    (gradients,) = torch.autograd.grad(loss, copies)
    variance = gradients.var(0).sum((-2, -1))
    squared_bias = (gradients.mean(0) - exact).square().sum((-2, -1)) - variance / count
    length = exact.square().sum((-2, -1)).mean()
    return float((squared_bias.mean() / length).clamp(min=0).sqrt()), float(
        (variance.mean() / length).sqrt()
    )


errors = {
    name: [bias_and_noise(*start, temperature) for temperature in grid]
    for name, start in starts.items()
}
print("errors of the gradient of one sample, as shares of the exact gradient")
print(
    f"{'temperature':>12}{'Gumbel-Softmax: bias':>24}{'noise':>8}{'IGR-I: bias':>16}{'noise':>8}"
)
for temperature, (bias, noise), (other_bias, other_noise) in zip(
    grid, *errors.values(), strict=True
):
    print(f"{temperature:12g}{bias:24.2f}{noise:8.1f}{other_bias:16.2f}{other_noise:8.1f}")

figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for (name, found), line, colour in zip(errors.items(), LINES, ("C0", "C1"), strict=False):
    bias, noise = zip(*found, strict=True)
    panels[0].plot(grid, bias, linestyle=line, color=colour, marker="o", label=f"{name}, bias")
    panels[0].plot(grid, noise, linestyle=line, color=colour, marker="x", label=f"{name}, noise")
    panels[1].plot(bias, noise, linestyle=line, color=colour, marker="o", label=name)
panels[0].set(
    xscale="log", yscale="log", xlabel="temperature", ylabel="share of the exact gradient"
)
panels[1].set(yscale="log", xlabel="bias", ylabel="noise", title="a dot for each temperature")
for axes in panels:
    axes.legend(frameon=False, fontsize=8)

# %%
# A lower temperature trades bias for noise. At one temperature IGR-I has more bias and less noise than
# Gumbel-Softmax, but on the right, where each dot is a temperature, both laws lie on one curve: here the law
# does not make the trade any better, it only changes what a temperature is called. (A bias of zero is one
# that could not be told from the sampling error.)
#
# Where training ends
# -------------------
#
# Neither of the two errors is what you want to know; you want to know where training ends. So the hundred
# problems are minimized from even odds by 400 steps of Adam with one sample a step, at eight temperatures at
# once: a temperature may be a tensor. A ninth run anneals, from 2 to 0.06, by an
# :class:`~igr.schedules.ExponentialSchedule`. Two laws are tried once more with hard points and the
# straight-through gradient. What counts in the end is the exact loss of the discrete law, as the share that
# is left of the way from the start to the best of the 64 outcomes.

num_steps = 400
schedule = igr.schedules.ExponentialSchedule(2.0, 0.06, num_steps * 3 // 4)
sticks = igr.LogisticStickBreakingTransform("log")


def igr_sb(loc, temperature):
    return igr.InvertibleGaussian(loc, 1.0, temperature, sticks)


def left_after_training(law_of, start, hard=False):
    """The mean over the problems of what is left of the way, and its standard error, both [9]."""
    parameters = start.expand(len(grid) + 1, problems, V, -1).clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for step in range(num_steps):
        law = law_of(parameters, torch.tensor([*grid, schedule(step)])[:, None, None])
        noise = law.draw_noise(generator=generator)
        z = law.straight_through(noise) if hard else law.rsample(noise=noise)
        optimizer.zero_grad()
        f(z).sum().backward()
        optimizer.step()
    with torch.no_grad():
        before, after = (
            exact_loss(law_of(found, 1.0)) for found in (start.expand_as(parameters), parameters)
        )
    left = (after - values.amin(0)) / (before - values.amin(0))
    return left.mean(-1), left.std(-1) / problems**0.5


even = {
    family: fitting.uniform_prior(K, family, cache=False).loc for family in ("igr", "igr-sb-log")
}
runs = {
    "Gumbel-Softmax": left_after_training(gumbel_softmax, torch.zeros(K)),
    "IGR-I": left_after_training(igr_i, even["igr"]),
    "IGR-SB, log-ratios": left_after_training(igr_sb, even["igr-sb-log"]),
    "Gumbel-Softmax, hard": left_after_training(gumbel_softmax, torch.zeros(K), hard=True),
    "IGR-I, hard": left_after_training(igr_i, even["igr"], hard=True),
}
print("left of the way to the best outcome, per cent")
print(
    f"{'temperature':20}" + "".join(f"{temperature:>6g}" for temperature in grid) + "  annealed"
)
for name, (left, _) in runs.items():
    cells = [f"{100 * share:6.1f}" for share in left.tolist()]
    print(f"{name:20}" + "".join(cells[:-1]) + f"    {cells[-1]}")
errors = 100 * torch.stack([error for _, error in runs.values()])
print(
    f"standard errors over the problems: {float(errors.min()):.1f} to {float(errors.max()):.1f}"
)

figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
for (name, (left, error)), marker in zip(runs.items(), "os^Dv", strict=True):
    bars = axes.errorbar(grid, 100 * left[:-1], 100 * error[:-1], marker=marker, label=name)
    axes.axhline(100 * left[-1], color=bars[0].get_color(), linestyle=":", linewidth=1)
axes.set(xscale="log", xlabel="temperature", ylabel="left of the way, per cent", ylim=(0, None))
axes.set_title("one temperature to the end, and (dotted) annealed from 2 to 0.06", fontsize=10)
_ = axes.legend(frameon=False, fontsize=8)

# %%
# Rules of thumb
# --------------

titles = f"{'best at':>9}{'left there':>13}{'at a quarter':>14}{'at 4 times':>12}{'annealed':>13}"
print(f"{'':20}{titles}")
for name in ("Gumbel-Softmax", "IGR-I", "IGR-SB, log-ratios"):
    left, error = (100 * numbers for numbers in runs[name])
    best = int(left[:-1].argmin())
    cells = [f"{left[i]:.1f} ± {error[i]:.1f}" for i in (best, -1)]
    print(f"{name:20}{grid[best]:9g}{cells[0]:>13}", end="")
    colder, hotter = (
        float(left[i]) if 0 <= i < len(grid) else float("nan") for i in (best - 2, best + 2)
    )
    print(f"{colder:14.1f}{hotter:12.1f}{cells[1]:>13}")
for name in ("Gumbel-Softmax, hard", "IGR-I, hard"):
    left = 100 * runs[name][0][:-1]
    print(f"{name:20}{grid[int(left.argmin())]:9g}{float(left.min()):7.1f}")

# %%
# - **Temperatures of different laws are different numbers.** IGR-I and IGR-SB by log-ratios want about half
#   of what Gumbel-Softmax wants: that is the ratio of the temperatures at which they are equally discrete,
#   and here that of the best ones too. Lengths of sticks want a fifth of that. Calibrate instead of guessing.
# - **The temperature matters more than the law.** At their best the three laws end close to one another; four
#   times too low or too high, each leaves about twice as much of the way.
# - **If you cannot tune, anneal**, from where points lie inside to where they are all but one-hot. Annealed
#   runs end as well as the best constant temperature or a little better, and nothing had to be searched for.
# - **Look before you train**: where :func:`igr.diagnose <igr.diagnostics.diagnose>` shows a mean gradient far
#   above its median, few samples carry the gradient, and training will need many steps or many samples.
# - **Straight-through is no gift.** It shows f one-hot vectors in training, which is needed where f cannot
#   take anything else. Where f can, it leaves more than three times as much here, each at its best
#   temperature.
# - **Choose the law by what you need of it**, not by its gradients: a KL of relaxed laws in closed form
#   (IGR-I, IGR-SB), an unbounded number of categories (IGR-SB), a mask on any category (Gumbel-Softmax), a
#   more flexible map of which only draws tell the discrete law (IGR-Planar). :doc:`/which-relaxation` has the
#   cases, and what was measured on larger problems.
#
# All of this is one family of small problems, with 400 steps and one sample a step. Set ``num_steps = 2400``,
# and noise counts less: the best temperatures fall to a half or a quarter of these, and annealing is still as
# good.
