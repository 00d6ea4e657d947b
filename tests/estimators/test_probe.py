"""The probe finds bias where there is some, and none where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli

from estimator_problems import distribution, exact_gradient, function, parameters
from igr.estimators import (
    REBAR,
    VIMCO,
    Estimator,
    Pathwise,
    ScoreFunction,
    StraightThrough,
    gradient_moments,
    probe,
    probing,
)

OF = function("network", 3)
LAW = distribution("gumbel-softmax", parameters("gumbel-softmax", 3))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_bias_variance_and_reference() -> None:
    found = probe(OF, LAW, [ScoreFunction(), REBAR(), StraightThrough()], 1, 4000, generator=generator())
    score, rebar, biased = found.rows
    assert found.reference == "exact enumeration"
    assert score.worst_z < 5
    assert rebar.worst_z < 5
    assert biased.worst_z > 5
    assert score.relative_bias < 4 * score.relative_error
    assert biased.relative_bias > 0.1
    exact = exact_gradient(OF, "gumbel-softmax", 3)["logits"].flatten()
    # From an independent gradient, the same z.
    z = ((score.mean - exact) / score.standard_error).abs().max()
    assert score.worst_z == pytest.approx(float(z), rel=1e-6)
    assert rebar.variance < score.variance
    assert all(row.seconds > 0 for row in found.rows)
    text = str(found)
    assert "4,000 estimates from 1 sample each, beside exact enumeration" in text
    assert [line.split()[:2] for line in text.splitlines()[3:6]] == [
        ["ScoreFunction", "unbiased"],
        ["REBAR", "unbiased"],
        ["StraightThrough", "biased"],
    ]
    assert len({len(line) for line in text.splitlines()[2:6]}) == 1


def test_an_estimator_that_only_says_that_it_is_unbiased_is_found_out() -> None:
    class Wrong(Estimator):
        unbiased = True

        def _estimate(self, function, law, noise):  # type: ignore[no-untyped-def]
            return ScoreFunction()._estimate(lambda points: 1.2 * function(points), law, noise)

    assert probe(OF, LAW, [Wrong()], 4, 20_000, generator=generator()).rows[0].worst_z > 5


def test_the_bound_of_several_samples_has_a_gradient_of_its_own() -> None:
    law = distribution("igr", parameters("igr", 2))
    found = probe(function("network", 2), law, {"vimco": VIMCO()}, 2, 10_000, generator=generator())
    assert found.rows[0].name == "vimco"
    assert found.rows[0].worst_z < 5
    # The gradient of the plain expectation is another one.
    plain = exact_gradient(function("network", 2), "igr", 2)
    row = found.rows[0]
    exact = torch.cat([slope.flatten() for slope in plain.values()])
    assert ((row.mean - exact) / row.standard_error).abs().max() > 5


def test_too_many_outcomes_are_measured_by_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_OUTCOMES", 20)
    found = probe(OF, LAW, [REBAR(), StraightThrough()], 1, 4000, generator=generator())
    assert "long run" in found.reference
    assert found.rows[0].worst_z < 5 < found.rows[1].worst_z


def test_a_batch_of_laws_and_functions_that_differ_by_datum() -> None:
    targets = torch.tensor([0.1, 0.45, 0.9], dtype=torch.float64)
    law = Bernoulli(logits=torch.zeros(3, 2, dtype=torch.float64))

    def of(b: Tensor) -> Tensor:
        return (b - targets.unsqueeze(-1)).square().sum(-1)

    found = probe(of, law, [ScoreFunction(), REBAR()], 2, 20_000, generator=generator())
    assert all(row.worst_z < 5 for row in found.rows)
    expected = ((1 - targets) ** 2 - targets**2) / 4
    mean = found.rows[1].mean.view(3, 2)
    torch.testing.assert_close(mean, expected.unsqueeze(-1).expand(3, 2), rtol=0.1, atol=0.01)


def test_state_and_mode_are_left_as_they_are() -> None:
    estimator = ScoreFunction("moving_average")
    assert estimator.training
    probe(OF, LAW, [estimator], 1, 100)
    assert estimator.training
    assert float(estimator.weight) == 0.0


def test_a_discrete_law_is_taken() -> None:
    weights = torch.arange(3.0, dtype=torch.float64)
    found = probe(lambda d: (d @ weights).sum(-1), LAW.discrete(), [StraightThrough()], 1, 50)
    assert found.rows[0].relative_bias < 1e-9  # exact, for a linear function


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one estimator"):
        probe(OF, LAW, [])
    with pytest.raises(ValueError, match="ScoreFunction more than once; give a dict"):
        probe(OF, LAW, [ScoreFunction(), ScoreFunction("moving_average")])
    with pytest.raises(ValueError, match="num_gradients"):
        probe(OF, LAW, [ScoreFunction()], num_gradients=1)
    with pytest.raises(ValueError, match="joint outcomes of all samples for VIMCO"):
        probe(OF, LAW, [VIMCO()], 4)
    with pytest.raises(ValueError, match="Pathwise"):
        probe(lambda b: b.sum(-1), Bernoulli(logits=torch.zeros(2)), [Pathwise()])


def test_names_stand_for_estimators() -> None:
    found = probe(OF, LAW, ["reinmax", ScoreFunction()], 1, 100, generator=generator())
    assert [row.name for row in found.rows] == ["reinmax", "ScoreFunction"]
    assert [row.name for row in probe(OF, LAW, "rebar", 1, 100, generator=generator()).rows] == ["rebar"]
    with pytest.raises(ValueError, match="did you mean reinmax"):
        probe(OF, LAW, ["rienmax"])


def test_what_cannot_be_measured_is_refused_before_anything_is() -> None:
    calls = 0

    def counted(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return OF(z)

    with pytest.raises(ValueError, match=r"num_samples for vimco.*at least 2"):
        probe(counted, LAW, ["reinmax", "vimco"], 1)
    with pytest.raises(ValueError, match="each of parameters to be one of logits; got 'loc'"):
        gradient_moments(ScoreFunction(), counted, LAW, parameters=["loc"])
    assert calls == 0
