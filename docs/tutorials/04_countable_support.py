"""
Countable support
=================

A softmax needs to know how many categories there are. Some discrete variables have no such number: a count
may be any of 0, 1, 2, ..., and nobody knows how many components a mixture should have. The stick-breaking
member of the family, IGR-SB, fits both. Behind its points are the pieces of a stick of length one: the first
takes a share of the whole, the second a share of what the first has left, and so on. What is left shrinks
with every piece, so a law with more pieces than are needed costs nothing but time, and the time can be had
back by cutting the stick where hardly anything is left.

This page fits relaxations to two laws of counts, cuts a stick to what is needed, and trains a mixture whose
number of components is not fixed.
"""

# %%
# Laws of counts
# --------------
# :func:`igr.fitting.fit` finds the parameters of a relaxation whose discrete law, that of its largest
# coordinate, is the one that it is given. Here these are a Poisson and a negative binomial law of
# ``torch.distributions``. The family ``"igr-sb"`` is the one of the paper, which breaks the stick in lengths.

import time

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch.distributions import NegativeBinomial, Poisson, kl_divergence

import igr
import igr.plot
from igr.fitting import fit

torch.set_num_threads(1)  # enough for tensors as small as these
poisson = fit(Poisson(4.0), "igr-sb", scale=3.0)
binomial = fit(NegativeBinomial(3.0, probs=torch.tensor(0.6)), "igr-sb", scale=3.0)


def show(found):
    print(f"{found.target.description} by {found.num_categories} categories")
    print(
        f"  kl {found.kl:.1e}, total_variation {found.total_variation:.1e}, tail {found.tail:.1e}"
    )


show(poisson)
show(binomial)

# %%
# The fit chose the number of categories, so that no more than a millionth of the mass of the law lies beyond
# them: that is ``tail``. ``kl`` compares what was reached with what is left of the target when its tail is
# cut off and the rest is made to sum to one, and is zero but for rounding. ``total_variation`` compares it
# with the whole law that was asked for, with its tail, and so it is never below ``tail``: no fit over
# finitely many categories can be nearer.
#
# Bars are the target, dots or the solid outline the law that was reached, and the dashed outline the law at
# which the fit started.

figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
laws = {"Poisson": poisson, "negative binomial": binomial}
for axes, (title, found) in zip(panels, laws.items(), strict=True):
    igr.plot.law_histogram(
        axes, found.target.probs, found.start_probs, found.probs, title=title, xlabel="count"
    )

# %%
# The tail stays honest where one asks for fewer categories than the law needs. These 8 hold the counts 0 to 6
# (in lengths, the last category is never the largest), and a Poisson(4) has more than a tenth of its mass
# beyond:

short = fit(Poisson(4.0), "igr-sb", scale=3.0, num_categories=8)
show(short)
print(f"P(count > 6) = {1 - Poisson(4.0).log_prob(torch.arange(7.0)).exp().sum():.3f}")

# %%
# More sticks than needed
# -----------------------
# Now the opposite: a law over 40 categories, many more than a Poisson(4) needs.

generator = torch.Generator().manual_seed(0)
long = fit(Poisson(4.0), "igr-sb", scale=3.0, num_categories=40)
show(long)
law = long.distribution(temperature=0.05)
print(f"a point has {law.sample(generator=generator).shape[-1]} coordinates")

# %%
# :class:`igr.StickTruncation` finds out how many sticks draws of a law really need. It draws some, and counts
# in each how many pieces it takes until their sum is above a ``threshold``. The ``quantile`` of these numbers
# over the draws is rounded up to 8, 16, 32, ..., so that compiled code meets few shapes, and that many sticks
# are kept.

for threshold in (0.9, 0.99, 0.999):
    truncation = igr.StickTruncation(threshold, quantile=0.5, num_draws=1000)
    cut = truncation(law, generator=torch.Generator().manual_seed(1))  # the same draws for each
    missed = 0.5 * (cut.pad(cut.law.discrete().probs) - law.discrete().probs).abs().sum()
    print(
        f"threshold {threshold:<5g}  needed {cut.num_needed:>2}  kept {cut.num_sticks:>2}  "
        f"mass cut on average {cut.mass_cut:.1e}  total variation {missed:.1e}"
    )

# %%
# ``mass_cut`` is the length of the pieces that were left out, on average over the draws. The last column is
# how far the discrete law of the short stick is from that of the long one. With half of the draws and a sum
# of 0.9, eight sticks are kept, and the counts from 8 on are lost. With higher thresholds sixteen are kept,
# and nothing is lost that could be seen:

loose, tight = (
    igr.StickTruncation(threshold, quantile=0.5, num_draws=1000)(law, generator=generator)
    for threshold in (0.9, 0.99)
)
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
for axes, cut in zip(panels, (loose, tight), strict=True):
    points = cut.pad(cut.law.sample((20_000,), generator=generator))
    igr.plot.discrete_law(
        axes,
        igr.DiscreteLaw(law.discrete().log_probs[:20]),
        points[:, :20],
        labels=[str(count) for count in range(20)],
        title=f"40 categories (bars), cut to {cut.num_sticks} sticks (dots)",
    )
    axes.set_xlabel("count")

# %%
# ``cut.law`` is an ordinary IGR-SB over fewer sticks, with all that such a law has: points, density, KL, the
# exact discrete law. ``cut.pad`` puts its points back where a network expects them: the sticks that are kept,
# zeros for those that were cut, and the last category last. For the KL to a prior over as many sticks there
# is ``cut.same_cut(prior)``.

point = tight.law.rsample(generator=generator)
print(point.shape, "->", tight.pad(point).shape)

# %%
# A mixture whose number of components is not fixed
# -------------------------------------------------
# Sticks are most useful where every category costs something. Take a mixture model of the handwritten digits
# of scikit-learn, with binary pixels: an image comes from component :math:`k` with the probability
# :math:`\pi_k`, and its pixels are independent given that. The weights :math:`\pi` are the pieces of a stick;
# by log-ratios and at temperature one they are exactly the points of the law. There are 499 sticks, far more
# than needed, and by the prior each takes a share of about a fifth of what is left.
#
# We learn the Gaussians behind the sticks, :math:`q(\pi)`, and the pixels of the components, by maximizing
#
# .. math:: \frac{1}{N} \sum_i E_q \log \sum_{k < K} \pi_k\, p_k(x_i) - \frac{1}{N} \mathrm{KL}(q \| p)
#
# With a truncation the sum has as many terms as there are sticks. What is dropped is not negative, so what is
# maximized is still a lower bound, only a looser one. The KL is that of all sticks, which is cheap.

images = (torch.from_numpy(load_digits().images) >= 8).float().flatten(1)
images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
train_images, test_images = images[:-300], images[-300:]
NUM_STICKS, NUM_STEPS = 499, 150
sticks = igr.LogisticStickBreakingTransform("log")
prior = igr.InvertibleGaussian(
    torch.full((NUM_STICKS,), -1.5), 1.0, temperature=1.0, transform=sticks
)


def log_likelihood(x, law, logits, generator):
    """log p(x) of each image for one draw of the weights, by the first components."""
    log_weights = law.rsample_log(generator=generator)[:-1]
    log_pixels = x @ logits.T + torch.nn.functional.logsigmoid(-logits).sum(-1)
    return torch.logsumexp(log_weights + log_pixels, dim=-1)


def train(truncation, seed):
    generator = torch.Generator().manual_seed(seed)
    loc = prior.loc.clone().requires_grad_()
    log_scale = torch.zeros(NUM_STICKS, requires_grad=True)
    chosen = train_images[torch.randint(len(train_images), (NUM_STICKS,), generator=generator)]
    noise = torch.randn(NUM_STICKS, 64, generator=generator)
    logits = (chosen - 0.5 + 0.3 * noise).requires_grad_()
    optimizer = torch.optim.Adam([loc, log_scale, logits], lr=0.08)
    kept = []
    start = time.process_time()
    for _ in range(NUM_STEPS):
        x = train_images[torch.randint(len(train_images), (250,), generator=generator)]
        law = igr.InvertibleGaussian(loc, log_scale.exp(), temperature=1.0, transform=sticks)
        cut = (
            igr.StickTruncation().whole(law) if truncation is None else truncation(law, generator)
        )
        of_images = log_likelihood(x, cut.law, logits[: cut.num_sticks], generator)
        loss = kl_divergence(law, prior) / len(train_images) - of_images.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept.append(cut.num_sticks)
    seconds = time.process_time() - start
    with torch.no_grad():
        law = igr.InvertibleGaussian(loc, log_scale.exp(), temperature=1.0, transform=sticks)
        draws = [log_likelihood(test_images, law, logits, generator).mean() for _ in range(20)]
        weights = law.sample((200,), generator=generator).mean(0)[:-1]
    return {
        "kept": kept,
        "seconds": seconds,
        "test": torch.stack(draws).mean().item(),
        "weights": weights,
        "pixels": torch.sigmoid(logits).detach(),
    }


# Five draws of the weights at each step, all of which are to reach the threshold.
truncations = {
    f"threshold {threshold:g}": igr.StickTruncation(threshold, quantile=1.0, num_draws=5)
    for threshold in (0.9, 0.99, 0.999)
}
truncations["all sticks"] = None
runs = {
    name: [train(truncation, seed) for seed in (1, 2, 3)]
    for name, truncation in truncations.items()
}
titles = (
    f"{'sticks at the end':>17}{'CPU seconds':>13}{'weights > 0.1%':>16}{'test log p(x)':>24}"
)
print(f"{'':<17}{titles}")
for name, found in runs.items():
    kept = ", ".join(str(run["kept"][-1]) for run in found)
    seconds = sum(run["seconds"] for run in found) / len(found)
    used = ", ".join(str(int((run["weights"] > 0.001).sum())) for run in found)
    test = ", ".join(f"{run['test']:.2f}" for run in found)
    print(f"{name:<17}{kept:>17}{seconds:>13.1f}{used:>16}{test:>24}")

# %%
# Where there are three numbers they are those of three seeds. The test log-likelihood is in nats per image, a
# mean over draws of the weights, and in it nothing is cut. (In evaluation, ``truncation.whole(law)`` is the
# law with all its sticks.)
#
# - Steps with all sticks take several times as long as those with the sticks that are needed, since all 499
#   components are compared with every image, and all but some tens of them end with next to no weight.
# - With the highest threshold the result is near that of all sticks, and what is between them is about what
#   is between seeds.
# - With the lowest threshold it is clearly worse. What is cut gets no gradient from the data, so components
#   beyond the cut never learn to be of use, and the stick never grows to where they are. A threshold is a
#   choice of the model, and no mere matter of speed: take one so high that a higher one changes nothing.
#
# The number of sticks follows what the weights ask for. It starts with what the prior needs, and moves in
# powers of two (here with the first seed):

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, found), line in zip(runs.items(), igr.plot.LINES, strict=False):
    axes.step(range(1, NUM_STEPS + 1), found[0]["kept"], where="post", linestyle=line, label=name)
axes.set_yscale("log", base=2)
axes.set_yticks([8, 16, 32, 64, 128, 256, 499], ["8", "16", "32", "64", "128", "256", "499"])
axes.set_xlabel("step")
axes.set_ylabel("sticks kept")
axes.set_title("how many components a step looks at", fontsize=10)
_ = axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# And these are the components with the largest weights that the same seed found with the threshold 0.999,
# with their shares of the images:

run = runs["threshold 0.999"][0]
largest = run["weights"].argsort(descending=True)[:40]
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
igr.plot.labelled_images(
    axes,
    run["pixels"][largest].reshape(-1, 1, 8, 8),
    [f"{share:.1%}" for share in run["weights"][largest].tolist()],
    columns=10,
    title="the pixels' probabilities in the 40 components with the largest weights",
)
for share in axes.texts:
    share.set_fontsize(7)

# %%
# In the experiments
# ------------------
# ``igr train --latent igr-sb-truncated`` trains a VAE whose categorical variables have as many categories as
# a batch needs, and ``igr train --model dlgmm`` a deep mixture, in which every component of every image goes
# through a network, so that what is cut saves most. :doc:`/fitting` has the other families, methods and
# objectives of a fit, and :doc:`/laws` compares the two spaces in which a stick can be broken.
