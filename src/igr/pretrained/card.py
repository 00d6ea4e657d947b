"""The card of a trained model: what a reader of its folder wants to know first."""

from igr.evaluation import BOUND_KINDS, Estimate, Evaluation
from igr.training.run_config import RunConfig

_HEADINGS = {
    "vae": "Variational autoencoder",
    "sop": "Structured output prediction",
    "dlgmm": "Deep latent Gaussian mixture model",
}
_USES = {
    "vae": "posterior = trained.encode(images)  # uint8 or floats in [0, 1], with shape {shape}\n"
    "points = trained.draw(posterior)\n"
    "means = trained.decode(points).mean\n"
    "new = trained.sample(16)",
    "sop": "completed = trained.complete(images).mean  # uint8 or floats in [0, 1], with shape {shape}",
}
_USES["dlgmm"] = _USES["vae"]


def card(config: RunConfig, epoch: int, evaluation: Evaluation | None) -> str:
    """The text of ``README.md``, as the sites where models are shared show it.

    Arguments:
        config: The resolved settings.
        epoch: Epochs of training finished.
        evaluation: What was found of this model, if anything.
    """
    shape = ", ".join(["N", *map(str, config.image_shape)])
    use = _USES[config.model].format(shape=f"({shape})")
    parts = [
        f"---\nlibrary_name: igr\ntags:\n- igr\n- {config.model}\n- discrete-latent-variables\n---",
        f"# {config.run_name}",
        f"{_HEADINGS[config.model]}: {config.described}; trained on {config.data} for {epoch} epochs.",
        "```python\nfrom igr.pretrained import from_pretrained\n\n"
        f'trained = from_pretrained("FOLDER")\n{use}\n```',
    ]
    if evaluation is not None:
        parts += ["## Figures", _figures(config, evaluation)]
    settings = [(key, value) for key, value in config.to_json().items() if key not in ("data_dir", "device")]
    rows = [f"| {key} | {_shown(key, value)} |" for key, value in settings if value is not None]
    parts += ["## Settings", "\n".join(["| setting | value |", "| --- | --- |", *rows])]
    return "\n\n".join(parts) + "\n"


def _figures(config: RunConfig, evaluation: Evaluation) -> str:
    rows = [
        f"| {config.bound_names.get(kind.key, kind.name)} | {estimate} |"
        for kind in BOUND_KINDS
        if isinstance(estimate := evaluation.bounds[kind.key], Estimate)
    ]
    table = "\n".join(["| figure | nats per image |", "| --- | ---: |", *rows])
    about = f" {config.about_bounds}" if config.about_bounds else ""
    return (
        f"Lower bounds on {config.quantity}, means ± standard errors over {evaluation.num_data:,} "
        f"{evaluation.split} images, S = {evaluation.num_samples} samples each, seed {evaluation.seed}."
        f"{about}\n\n{table}"
    )


def _shown(key: str, value: object) -> str:
    return "prior.json" if key == "prior" else str(value)
