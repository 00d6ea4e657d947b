"""Fits of IGR to discrete laws by Newton's method, beside optimizers on the same exact law and on samples.

    python benchmarks/fitting.py

Beside the times stands the total variation that each reaches. ``torch.optim.LBFGS`` (strong Wolfe, until its
own criteria or 200 iterations) is what a user would pick who has the exact law; 200 steps of Adam on relaxed
samples are the original's way. Laws of K = 10 for IGR-I; then countable ones, for IGR-SB too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import igr
from harness import Timing, compare, measure, parser, save, show, summarize

TEN = torch.tensor([10, 1, 5, 1, 10, 10, 1, 6, 1, 1], dtype=torch.float64) / 46


def by_lbfgs(probs: Tensor) -> igr.InvertibleGaussian:
    """IGR-I with scale 1 by the KL from the target to the exact law; one problem for all laws of a batch."""
    start = igr.InvertibleGaussian.uniform(probs.shape[-1], 1.0, dtype=torch.float64).loc
    loc = start.expand(*probs.shape[:-1], -1).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [loc], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        law = igr.InvertibleGaussian(loc, 1.0, 1.0).discrete()
        loss = (probs * (probs.log() - law.log_probs)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return igr.InvertibleGaussian(loc.detach(), 1.0, 1.0)


def error(probs: Tensor, law: igr.SimplexRelaxation) -> float:
    """The largest total variation of the batch."""
    return float(0.5 * (probs - law.discrete().probs).abs().sum(-1).max())


def main() -> None:
    parser(__doc__).parse_args()
    generator = torch.Generator().manual_seed(0)
    exponential = -torch.rand(1000, 10, dtype=torch.float64, generator=generator).log()
    thousand = exponential / exponential.sum(-1, keepdim=True)
    tables: dict[str, list[Timing]] = {}
    notes = []

    def fitted(target: object, family: str, **options: object) -> igr.SimplexRelaxation:
        return igr.fitting.fit(target, family, **options).distribution(1.0, torch.float64)

    for title, target in (("ten categories", TEN), ("1,000 laws of Dirichlet(1), K = 10", thousand)):
        ways: dict[str, Callable[[], igr.SimplexRelaxation]] = {
            "LBFGS on the exact law": lambda target=target: by_lbfgs(target),
            "igr.fitting.fit, Newton": lambda target=target: fitted(target, "igr"),
        }
        if target is TEN:
            ways["fit, the original's objective"] = lambda: fitted(
                TEN, "igr", method="relaxed", objective="squared_error"
            )
        notes += [
            f"{title}, {name}: total variation {error(target, way()):.1e}" for name, way in ways.items()
        ]
        tables[title] = compare(ways, "LBFGS on the exact law", blocks=9)
    laws = {
        "Poisson(50)": torch.distributions.Poisson(torch.tensor(50.0)),
        "NegativeBinomial(50, 0.6)": torch.distributions.NegativeBinomial(50, torch.tensor(0.6)),
    }
    for title, law in laws.items():
        ways = {"IGR-I": lambda law=law: fitted(law, "igr")}
        for scale in (1.0, 5.0):
            for family in ("igr-sb", "igr-sb-log"):
                ways[f"{family}, scale {scale:g}"] = lambda law=law, family=family, scale=scale: fitted(
                    law, family, scale=scale
                )
        for name, way in ways.items():
            target = igr.fitting.as_target(law).probs
            reached_law = way()
            # Length space has one category more, which never wins.
            padding = reached_law.num_categories - target.shape[-1]
            found = error(torch.nn.functional.pad(target, (0, padding)), reached_law)
            notes.append(f"{title}, {name}: total variation {found:.1e}")
        tables[title] = summarize(measure(ways, blocks=3, warmups=1), "IGR-I")
    for title, timings in tables.items():
        show(title, timings)
    print("\n" + "\n".join(notes))
    note = "Newton's method in loc, float64, scale 1 where none is named. "
    print(f"\nwritten to {save('fitting', 'cpu', tables, note + '; '.join(notes))}")


if __name__ == "__main__":
    main()
