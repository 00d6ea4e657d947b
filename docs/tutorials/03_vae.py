"""
A VAE from scratch in 60 lines
==============================

A variational autoencoder (VAE) whose latent variables are *discrete*: ten variables with ten categories each,
for the handwritten digits of scikit-learn. The model is plain PyTorch. From ``igr`` it takes one class,
:class:`igr.InvertibleGaussian`, which gives

- points of the simplex with a gradient, as ``gumbel_softmax`` does,
- the KL divergence of the relaxed laws in closed form,
- the exact law of the categories behind the relaxation, and the KL divergence of that.

So one can train with either KL, and then evaluate the model that was wanted in the first place: the discrete
one. Images, model, training with both KLs, and three bounds come to fewer than 60 lines of code; the rest of
this page prints and draws what was found.

``igr`` needs torch and numpy alone for this. scikit-learn brings the images, and matplotlib draws them.
"""

# %%
# The images
# ----------
# There are 1,797 images of 8 x 8 pixels. A pixel is cut at half of the full intensity, to 0 or 1. In a random
# order, the last 300 images are for the test.

import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Bernoulli, Independent, kl_divergence

import igr
import igr.plot

torch.set_num_threads(1)  # enough for tensors as small as these
torch.manual_seed(0)
images = (torch.from_numpy(load_digits().images) >= 8).float().flatten(1)
images = images[torch.randperm(len(images))]
train_images, test_images = images[:-300], images[-300:]
print(f"{len(train_images):,} images to train with, {len(test_images)} for the test")

# %%
# Model, loss and training
# ------------------------
# The encoder gives :math:`V (K - 1)` numbers for an image: the means of the Gaussians behind :math:`V`
# variables with :math:`K` categories. They are *offsets* from the means of the prior, whose discrete law is
# uniform, so that an encoder that says nothing gives the prior. The scale of the Gaussians stays at one. With
# the discrete KL, which comes further below, an encoder with a free scale would shrink the noise, since that
# KL asks no price for it.
#
# The weight of the KL rises over the first third of the steps. If it were 1 from the start, the decoder would
# learn to do without a latent that is still noise, and variables would stay unused.

V, K, TEMPERATURE = 10, 10, 0.4


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, V * (K - 1)))
        self.decoder = nn.Sequential(nn.Linear(V * K, 256), nn.ReLU(), nn.Linear(256, 64))
        self.prior = igr.InvertibleGaussian.uniform(K, temperature=TEMPERATURE)

    def posterior(self, x):
        offsets = self.encoder(x).unflatten(-1, (V, K - 1))
        return igr.InvertibleGaussian(self.prior.loc + offsets, 1.0, TEMPERATURE)

    def pixels(self, z):
        return Independent(Bernoulli(logits=self.decoder(z.flatten(-2))), 1)


def relaxed_kl(q, p):
    return kl_divergence(q, p).sum(-1)


def train(kl, num_steps=800, batch_size=64):
    torch.manual_seed(1)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for step in range(num_steps):
        x = train_images[torch.randint(len(train_images), (batch_size,))]
        q = model.posterior(x)
        z = q.rsample()
        weight = min(1.0, 3 * step / num_steps)
        loss = (weight * kl(q, model.prior) - model.pixels(z).log_prob(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


relaxed_model = train(relaxed_kl)

# %%
# The other KL: one line
# ----------------------
# What has been trained is a model whose latent lies *inside* the simplex. What one wants is a model whose
# latent is a category. The category of a relaxed point is its largest coordinate; its law is known exactly,
# and so is the KL of that law, with gradients. The line that changes is the one that returns the KL:


def discrete_kl(q, p):
    return q.discrete_kl(p.discrete()).sum(-1)


discrete_model = train(discrete_kl)

# %%
# Which figure bounds what
# ------------------------
# A VAE trained like this is two models with one decoder:
#
# - the **relaxed model**, whose latent is a point of the simplex,
#   :math:`p(x) = \int p(z)\, p(x \mid z)\, dz`,
# - the **discrete model**, whose latent is one-hot, :math:`p(x) = \sum_d p(d)\, p(x \mid d)`.
#
# Each of three figures is a lower bound on :math:`\log p(x)` of one of them:
#
# - The **relaxed ELBO** is the mean of :math:`\log p(x \mid z)` over relaxed points, less the KL of the
#   relaxed laws. It is a bound for the relaxed model, and says nothing about the discrete one.
# - The **discrete ELBO** is the mean of :math:`\log p(x \mid d)` over one-hot draws of the exact
#   :math:`q(d \mid x)`, less the KL of the discrete laws. It is a bound for the discrete model.
# - The **importance-weighted (IW) bound** is
#   :math:`\log \frac{1}{S} \sum_s p(x \mid d_s)\, p(d_s) / q(d_s \mid x)`. It is a bound for the discrete
#   model too, and tighter in expectation, since more samples make up for what :math:`q` gets wrong. It needs
#   the probability of a draw, so it needs the exact :math:`q(d \mid x)`.
#
# Training with the discrete KL maximizes a mixture, relaxed points in the first term and discrete laws in the
# second. That is a bound on neither model. It is a means to an end, and the end is measured by the second and
# the third figure.


@torch.no_grad()
def bounds(model, x, num_samples=200):
    q, p = model.posterior(x), model.prior
    log_likelihood = model.pixels(q.rsample((num_samples,))).log_prob(x)
    relaxed_elbo = log_likelihood.mean(0) - relaxed_kl(q, p)

    q, p = q.discrete(), p.discrete()
    d = q.sample((num_samples,))  # one-hot
    log_likelihood = model.pixels(d).log_prob(x)
    discrete_elbo = log_likelihood.mean(0) - kl_divergence(q, p).sum(-1)
    log_weight = log_likelihood + (p.log_prob(d) - q.log_prob(d)).sum(-1)
    weighted = torch.logsumexp(log_weight, 0) - math.log(num_samples)
    names = "relaxed ELBO", "discrete ELBO", "IW bound, exact q"
    return dict(zip(names, (relaxed_elbo, discrete_elbo, weighted), strict=True))


# %%
# So far there are fewer than 60 lines. What a function of model and images gives is shown as a mean over the
# test images, in nats, with the standard error of that mean:

models = {"relaxed": relaxed_model, "discrete": discrete_model}


def show(figure):
    rows = {}
    for name, model in models.items():
        found = figure(model, test_images)
        rows[name] = [
            f"{each.mean():.2f} ± {each.std() / len(each) ** 0.5:.2f}" for each in found.values()
        ]
    print(f"{'trained KL':<10}", *(f"{title:>19}" for title in found))
    for name, cells in rows.items():
        print(f"{name:<10}", *(f"{cell:>19}" for cell in cells))


show(bounds)

# %%
# Compare within a column, never across, for the columns are different quantities:
#
# - As a discrete model, the second one is better, by both of its bounds and by much more than their errors.
# - Its relaxed ELBO is very low. That is no fault: nobody asked it for a small KL of the relaxed laws, and
#   nobody will use its relaxed model.
#
# Why does the KL matter so much? The category is a function of the relaxed point, so the KL of the relaxed
# laws is never less than that of the discrete laws. What it charges beyond that is the price of where in the
# simplex a point lies, which the discrete model has no use for:


@torch.no_grad()
def divergences(model, x):
    q, p = model.posterior(x), model.prior
    return {"relaxed KL": relaxed_kl(q, p), "discrete KL": discrete_kl(q, p)}


show(divergences)

# %%
# Trained with the relaxed KL, the model pays for more than the categories carry, and so it says less with
# them. Trained with the discrete KL it pays for what it says and for nothing else, and its categories say
# several times as much of an image.
#
# Pictures
# --------
# Test images above what the decoder makes of their most probable categories. The functions of ``igr.plot``
# take an Axes and images with shape (N, C, H, W).


def as_images(x):
    return x.detach().reshape(-1, 1, 8, 8)


figure, panels = plt.subplots(2, 1, figsize=(9, 3.4), layout="constrained")
some = test_images[:16]
for axes, (name, model) in zip(panels, models.items(), strict=True):
    decoded = model.pixels(model.posterior(some).discrete().mode).mean
    igr.plot.reconstructions(
        axes,
        as_images(some),
        as_images(decoded),
        title=f"reconstructions, trained with the {name} KL",
    )

# %%
# Above, images from the prior: a category for each variable, drawn uniformly, and decoded. Below, every row
# starts from one test image and turns a single variable through its ten categories, while the others stay.
# Its label is the discrete KL of that variable, on average over the test images: what it says of an image.
# The most that a variable with ten categories could say is :math:`\log 10`, about 2.3 nats.

figure, (above, below) = plt.subplots(
    2, 1, figsize=(7, 9), height_ratios=(3, V), layout="constrained"
)
drawn = discrete_model.pixels(discrete_model.prior.discrete().sample((30, V))).mean
igr.plot.image_grid(above, as_images(drawn).split(10), title="samples from the prior")

start = discrete_model.posterior(test_images[:1]).discrete().mode  # [1, V, K]
rows = []
for variable in range(V):
    turned = start.repeat(K, 1, 1)
    turned[:, variable] = torch.eye(K)
    rows.append(as_images(discrete_model.pixels(turned).mean))
per_variable = (
    discrete_model.posterior(test_images).discrete_kl(discrete_model.prior.discrete()).mean(0)
)
labels = [
    f"{variable + 1}: {nats:.2f} nats" for variable, nats in enumerate(per_variable.tolist())
]
_ = igr.plot.traversals(below, rows, labels, title="one variable turned through its categories")

# %%
# What is said is shared among the variables. Turned alone, most categories change a stroke or nothing, and a
# few make another digit.
#
# The same as one command
# -----------------------
# With the extra ``experiments`` installed, the second model is
#
# .. code-block:: bash
#
#    igr train --data digits --num-variables 10 --out runs/digits
#    igr evaluate runs/digits
#
# ``igr train`` has networks of its own, by default with two hidden layers, and takes the discrete KL where
# nothing else is said. It writes a folder with the settings, the figures of every epoch and checkpoints, from
# which ``igr train --resume`` goes on. ``igr evaluate`` prints the three bounds above with their standard
# errors, and a fourth, looser one, and draws reconstructions and samples. Other choices are one word away:
#
# .. code-block:: bash
#
#    igr train --data digits --num-variables 10 --kl relaxed --kl-warmup 40  # scales are free
#    igr train --data digits --num-variables 10 --latent gumbel-softmax
#
# :doc:`/experiments` has all of it, :doc:`/architecture` says more on the bounds, and :doc:`/laws` on the
# laws that can take the place of this one.
