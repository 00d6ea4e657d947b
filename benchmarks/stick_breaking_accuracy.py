"""From logits to a broken stick and back: what is lost, ours beside torch's StickBreakingTransform.

    python benchmarks/stick_breaking_accuracy.py

Logits are uniform in [-r, r]. The figure is the largest |y' - y| among 20,000 vectors, infinite where one
comes back as no number. The JSON also has its largest share of 1 + max |t|, which for the log space is
promised to stay below 1e-6 in float32. Torch's transform keeps the remainder as a number of its own; lengths
do not.
"""

from __future__ import annotations

import json

import torch
from torch.distributions import StickBreakingTransform, Transform

import igr
from harness import RESULTS, machine

TRANSFORMS: dict[str, Transform] = {
    "torch StickBreakingTransform": StickBreakingTransform(),
    "space='length'": igr.LogisticStickBreakingTransform("length"),
    "space='log'": igr.LogisticStickBreakingTransform("log"),
}
REACHES = (1.0, 3.0, 10.0, 40.0)


def largest_error(
    transform: Transform, reach: float, categories: int, dtype: torch.dtype
) -> tuple[float, float]:
    """The largest |y' - y|, and its largest share of 1 + max |t|."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(20_000, categories - 1, dtype=torch.float64, generator=generator)
    y = (reach * (2.0 * unit - 1.0)).to(dtype)
    t = transform(y)
    error = (transform.inv(t) - y).abs().nan_to_num(torch.inf, torch.inf)
    return error.max().item(), (error / (1.0 + t.abs().amax(-1, keepdim=True))).max().item()


def main() -> None:
    rows = []
    for dtype in (torch.float32, torch.float64):
        for categories in (10, 100):
            print(
                f"\n{str(dtype).removeprefix('torch.')}, K {categories}: the largest |y' - y| for |y| up to"
            )
            print(f"  {'':<30}" + "".join(f"{reach:>10g}" for reach in REACHES))
            for name, transform in TRANSFORMS.items():
                found = [largest_error(transform, reach, categories, dtype) for reach in REACHES]
                print(f"  {name:<30}" + "".join(f"{error:>10.0e}" for error, _ in found))
                for reach, (error, share) in zip(REACHES, found, strict=True):
                    rows.append(
                        {
                            "transform": name,
                            "dtype": str(dtype),
                            "num_categories": categories,
                            "reach": reach,
                            "largest_error": error,
                            "largest_share_of_1_plus_t": share,
                        }
                    )
    content = {
        "benchmark": "stick_breaking_accuracy",
        "notes": (__doc__ or "").strip(),
        "machine": machine("cpu"),
        "rows": rows,
    }
    path = RESULTS / "stick_breaking_accuracy.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
