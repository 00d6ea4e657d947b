"""The instance tables of the test suite: what every law of the library is tried on."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import AffineTransform, ComposeTransform, Transform, constraints

import igr
from igr import LogisticStickBreakingTransform as Sticks

# Torch 2.13 instantiates every autograd.Function that it traces, and warns itself about that; outside
# this suite, where warnings are no errors, nobody sees it.
tracing = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


NUMBERS = ("temperature", "delta", "b", "b2")  # parameters with one entry per law


class Mix(Transform):
    """x A, a bijection of vectors that no elementwise transform could stand for."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def _call(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        return y @ torch.linalg.inv(self.matrix).to(y.dtype)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.linalg.slogdet(self.matrix).logabsdet.to(x.dtype).expand(x.shape[:-1])


class Sinh(Transform):
    """A bijection of the real line whose slope is not constant."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return torch.sinh(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.asinh(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.log(torch.cosh(x))


@dataclass(frozen=True)
class Case:
    """A law as a function of its tensors, so that a test can differentiate, batch and trace it.

    ``parameters`` are the tensors (float64; loc, scale, logits, and the temperature and delta where they are
    tensors), ``settings`` the rest, a mask among them.
    """

    constructor: Callable[..., igr.SimplexRelaxation]
    parameters: dict[str, Tensor]
    settings: dict[str, Any]

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Fresh leaves of the given dtype."""
        return {name: value.detach().to(dtype, copy=True) for name, value in self.parameters.items()}

    def law(self, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
        """The law, with some of its arguments replaced."""
        return self.constructor(**{**self.settings, **self.tensors(dtype), **changes})

    def batched(self) -> dict[str, Tensor]:
        """The parameters and the mask, each expanded to the whole batch: numbers [*B], vectors [*B, n]."""
        batch = self.law().batch_shape
        tensors = self.tensors() | ({"mask": self.settings["mask"]} if self.is_masked else {})
        return {
            name: value.expand(batch if name in NUMBERS else batch + value.shape[-1:])
            for name, value in tensors.items()
        }

    def elements(self) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Every index of the batch, and the law there, built alone with plain numbers."""
        tensors = self.batched()
        for index in itertools.product(*map(range, self.law().batch_shape)):
            rows = {name: value[index] for name, value in tensors.items()}
            numbers = {name: rows[name].item() for name in NUMBERS if name in rows}
            yield index, self.law(**{**rows, **numbers})

    @property
    def is_gumbel(self) -> bool:
        return self.constructor is igr.GumbelSoftmax

    @property
    def is_masked(self) -> bool:
        return "mask" in self.settings

    @property
    def has_transform(self) -> bool:
        return "transform" in self.settings or "w" in self.parameters

    @property
    def is_cold(self) -> bool:
        """At temperature 1e-3, where log z is of size 1e4 and sums of it have lost as many digits."""
        return self.settings.get("temperature") == 1e-3

    @property
    def has_exact_law(self) -> bool:
        sticks = isinstance(self.settings.get("transform"), Sticks)
        return not self.has_transform or sticks or self.parameters["loc"].shape[-1] == 1


def has_exact_law(law: igr.SimplexRelaxation) -> bool:
    """Whether ``law.discrete()`` is exact."""
    transform = getattr(law, "transform", None)
    return transform is None or isinstance(transform, Sticks) or law.num_categories == 2


def generator(key: str | int) -> torch.Generator:
    """A generator with a seed of its own for every key."""
    return torch.Generator().manual_seed(zlib.crc32(str(key).encode()))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def bits(*rows: str) -> Tensor:
    """A mask from its digits, 1 where a category is not available; of a batch if there are several rows."""
    mask = torch.tensor([[digit == "1" for digit in row] for row in rows])
    return mask[0] if len(rows) == 1 else mask


def available(law: igr.SimplexRelaxation, x: Tensor) -> Tensor:
    """Numbers x [*, K] of a law with zeros at masked categories, where log z is minus infinity."""
    return x if law.mask is None else x.masked_fill(law.mask, 0.0)


def gumbel(num_categories: int, batch: tuple[int, ...] = (), **settings: Any) -> Case:
    logits = 1.5 * torch.randn(
        *batch, num_categories, dtype=torch.float64, generator=generator(num_categories)
    )
    return _case(igr.GumbelSoftmax, {"logits": logits}, settings)


def gaussian(num_categories: int, batch: tuple[int, ...] = (), **settings: Any) -> Case:
    source = generator(num_categories)
    loc = torch.randn(*batch, num_categories - 1, dtype=torch.float64, generator=source)
    # Scales from 0.3 to 3 within one law, unless the case sets its own.
    spread = torch.rand(loc.shape, dtype=torch.float64, generator=source)
    scale = settings.pop("scale", 0.3 * 10.0**spread)
    return _case(igr.InvertibleGaussian, {"loc": loc}, {**settings, "scale": scale})


def planar_law(
    loc: Tensor, u: Tensor, w: Tensor, b: Tensor | float, temperature: Any, **settings: Any
) -> igr.InvertibleGaussian:
    """An IGR-Planar as a function of the tensors of its one layer, or two."""
    layers = [(u, w, b)]
    if "u2" in settings:
        layers.append(tuple(settings.pop(name) for name in ("u2", "w2", "b2")))
    kinds = zip(*layers, strict=True)
    stacked = (torch.stack([torch.as_tensor(t, dtype=loc.dtype) for t in kind]) for kind in kinds)
    transform = igr.PlanarFlow.from_tensors(*stacked)
    scale = settings.pop("scale", 1.0)
    return igr.InvertibleGaussian(loc, scale, temperature, transform, **settings)


def planar(num_categories: int, batch: tuple[int, ...] = (), num_layers: int = 1, **settings: Any) -> Case:
    source = generator(f"planar {num_categories}")
    parameters = {"loc": torch.randn(*batch, num_categories - 1, dtype=torch.float64, generator=source)}
    for suffix in ("", "2")[:num_layers]:
        for name in ("u", "w"):
            drawn = torch.randn(*batch, num_categories - 1, dtype=torch.float64, generator=source)
            parameters[name + suffix] = 0.7 * drawn
        parameters["b" + suffix] = torch.randn(batch, dtype=torch.float64, generator=source)
    return _case(planar_law, parameters, settings)


def _case(constructor: Callable[..., Any], parameters: dict[str, Tensor], settings: dict[str, Any]) -> Case:
    tensors = {
        name: value for name, value in settings.items() if isinstance(value, Tensor) and name != "mask"
    }
    others = {name: value for name, value in settings.items() if name not in tensors}
    return Case(constructor, {**parameters, **tensors}, others)


def _given(law: igr.InvertibleGaussian, **settings: Any) -> Case:
    return _case(igr.InvertibleGaussian, {"loc": law.loc, "scale": law.scale}, settings)


TEN = tensor(10, 1, 5, 1, 10, 10, 1, 6, 1, 1) / 46  # the law that the paper approximates
MATRIX = tensor(1.0, 0.5, 0.0, -2.0, 0.3, 0.1, 0.0, 0.7, 1.5).view(3, 3)
PERMUTATION = torch.eye(9, dtype=torch.float64)[torch.randperm(9, generator=generator("permutation"))]

CASES: dict[str, Case] = {
    "gs-K2": gumbel(2, temperature=0.5),
    "gs-K3-batch": gumbel(3, (3,), temperature=0.7),
    "gs-K10-batch2-temperatures": gumbel(10, (2, 3), temperature=tensor(0.2, 0.5, 2.0)),
    "gs-K3-scalar-tensor": gumbel(3, temperature=torch.tensor(0.4, dtype=torch.float64)),
    "gs-K3-hot": gumbel(3, (2, 3), temperature=10.0),
    "gs-K10-cold": gumbel(10, (3,), temperature=1e-3),
    "gs-probs": Case(igr.GumbelSoftmax, {"probs": tensor(0.1, 0.6, 0.3)}, {"temperature": 0.5}),
    "igr-K2": gaussian(2, temperature=0.5),
    "igr-K3-batch": gaussian(3, (3,), temperature=0.7),
    "igr-K10-batch2-temperatures": gaussian(10, (2, 3), temperature=tensor(0.2, 0.5, 2.0)),
    "igr-K3-scalar-tensor": gaussian(3, temperature=torch.tensor(0.4, dtype=torch.float64)),
    "igr-K10-float-scale": gaussian(10, (3,), scale=0.8, temperature=0.3),
    "igr-K3-delta": gaussian(3, (2, 3), temperature=0.5, delta=0.1),
    "igr-K3-tensor-delta": gaussian(
        3, (2, 3), temperature=tensor(0.3, 0.6).view(2, 1), delta=tensor(0.1, 1.0, 3.0)
    ),
    "igr-K3-hot": gaussian(3, (2, 3), temperature=10.0),
    "igr-K10-cold": gaussian(10, (3,), temperature=1e-3),
    "igr-from-probs": _given(
        igr.InvertibleGaussian.from_probs(TEN, temperature=0.15, delta=0.5), temperature=0.15, delta=0.5
    ),
    "igr-uniform": _given(
        igr.InvertibleGaussian.uniform(4, temperature=0.5, scale=2.0, dtype=torch.float64), temperature=0.5
    ),
    "igr-K3-affine": gaussian(3, (2,), temperature=0.5, transform=AffineTransform(0.3, -2.0)),
    "igr-K3-sinh": gaussian(3, scale=0.7, temperature=0.9, transform=Sinh()),
    "igr-K4-composed": gaussian(
        4,
        (3,),
        temperature=0.6,
        delta=0.5,
        transform=ComposeTransform([AffineTransform(0.3, 2.0), Mix(MATRIX)]),
    ),
    "gs-K4-masked": gumbel(4, (3,), temperature=0.7, mask=bits("0100", "1010", "1101")),
    "gs-K10-masked-temperatures": gumbel(
        10, (2, 3), temperature=tensor(0.2, 0.5, 2.0), mask=bits("0110000001", "0000000000", "1010101010")
    ),
    "gs-K5-one-mask-cold": gumbel(5, (3,), temperature=1e-3, mask=bits("00110")),
    "igr-K4-masked": gaussian(4, (3,), temperature=0.7, mask=bits("0100", "1010", "1110")),
    "igr-K10-masked-temperatures": gaussian(
        10, (2, 3), temperature=tensor(0.2, 0.5, 2.0), mask=bits("0110000010", "0000000000", "1010101010")
    ),
    "igr-K5-one-mask-cold-delta": gaussian(
        5, (3,), scale=0.8, temperature=1e-3, delta=0.1, mask=bits("00110")
    ),
    "igr-K3-masked-tensor-delta": gaussian(
        3, (2, 3), temperature=0.5, delta=tensor(0.1, 1.0, 3.0), mask=bits("100", "010").unsqueeze(1)
    ),
    "igr-K10-permuted": gaussian(10, temperature=0.4, transform=Mix(PERMUTATION)),
    "sb-length-K2": gaussian(2, (3,), scale=0.8, temperature=0.5, transform=Sticks()),
    "sb-length-K4-delta": gaussian(4, (2,), scale=0.6, temperature=0.2, delta=0.5, transform=Sticks()),
    "sb-length-K3-cold": gaussian(3, (2,), scale=0.5, temperature=1e-3, transform=Sticks()),
    "sb-log-K2-delta": gaussian(2, temperature=0.5, delta=2.0, transform=Sticks("log")),
    "sb-log-K4-tensor-delta": gaussian(
        4, (2, 3), temperature=0.7, delta=tensor(0.3, 1.0, 2.0), transform=Sticks("log")
    ),
    "sb-log-K10-temperatures": gaussian(10, (2,), temperature=tensor(0.3, 1.0), transform=Sticks("log")),
    "sb-log-K3-cold": gaussian(3, (2,), temperature=1e-3, transform=Sticks("log")),
    "planar-K2": planar(2, (3,), temperature=0.5),
    "planar-K4-flow-delta": planar(4, (3,), num_layers=2, temperature=0.7, delta=0.5, scale=0.6),
}


def binary_planar(
    loc: Tensor, u: Tensor, w: Tensor, b: Tensor, temperature: Any, **settings: Any
) -> igr.BinaryInvertibleGaussian:
    """The planar form as a function of the tensors of its one layer, [*B] each."""
    tensors = (u.unsqueeze(-1), w.unsqueeze(-1), b)
    transform = igr.PlanarTransform.from_tensors(*tensors)
    return igr.BinaryInvertibleGaussian(loc, settings.pop("scale", 1.0), temperature, transform, **settings)


def _binary(
    constructor: Callable[..., Any], names: str, batch: tuple[int, ...] = (), **settings: Any
) -> Case:
    """A binary law with standard normal parameters, but for the scale."""
    source = generator(f"{constructor.__name__} {batch}")
    parameters = {name: torch.randn(batch, dtype=torch.float64, generator=source) for name in names.split()}
    if constructor is igr.BinaryInvertibleGaussian and "scale" not in settings:
        parameters["scale"] = 0.3 * 10.0 ** torch.rand(batch, dtype=torch.float64, generator=source)
    return _case(constructor, parameters, settings)


BINARY: dict[str, Case] = {
    "concrete": _binary(igr.BinaryConcrete, "logits", temperature=0.5),
    "concrete-batch2-temperatures": _binary(
        igr.BinaryConcrete, "logits", (2, 3), temperature=tensor(0.2, 0.5, 2.0)
    ),
    "concrete-hot": _binary(igr.BinaryConcrete, "logits", (3,), temperature=10.0),
    "concrete-cold": _binary(igr.BinaryConcrete, "logits", (3,), temperature=1e-3),
    "concrete-probs": Case(igr.BinaryConcrete, {"probs": tensor(0.1, 0.6, 0.3)}, {"temperature": 0.5}),
    "igr": _binary(igr.BinaryInvertibleGaussian, "loc", temperature=0.5),
    "igr-batch2-temperatures": _binary(
        igr.BinaryInvertibleGaussian, "loc", (2, 3), temperature=tensor(0.2, 0.5, 2.0)
    ),
    "igr-float-scale-hot": _binary(igr.BinaryInvertibleGaussian, "loc", (3,), scale=0.8, temperature=10.0),
    "igr-cold": _binary(igr.BinaryInvertibleGaussian, "loc", (3,), temperature=1e-3),
    "igr-falling": _binary(
        igr.BinaryInvertibleGaussian, "loc", (3,), temperature=0.5, transform=AffineTransform(0.3, -2.0)
    ),
    "igr-batched-transform": _binary(
        igr.BinaryInvertibleGaussian,
        "loc",
        (2, 3),
        temperature=0.5,
        transform=AffineTransform(tensor(0.1, 0.2, 0.3), tensor(1.0, -2.0, 3.0)),
    ),
    "igr-sinh": _binary(
        igr.BinaryInvertibleGaussian, "loc", (3,), scale=0.7, temperature=0.9, transform=Sinh()
    ),
    "planar": _binary(binary_planar, "loc u w b", (3,), temperature=0.5),
    "planar-temperatures": _binary(
        binary_planar, "loc u w b", (2, 3), temperature=tensor(0.2, 0.5, 2.0), scale=0.6
    ),
}


def each(
    *,
    where: Callable[[Case], bool] = lambda case: True,
    slow: Callable[[Case], bool] = lambda case: False,
) -> Any:
    """Parametrizes a test over the table, or over the part of it where a condition holds.

    Where another one holds it runs with ``-m slow`` only.
    """
    chosen = [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if slow(case) else [])
        for name, case in CASES.items()
        if where(case)
    ]
    return pytest.mark.parametrize("case", chosen)


def z_score(sample: Tensor, expected: Tensor | float) -> Tensor:
    """How many standard errors the mean over the first dimension lies from what is expected."""
    error = sample.std(0) / len(sample) ** 0.5
    return (sample.mean(0) - expected) / error


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """The p-value of counts in cells; neighbours are pooled until each cell expects five."""
    pooled: list[list[float]] = [[0.0, 0.0]]
    for count, mean in zip(counts.tolist(), expected.tolist(), strict=True):
        if pooled[-1][1] >= 5.0:
            pooled.append([0.0, 0.0])
        pooled[-1][0] += count
        pooled[-1][1] += mean
    if pooled[-1][1] < 5.0:
        last = pooled.pop()
        pooled[-1] = [a + b for a, b in zip(pooled[-1], last, strict=True)]
    if len(pooled) == 1:  # a point mass, or nearly one
        return float(pooled[0][0] == round(pooled[0][1]))
    statistic = sum((count - mean) ** 2 / mean for count, mean in pooled)
    return float(scipy.stats.chi2.sf(statistic, len(pooled) - 1))
