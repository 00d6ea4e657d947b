"""Bad arguments: each one sentence that names the argument, what was expected and what came."""

import math
import re

import pytest
import torch
from torch.distributions import AffineTransform, SoftmaxTransform, StickBreakingTransform

import igr
from cases import bits, each, gumbel, tensor
from igr import GumbelSoftmax, InvertibleGaussian

LOC, LOGITS = tensor(0.0, 1.0), tensor(0.0, 1.0, 2.0)
IGR, GS = InvertibleGaussian(LOC, 1.0, 0.5), GumbelSoftmax(0.5, logits=LOGITS)

# id: (a call, what the sentence must say after the owner's name, in order)
VALUES = {
    f"{owner}-{argument}-{value}-{form}": (
        lambda build=build, argument=argument, value=value, form=form: build(
            **{argument: torch.tensor(value) if form == "tensor" else value}
        ),
        (f"expected {argument} to be positive and finite", f"got {value}"),
    )
    for owner, build, arguments in (
        ("gs", lambda **a: GumbelSoftmax(**{"logits": LOGITS, **a}), ("temperature",)),
        (
            "igr",
            lambda **a: InvertibleGaussian(**{"loc": LOC, "scale": 1.0, "temperature": 0.5, **a}),
            ("temperature", "scale", "delta"),
        ),
        (
            "from_probs",
            lambda **a: InvertibleGaussian.from_probs(**{"probs": tensor(0.5, 0.5), "temperature": 0.5, **a}),
            ("temperature", "scale", "delta"),
        ),
        (
            "transform",
            lambda **a: igr.SoftmaxPlusPlusTransform(**a),
            ("temperature", "delta"),
        ),
    )
    for argument in arguments
    for value in (0.0, -1.0, math.nan, math.inf)
    for form in ("number", "tensor")
}

REFUSALS = {
    "igr-nan-loc": (
        lambda: InvertibleGaussian(tensor(0.0, math.nan), 1.0, 0.5),
        ("expected loc to be finite", "got nan in 1 of 2 entries"),
    ),
    "igr-inf-loc": (
        lambda: InvertibleGaussian(tensor(math.inf), 1.0, 0.5),
        ("expected loc to be finite", "got inf"),
    ),
    "igr-one-negative-scale": (
        lambda: InvertibleGaussian(LOC, tensor(1.0, -2.0), 0.5),
        ("expected scale to be positive and finite", "got -2.0 in 1 of 2 entries"),
    ),
    "igr-k1": (
        lambda: InvertibleGaussian(torch.zeros(3, 0), 1.0, 0.5),
        ("expected loc with K - 1 >= 1 entries", "got shape (3, 0)"),
    ),
    "igr-scalar-loc": (
        lambda: InvertibleGaussian(torch.tensor(0.0), 1.0, 0.5),
        ("expected loc with K - 1 >= 1", "got shape ()"),
    ),
    "igr-scale-size": (
        lambda: InvertibleGaussian(LOC, torch.ones(3), 0.5),
        ("expected scale with 2 entries", "got shape (3,)"),
    ),
    "igr-batches": (
        lambda: InvertibleGaussian(torch.zeros(2, 2), torch.ones(3, 2), 0.5),
        ("expected shapes that broadcast", "got loc (2,), scale (3,)"),
    ),
    "igr-temperature-batch": (
        lambda: InvertibleGaussian(torch.zeros(2, 2), 1.0, torch.ones(3)),
        ("expected shapes that broadcast", "got loc (2,)", "temperature (3,)"),
    ),
    "igr-delta-batch": (
        lambda: InvertibleGaussian(torch.zeros(2, 2), 1.0, 0.5, delta=torch.ones(3)),
        ("expected shapes that broadcast", "delta (3,)"),
    ),
    "igr-not-bijective": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, transform=SoftmaxTransform()),
        ("expected a bijective transform", "got SoftmaxTransform"),
    ),
    "igr-onto-simplex": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, transform=StickBreakingTransform()),
        ("expected a transform that maps vectors of 2 numbers", "got StickBreakingTransform"),
    ),
    "igr-matrix-transform": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, transform=AffineTransform(0.0, 1.0, event_dim=2)),
        (
            "expected a transform that maps vectors of 2 numbers",
            "got AffineTransform, with event dimensions (2, 2)",
        ),
    ),
    "gs-both": (
        lambda: GumbelSoftmax(0.5, logits=LOGITS, probs=LOGITS),
        ("expected exactly one of logits and probs", "got both"),
    ),
    "gs-neither": (lambda: GumbelSoftmax(0.5), ("expected exactly one of logits and probs", "got neither")),
    "gs-k1": (
        lambda: GumbelSoftmax(0.5, logits=torch.zeros(3, 1)),
        ("expected logits with at least 2 categories", "got shape (3, 1)"),
    ),
    "gs-scalar": (
        lambda: GumbelSoftmax(0.5, logits=torch.tensor(0.0)),
        ("expected logits with at least 2", "got shape ()"),
    ),
    "gs-nan-logits": (
        lambda: GumbelSoftmax(0.5, logits=tensor(0.0, math.nan)),
        ("expected logits to be finite", "got nan"),
    ),
    "gs-negative-probs": (
        lambda: GumbelSoftmax(0.5, probs=tensor(0.5, -0.5)),
        ("expected probs to be at least 0", "got -0.5"),
    ),
    "gs-zero-probs": (
        lambda: GumbelSoftmax(0.5, probs=torch.zeros(2)),
        ("expected probs with a positive sum", "got a row of zeros"),
    ),
    "gs-batches": (
        lambda: GumbelSoftmax(torch.ones(3), logits=torch.zeros(2, 4)),
        ("expected shapes that broadcast", "got logits (2,), temperature (3,)"),
    ),
    "gs-mask-of-all": (
        lambda: GumbelSoftmax(0.5, logits=LOGITS, mask=bits("111")),
        ("expected mask to leave at least one category available", "got all 3 masked"),
    ),
    "gs-mask-of-all-in-a-row": (
        lambda: GumbelSoftmax(0.5, logits=LOGITS, mask=bits("011", "111")),
        ("expected mask to leave at least one category available", "got all 3 masked in 1 of 2 rows"),
    ),
    "gs-mask-size": (
        lambda: GumbelSoftmax(0.5, logits=LOGITS, mask=bits("01")),
        ("expected mask with 3 categories", "got shape (2,)"),
    ),
    "gs-mask-batch": (
        lambda: GumbelSoftmax(0.5, logits=torch.zeros(2, 3), mask=bits("011", "000", "001")),
        ("expected shapes that broadcast", "got logits (2,)", "mask (3,)"),
    ),
    "gs-mask-of-another-logit-than-nan": (
        lambda: GumbelSoftmax(0.5, logits=tensor(0.0, math.nan, math.nan), mask=bits("001")),
        ("expected logits to be finite", "got nan in 1 of 3 entries"),
    ),
    "gs-mask-of-all-probability": (
        lambda: GumbelSoftmax(0.5, probs=tensor(0.0, 1.0), mask=bits("01")),
        ("expected probs with a positive sum", "got a row of zeros"),
    ),
    "igr-mask-of-all": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, mask=bits("111")),
        ("expected mask to leave at least one category available", "got all 3 masked"),
    ),
    "igr-mask-of-the-last": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, mask=bits("010", "001")),
        ("expected a mask of categories 1 to 2 only", "the last carries the reference", "got a mask"),
    ),
    "igr-mask-size": (
        lambda: InvertibleGaussian(LOC, 1.0, 0.5, mask=bits("01")),
        ("expected mask with 3 categories", "got shape (2,)"),
    ),
    "igr-mask-batch": (
        lambda: InvertibleGaussian(torch.zeros(2, 2), 1.0, 0.5, mask=bits("010", "000", "100")),
        ("expected shapes that broadcast", "got loc (2,)", "mask (3,)"),
    ),
    "igr-mask-and-transform": (
        lambda: InvertibleGaussian(
            LOC, 1.0, 0.5, AffineTransform(0.0, 1.0), validate_args=False, mask=bits("010")
        ),
        ("expected no transform beside a mask", "it mixes the coordinates", "got AffineTransform"),
    ),
    "from_probs-zero": (
        lambda: InvertibleGaussian.from_probs(tensor(0.0, 0.4, 0.6), temperature=0.5),
        ("expected probs to be positive", "got 0.0 in 1 of 3 entries"),
    ),
    "from_probs-sum": (
        lambda: InvertibleGaussian.from_probs(tensor(0.1, 0.4), temperature=0.5),
        ("expected probs to sum to 1", "got a sum of 0.5", "divide by the sum"),
    ),
    "from_probs-k1": (
        lambda: InvertibleGaussian.from_probs(tensor(1.0), temperature=0.5),
        ("expected probs with at least 2", "got shape (1,)"),
    ),
    "uniform-k1": (
        lambda: InvertibleGaussian.uniform(1, 0.5),
        ("expected num_categories of at least 2", "got 1"),
    ),
    "noise-shape": (
        lambda: IGR.rsample(noise=torch.zeros(4, 3)),
        ("expected noise of shape (*S, 2), as draw_noise returns it", "got (4, 3)"),
    ),
    "noise-sample-shape": (
        lambda: GS.rsample((5,), noise=torch.zeros(4, 3)),
        ("expected noise of shape (5, 3)", "got (4, 3)"),
    ),
    "noise-scalar": (
        lambda: GS.rsample(noise=torch.tensor(0.0)),
        ("expected noise of shape (*S, 3)", "got ()"),
    ),
    "value-categories": (
        lambda: GS.log_prob(torch.ones(2) / 2),
        ("expected value with 3 categories", "got shape (2,)"),
    ),
    "value-batch": (
        lambda: gumbel(3, (2,), temperature=0.5).law().log_prob(torch.ones(5, 3) / 3),
        ("expected value of a shape that broadcasts against the batch shape (2,)", "got (5, 3)"),
    ),
    "value-off-simplex": (
        lambda: IGR.log_prob(tensor(0.3, 0.3, 0.3)),
        ("expected points of the simplex", "got a value outside it", "log_prob_of_log"),
    ),
    "value-negative": (
        lambda: GS.log_prob(tensor(-0.1, 0.5, 0.6)),
        ("expected points of the simplex", "got a value outside it"),
    ),
    "log-value-categories": (
        lambda: GS.log_prob_of_log(torch.zeros(4)),
        ("expected log_value with 3 categories", "got shape (4,)"),
    ),
    "num-nodes": (lambda: IGR.discrete(num_nodes=2), ("expected num_nodes of at least 3", "got 2")),
    "num-samples": (
        lambda: IGR.discrete("monte_carlo", num_samples=0),
        ("expected num_samples of at least 1", "got 0"),
    ),
    "method": (
        lambda: IGR.discrete("guess"),
        ("expected method to be 'exact' or 'monte_carlo'", "got 'guess'"),
    ),
}


def assert_one_sentence(error, parts):
    text = str(error.value)
    position = 0
    for part in parts:
        assert part in text[position:], text
        position = text.index(part, position) + len(part)
    assert "\n" not in text
    assert text.endswith(".")
    # No second sentence: a full stop that is followed by a space and a capital letter.
    assert not re.search(r"\.\s+[A-Z]", text), text


@pytest.mark.parametrize("name", VALUES)
def test_values_that_must_be_positive_and_finite(name):
    call, parts = VALUES[name]
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert_one_sentence(error, parts)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    call, parts = REFUSALS[name]
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert_one_sentence(error, parts)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (
            lambda: InvertibleGaussian(torch.zeros(3, dtype=torch.int64), 1.0, 0.5),
            ("expected loc of a floating-point dtype", "got torch.int64", "use .float()"),
        ),
        (
            lambda: InvertibleGaussian([0.0, 1.0], 1.0, 0.5),
            ("expected loc to be a tensor", "got list", "torch.tensor"),
        ),
        (
            lambda: GumbelSoftmax(0.5, logits=torch.zeros(3, dtype=torch.int64)),
            ("expected logits of a floating-point dtype", "got torch.int64"),
        ),
        (lambda: GumbelSoftmax(0.5, probs=[0.5, 0.5]), ("expected probs to be a tensor", "got list")),
        (
            lambda: InvertibleGaussian.from_probs([0.5, 0.5], temperature=0.5),
            ("expected probs to be a tensor", "got list"),
        ),
        (
            lambda: InvertibleGaussian(LOC, 1.0, 0.5, transform=torch.exp),
            ("expected transform to be a torch Transform or None", "got"),
        ),
        (
            lambda: GumbelSoftmax(0.5, logits=LOGITS, mask=torch.tensor([0, 1, 0])),
            ("expected mask of dtype torch.bool, True where", "got torch.int64", "use .bool()"),
        ),
        (
            lambda: InvertibleGaussian(LOC, 1.0, 0.5, mask=[False, True, False]),
            ("expected mask to be a tensor", "got list"),
        ),
    ],
    ids=[
        "int-loc",
        "list-loc",
        "int-logits",
        "list-probs",
        "from_probs-list",
        "function-as-transform",
        "int-mask",
        "list-mask",
    ],
)
def test_wrong_types(call, parts):
    with pytest.raises(TypeError, match="expected") as error:
        call()
    assert_one_sentence(error, parts)


def test_no_exact_law_with_a_transform_and_what_to_do():
    law = InvertibleGaussian(LOC, 1.0, 0.5, transform=AffineTransform(0.0, 2.0))
    with pytest.raises(NotImplementedError, match="no exact law is known") as error:
        law.discrete()
    assert_one_sentence(error, ("AffineTransform", "use method='monte_carlo'"))


def test_validate_args_false_reads_no_values():
    bad = {"scale": -1.0, "temperature": -0.5, "validate_args": False}
    assert InvertibleGaussian(tensor(math.nan), **bad).num_categories == 2
    law = GumbelSoftmax(torch.tensor(-1.0), logits=tensor(math.nan, 0.0), validate_args=False)
    assert law.log_prob(tensor(0.5, 0.9)).isnan()
    assert torch.isfinite(GumbelSoftmax(0.5, logits=LOGITS, validate_args=False).log_prob(torch.ones(3)))
    forbidden = GumbelSoftmax(0.5, logits=LOGITS, validate_args=False, mask=bits("111"))
    assert forbidden.discrete().log_probs.tolist() == [-math.inf] * 3


def test_torchs_global_default_decides_where_nothing_is_said():
    default = torch.distributions.Distribution._validate_args
    try:
        torch.distributions.Distribution.set_default_validate_args(False)
        InvertibleGaussian(tensor(math.nan), 1.0, 0.5)
        with pytest.raises(ValueError, match="expected loc to be finite"):
            InvertibleGaussian(tensor(math.nan), 1.0, 0.5, validate_args=True)
    finally:
        torch.distributions.Distribution.set_default_validate_args(default)


@each(slow=lambda case: case.is_cold or len(case.law().batch_shape) != 1)
def test_checks_read_no_values_under_vmap_and_compile(case):
    """There a Python branch on a value is an error of torch; with the checks on, nothing must raise."""
    torch.compiler.reset()
    tensors = {name: torch.stack([value, value]) for name, value in case.tensors().items()}

    def log_prob(tensors):
        law = case.law(**tensors, validate_args=True)
        z = torch.full((law.num_categories,), 1.0 / law.num_categories, dtype=torch.float64)
        return law.log_prob(z)

    mapped = torch.func.vmap(log_prob)(tensors)
    torch.testing.assert_close(mapped[0], log_prob(case.tensors()))
    compiled = torch.compile(log_prob, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(case.tensors()), mapped[0])


def test_simplex_check_allows_for_the_rounding_of_many_categories():
    """Correct float32 and bfloat16 points with 10,000 categories sum to one but for rounding."""
    for dtype in (torch.float32, torch.bfloat16):
        law = gumbel(10_000, temperature=0.5).law(dtype)
        assert torch.isfinite(law.log_prob(law.sample((20,)))).all()
