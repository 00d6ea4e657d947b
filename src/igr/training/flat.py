"""A function of tensors as the list of operations that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

Flat = Callable[..., list[Tensor]]

_aten = torch.ops.aten

# What these give depends on the shape of their argument and not on what is in it.
_OF_SHAPE = frozenset(
    {
        _aten.new_full.default,
        _aten.new_ones.default,
        _aten.new_zeros.default,
        _aten.ones_like.default,
        _aten.zeros_like.default,
        _aten.full_like.default,
    }
)

# torch's own functions of these names do the same and are called in half the time.
_QUICK = frozenset(
    {
        *("add", "addcmul", "addmm", "bmm", "div", "exp", "log", "mean", "mm", "mul", "neg"),
        *("select", "sigmoid", "squeeze", "sub", "sum", "t", "tanh", "unsqueeze"),
    }
)

# Shapes that depend on values would be those of the examples, and draws those of a global state.
_REFUSED = (
    torch.Tag.dynamic_output_shape,
    torch.Tag.data_dependent_output,
    torch.Tag.nondeterministic_seeded,
)

# Ways to read numbers that go past the dispatcher, which sees the others.
_READING = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__})


class NotFlat(Exception):
    """A function is no fixed list of operations: what it does depends on the values in a tensor."""


def flattened(function: Flat, *examples: Tensor) -> Flat:
    """The function without the Python and the graph of derivatives that it takes to find its operations.

    What is left is called one operation after the other, gradients included where the function finds any,
    on tensors of the shapes, dtypes and devices of the examples. The operations are those of the function in
    their order, and so are the bits of the results; operations on constants are done once, here.

    Arguments:
        function: Takes tensors and gives a list of tensors, with no other way in: what it depends on is
            either an argument or stays as it is. Arguments may be changed in place.
        examples: An argument each. They are left as they are.

    Returns:
        A function of the same arguments, to be called without gradients.

    Raises:
        NotFlat: Values in a tensor decide what is done, or random numbers are drawn.
    """
    try:
        with _Unread():
            module = make_fx(function)(*(example.detach().clone() for example in examples))
    # Reading a number from a tensor is one of several of torch's errors, according to how it is read.
    except (RuntimeError, TypeError, ValueError) as error:
        raise NotFlat(str(error)) from error
    graph = module.graph
    # Arguments and results are plain sequences, with no trees to take apart and put together.
    graph.set_codegen(fx.graph.CodeGen())
    for node in _operations(graph):
        if any(tag in node.target.tags for tag in _REFUSED):  # type: ignore[union-attr]
            raise NotFlat(f"{node.target} depends on more than the shapes of its arguments")
    _drop_what_does_nothing(graph)
    _fold(module, [example.detach().clone() for example in examples])
    for node in _operations(graph):
        name = node.target._schema.name.removeprefix("aten::")  # type: ignore[union-attr]
        if name in _QUICK:
            node.target = getattr(torch, name)
    graph.lint()
    module.recompile()
    return module.forward


class _Unread(TorchFunctionMode):
    """Refuses to read what is in a tensor."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READING:
            raise NotFlat(f"{func.__name__} reads what is in a tensor")
        return func(*args, **(kwargs or {}))


def _operations(graph: fx.Graph) -> Iterator[fx.Node]:
    return (node for node in list(graph.nodes) if isinstance(node.target, torch._ops.OpOverload))


def _drop_what_does_nothing(graph: fx.Graph) -> None:
    """Without gradients a detached tensor is the tensor; and a matrix transposed twice is itself."""
    for node in _operations(graph):
        source = node.args[0] if node.args else None
        if node.target is _aten.detach.default:
            node.replace_all_uses_with(source)  # type: ignore[arg-type]
        elif node.target is _aten.t.default and source.target is _aten.t.default:  # type: ignore[union-attr]
            node.replace_all_uses_with(source.args[0])  # type: ignore[union-attr, arg-type]
    graph.eliminate_dead_code()


def _fold(module: fx.GraphModule, examples: Sequence[Tensor]) -> None:
    """Puts the results of operations on constants in the place of those."""
    graph = module.graph
    constants: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr" or (
            isinstance(node.target, torch._ops.OpOverload)
            and not node.target._schema.is_mutable
            and (node.target in _OF_SHAPE or constants.issuperset(node.all_input_nodes))
        ):
            constants.add(node)
    constants -= _written(graph, constants)
    values: dict[fx.Node, Any] = {}

    class Values(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n in constants:
                values[n] = value
            return value

    with torch.no_grad():
        Values(module).run(*examples)
    for number, node in enumerate(list(graph.nodes)):
        is_needed = any(user not in constants for user in node.users)
        # Of several results at once the graph names each by an operation of its own.
        if node in values and node.op != "get_attr" and is_needed and isinstance(values[node], Tensor):
            name = f"constant_{number}"
            module.register_buffer(name, values[node], persistent=False)
            with graph.inserting_before(node):
                held = graph.get_attr(name)
            node.replace_all_uses_with(held)
    graph.eliminate_dead_code()


def _written(graph: fx.Graph, constants: set[fx.Node]) -> set[fx.Node]:
    """Those of the constants that may be written to, and what may share their memory.

    What is a result is among them: whoever is given it may do with it as they like.
    """
    found: set[fx.Node] = set()
    for node in graph.nodes:
        is_operation = isinstance(node.target, torch._ops.OpOverload)
        if node.op == "output" or (is_operation and node.target._schema.is_mutable):
            pending = [source for source in node.all_input_nodes if source in constants]
            while pending:
                reached = pending.pop()
                if reached not in found:
                    found.add(reached)
                    pending += [n for n in (*reached.all_input_nodes, *reached.users) if n in constants]
    return found
