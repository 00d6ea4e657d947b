"""REBAR and RELAX: the score-function estimator with a control variate that is coupled to its sample."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from igr.estimators.coupling import Coupling, coupled
from igr.estimators.estimator import Estimator, Function, Surrogate, mean_surrogate
from igr.estimators.laws import Law
from igr.kernels import simplex
from igr.kernels.tracing import is_traced
from igr.validation import check_temperature, check_values, whole_number

Parameters = dict[str, Tensor]


class _Controlled(Estimator):
    """The score-function estimator with a coupled control variate."""

    unbiased = True
    conditional_noise = "coupled"

    def __init__(self) -> None:
        super().__init__()
        # Parameters of terms that the control variate does not have.
        self._absent: set[str] = set()

    def _prepare(self, vertices: Tensor) -> None:
        """Makes what is made at the first call, for points [S, *B, V, K]."""

    @abstractmethod
    def _control(self, function: Function, scores: Tensor, parameters: Parameters) -> Tensor:
        """c with shape [S, *B], of scores [S, *B, V, K] and the parameters of the module by name."""

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        coupling = coupled(type(self).__name__, law.relaxation, noise)
        dtype = law.relaxation.dtype
        self._prepare(coupling.hard)
        values = function(coupling.hard.to(dtype))
        if not torch.is_grad_enabled():
            return mean_surrogate(values)
        reward = values.detach()
        parameters: Parameters = dict(self.named_parameters())
        # What tracers hand in for a parameter does not say whether it is trained.
        trained = [
            name
            for name, parameter in parameters.items()
            if name not in self._absent and (is_traced() or parameter.requires_grad)
        ]
        asked = _Asked(function, dtype)

        def control(scores: Tensor, parameters: Parameters) -> Tensor:
            return self._control(asked, scores, parameters)

        found = _by_transforms if is_traced() else _by_autograd
        gradients, square, slopes = found(control, coupling, reward, parameters, trained)
        if asked.points > asked.slopes:
            raise ValueError(
                f"{type(self).__name__}: expected a function with a gradient inside the simplex; got values "
                "that have none there; use RELAX(coefficient=None) or ScoreFunction, which need none."
            )
        loss = values.mean(0)
        for parameter, gradient in zip(coupling.parameters, gradients, strict=True):
            step = parameter - parameter.detach()
            loss = loss + (step * gradient.detach().mean(0)).sum((-2, -1))
        control_loss = None
        if trained:
            # Linear in the parameters of the estimator, so that its gradient reaches them alone: the square
            # also depends on those of the user's function, which are none of its business.
            control_loss = square.detach()
            for name, slope in slopes.items():
                parameter = parameters[name]
                control_loss = control_loss + (slope.detach() * (parameter - parameter.detach())).sum()
        loss = loss.to(values.dtype)
        return Surrogate(loss.detach(), loss, control_loss)


class _Asked:
    """The user's function inside the simplex, which has to have a gradient there to be a control variate.

    Attributes:
        points: How often it was asked in eager code; a tracer's points have no hooks.
        slopes: How often a gradient came back to them.
    """

    def __init__(self, function: Function, dtype: torch.dtype) -> None:
        self._function, self._dtype = function, dtype
        self.points = self.slopes = 0

    def __call__(self, points: Tensor) -> Tensor:
        if not is_traced():
            self.points += 1
            points.register_hook(self._came_back)  # type: ignore[no-untyped-call]
        return self._function(points.to(self._dtype))

    def _came_back(self, slope: Tensor) -> None:
        self.slopes += 1


Control = Callable[[Tensor, Parameters], Tensor]
# The gradients of each sample, the mean of their squares, and its slopes in the trained parameters.
Found = tuple[tuple[Tensor, ...], Tensor, Parameters]


def _mean_square(gradients: tuple[Tensor, ...], reward: Tensor) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum() / reward.numel()


def _by_autograd(
    control: Control, coupling: Coupling, reward: Tensor, parameters: Parameters, trained: list[str]
) -> Found:
    with torch.enable_grad():
        scores = coupling.scores.requires_grad_()
        values = control(scores, parameters)
        (slope,) = torch.autograd.grad(
            values.sum(), scores, create_graph=bool(trained), allow_unused=True, materialize_grads=True
        )
        gradients = coupling.gradients(reward - values, slope)
        square = _mean_square(gradients, reward)
        if not trained:
            return gradients, square, {}
        wanted = [parameters[name] for name in trained]
        slopes = torch.autograd.grad(square, wanted, allow_unused=True, materialize_grads=True)
    return gradients, square, dict(zip(trained, slopes, strict=True))


def _by_transforms(
    control: Control, coupling: Coupling, reward: Tensor, parameters: Parameters, trained: list[str]
) -> Found:
    """The same by the transforms of ``torch.func``, which tracers can follow and nest."""

    def squared(chosen: Parameters) -> tuple[Tensor, tuple[tuple[Tensor, ...], Tensor]]:
        everything = {**parameters, **chosen}
        values, pull = cast(Any, torch.func.vjp(lambda scores: control(scores, everything), coupling.scores))
        (slope,) = pull(torch.ones_like(values))
        gradients = coupling.gradients(reward - values, slope)
        square = _mean_square(gradients, reward)
        return square, (gradients, square)

    chosen = {name: parameters[name] for name in trained}
    if not trained:
        _, (gradients, square) = squared(chosen)
        return gradients, square, {}
    slopes, (gradients, square) = cast(Any, torch.func.grad(squared, has_aux=True)(chosen))
    return gradients, square, slopes


class REBAR(_Controlled):
    r"""REBAR: the relaxed function, coupled to the discrete sample, as control variate.

    .. math::
        c(s) = \eta f(\mathrm{softmax}(s / \tau)) + b, \quad
        g = (f(d) - c(\tilde s)) \nabla \log p(d) + \nabla c(s) - \nabla c(\tilde s)

    with s the numbers whose largest marks d (perturbed logits of Gumbel-Softmax, the Gaussian vector of IGR-I
    and its threshold), and :math:`\tilde s` the same numbers as a draw of their law given d. Here
    :math:`\tilde s` equals s and only its gradient differs; for IGR-I that is the implicit gradient of its
    conditional distribution functions. Unbiased whatever :math:`\eta`, :math:`\tau` and b are; they are
    parameters of the module, to be trained on ``control_loss``. The constant b is not in the paper: where f
    is nearly constant, what a relaxation of it follows is small beside the constant itself, which
    :math:`\eta f` cannot stand for. The function meets points inside the simplex as well.

    A gradient of ``control_loss`` takes all parameters of the law, also those that are not trained, such as
    a fixed scale.

    For Gumbel-Softmax, Bernoulli and IGR-I laws, whose own temperature has a part in it only as far as in the
    discrete law of IGR-I (through the threshold, where delta is not one). The function has to be
    differentiable inside the simplex.

    Cost: two evaluations of the function for each sample and its gradient at the relaxed one (and that
    differentiated once more, where a parameter of the module is trained).

    Arguments:
        temperature: :math:`\tau`, where its training starts.
        coefficient: :math:`\eta`, likewise.
        baseline: b, likewise; ``None`` for no such term, as in the paper.

    Attributes:
        log_temperature: :math:`\log \tau`.
        coefficient: :math:`\eta`.
        baseline: b.

    Raises:
        ValueError: for a temperature that is not positive and finite, or another number that is not finite.

    References:
        | REBAR: Low-Variance, Unbiased Gradient Estimates for Discrete Latent Variable Models
          (Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, 2017), section 3 and appendix C
        | Implicit Reparameterization Gradients (Figurnov, Mohamed and Mnih, 2018), equation 5, for IGR-I

    Example:
        >>> logits = torch.zeros(3, 4, requires_grad=True)
        >>> estimator = REBAR()
        >>> law = torch.distributions.OneHotCategorical(logits=logits)
        >>> weights = torch.arange(4.0)
        >>> found = estimator(lambda d: (d @ weights).square().sum(-1), law, num_samples=8)
        >>> found.loss.backward()
        >>> found.control_loss.backward()
        >>> logits.grad.shape, estimator.coefficient.grad.shape
        (torch.Size([3, 4]), torch.Size([]))
    """

    def __init__(
        self, temperature: float = 0.5, coefficient: float = 1.0, baseline: float | None = 0.0
    ) -> None:
        super().__init__()
        check_temperature(type(self).__name__, "temperature", temperature, torch.float32)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.coefficient = self._term("coefficient", coefficient)
        self.baseline = self._term("baseline", baseline)

    def _term(self, name: str, value: float | None) -> nn.Parameter:
        """A number to be trained, or zero for good where there is no such term."""
        if value is None:
            self._absent.add(name)
            return nn.Parameter(torch.tensor(0.0), requires_grad=False)
        check_values(type(self).__name__, name, value)
        return nn.Parameter(torch.tensor(float(value)))

    def learned(self) -> dict[str, float]:
        """Temperature, coefficient and baseline, those that there are."""
        found = {
            "temperature": math.exp(self.log_temperature.item()),
            "coefficient": self.coefficient.item(),
            "baseline": self.baseline.item(),
        }
        return {name: value for name, value in found.items() if name not in self._absent}

    def _control(self, function: Function, scores: Tensor, parameters: Parameters) -> Tensor:
        answer = function(_relaxed(scores, parameters))
        return parameters["coefficient"] * answer + parameters["baseline"]


def _relaxed(scores: Tensor, parameters: Parameters) -> Tensor:
    return simplex.softmax(scores / torch.exp(parameters["log_temperature"].to(scores.dtype)))


class _LazyLinear(nn.LazyLinear):
    """A layer that takes what comes first, and draws its weights then."""

    # A number and not the generator, which cannot be copied or pickled with the module.
    seed: int | None = None

    def reset_parameters(self) -> None:
        # Called once before there are any weights, and again when there are.
        if not self.has_uninitialized_params() and self.in_features:
            generator = None if self.seed is None else Generator().manual_seed(self.seed)
            _initialize(self, generator)


def _layer(num_inputs: int, num_outputs: int, generator: Generator | None) -> nn.Linear:
    """A layer that was made on no device, since torch would draw its weights from the global generator."""
    layer = nn.Linear(num_inputs, num_outputs, device="meta").to_empty(device="cpu")
    _initialize(layer, generator)
    return layer


def _lazy_layer(num_outputs: int, generator: Generator | None) -> nn.Linear:
    layer = _LazyLinear(num_outputs)
    if generator is not None:
        layer.seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return layer


def _initialize(layer: nn.Linear, generator: Generator | None = None) -> None:
    # Drawn where the generator is, which may be another device than that of the weights.
    device = layer.weight.device if generator is None else generator.device
    weight = torch.empty_like(layer.weight, device=device)
    nn.init.xavier_uniform_(weight, generator=generator)
    with torch.no_grad():
        layer.weight.copy_(weight)
    nn.init.zeros_(layer.bias)


class ControlNetwork(nn.Module):
    """The free-form control variate of the paper: one hidden layer of ReLU units over all variables.

    Glorot uniform weights and zero biases.

    Arguments:
        hidden: The number of units.
        num_inputs: :math:`V K`; where it is ``None`` the weights are made at the first call.
        generator: The source of randomness of the weights; torch's default one if ``None``.

    Shapes:
        Points :math:`(*, V, K)` to numbers :math:`(*)`.

    Raises:
        TypeError: for a number of units that is no int.
        ValueError: for fewer than one unit, or points of another number of variables and categories.
    """

    def __init__(
        self, hidden: int = 50, num_inputs: int | None = None, generator: Generator | None = None
    ) -> None:
        super().__init__()
        hidden = whole_number(type(self).__name__, "hidden", hidden, 1)
        layers: list[nn.Linear]
        if num_inputs is None:
            layers = [_lazy_layer(hidden, generator), _lazy_layer(1, generator)]
        else:
            layers = [_layer(num_inputs, hidden, generator), _layer(hidden, 1, generator)]
        self.layers = nn.Sequential(layers[0], nn.ReLU(), layers[1])

    def forward(self, points: Tensor) -> Tensor:
        """The numbers of points.

        Shapes:
            Points :math:`(*, V, K)`, result :math:`(*)`.

        Raises:
            ValueError: for points of another number of variables and categories.
        """
        inputs = (2.0 * points - 1.0).flatten(-2)
        expected = cast(nn.Linear, self.layers[0]).in_features
        # Zero before the first call.
        if expected not in (0, inputs.shape[-1]):
            raise ValueError(
                f"{type(self).__name__}: expected points whose variables times categories are {expected}, as "
                f"they were at the first call or as num_inputs says; got shape {tuple(points.shape)}; make "
                "another network for them."
            )
        found: Tensor = self.layers(inputs)
        return found.squeeze(-1)


class RELAX(REBAR):
    r"""RELAX: REBAR with a learned function added to the control variate.

    .. math:: c(s) = \eta f(z) + b + \alpha\, r(z), \quad z = \mathrm{softmax}(s / \tau)

    with a network r; :math:`\alpha` starts at zero, so that RELAX starts as REBAR (at one where there is no
    other term). Unbiased whatever the parameters are; they are trained on ``control_loss``. With
    ``coefficient=None`` the function is never asked inside the simplex and needs no gradient (the paper's
    form for black boxes).

    Cost: that of :class:`REBAR` and the network; with ``coefficient=None`` one evaluation of the function.

    Arguments:
        control: r, a module that maps points :math:`(S, *B, V, K)` to numbers :math:`(S, *B)`, those of a
            Bernoulli law as two categories; :class:`ControlNetwork` if ``None``, whose parameters are made at
            the first call, so make that before an optimizer.
        temperature: :math:`\tau`, where its training starts.
        coefficient: :math:`\eta`, likewise; ``None`` for no such term.
        baseline: b, likewise; ``None`` for no such term.

    Raises:
        ValueError: for a temperature that is not positive and finite, or another number that is not finite.

    References:
        Backpropagation through the Void: Optimizing Control Variates for Black-Box Gradient Estimation
        (Grathwohl, Choi, Wu, Roeder and Duvenaud, 2018), section 3 and appendix D
    """

    def __init__(
        self,
        control: nn.Module | None = None,
        temperature: float = 0.5,
        coefficient: float | None = 1.0,
        baseline: float | None = 0.0,
    ) -> None:
        super().__init__(temperature, 0.0, baseline)
        self.coefficient = self._term("coefficient", coefficient)
        self.control = ControlNetwork() if control is None else control
        # One without the function would have no gradient at zero.
        self.control_scale = nn.Parameter(torch.tensor(1.0 if coefficient is None else 0.0))

    @property
    def asks_function(self) -> bool:
        """Whether the function is asked inside the simplex."""
        return "coefficient" not in self._absent

    def _prepare(self, vertices: Tensor) -> None:
        if torch.compiler.is_compiling():
            # Which does not know parameters that are not there yet, and says so.
            return
        lazy = [parameter for parameter in self.parameters() if is_lazy(parameter)]
        if not lazy:
            return
        if is_traced():
            raise ValueError(
                f"{type(self).__name__}: expected a network with parameters under torch.func or a tracer; "
                "got one that makes them at its first call; call the estimator once before, or give "
                "control=ControlNetwork(num_inputs=V * K)."
            )
        # Also where no gradient is asked for, so that a dry run makes them; in inference mode as well, unless
        # the module was made in it.
        with torch.inference_mode(self.log_temperature.is_inference()), torch.no_grad():
            size = vertices.shape[-2:]
            self.control(torch.zeros(1, *size, dtype=lazy[0].dtype, device=lazy[0].device))

    def _control(self, function: Function, scores: Tensor, parameters: Parameters) -> Tensor:
        own = {
            name.removeprefix("control."): value
            for name, value in parameters.items()
            if name.startswith("control.")
        }
        points = _relaxed(scores, parameters)
        if own:
            points = points.to(next(iter(own.values())).dtype)
        answer: Tensor = torch.func.functional_call(self.control, own, (points,)).to(scores.dtype)
        learned = parameters["control_scale"] * answer
        if not self.asks_function:
            return learned + parameters["baseline"]
        return learned + super()._control(function, scores, parameters)
