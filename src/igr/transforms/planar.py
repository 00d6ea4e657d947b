"""Planar flows: transforms whose parameters are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints

from igr.kernels import planar
from igr.transforms.joint import JointTransform
from igr.validation import broadcast_batch, check_float_tensor, compute_dtype, whole_number

_SHIFT_AT_START = 0.1


class _Layer(NamedTuple):
    """The tensors of one layer: u and w with shape (*, K - 1), b with shape (*)."""

    u: Tensor
    w: Tensor
    b: Tensor

    def to(self, dtype: torch.dtype) -> _Layer:
        return _Layer(self.u.to(dtype), self.w.to(dtype), self.b.to(dtype))


class _Planar(JointTransform):
    """Planar layers in a row, whatever holds their tensors."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    # Transform defines equality (which is identity), and so has no hash of its own.
    __hash__ = object.__hash__

    def _layers(self) -> Sequence[_Layer]:
        raise NotImplementedError

    @property
    def _owner(self) -> str:
        return type(self).__name__

    @property
    def num_categories(self) -> int:
        """K, one more than a vector has numbers."""
        return self._layers()[0].u.shape[-1] + 1

    @property
    def batch_shape(self) -> Size:
        """The shape of the batch of maps, ``()`` if all vectors share one.

        Raises:
            ValueError: where u, w and b, which can be replaced, do not broadcast against each other.
        """
        return _batch_shape(self._owner, self._layers())

    def call_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mapped points and the log-determinants, for little more than the price of the points.

        Shapes:
            x and the points :math:`(*, K - 1)`, the log-determinants :math:`(*)`, in nats.

        Raises:
            TypeError: for points that are no floating-point tensor.
            ValueError: for points of another shape.
        """
        self._check_points(x)
        dtype = compute_dtype(x.dtype)
        y, terms = x.to(dtype), []
        for layer in self._layers():
            y, term = planar.forward_and_log_det(y, *layer.to(dtype))
            terms.append(term)
        return y.to(x.dtype), sum(terms[1:], start=terms[0]).to(x.dtype)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The log-determinant from x alone, which is exact.

        Errors are those of :meth:`call_and_log_det`.

        Arguments:
            x: Points, with shape :math:`(*, K - 1)`.
            y: Their images, which nothing is read of.

        Returns:
            Tensor with shape :math:`(*)`, in nats.
        """
        return self.call_and_log_det(x)[1]

    def _call(self, x: Tensor) -> Tensor:
        self._check_points(x)
        dtype = compute_dtype(x.dtype)
        y = x.to(dtype)
        for layer in self._layers():
            y = planar.forward(y, *layer.to(dtype))
        return y.to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        self._check_points(y, broadcast=True)
        dtype = compute_dtype(y.dtype)
        x = y.to(dtype)
        for layer in reversed(self._layers()):
            x = planar.inverse(x, *layer.to(dtype))
        return x.to(y.dtype)

    def with_cache(self, cache_size: int = 1) -> Self:
        """The transform itself, which keeps no point.

        A kept point would not know that the parameters have moved since, nor carry their gradient.
        """
        return self

    def forward_shape(self, shape: Any) -> Size:
        """The shape itself.

        Raises:
            ValueError: unless it ends with K - 1.
        """
        self._check_size("a shape", shape)
        return Size(shape)

    def inverse_shape(self, shape: Any) -> Size:
        """The shape itself; errors are those of :meth:`forward_shape`."""
        return self.forward_shape(shape)

    def _check_size(self, name: str, shape: Any) -> None:
        if len(shape) == 0 or shape[-1] != self.num_categories - 1:
            raise ValueError(
                f"{self._owner}: expected {name} that ends with K - 1 = {self.num_categories - 1}, "
                f"since num_categories={self.num_categories}; got {tuple(shape)}."
            )

    def _check_points(self, x: Tensor, *, broadcast: bool = False) -> None:
        """Raises unless there is a vector for each map of the batch (or, if broadcast, one for several)."""
        check_float_tensor(self._owner, "points", x)
        self._check_size("points of a shape", x.shape)
        leading, batch = x.shape[:-1], self.batch_shape
        common = zip(reversed(leading), reversed(batch), strict=False)
        fits = all(size == maps or maps == 1 or (broadcast and size == 1) for size, maps in common)
        if not fits or (len(leading) < len(batch) and not broadcast):
            shape = ", ".join(map(str, ("*", *batch, x.shape[-1])))
            raise ValueError(
                f"{self._owner}: expected points of shape ({shape}), a vector for each map of the batch; "
                f"got {tuple(x.shape)}; expand the points, or let all variables share one map."
            )


class _GivenPlanar(_Planar):
    """A transform from tensors that belong to others."""

    def __init__(self, owner: str, layers: Sequence[_Layer]) -> None:
        super().__init__()
        self._made_by = owner
        self._given = layers

    @property
    def _owner(self) -> str:
        return self._made_by

    def _layers(self) -> Sequence[_Layer]:
        return self._given

    def __repr__(self) -> str:
        sizes = f"num_categories={self.num_categories}, num_layers={len(self._given)}"
        return f"{self._made_by}.from_tensors({sizes})"


class _PlanarModule(nn.Module, _Planar):
    """Planar layers that are parameters. Calling it runs the hooks of a module, then the map."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        _Planar.__init__(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_inv":
            # No part of the module. Dynamo of torch 2.11 cannot trace how a module takes a weak reference.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # As Transform does, which leaves the inverse out: it refers back, and is made anew when asked for.
        state_of_module: Any = super().__getstate__
        return {**state_of_module(), "_inv": None}

    def forward(self, x: Tensor) -> Tensor:
        """The map; calling the transform runs the hooks of the module too.

        Shapes:
            x and the result :math:`(*, K - 1)`, or :math:`(*, V, K - 1)`.

        Raises:
            TypeError: for points that are no floating-point tensor.
            ValueError: for points of another shape.
        """
        return self._call(x)


class PlanarTransform(_PlanarModule):
    r"""A planar layer, which is trained: points are shifted one way, by how far they lie along another.

    .. math::
        f(x) = x + \hat u \tanh(w \cdot x + b), \quad
        \hat u = u + (\mathrm{softplus}(w \cdot u) - 1 - w \cdot u) \frac{w}{|w|^2}

    It is one to one for all u, w and b, since :math:`w \cdot \hat u = \mathrm{softplus}(w \cdot u) - 1 > -1`.
    With :math:`h = w \cdot x + b` and the slope at the knee :math:`p = 1 + w \cdot \hat u`

    .. math::
        \log|\det| = \log(\tanh^2 h + p \, \mathrm{sech}^2 h)

    and the inverse is :math:`x = y - \hat u \tanh h`, where h solves
    :math:`h + (p - 1) \tanh h = w \cdot y + b`, by Newton's method in a fixed number of steps. Its
    derivatives are those of the implicit function, right to the third order.

    The constraint has no limit as w goes to zero. So :math:`|w|^2` is held at 1e-4 from below where
    :math:`w \cdot u > -0.54` (elsewhere :math:`|w|` is at least :math:`0.54 / |u|`). There p is a mean of
    :math:`\mathrm{softplus}(w \cdot u)` and :math:`1 + w \cdot u`, so that the map stays one to one, and no
    layer is lost: p still takes all positive values.

    The inverse multiplies the rounding of y by as much as 1 / p near the knee, but misses x by no more than a
    few times the cube root of eps. With :math:`|w| = 1`, K = 10 and all else standard normal that is
    (relative to :math:`1 + \max |x|`)

    ============= ===== ===== ===== =====
    w.u           -2    -5    -10   -20
    ============= ===== ===== ===== =====
    float32       3e-6  8e-5  8e-3  2e-2
    beyond 1e-5   0     0.5 % 4 %   5 %
    float64       5e-15 9e-14 1e-11 6e-8
    ============= ===== ===== ===== =====

    at worst among 400,000 points; points that all lie on the knee fare up to twice as badly, and layers
    compound. Such layers are far from the start, and sampling and the density of drawn points never go back.

    It is an ``nn.Module``, with the parameters u, w and b. At the start it is nearly the identity: w is a
    random direction of length one, b is standard normal, and u is such that :math:`\hat u` is about 0.1 long.

    Arguments:
        num_categories: K; the map is one of vectors of K - 1 numbers.
        num_variables: V, for parameters of its own for each variable, whose dimension is the last one of the
            batch; with ``None`` all vectors share one map.
        generator: The source of the initial parameters; torch's default one if ``None``.
        dtype: The dtype of the parameters; torch's default one if ``None``.
        device: The device of the parameters.

    Shapes:
        Domain and codomain :math:`(*, K - 1)`, or :math:`(*, V, K - 1)`; results have the dtype of the
        points. Of the parameters u and w have shape :math:`(K - 1)`, or :math:`(V, K - 1)`, and b has shape
        :math:`()`, or :math:`(V)`.

    Raises:
        ValueError: for fewer than two categories or one variable, and for points of another shape.
        TypeError: for numbers of categories or variables that are no int, and for points that are no
            floating-point tensor.

    References:
        Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015), equations 10 to 12 and
        appendix A.1

    Example:
        >>> transform = PlanarTransform(num_categories=3, generator=torch.Generator().manual_seed(0))
        >>> y = transform(torch.tensor([1.0, -1.0]))
        >>> y.detach(), transform.inv(y).detach()
        (tensor([ 0.9921, -0.9976]), tensor([ 1., -1.]))
    """

    u: Tensor
    w: Tensor
    b: Tensor

    def __init__(
        self,
        num_categories: int,
        num_variables: int | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        _check_counts(type(self).__name__, num_categories, num_variables)
        batch = () if num_variables is None else (num_variables,)
        size = (*batch, num_categories - 1)
        self.u = nn.Parameter(torch.empty(size, dtype=dtype, device=device))
        self.w = nn.Parameter(torch.empty(size, dtype=dtype, device=device))
        self.b = nn.Parameter(torch.empty(batch, dtype=dtype, device=device))
        self.reset_parameters(generator)

    @classmethod
    def from_tensors(cls, u: Tensor, w: Tensor, b: Tensor) -> _Planar:
        r"""The map with the given u, w and b, such as the outputs of a network.

        A torch Transform with all the methods of this class but those of a module, so that it can be built
        inside of what ``torch.compile`` or ``torch.func.vmap`` traces.

        Arguments:
            u: Shape :math:`(*, K - 1)`.
            w: Shape :math:`(*, K - 1)`.
            b: Shape :math:`(*)`.

        Raises:
            ValueError: for shapes that do not fit.
            TypeError: for what is no floating-point tensor.
        """
        _check_tensors(f"{cls.__name__}.from_tensors", u, w, b, stacked=False)
        return _GivenPlanar(cls.__name__, [_Layer(u, w, b)])

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the parameters anew: nearly the identity."""
        size = self.num_categories - 1

        def normal(like: Tensor) -> Tensor:
            device = like.device if generator is None else generator.device
            return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(
                like.device
            )

        with torch.no_grad():
            direction = normal(self.w)
            direction /= torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
            self.w.copy_(direction)
            self.u.copy_(planar.NEUTRAL * direction + _SHIFT_AT_START / size**0.5 * normal(self.u))
            self.b.copy_(normal(self.b))

    def extra_repr(self) -> str:
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        return f"num_categories={self.num_categories}{batch}"

    def _layers(self) -> Sequence[_Layer]:
        return [_Layer(self.u, self.w, self.b)]


class PlanarFlow(_PlanarModule):
    r"""Planar layers, one after the other: a bijection of vectors that is trained.

    .. math::
        f = f_L \circ \dots \circ f_1, \quad
        \log|\det f'(x)| = \sum_l \log|\det f_l'(x_{l-1})|, \quad x_0 = x, \; x_l = f_l(x_{l-1})

    with layers :math:`f_l` as in :class:`PlanarTransform`, which says how they start, how they are inverted,
    and what that loses. It is an ``nn.Module``, so that optimizers and ``state_dict`` see the parameters of
    all layers; they do not see those of modules in a ``torch.distributions.ComposeTransform``.

    Arguments:
        num_categories: K; the map is one of vectors of K - 1 numbers.
        num_layers: L, at least one.
        num_variables: V, for parameters of its own for each variable, whose dimension is the last one of the
            batch; with ``None`` all vectors share one map.
        generator: The source of the initial parameters; torch's default one if ``None``.
        dtype: The dtype of the parameters; torch's default one if ``None``.
        device: The device of the parameters.

    Shapes:
        Domain and codomain :math:`(*, K - 1)`, or :math:`(*, V, K - 1)`; results have the dtype of the
        points.

    Raises:
        ValueError: for fewer than two categories, one layer or one variable, and for points of another shape.
        TypeError: for numbers of categories, layers or variables that are no int, and for points that are no
            floating-point tensor.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015), equations 10 to 13
        | Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 3

    Example:
        >>> flow = PlanarFlow(num_categories=3, num_layers=2, generator=torch.Generator().manual_seed(0))
        >>> y = flow(torch.tensor([1.0, -1.0]))
        >>> y.detach(), flow.inv(y).detach()
        (tensor([ 0.9609, -0.9573]), tensor([ 1., -1.]))
        >>> sum(parameter.numel() for parameter in flow.parameters())
        10
    """

    layers: nn.ModuleList

    def __init__(
        self,
        num_categories: int,
        num_layers: int = 4,
        num_variables: int | None = None,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        _check_counts(type(self).__name__, num_categories, num_variables)
        if whole_number(type(self).__name__, "num_layers", num_layers) < 1:
            raise ValueError(
                f"{type(self).__name__}: expected num_layers of at least 1; got {num_layers}; for no flow, "
                "leave the transform out."
            )
        self.layers = nn.ModuleList(
            PlanarTransform(num_categories, num_variables, generator=generator, dtype=dtype, device=device)
            for _ in range(num_layers)
        )

    @classmethod
    def from_tensors(cls, u: Tensor, w: Tensor, b: Tensor) -> _Planar:
        r"""The flow with the given u, w and b of all layers, such as the outputs of a network.

        A torch Transform with all the methods of this class but those of a module, so that it can be built
        inside of what ``torch.compile`` or ``torch.func.vmap`` traces.

        Arguments:
            u: Shape :math:`(L, *, K - 1)`.
            w: Shape :math:`(L, *, K - 1)`.
            b: Shape :math:`(L, *)`.

        Raises:
            ValueError: for shapes that do not fit.
            TypeError: for what is no floating-point tensor.
        """
        _check_tensors(f"{cls.__name__}.from_tensors", u, w, b, stacked=True)
        layers = [_Layer(*tensors) for tensors in zip(u.unbind(), w.unbind(), b.unbind(), strict=True)]
        return _GivenPlanar(cls.__name__, layers)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the parameters of all layers anew: nearly the identity."""
        for layer in self._parts():
            layer.reset_parameters(generator)

    def _parts(self) -> list[PlanarTransform]:
        return [cast(PlanarTransform, layer) for layer in self.layers]

    def _layers(self) -> Sequence[_Layer]:
        return [_Layer(layer.u, layer.w, layer.b) for layer in self._parts()]

    def _call(self, x: Tensor) -> Tensor:
        self._check_points(x)
        y = x.to(compute_dtype(x.dtype))
        for layer in self.layers:  # called, so that the hooks of each one run
            y = layer(y)
        return y.to(x.dtype)


def _batch_shape(owner: str, layers: Sequence[_Layer]) -> Size:
    shapes: dict[str, Size] = {}
    for index, (u, w, b) in enumerate(layers):
        shapes |= {f"u[{index}]": u.shape[:-1], f"w[{index}]": w.shape[:-1], f"b[{index}]": b.shape}
    return broadcast_batch(owner, **shapes)


def _check_tensors(owner: str, u: Tensor, w: Tensor, b: Tensor, *, stacked: bool) -> None:
    for name, value in (("u", u), ("w", w), ("b", b)):
        check_float_tensor(owner, name, value)
    first = int(stacked)
    flat = u.dim() <= first or w.dim() <= first or b.dim() < first
    if flat or u.shape[-1] < 1 or w.shape[-1] != u.shape[-1]:
        vector, number = ("(L, *, K - 1)", "(L, *)") if stacked else ("(*, K - 1)", "(*)")
        raise ValueError(
            f"{owner}: expected u and w of shape {vector} and b of shape {number}, with K of at least 2; "
            f"got {tuple(u.shape)}, {tuple(w.shape)} and {tuple(b.shape)}."
        )
    if stacked and not (u.shape[0] == w.shape[0] == b.shape[0] > 0):
        raise ValueError(
            f"{owner}: expected u, w and b of the same L layers, at least one; "
            f"got {u.shape[0]}, {w.shape[0]} and {b.shape[0]}."
        )
    broadcast_batch(owner, u=u.shape[first:-1], w=w.shape[first:-1], b=b.shape[first:])


def _check_counts(owner: str, num_categories: int, num_variables: int | None) -> None:
    whole_number(owner, "num_categories", num_categories)
    if num_categories < 2:
        raise ValueError(
            f"{owner}: expected num_categories of at least 2; got {num_categories}; K categories are vectors "
            "of K - 1 numbers."
        )
    if num_variables is not None and whole_number(owner, "num_variables", num_variables) < 1:
        raise ValueError(
            f"{owner}: expected num_variables of at least 1, or None; got {num_variables}; with None all "
            "vectors share one map."
        )
