"""Relaxations whose discrete law is uniform, the prior of categorical latents; fits among them are kept."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from igr import atomic
from igr.distributions import GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.errors import shown
from igr.fitting.families import FAMILIES, relaxation
from igr.fitting.fits import fit
from igr.fitting.result import Fit
from igr.fitting.targets import Target
from igr.kernels.tracing import is_traced
from igr.validation import check_name, check_number_or_tensor, check_values, real_number, whole_number

__all__ = ["PLANAR_ITERATIONS", "fit_uniform_prior", "uniform_prior"]

# As in the original.
PLANAR_ITERATIONS = 1000
# To be raised when the same settings are fitted differently; the fit within has a format of its own.
_FORMAT = 1
# What igr.data looks at too; that room needs pooch, and this one must not.
_VARIABLE = "IGR_CACHE_DIR"


class _Settings(NamedTuple):
    """All that a prior depends on; ``None`` for what its family does not use."""

    family: str
    num_categories: int
    scale: float | None
    seed: int | None
    num_iterations: int | None


def uniform_prior(
    num_categories: int,
    family: str = "igr",
    *,
    temperature: float | Tensor = 1.0,
    scale: float = 1.0,
    seed: int = 0,
    num_iterations: int | None = None,
    cache: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SimplexRelaxation:
    r"""The relaxation of a family whose discrete law, that of temperature zero, is uniform.

    .. math::
        P(\arg\max_k z_k = k) = \frac1K, \qquad k = 1, \dots, K

    ============================ ======================================================= ================
    family                       parameters                                              the law
    ============================ ======================================================= ================
    "gumbel-softmax"             logits of zero                                          exact
    "igr"                        :math:`\mu_k = -\sigma \Phi^{-1}(K^{-1/(K-1)})`         exact
    "igr-sb-log"                 means by Newton's method on the exact law               to about 1e-9
    "igr-sb"                     the same, in length space                               the same, but over
                                                                                         K - 1 categories
    "igr-planar"                 means, scales and flow fitted to relaxed samples, as    near: see below
                                 in the paper
    ============================ ======================================================= ================

    In length space, where ``"igr-sb"`` breaks its sticks as the paper does, the last category never wins: of
    the K categories it is uniform over the first K - 1.

    No exact law is known of the planar flow, and the mean of relaxed samples, which is fitted, is not the
    discrete law: with the defaults the total variation from uniform is about 0.01 for 10 categories and 0.03
    for 50, some of it the noise of the estimate. :func:`fit_uniform_prior` says how far each prior is.

    Fits (the last three) are kept as JSON in the folder ``priors`` of the cache: that named by the
    environment variable ``IGR_CACHE_DIR``, or the one of the system's caches, such as ``~/.cache/igr``. A
    file that is damaged or holds something else is fitted again and replaced.

    Arguments:
        num_categories: K, an int of at least 2, and of at least 3 for ``"igr-sb"``.
        family: ``"gumbel-softmax"``, ``"igr"``, ``"igr-planar"``, ``"igr-sb"`` or ``"igr-sb-log"``.
        temperature: :math:`\tau`, a float or a tensor, whose shape is the batch shape; it has no part in the
            discrete law.
        scale: :math:`\sigma`, the same for all categories; of the planar flow, whose scales are fitted too,
            the start. Gumbel-Softmax has none.
        seed: Fixes the samples and the start of the planar flow; nothing else is random.
        num_iterations: Steps of the fit of the planar flow; 1000 if ``None``.
        cache: Whether to take a fit from the cache and to keep it there. Where the cache cannot be written
            there is a warning, and the prior.
        dtype: The dtype of the parameters; torch's default one if ``None``.
        device: The device of the parameters; the CPU if ``None``.

    Raises:
        TypeError: for arguments of the wrong kind.
        ValueError: for names and numbers outside of their range, and settings that the family does not use.
        RuntimeError: where Newton's method does not reach the uniform law, for a scale far below 0.1.
        NotImplementedError: under a tracer, where there is something to fit.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020)

    Example:
        >>> prior = uniform_prior(4, "igr-sb", temperature=0.5, cache=False)
        >>> prior.discrete().probs
        tensor([0.3333, 0.3333, 0.3333, 0.0000])
        >>> uniform_prior(4, "igr-sb-log", temperature=0.5, cache=False).discrete().probs
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    settings = _settings("uniform_prior", num_categories, family, scale, seed, num_iterations)
    # Before a fit that may take a minute.
    check_number_or_tensor("uniform_prior", "temperature", temperature)
    check_values("uniform_prior", "temperature", temperature, positive=True)
    count = settings.num_categories
    if family == "gumbel-softmax":
        return GumbelSoftmax(temperature, logits=torch.zeros(count, dtype=dtype, device=device))
    if settings.scale is not None and family == "igr":
        return InvertibleGaussian.uniform(count, temperature, settings.scale, dtype=dtype, device=device)
    return _prior("uniform_prior", settings, cache).distribution(temperature, dtype, device)


def fit_uniform_prior(
    num_categories: int,
    family: str = "igr",
    *,
    scale: float = 1.0,
    seed: int = 0,
    num_iterations: int | None = None,
    cache: bool = True,
) -> Fit:
    r"""The fit that :func:`uniform_prior` takes its relaxation from, with its distance from the uniform law.

    ``gumbel-softmax`` and ``igr`` are in closed form, in no iterations, and not cached. On one core Newton's
    method takes about a second for 10 categories and 20 seconds for 200, and the planar flow 15 seconds for
    10 categories and 40 for 50.

    Arguments:
        num_categories: K, an int of at least 2, and of at least 3 for ``"igr-sb"``.
        family: ``"gumbel-softmax"``, ``"igr"``, ``"igr-planar"``, ``"igr-sb"`` or ``"igr-sb-log"``.
        scale: :math:`\sigma`; of the planar flow the start. Gumbel-Softmax has none.
        seed: Of the planar flow.
        num_iterations: Of the planar flow; 1000 if ``None``.
        cache: Whether to take a fit from the cache and to keep it there.

    Units:
        KL divergences in nats, times in seconds: those of the fit, not of reading it from the cache.

    Raises:
        TypeError: for arguments of the wrong kind.
        ValueError: for names and numbers outside of their range, and settings that the family does not use.
        RuntimeError: where Newton's method does not reach the uniform law.
        NotImplementedError: under a tracer.

    Example:
        >>> found = fit_uniform_prior(3, "igr-sb-log", cache=False)
        >>> found.method, bool(found.total_variation < 1e-9)
        ('newton', True)
        >>> found.parameters["scale"]
        tensor([1., 1.], dtype=torch.float64)
    """
    owner = "fit_uniform_prior"
    return _prior(owner, _settings(owner, num_categories, family, scale, seed, num_iterations), cache)


def _settings(
    owner: str, num_categories: object, family: str, scale: object, seed: object, num_iterations: object
) -> _Settings:
    """The arguments, checked."""
    check_name(owner, "family", family, FAMILIES)
    # In length space two categories would leave one.
    least = 3 if FAMILIES[family].space == "length" else 2
    count = whole_number(owner, "num_categories", num_categories, minimum=least)
    spread = real_number(owner, "scale", scale)
    check_values(owner, "scale", spread, positive=True)
    if family == "gumbel-softmax" and spread != 1.0:
        raise ValueError(
            f"{owner}: expected no scale for the family gumbel-softmax, which has none; got {spread!r}; "
            "leave it out."
        )
    number = whole_number(owner, "seed", seed, minimum=0)
    if number >= 2**63:
        raise ValueError(f"{owner}: expected seed below 2**63; got {number}.")
    planar = family == "igr-planar"
    if num_iterations is None:
        steps = PLANAR_ITERATIONS
    elif planar:
        steps = whole_number(owner, "num_iterations", num_iterations, minimum=1)
    else:
        raise ValueError(
            f"{owner}: expected no num_iterations for the family {family}, which takes none; "
            f"got {shown(num_iterations)}; leave it out."
        )
    return _Settings(
        family=family,
        num_categories=count,
        scale=None if family == "gumbel-softmax" else spread,
        seed=number if planar else None,
        num_iterations=steps if planar else None,
    )


def _prior(owner: str, settings: _Settings, cache: bool) -> Fit:
    """In closed form, from the cache, or fitted."""
    if is_traced():
        raise NotImplementedError(
            f"{owner}: it iterates until it has converged, which no tracer can follow; call it before "
            "torch.compile, torch.export or torch.func."
        )
    if settings.family in ("gumbel-softmax", "igr"):
        return _in_closed_form(settings)
    found = _read(settings) if cache else None
    if found is None:
        found = _fitted(owner, settings)
        if cache:
            _write(owner, settings, found)
    return found


def _in_closed_form(settings: _Settings) -> Fit:
    count = settings.num_categories
    if settings.scale is None:
        parameters = {"logits": torch.zeros(count, dtype=torch.float64)}
    else:
        law = InvertibleGaussian.uniform(count, 1.0, settings.scale, dtype=torch.float64)
        parameters = {"loc": law.loc.clone(), "scale": law.scale.clone()}
    with torch.no_grad():
        probs = relaxation(settings.family, parameters, 1.0).discrete().probs
    return Fit(
        family=settings.family,
        method="closed_form",
        objective="kl",
        target=_uniform(count),
        parameters=parameters,
        start_probs=probs,
        probs=probs,
        num_draws=None,
        history=torch.empty(0, dtype=torch.float64),
        converged=torch.tensor(True),
        seconds=0.0,
    )


def _fitted(owner: str, settings: _Settings) -> Fit:
    family, count, scale = settings.family, settings.num_categories, settings.scale
    if settings.seed is not None:
        found = fit(
            _uniform(count),
            family,
            num_categories=count,
            scale=scale,
            method="relaxed",
            num_iterations=settings.num_iterations,
            generator=Generator().manual_seed(settings.seed),
        )
    else:
        winners = count - 1 if FAMILIES[family].space == "length" else count
        try:
            found = fit(_uniform(winners), family, num_categories=count, scale=scale, method="newton")
        except NotImplementedError as error:
            raise RuntimeError(
                f"{owner}: expected a scale at which the law of {family} is known; got {scale!r} for "
                f"{count:,} categories; give a larger one."
            ) from error
    if not bool(found.converged):
        raise RuntimeError(
            f"{owner}: expected to reach the uniform law with {family}, num_categories={count} and "
            f"scale={scale!r}; got to a total variation of {found.total_variation.item():.2g}; give a scale "
            "nearer to 1."
        )
    return found


def _uniform(count: int) -> Target:
    probs = torch.full((count,), 1.0 / count, dtype=torch.float64)
    return Target(probs, torch.zeros((), dtype=torch.float64), 0, f"the uniform law of {count:,} categories")


def _path(settings: _Settings) -> Path:
    """Where a prior is kept."""
    name = f"v{_FORMAT}-{settings.family}-{settings.num_categories}-scale-{settings.scale!r}"
    if settings.seed is not None:
        name += f"-seed-{settings.seed}-iterations-{settings.num_iterations}"
    return _cache_folder() / "priors" / f"{name}.json"


def _cache_folder() -> Path:
    """The folder of ``igr.data``, which asks pooch: the system's own if none is named."""
    named = os.environ.get(_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
        # Of the author and of the program.
        return Path(local, "igr", "igr", "Cache")
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return Path(shared, "igr")
    return Path(os.path.expanduser("~/Library/Caches" if sys.platform == "darwin" else "~/.cache"), "igr")


def _read(settings: _Settings) -> Fit | None:
    """The kept fit; ``None`` where there is none, or a file of anything else."""
    try:
        kept = json.loads(_path(settings).read_text(encoding="utf-8"))
        if kept["format"] != _FORMAT or kept["settings"] != settings._asdict():
            return None
        # Before it is parsed: a changed digit makes another law that is as good a fit to look at.
        if kept["sha256"] != _digest(kept["fit"]):
            return None
        return Fit.from_json(kept["fit"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _write(owner: str, settings: _Settings, found: Fit) -> None:
    """Keeps a fit, or warns that it cannot."""
    path, values = _path(settings), found.to_json()
    contents = {
        "format": _FORMAT,
        "settings": settings._asdict(),
        "sha256": _digest(values),
        "fit": values,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(contents) + "\n")
    except OSError as error:
        warnings.warn(
            f"{owner}: expected a cache folder that can be written; got {path.parent} "
            f"({error.strerror or error}); name another with {_VARIABLE}, or the prior is fitted each time.",
            # The caller of the public function.
            stacklevel=4,
        )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
