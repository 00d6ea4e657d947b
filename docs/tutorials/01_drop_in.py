"""
A drop-in for gumbel_softmax in your model
==========================================

You have a model with ``torch.nn.functional.gumbel_softmax`` in it. Here that call is replaced, first by one
with the same arguments, then by another relaxation, and then by a law, which can do what a function that
returns points cannot: densities, divergences, the exact discrete law, hard samples, masks. Each step is a
line or two.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import igr
from igr.plot import LINES

# %%
# Replace the call
# ----------------
#
# :func:`igr.functional.gumbel_softmax` takes what torch's function takes (``dim`` by name, and no
# ``eps``, which does nothing there any more), and draws from the same law with other random numbers:

V, K = 10, 10  # variables of a code, and categories of each
logits = torch.zeros(2, K)
z = functional.gumbel_softmax(logits, tau=0.67)  # before
z = igr.functional.gumbel_softmax(logits, tau=0.67)  # after

# %%
# :func:`igr.functional.invertible_gaussian` is another law, IGR-I: the softmax of K - 1 Gaussian variables
# and a zero. It takes their means and their scale, so a network gives K - 1 numbers for each variable instead
# of K, and its temperatures mean something else: begin with 0.4 where Gumbel-Softmax has 0.67.

z = igr.functional.invertible_gaussian(torch.zeros(2, K - 1), 1.0, tau=0.4)  # [2, K]

# %%
# In a model
# ----------
#
# The model is a small discrete autoencoder of handwritten digits (scikit-learn's, 8 x 8 pixels, binary), whose
# code is ten variables of ten categories each. All of this page runs on one core, in some twenty seconds.

pixels = torch.tensor(load_digits().data, dtype=torch.float32)
images = (pixels > 7.5).float()[
    torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
]
training, test = images[:1500], images[1500:]


class Autoencoder(nn.Module):
    """64 pixels to a vector of numbers for each variable, and points back to pixels."""

    def __init__(self, numbers: int = K) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 128),
            nn.ReLU(),
            nn.Linear(128, V * numbers),
            nn.Unflatten(-1, (V, numbers)),
        )
        self.decoder = nn.Sequential(
            nn.Flatten(-2), nn.Linear(V * K, 128), nn.ReLU(), nn.Linear(128, 64)
        )

    def minus_log_likelihood(self, x, z):
        """In nats for each image; z may have more dimensions in front."""
        logits = self.decoder(z)
        of_each = functional.binary_cross_entropy_with_logits(
            logits, x.expand_as(logits), reduction="none"
        )
        return of_each.sum(-1)


def train(numbers, loss, seed, num_epochs=30):
    """A model after Adam on batches of 150, and the mean loss of each epoch."""
    torch.manual_seed(seed)
    model = Autoencoder(numbers)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    curve = []
    for epoch in range(num_epochs):
        losses = []
        for x in training[torch.randperm(len(training))].split(150):
            value = loss(model, x, epoch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        curve.append(float(torch.stack(losses).mean()))
    return model, curve


# %%
# Between encoder and decoder stands one of the three:

samplers = {
    "torch, gumbel_softmax": (
        K,
        lambda a, **hard: functional.gumbel_softmax(a, tau=0.67, **hard),
    ),
    "igr, gumbel_softmax": (
        K,
        lambda a, **hard: igr.functional.gumbel_softmax(a, tau=0.67, **hard),
    ),
    "igr, invertible_gaussian": (
        K - 1,
        lambda a, **hard: igr.functional.invertible_gaussian(a, 1.0, tau=0.4, **hard),
    ),
}
curves, losses = {}, {}
for name, (numbers, sampler) in samplers.items():

    def reconstruction(model, x, epoch, sampler=sampler):
        return model.minus_log_likelihood(x, sampler(model.encoder(x))).mean()

    curves[name], losses[name] = [], []
    for seed in range(3):
        model, curve = train(numbers, reconstruction, seed)
        curves[name].append(curve)
        with torch.no_grad():
            outputs = model.encoder(test)
            codes = sampler(outputs), sampler(outputs, hard=True)
            losses[name].append(
                [float(model.minus_log_likelihood(test, z).mean()) for z in codes]
            )

print("nats for each test image: mean of three seeds (lowest to highest)")
print(f"{'':26}{'relaxed code':>24}{'one-hot code':>24}")
for name, found in losses.items():
    cells = [
        f"{sum(row) / 3:.2f} ({min(row):.2f} to {max(row):.2f})"
        for row in zip(*found, strict=True)
    ]
    print(f"{name:26}{cells[0]:>24}{cells[1]:>24}")

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for line, (name, found) in zip(LINES, curves.items(), strict=False):
    found = torch.tensor(found)
    (middle,) = axes.plot(found.mean(0), linestyle=line, label=name)
    axes.fill_between(
        range(found.shape[1]),
        found.amin(0),
        found.amax(0),
        color=middle.get_color(),
        alpha=0.2,
    )
axes.set(
    xlabel="epoch",
    ylabel="nats for each training image",
    ylim=(8, 32),
    title="the same loss, before and after",
)
_ = axes.legend(frameon=False)

# %%
# Torch's function and ours lie on one another. IGR-I is nearly two nats behind after these 300 steps, at a
# temperature that nobody has tuned. (In an autoencoder without a prior nothing keeps a code from being as
# certain as it likes, so this loss says little about a law. With a prior, further down, they are close.)
#
# The relaxed codes are what the decoder was trained on, and the one-hot codes are what you would store. Both
# functions take ``hard=True``, and give one-hot vectors that are exactly one-hot, with the gradient of the
# relaxed point.
#
# What else the call can do
# -------------------------
#
# A source of randomness, a temperature for each row, another dimension for the categories, and half precision
# (computed in float32 inside):

generator = torch.Generator().manual_seed(1)
logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(3, 3)
rows = igr.functional.gumbel_softmax(
    logits, tau=torch.tensor([0.1, 1.0, 10.0]), generator=generator
)
print("a temperature for each row: 0.1, 1 and 10")
print(rows)
columns = igr.functional.gumbel_softmax(logits.T.bfloat16(), tau=1e-3, dim=0, generator=generator)
print("columns in bfloat16 at temperature 0.001, sums:", columns.sum(0).tolist(), columns.dtype)

# %%
# From samples to a law
# ---------------------
#
# The same points come from a distribution in the sense of ``torch.distributions``:

outputs = torch.randn(5, V, K, generator=generator)  # as an encoder gives them for five images
law = igr.GumbelSoftmax(0.67, logits=outputs)
print(law)
z = law.rsample(generator=generator)
print("points", tuple(z.shape), "and their log-density", tuple(law.log_prob(z).shape))

# %%
# Behind every relaxation stands a discrete law, that of the largest coordinate. For Gumbel-Softmax it is the
# softmax of the logits; for IGR-I it is an integral, which the library computes. Both are exact at every
# temperature, and have gradients:

gaussian = igr.InvertibleGaussian(outputs[..., :-1], 1.0, temperature=0.4)
for name, relaxation in (("Gumbel-Softmax", law), ("IGR-I", gaussian)):
    exact = relaxation.discrete()
    drawn = relaxation.rsample((20_000,), generator=generator)[:, 0, 0].argmax(-1)
    shares = drawn.bincount(minlength=K) / len(drawn)
    print(f"{name}: entropy of the first {float(exact.entropy()[0, 0]):.3f} nats")
    print("  exact", " ".join(f"{p:.3f}" for p in exact.probs[0, 0].tolist()))
    print("  drawn", " ".join(f"{p:.3f}" for p in shares.tolist()))

# %%
# Densities stay finite where points round to vertices. Torch's own distribution of this law says NaN, or
# infinity, of points that it has just drawn; ``rsample_and_log_prob`` computes the density on the way, where
# nothing is lost:

cold = 0.01
theirs = torch.distributions.RelaxedOneHotCategorical(
    torch.tensor(cold), logits=outputs, validate_args=False
)
found = theirs.log_prob(theirs.rsample((1000,)))
print(f"torch: finite log-densities {float(found.isfinite().float().mean()):.1%}")
z, log_density = law.with_temperature(cold).rsample_and_log_prob((1000,), generator=generator)
print(f"igr:   finite log-densities {float(log_density.isfinite().float().mean()):.1%}")

# %%
# The divergence in the loss: which of the two?
# ---------------------------------------------
#
# A prior turns the autoencoder into a VAE, and its loss needs a KL. With a relaxation there are two, and they
# are different quantities:
#
# - **that of the discrete laws**, ``law.discrete_kl(prior.discrete())``: exact, at most log K for a uniform
#   prior. It belongs to the model whose code is one-hot.
# - **that of the relaxed laws**: belongs to the model whose code lies inside the simplex, for which it makes
#   the loss a bound. For IGR-I it is closed form, ``kl_divergence(law, prior)`` or, with the points,
#   ``law.rsample_and_kl(prior)``. Gumbel-Softmax has no closed form, and takes the difference of two
#   log-densities at the points.
#
# If the discrete model is what you want in the end, train the discrete one. The loss is then no bound of
# anything, since the decoder meets relaxed points; what counts is the bound on the discrete model, with
# one-hot codes drawn from the exact law. Here are all four.

uniform = {
    "Gumbel-Softmax": igr.GumbelSoftmax(0.5, logits=torch.zeros(K)),
    "IGR-I": igr.InvertibleGaussian.uniform(K, temperature=0.4),
}


def posterior(name, outputs):
    if name == "IGR-I":
        return igr.InvertibleGaussian(outputs + uniform[name].loc, 1.0, temperature=0.4)
    return igr.GumbelSoftmax(0.67, logits=outputs)


def points_and_divergence(name, kl, outputs):
    q, prior = posterior(name, outputs), uniform[name]
    if kl == "discrete":
        return q.rsample(), q.discrete_kl(prior.discrete())
    if name == "IGR-I":
        return q.rsample_and_kl(prior)
    log_z = q.rsample_log()  # the logarithm, since an entry of z may round to zero
    return log_z.exp(), q.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)


@torch.no_grad()
def discrete_bound(model, name):
    """The ELBO of the discrete model: mean and standard error over the test images."""
    exact = posterior(name, model.encoder(test)).discrete()
    vertices = exact.sample((20,))
    divergence = torch.distributions.kl_divergence(exact, uniform[name].discrete()).sum(-1)
    bounds = -model.minus_log_likelihood(test, vertices).mean(0) - divergence
    return (
        float(bounds.mean()),
        float(bounds.std() / len(bounds) ** 0.5),
        float(divergence.mean()),
    )


print(f"{'':16}{'KL in the loss':16}{'final loss':>12}{'discrete ELBO':>22}{'discrete KL':>14}")
for name in uniform:
    for kl in ("relaxed", "discrete"):

        def loss(model, x, epoch, name=name, kl=kl):
            z, divergence = points_and_divergence(name, kl, model.encoder(x))
            # Warmed up, or the relaxed KL empties the code for good.
            weight = min(1.0, epoch / 35)
            return (model.minus_log_likelihood(x, z) + weight * divergence.sum(-1)).mean()

        model, curve = train(K - 1 if name == "IGR-I" else K, loss, seed=0, num_epochs=50)
        bound, error, divergence = discrete_bound(model, name)
        print(f"{name:16}{kl:16}{curve[-1]:12.2f}{bound:15.2f} ± {error:.2f}{divergence:14.2f}")

# %%
# The discrete KL wins by two nats and more with either law, and with it the laws are half a nat apart:
# **which KL you train matters more than which relaxation**. The relaxed KL also pays for where in the simplex
# a point lies, and in so short a training much of the code is never used, as its discrete KL shows. (One
# seed, 50 epochs, nothing tuned. ``make demo``, whose table is in the README, trains longer and finds the
# same order, with a gap of 2.3 nats for Gumbel-Softmax and 0.3 for IGR-I.) Losses at the end are different
# quantities, not to be compared.
#
# The prior of Gumbel-Softmax has a temperature as well, 0.5 here, which has a part in the relaxed KL alone.
#
# Hard samples from a law
# -----------------------
#
# The noise is the only random step, and everything else is a function of it. So one draw of noise gives the
# relaxed point, the vertex nearest to it, its category, and the vertex with the gradient of the point
# (straight-through):

outputs.requires_grad_()
law = igr.InvertibleGaussian(outputs[..., :-1], 1.0, temperature=0.4)
noise = law.draw_noise(generator=generator)
z, vertex, category = law.rsample(noise=noise), law.vertex(noise), law.category(noise)
through = law.straight_through(noise)
print("z       ", " ".join(f"{w:.2f}" for w in z[0, 0].tolist()))
print("vertex  ", vertex[0, 0].int().tolist(), "category", int(category[0, 0]))
print("straight-through equals the vertex:", torch.equal(through, vertex))
print("and has a gradient:", through.requires_grad)

# %%
# Without a relaxation, vertices come from the exact law: ``law.discrete().sample()``.
#
# Masks
# -----
#
# ``mask=`` takes categories out of the law, True where one is not available: exactly zero weight, exactly
# zero probability, no gradient, and densities and divergences over the rest. Filling logits with minus
# infinity by hand is not the same: torch's divergence then has a value, and a gradient that is NaN.

mask = torch.zeros(K, dtype=torch.bool)
mask[:6] = True
masked = igr.GumbelSoftmax(0.67, logits=outputs, mask=mask)
even = igr.GumbelSoftmax(0.67, logits=torch.zeros(K), mask=mask)
print("probabilities", " ".join(f"{p:.2f}" for p in masked.discrete().probs[0, 0].tolist()))
by_hand = [
    torch.distributions.OneHotCategorical(logits=numbers.masked_fill(mask, -torch.inf))
    for numbers in (outputs, torch.zeros(K))
]
divergences = {
    "igr": masked.discrete_kl(even.discrete()),
    "torch, by hand": torch.distributions.kl_divergence(*by_hand),
}
for name, divergence in divergences.items():
    (slope,) = torch.autograd.grad(divergence.sum(), outputs)
    finite = bool(slope.isfinite().all())
    print(
        f"{name:15} divergence {float(divergence[0, 0].detach()):.3f}, finite gradients: {finite}"
    )

# %%
# torch.compile
# -------------
#
# With ``noise=`` a law is a function of tensors, so ``torch.compile`` takes it as one graph, and so do
# ``torch.func.vmap`` and ``torch.export``. (``backend="aot_eager"`` builds the graph and its backward pass
# and leaves out the compiler of C++, to keep this page short; leave it away for speed.)


def step(outputs, noise):
    law = igr.InvertibleGaussian(outputs[..., :-1], 1.0, temperature=0.4)
    z, log_density = law.rsample_and_log_prob(noise=noise)
    return (z.square().sum(-1) + log_density).sum()


compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
slopes = [torch.autograd.grad(f(outputs, noise), outputs)[0] for f in (step, compiled)]
print(f"largest difference of the gradients: {float((slopes[0] - slopes[1]).abs().max()):.1e}")

# %%
# What to read next
# -----------------
#
# - :doc:`/auto_tutorials/02_choosing`: which law, and which temperature.
# - :doc:`/which-relaxation`: a table of cases, with what was measured on larger problems.
# - :doc:`/coming-from-gumbel-softmax`: what users of the existing tools run into, and what happens here
#   instead.
