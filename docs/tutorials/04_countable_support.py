"""
Countable support
=================

A softmax needs to know how many categories there are. Some discrete variables have no such number: a count
may be any of 0, 1, 2, ..., and nobody knows how many components a mixture should have. The stick-breaking
member of the family, IGR-SB, fits both. Its weights are pieces of a stick of length one: the first takes a
share of the whole, the second a share of what the first has left, and so on. What is left shrinks with every
piece, so a law with more pieces than are needed costs nothing but time, and the time can be had back by
cutting the stick where hardly anything is left.

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
for found in (poisson, binomial):
    print(found)

# %%
# The fit chose the number of categories, so that no more than a millionth of the mass of the law lies beyond
# them: that is ``tail``. ``kl`` compares what was reached with what is left of the target when its tail is
# cut off and the rest is made to sum to one, and is zero but for rounding. ``total_variation`` compares it
# with the whole law that was asked for, with its tail, and so it is never below ``tail``: no fit over
# finitely many categories can be nearer.
#
# Bars are the target, dots or the solid outline the law that was reached, and the dashed outline the law from
# which the fit started, where a Gaussian of mean zero decides on each share.

figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for axes, (title, found) in zip(
    panels, {"Poisson": poisson, "negative binomial": binomial}.items(), strict=True
):
    igr.plot.law_histogram(
        axes, found.target.probs, found.start_probs, found.probs, title=title, xlabel="count"
    )

# %%
# The tail stays honest where one asks for fewer categories than the law needs. These 8 hold the counts 0 to 6
# (in lengths, the last category is never the largest), and a Poisson(4) has more than a tenth of its mass
# beyond:

short = fit(Poisson(4.0), "igr-sb", scale=3.0, num_categories=8)
print(short)
print(f"P(count > 6) = {1 - Poisson(4.0).log_prob(torch.arange(7.0)).exp().sum():.3f}")

# %%
# More sticks than needed
# -----------------------
# Now the opposite: a law over 60 categories, many more than a Poisson(4) needs.

generator = torch.Generator().manual_seed(0)
long = fit(Poisson(4.0), "igr-sb", scale=3.0, num_categories=60)
print(long)
law = long.distribution(temperature=0.05)
print(f"a point has {law.sample(generator=generator).shape[-1]} coordinates")

# %%
# :class:`igr.StickTruncation` finds out how many sticks draws of a law really need. It draws some, and counts
# in each how many pieces it takes until their sum is above a ``threshold``. The ``quantile`` of these numbers
# over the draws is rounded up to 8, 16, 32, ..., so that compiled code meets few shapes, and that many sticks
# are kept.

for threshold in (0.9, 0.99, 0.999):
    truncation = igr.StickTruncation(threshold, quantile=0.75, num_draws=1000)
    cut = truncation(law, generator=generator)
    missed = 0.5 * (cut.pad(cut.law.discrete().probs) - law.discrete().probs).abs().sum()
    print(
        f"threshold {threshold:<5g}  needed {cut.num_needed:>2}  kept {cut.num_sticks:>2}  "
        f"mass cut on average {cut.mass_cut:.1e}  total variation {missed:.1e}"
    )

# %%
# ``mass_cut`` is the length of the pieces that were left out, on average over the draws. The last column is
# how far the discrete law of the short stick is from that of the long one. With three quarters of the draws
# and a sum of 0.9, eight sticks are kept, and the counts from 8 on are lost. With higher thresholds sixteen
# are kept, and nothing is lost that could be seen:

loose, tight = (
    igr.StickTruncation(threshold, num_draws=1000)(law, generator=generator) for threshold in (0.9, 0.99)
)
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
for axes, cut in zip(panels, (loose, tight), strict=True):
    points = cut.pad(cut.law.sample((2000,), generator=generator))
    igr.plot.discrete_law(
        axes,
        igr.DiscreteLaw(law.discrete().log_probs[:20]),
        points[:, :20],
        labels=[str(count) for count in range(20)],
        title=f"60 categories (bars), cut to {cut.num_sticks} sticks (dots)",
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
# With a truncation the sum has as many terms as there are sticks. What is dropped is not negative, so this is
# still a lower bound on the same quantity, only a looser one. The KL is that of all sticks, which is cheap.

images = (torch.from_numpy(load_digits().images) >= 8).float().flatten(1)
images = images[torch.randperm(len(images), generator=generator)]
train_images, test_images = images[:-300], images[-300:]
NUM_STICKS, NUM_STEPS = 499, 300
sticks = igr.LogisticStickBreakingTransform("log")
prior = igr.InvertibleGaussian(torch.full((NUM_STICKS,), -1.5), 1.0, temperature=1.0, transform=sticks)


def log_likelihood(x, law, logits, generator):
    """log p(x) of each image for one draw of the weights, by the first components."""
    log_weights = law.rsample_log(generator=generator)[:-1]
    log_pixels = x @ logits.T + torch.nn.functional.logsigmoid(-logits).sum(-1)
    return torch.logsumexp(log_weights + log_pixels, dim=-1)


def train(truncation):
    generator = torch.Generator().manual_seed(1)
    loc = prior.loc.clone().requires_grad_()
    log_scale = torch.zeros(NUM_STICKS, requires_grad=True)
    chosen = train_images[torch.randint(len(train_images), (NUM_STICKS,), generator=generator)]
    noise = torch.randn(NUM_STICKS, 64, generator=generator)
    logits = (chosen - 0.5 + 0.3 * noise).requires_grad_()
    optimizer = torch.optim.Adam([loc, log_scale, logits], lr=0.05)
    kept = []
    start = time.process_time()
    for _ in range(NUM_STEPS):
        x = train_images[torch.randint(len(train_images), (250,), generator=generator)]
        law = igr.InvertibleGaussian(loc, log_scale.exp(), temperature=1.0, transform=sticks)
        cut = igr.StickTruncation().whole(law) if truncation is None else truncation(law, generator)
        of_images = log_likelihood(x, cut.law, logits[: cut.num_sticks], generator)
        loss = kl_divergence(law, prior) / len(train_images) - of_images.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept.append(cut.num_sticks)
    seconds = time.process_time() - start
    with torch.no_grad():
        law = igr.InvertibleGaussian(loc, log_scale.exp(), temperature=1.0, transform=sticks)
        draws = [log_likelihood(test_images, law, logits, generator).mean() for _ in range(50)]
        weights = law.sample((200,), generator=generator).mean(0)[:-1]
    return {
        "kept": kept,
        "seconds": seconds,
        "test": torch.stack(draws).mean().item(),
        "weights": weights,
        "pixels": torch.sigmoid(logits).detach(),
    }


# Five draws of the weights at each step, all of which are to reach the threshold.
runs = {
    f"threshold {threshold:g}": train(igr.StickTruncation(threshold, quantile=1.0, num_draws=5))
    for threshold in (0.9, 0.99, 0.999)
}
runs["all sticks"] = train(None)
print(f"{'':<16}{'sticks at the end':>19}{'seconds':>9}{'test log-likelihood':>21}{'weights > 0.1%':>16}")
for name, run in runs.items():
    used = int((run["weights"] > 0.001).sum())
    print(f"{name:<16}{run['kept'][-1]:>19}{run['seconds']:>9.1f}{run['test']:>21.2f}{used:>16}")
