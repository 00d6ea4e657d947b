"""The house rules of imports: one direction, nothing foreign in the library half, no side effect on torch."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import igr

ROOT = Path(igr.__file__).parent
# Each room imports from the levels before its own; within a level, from one another but not in a circle.
LEVELS = [
    {"kernels"},
    {"errors", "atomic", "validation", "reprs"},
    {"transforms"},
    {"distributions"},
    {"functional", "estimators", "fitting", "diagnostics", "schedules", "ternary"},
    {"progress", "models", "tables", "pyro"},
    {"data", "training", "evaluation"},
    {"sweeps", "pretrained"},
    {"plot", "studies"},
    {"explorer"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
LIBRARY_ENDS = LEVEL["schedules"]
DOORS = {"__init__", "__main__"}  # the public names, and the command


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Every module that a file imports, wherever in the file; `from igr import a` names igr.a."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found += [f"igr.{name.name}" for name in node.names] if module == "igr" else [module]
    return found


def edges() -> Iterator[tuple[Path, str, str]]:
    """Every import of one room from another: the file, its room, the other room."""
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(path)
        for module in imported(path) if room not in DOORS else ():
            target = module.split(".")[1] if module.startswith("igr.") else None
            if target in LEVEL and target != room:
                yield path, room, target


def backward_edges(level: dict[str, int]) -> list[str]:
    return [f"{path} imports {target}" for path, room, target in edges() if level[target] > level[room]]


def test_every_room_has_a_place():
    assert {room_of(path) for path in ROOT.rglob("*.py")} - DOORS <= set(LEVEL)


def test_imports_go_one_way():
    assert backward_edges(LEVEL) == []


def test_no_rooms_import_in_a_circle():
    graph: dict[str, set[str]] = {}
    for _, room, target in edges():
        graph.setdefault(room, set()).add(target)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_order_matters():
    """With the order turned round nearly every import would go backward."""
    reversed_levels = {room: -level for room, level in LEVEL.items()}
    assert len(backward_edges(reversed_levels)) > 20


def test_the_library_half_needs_torch_and_numpy_only():
    foreign = []
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(path)
        if room in DOORS or LEVEL[room] > LIBRARY_ENDS:
            continue
        for module in imported(path):
            top = module.split(".")[0]
            # The kernels for a GPU, which are imported where one runs.
            if top == "triton" and path.name.endswith("_triton.py"):
                continue
            if top not in {"igr", "torch", "numpy"} and top not in sys.stdlib_module_names:
                foreign.append(f"{path.relative_to(ROOT)} imports {module}")
    assert foreign == []


def test_the_door_opens_on_the_library_half_only():
    rooms = {module.split(".")[1] for module in imported(ROOT / "__init__.py") if module.startswith("igr.")}
    assert {LEVEL[room] for room in rooms} <= set(range(LIBRARY_ENDS + 1))


STATE = """
import json, sys
import torch

def state():
    return [
        str(torch.get_default_dtype()),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.distributions.Distribution._validate_args,
        torch.initial_seed(),
        torch.random.get_rng_state().sum().item(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        str(torch.get_default_device()),
    ]

before, modules = state(), set(sys.modules)
import igr
same, loaded = state() == before, sorted(set(sys.modules) - modules)
laws = [igr.GumbelSoftmax(0.5, torch.zeros(3)), igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.5)]
for law in laws:
    law.mean
    law.expand((2, 1)).log_prob(torch.full((4, 1, 3, 3), 1 / 3))
igr.InvertibleGaussian(torch.zeros(2, 1, 2), torch.ones(3, 1), 0.5)
igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.5, igr.LogisticStickBreakingTransform()).discrete()
print(json.dumps({"same": same, "modules": loaded, "compiler": "torch._dynamo" in sys.modules,
                  "symbols": "torch.fx.experimental.symbolic_shapes" in sys.modules}))
"""


@pytest.fixture(scope="module")
def fresh_import():
    result = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_importing_igr_changes_nothing_in_torch(fresh_import):
    assert fresh_import["same"]


@pytest.mark.parametrize(
    "unwanted",
    ["igr.models", "igr.cli", "matplotlib", "sklearn", "scipy", "tyro", "rich", "triton", "torch._dynamo"],
)
def test_importing_igr_does_not_load(unwanted, fresh_import):
    loaded = [name for name in fresh_import["modules"] if name == unwanted or name.startswith(f"{unwanted}.")]
    assert loaded == []


def test_looking_at_laws_does_not_load_the_compiler(fresh_import):
    """Torch's checkpoint does, for a second or more; only laws that are trained need it."""
    assert not fresh_import["compiler"]


def test_shapes_that_broadcast_do_not_load_the_compiler_s(fresh_import):
    """Torch's ``broadcast_shapes`` does, for a third of a second."""
    assert not fresh_import["symbols"]


def test_public_names_are_there_and_documented():
    for name in igr.__all__:
        assert getattr(igr, name).__doc__, name
