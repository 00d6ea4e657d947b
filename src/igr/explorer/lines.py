"""The Python lines that build what the page shows."""

from igr.explorer.laws import DRAWS_SEED, NUM_DRAWS, NUM_LAYERS
from igr.explorer.settings import Settings


def lines(settings: Settings) -> str:
    """A program that draws the points of the page and prints its numbers."""
    parts = [_imports(settings), _law(settings), _points(settings), _prior(settings), _printed(settings)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _imports(settings: Settings) -> list[str]:
    divergence = settings.has_closed_kl or not settings.is_exact
    return [
        "import torch",
        *(["from torch.distributions import kl_divergence"] if divergence else []),
        "",
        "import igr",
        "from igr.diagnostics import vertex_distance",
    ]


def _law(settings: Settings) -> list[str]:
    numbers = ", ".join(map(repr, settings.parameters))
    temperature = f"temperature={settings.temperature!r}"
    if settings.family == "gumbel-softmax":
        return [
            f"logits = torch.tensor([{numbers}])",
            f"law = igr.GumbelSoftmax({temperature}, logits=logits)",
        ]
    before, transform = _transform(settings)
    arguments = ["loc", f"scale={settings.scale!r}", temperature]
    arguments += [f"transform={transform}"] if transform else []
    arguments += _delta(settings)
    return [*before, f"loc = torch.tensor([{numbers}])", *_call("law = igr.InvertibleGaussian", arguments)]


def _transform(settings: Settings) -> tuple[list[str], str | None]:
    """The lines that make the transform, and how it is called."""
    if settings.family == "igr":
        return [], None
    if settings.family != "igr-planar":
        space = "length" if settings.family == "igr-sb" else "log"
        return [f'sticks = igr.LogisticStickBreakingTransform("{space}")'], "sticks"
    count = settings.num_categories
    return [
        f"generator = torch.Generator().manual_seed({settings.flow_seed})",
        *_call(
            "flow = igr.PlanarFlow",
            [f"num_categories={count}", f"num_layers={NUM_LAYERS}", "generator=generator"],
        ),
        "flow.requires_grad_(False)  # in a model its parameters are trained",
        "for layer in flow.layers:",
        f"    layer.u += {settings.strength!r} * torch.randn({count - 1}, generator=generator)",
    ], "flow"


def _delta(settings: Settings) -> list[str]:
    return [] if settings.delta == 1.0 else [f"delta={settings.delta!r}"]


def _points(settings: Settings) -> list[str]:
    generator = f"torch.Generator().manual_seed({settings.seed})"
    found = ["discrete = law.discrete()  # exact"]
    if not settings.is_exact:
        found = [
            f"generator = torch.Generator().manual_seed({DRAWS_SEED})",
            "discrete = law.discrete(  # an estimate",
            f'    "monte_carlo", num_samples={NUM_DRAWS}, generator=generator',
            ")",
        ]
    return [
        f"noise = law.draw_noise(({settings.num_samples},), {generator})",
        f"z = law.rsample(noise=noise)  # [{settings.num_samples}, {settings.num_categories}]",
        "log_z = law.rsample_log(noise=noise)",
        "distance = vertex_distance(log_z).median()",
        'frequencies = law.discrete("monte_carlo", noise=noise)',
        *found,
    ]


def _prior(settings: Settings) -> list[str]:
    count, temperature = settings.num_categories, f"temperature={settings.temperature!r}"
    if settings.family == "gumbel-softmax":
        made = [f"prior = igr.GumbelSoftmax({temperature}, logits=torch.zeros({count}))"]
    elif settings.family in ("igr", "igr-planar"):
        made = _call("prior = igr.InvertibleGaussian.uniform", [str(count), temperature, *_delta(settings)])
    else:
        name = f'"{settings.family}"'
        made = _call("prior = igr.fitting.uniform_prior", [str(count), name, temperature])
        if settings.family == "igr-sb" and settings.delta != 1.0:
            arguments = ["prior.loc", "prior.scale", temperature, "transform=sticks", *_delta(settings)]
            made += _call("prior = igr.InvertibleGaussian", arguments)
    if settings.has_closed_kl:
        relaxed = ["relaxed_kl = kl_divergence(law, prior)  # closed form"]
    else:
        relaxed = [
            "_, log_prob = law.rsample_and_log_prob(noise=noise)",
            "differences = log_prob - prior.log_prob_of_log(log_z)",
            "relaxed_kl = differences.mean()  # no closed form: from the points",
            f"error = differences.std() / {settings.num_samples}**0.5",
        ]
    if settings.is_exact:
        return [*made, *relaxed, "discrete_kl = law.discrete_kl(prior.discrete())"]
    return [*made, *relaxed, "discrete_kl = kl_divergence(discrete, prior.discrete())"]


def _printed(settings: Settings) -> list[str]:
    error = "" if settings.has_closed_kl else " ± {error:.4f}"
    start = "" if settings.has_closed_kl else "about "
    return [
        "print(law)",
        'print("discrete law:", discrete.probs)',
        'print("frequencies: ", frequencies.probs)',
        'print(f"median distance to the nearest vertex: {distance:.4f}")',
        f'print(f"KL of the relaxed laws: {start}{{relaxed_kl:.4f}}{error} nats")',
        f'print(f"KL of the discrete laws: {"" if settings.is_exact else "about "}{{discrete_kl:.4f}} nats")',
    ]


def _call(start: str, arguments: list[str]) -> list[str]:
    """A call on one line, or with its arguments on lines of their own where it would be long."""
    line = f"{start}({', '.join(arguments)})"
    if len(line) <= 72:
        return [line]
    return [f"{start}(", *(f"    {argument}," for argument in arguments), ")"]
