"""How close a run's posteriors are to discrete, and the temperature at which they are as close as wanted."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from igr.data import PreparedImages
from igr.distributions.relaxation import SimplexRelaxation
from igr.errors import UserError
from igr.evaluation.bounds import Estimate, estimate
from igr.evaluation.evaluation import images_of_split, temperature_of
from igr.evaluation.records import COUNTS, read_estimate, read_integer, read_number
from igr.evaluation.samples import DATA_PER_DRAW
from igr.fitting.temperature import FixedSamples, check_target, temperature_within
from igr.training.randomness import generator_key
from igr.training.run_folder import RunFolder
from igr.training.runs import LoadedRun, LoadedVAE, as_vae

# The key in result.json.
RECORD = "calibrated_temperature"
SAMPLES_PER_IMAGE = 10


@dataclass(frozen=True)
class CalibratedTemperature:
    """The temperature at which a share of posterior samples lies within a distance of a vertex.

    Samples of all variables of all images count together.

    Arguments:
        split: The split of the data.
        num_data: How many of its images.
        num_samples: Samples of each variable of each image.
        seed: The seed of the samples.
        step: That of the checkpoint.
        epoch: Likewise.
        seconds: The time that it took.
        distance: The distance to a vertex.
        quantile: The share of the samples.
        temperature: The highest at which the share ``quantile`` lies within ``distance``.
        trained_temperature: That of the run.
        trained_distance: The distance within which the share ``quantile`` lies at ``trained_temperature``.
        trained_share: The share that lies within ``distance`` there; its standard error is over images.
    """

    split: str
    num_data: int
    num_samples: int
    seed: int
    step: int
    epoch: int
    seconds: float
    distance: float
    quantile: float
    temperature: float
    trained_temperature: float
    trained_distance: float
    trained_share: Estimate

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in ``result.json`` under ``calibrated_temperature``."""
        return asdict(self)

    def __str__(self) -> str:
        error = self.trained_share.standard_error
        return (
            f"{self.quantile:g} of the posterior samples lie within {self.distance:g} of a vertex at "
            f"temperature {self.temperature:.4g}; at {self.trained_temperature:.4g}, trained with, "
            f"{self.trained_share.value:.4f}{'' if error is None else f' ±{error:.4f}'} do, and "
            f"{self.quantile:g} lie within {self.trained_distance:.4g} "
            f"(S = {self.num_samples} for each variable of {self.num_data} {self.split} images, "
            f"seed {self.seed})."
        )


def stored_calibration(folder: RunFolder) -> CalibratedTemperature | None:
    """The temperature found for the latest checkpoint of a run; ``None`` where there is none yet.

    Raises:
        UserError: The record is not one that this version writes.
    """
    record = folder.result().get(RECORD)
    if record is None:
        return None
    try:
        counts = {key: read_integer(record[key]) for key in COUNTS}
        keys = ("seconds", "distance", "quantile", "temperature", "trained_temperature", "trained_distance")
        numbers: dict[str, Any] = {key: read_number(record[key]) for key in keys}
        found = CalibratedTemperature(
            split=str(record["split"]),
            trained_share=read_estimate(record["trained_share"]),
            **counts,
            **numbers,
        )
    except (KeyError, TypeError) as problem:
        raise UserError(
            f"expected a calibrated temperature as this version of igr writes it in {folder.path}; got one "
            f"that does not fit ({problem}); run igr evaluate {shlex.quote(str(folder.path))} --calibrate"
        ) from problem
    return found if found.step == folder.latest_step() else None


def calibrate(
    run: LoadedRun[Any, Any],
    *,
    distance: float = 0.2,
    quantile: float = 0.75,
    split: str = "test",
    num_samples: int = SAMPLES_PER_IMAGE,
    max_images: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> CalibratedTemperature:
    """The temperature for a trained run, written into its ``result.json``.

    The figures of the paper show posterior samples of models whose temperature was chosen so that 75 %
    of them lie within 0.2 of a vertex (100 samples for each of 10,000 test images). The model is not
    trained anew: only the temperature of its posteriors changes. The noise depends on the seed, on the
    place of an image among the others and on the kind of device. Memory grows with the number of
    samples times that of images and variables, but not with that times K.

    Arguments:
        run: The run, from :func:`igr.training.runs.load_run`.
        distance: The Euclidean distance to the nearest vertex.
        quantile: The share of all samples that is to lie within it.
        split: The split whose images are encoded.
        num_samples: Samples of each variable for each image.
        max_images: Take only the first so many images of the split; ``None`` takes all.
        seed: Fixes the noise, so that runs are compared with the same numbers.
        progress: Called with the number of passes over the samples that are done, some ten in all.

    Raises:
        UserError: The split is unknown or empty, a number is out of range, or the share lies within
            that distance at every temperature or at none.

    References:
        | Invertible Gaussian Reparameterization (Potapczynski et al., 2020), the figures of posterior samples
    """
    started = time.perf_counter()
    own = temperature_of(run)
    try:
        check_target(distance, quantile)
        samples = posterior_samples(
            run, split=split, num_samples=num_samples, max_images=max_images, seed=seed
        )
        temperature = temperature_within(samples, distance, quantile, progress=progress)
    except UserError:
        raise
    except ValueError as error:
        # One sentence of the library, which names the function.
        raise UserError(str(error).partition(": ")[2].removesuffix(".")) from error
    within = [of_block <= distance for of_block in samples.vertex_distances(own)]
    found = CalibratedTemperature(
        split=split,
        num_data=sum(law.batch_shape[0] for law in samples.laws),
        num_samples=num_samples,
        seed=seed,
        step=run.step,
        epoch=run.epoch,
        seconds=round(time.perf_counter() - started, 3),
        distance=float(distance),
        quantile=float(quantile),
        temperature=temperature,
        trained_temperature=own,
        trained_distance=samples.quantile(own, quantile),
        # [S, B, V] of each block; images are independent, samples of one image are not.
        trained_share=estimate(torch.cat([block.double().mean((0, -1)) for block in within])),
    )
    run.folder.update_result({RECORD: found.to_json()})
    return found


def posterior_samples(
    run: LoadedRun[Any, Any], *, split: str, num_samples: int, max_images: int | None = None, seed: int = 0
) -> FixedSamples:
    """Samples of the posteriors of a run's categorical latent, as functions of the temperature.

    Arguments:
        run: The run, from :func:`igr.training.runs.load_run`.
        split: The split whose images are encoded.
        num_samples: Samples of each variable for each image.
        max_images: Take only the first so many images of the split; ``None`` takes all.
        seed: Fixes the noise.

    Raises:
        UserError: The split is unknown or empty, a number is out of range, or the run has no categorical
            latent.
    """
    if seed < 0:
        raise UserError(f"expected seed to be a whole number of at least 0; got {seed}; change seed")
    if num_samples < 1:
        raise UserError(
            f"expected a number of samples of at least 1; got {num_samples}; give each image one or more"
        )
    of_vae = as_vae(run, "a calibrated temperature")
    if of_vae.model.latent.discrete is None:
        raise UserError(
            f"expected a run with a categorical latent; got {run.folder.path}, whose latent is "
            f"{run.config.latent}; it has no vertices to be close to"
        )
    images = images_of_split(run, split).first(max_images)
    if len(images) == 0:
        raise UserError("expected at least one image; got none; choose a split that has data")
    posteriors = _posteriors(of_vae, images, temperature_of(run))
    seeds = [generator_key(seed, "evaluation/distance to the vertices", i) for i in range(len(posteriors))]
    return FixedSamples(posteriors, num_samples, seeds)


@torch.no_grad()
def _posteriors(run: LoadedVAE, images: PreparedImages, temperature: float) -> list[SimplexRelaxation]:
    """The posteriors of the categorical latent of the images, [B, V] of each block of them."""
    device = next(run.model.parameters()).device
    posteriors = []
    for first in range(0, len(images), DATA_PER_DRAW):
        posterior = run.model.encode(images[first : first + DATA_PER_DRAW].to(device), temperature)
        posteriors.append(run.model.latent.parts_of(posterior)[0])
    return posteriors
