"""Whatever is in a file: it is read or refused in one sentence, soon, in little memory; nothing is run."""

import ast
import gzip
import hashlib
import io
import json
import os
import pickle
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import igr
from guarded import Findings, pickled_trap, read_each
from igr import atomic
from igr.data import cache, celeba_archive, celeba_worker, unfinished
from igr.data.idx import IdxContent, read_idx
from igr.data.mnist import MNIST
from igr.data.omniglot import DRAWERS, OMNIGLOT, read_zip, shrunk
from igr.errors import UserError
from igr.evaluation.compared_runs import read_runs, runs_to_csv
from igr.evaluation.evaluation import stored_evaluation
from igr.fitting import Fit, fit, priors, uniform_prior
from igr.pretrained import from_pretrained, save_pretrained
from igr.sweeps import grid, group, read_slurm_settings, record
from igr.sweeps.job import EvaluationSettings
from igr.sweeps.ledger import LEDGER, Ledger
from igr.sweeps.slurm_task import read_endings
from igr.training import checkpoints
from igr.training.build import build_latent
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.sop_config import SOPConfig
from mutations import (
    deflated_zeros,
    hostile_value,
    mutated_bytes,
    mutated_gzip,
    mutated_json,
    mutated_lines,
    mutated_safetensors,
    mutated_zip,
    zipped,
)
from real_data import REAL_DATA
from run_folders import evaluation, write_run
from small_celeba import celeba_files, face, jpeg
from small_images import idx_bytes
from tiny_runs import TINY
from written_runs import write_run_of

QUICK, MANY = 60, 2_000
# Of readers that take a while where all goes well.
FEWER = {"grid": (40, 2_000), "run": (20, 2_000), "prior": (40, 2_000), "kept prior": (20, 400)}


@dataclass(frozen=True)
class Reader:
    """What is read, and what is made of it.

    Arguments:
        right: A file as it should be.
        make: A file made to break the reader.
        read: Reads a file.
        refusals: The errors that it may give.
    """

    right: bytes
    make: Callable[[Random], bytes]
    read: Callable[[bytes], object]
    refusals: tuple[type[BaseException], ...] = (UserError,)


def written(path: Path) -> Callable[[bytes], Path]:
    """Writes a file to a path."""

    def write(data: bytes) -> Path:
        path.write_bytes(data)
        return path

    return write


# The formats of data sets.

IMAGES = np.random.default_rng(1).integers(0, 256, (50, 28, 28), dtype=np.uint8)


def idx_of(images: np.ndarray) -> tuple[bytes, IdxContent]:
    data = idx_bytes(images)
    return data, IdxContent(images.shape, zlib.crc32(data), hashlib.sha256(data).hexdigest())


def idx_reader(folder: Path, data: bytes, content: IdxContent) -> Reader:
    forged = struct.pack("<II", content.crc32, content.num_bytes)
    write = written(folder / "file")

    def make(random: Random) -> bytes:
        if random.random() < 0.3:
            return mutated_bytes(random, data)
        return mutated_gzip(random, data, forged)

    def read(file: bytes) -> None:
        for items in read_idx(write(file), content):
            assert items.shape[1:] == content.shape[1:]

    return Reader(data, make, read)


def idx(folder: Path) -> Reader:
    return idx_reader(folder, *idx_of(IMAGES))


def trusted_idx(folder: Path) -> Reader:
    """As if whatever is in the file had the checksums of what should be there."""
    data, content = idx_of(IMAGES)
    write = written(folder / "file")

    def make(random: Random) -> bytes:
        return (
            gzip.compress(mutated_bytes(random, data))
            if random.random() < 0.8
            else mutated_bytes(random, data)
        )

    def read(file: bytes) -> None:
        plain = gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file
        fooled = replace(content, crc32=zlib.crc32(plain), sha256=hashlib.sha256(plain).hexdigest())
        found = np.concatenate(list(read_idx(write(file), fooled)))
        assert found.tobytes() == plain[len(content.header) :]

    return Reader(data, make, read)


def published_idx(folder: Path) -> Reader:
    """Labels of MNIST as they are published."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the files of MNIST in {REAL_DATA} (IGR_TEST_DATA)")
    part = MNIST.parts[3]
    data = gzip.decompress((REAL_DATA / "mnist" / part.names[0]).read_bytes())
    return idx_reader(folder, data, part.content)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(buffer, format="PNG")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def mutated_png(random: Random, image: bytes) -> bytes:
    """Another PNG, in two of three cases with right checksums, so that its content is looked at."""
    size = random.choice((1, 105, 5_000, 60_000, 2**31 - 1))
    header = struct.pack(
        ">IIBBBBB", random.choice((105, size)), size, *random.choices((0, 1, 2, 3, 4, 8, 16), k=5)
    )
    packed = b"\x78\xda" + deflated_zeros(random.choice((1, 30))) + bytes(4)
    extra = random.choice(
        (b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"eXIf", b"gAMA")
    )
    start, rest = image[:8], image[8:]
    return random.choice(
        (
            lambda: mutated_bytes(random, image),
            lambda: start + chunk(b"IHDR", header) + rest[25:],
            lambda: start + rest[:25] + chunk(extra, b"a\0\0\0\0\0" + packed) + rest[25:],
            lambda: start + rest[:25] + chunk(extra, random.randbytes(random.choice((0, 1, 30)))) + rest[25:],
            lambda: start + rest[:25] + chunk(b"IDAT", packed) + chunk(b"IEND", b""),
            lambda: start + rest[:25] + chunk(b"IDAT", mutated_bytes(random, zlib.compress(bytes(2_000)))),
            lambda: png(np.zeros((random.choice((1, 104, 3_000)), 105), np.uint8)),
            lambda: jpeg(Image.new("L", (105, 105))),
        )
    )()


DRAWINGS = (np.random.default_rng(3).random((2 * DRAWERS, 105, 105)) > 0.1).astype(np.uint8) * np.uint8(255)


def omniglot(folder: Path) -> Reader:
    """Archives of two alphabets, as if each were the published one."""
    part = replace(OMNIGLOT.parts[0], alphabets={"Alpha": 1, "Beta": 1})
    names = [
        f"images_background/{alphabet}/character0{character}/{drawer:02d}.png"
        for alphabet, character in (("Alpha", 1), ("Beta", 1))
        for drawer in range(DRAWERS)
    ]
    files = {name: png(pixels) for name, pixels in zip(names, DRAWINGS, strict=True)}
    write = written(folder / "images.zip")

    def read(file: bytes) -> None:
        fooled = replace(part, archive=replace(part.archive, md5=hashlib.md5(file).hexdigest()))
        for drawings in read_zip(write(file), fooled):
            assert shrunk(drawings).shape[1:] == (28, 28)

    return Reader(zipped(files), lambda random: mutated_zip(random, files, mutated_png), read)


def omniglot_idx(folder: Path) -> Reader:
    return idx_reader(folder, *idx_of(DRAWINGS[:1]))


def mutated_jpeg(random: Random, image: bytes) -> bytes:
    """Another JPEG file: damaged, of another form, or one that takes long to decode."""

    def segment(marker: int) -> bytes:
        data = random.choice(
            (b"Exif\0\0" + random.randbytes(200), b"MPF\0" + random.randbytes(60), b"x" * 65_000)
        )
        return image[:2] + struct.pack(">BBH", 255, marker, len(data) + 2) + data + image[2:]

    def many_scans() -> bytes:
        whole = jpeg(Image.new("RGB", (178, 218)), progressive=True)
        last = whole[whole.rindex(b"\xff\xda") : -2]
        return whole[:-2] + last * (250_000 // len(last) - 1) + whole[-2:]

    def of_size() -> bytes:
        data = bytearray(image)
        numbers = random.choice((178, 0, 65_535)), random.choice((218, 1, 65_535))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, *numbers)
        return bytes(data)

    return random.choice(
        (
            lambda: mutated_bytes(random, image),
            lambda: mutated_bytes(random, image),
            lambda: segment(random.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE))),
            of_size,
            many_scans,
            lambda: jpeg(face(1).convert(random.choice(("L", "CMYK")))),
            lambda: png(DRAWINGS[0]),
        )
    )()


def celeba(folder: Path) -> Reader:
    """An archive of six images, read as the processes read it that prepare them."""
    files = celeba_files(6)
    write = written(folder / celeba_archive.NAME)

    def read(file: bytes) -> None:
        path = write(file)
        entries = celeba_archive.inspect(path, len(files))
        with path.open("rb") as archive:
            assert celeba_worker.small_faces(archive, entries).shape == (6, 3, 64, 64)

    refusals = (UserError, celeba_worker.Unusable)
    return Reader(zipped(files), lambda random: mutated_zip(random, files, mutated_jpeg), read, refusals)


# What is kept of data sets.


def kept(folder: Path) -> Reader:
    """The file in the cache, opened and, if that goes well, verified."""
    cache.folder().mkdir(exist_ok=True)
    images = torch.from_numpy(IMAGES).unsqueeze(1)
    cache.write("small", images, torch.arange(50) % 10, [cache.Stamp("/somewhere/file", 12, 34)])
    data = cache.path_of("small").read_bytes()
    write = written(cache.path_of("small"))

    def read(file: bytes) -> None:
        write(file)
        found = cache.read("small", (1, 28, 28), 50, 10)
        # Every byte, from the disk.
        assert found.images.float().mean() >= 0
        assert found.labels.shape == (50,)
        verified = cache.verify("small", (1, 28, 28), 50, 10)
        assert torch.equal(verified.images, images)

    return Reader(data, lambda random: mutated_safetensors(random, data), read)


def half_prepared(folder: Path) -> Reader:
    """The record of what is finished of a set."""
    cache.folder().mkdir(exist_ok=True)
    made_of = {"num_bytes": 5, "decoder": ["1", "2"]}

    def open_() -> unfinished.Unfinished:
        return unfinished.Unfinished("small", (1, 28, 28), 50, 8, made_of)

    with open_() as images:
        for piece in range(3):
            images.put(piece, IMAGES[8 * piece : 8 * piece + 8].tobytes())
    value = json.loads(unfinished.record_of("small").read_text())
    write = written(unfinished.record_of("small"))

    def read(file: bytes) -> None:
        write(file)
        assert unfinished.pieces_of("small") >= 0
        with open_() as images:
            assert 0 <= images.num_done <= 24

    return Reader(json.dumps(value).encode(), lambda random: mutated_json(random, value), read)


# What a run leaves.

CONFIGS = {
    "vae": TINY,
    "jointvae": TrainConfig(
        continuous_dim=2, continuous_capacity=(0.0, 5.0, 100), discrete_capacity=(0.0, 5.0, 100), kl_warmup=3
    ).resolved(),
    "planar": TrainConfig(latent="igr-planar", data_dir="/data", max_images=50).resolved(),
    "sop": SOPConfig().resolved(),
    "dlgmm": DLGMMConfig(latent="dlgmm-igr-truncated").resolved(),
}


def configs(folder: Path) -> Reader:
    values = []
    for name, config in CONFIGS.items():
        run = RunFolder(folder / name)
        with run.locked():
            run.begin(config)
        values.append(json.loads((run.path / "config.json").read_text()))
    run = RunFolder(folder / "vae")
    write = written(run.path / "config.json")

    def read(file: bytes) -> None:
        write(file)
        found = run.config()
        # What is made of a config before anything is trained.
        assert found.run_name
        assert found.described
        assert found.image_shape
        assert found.samples_per_image >= 1
        assert found.to_json()
        found.warnings()
        found.small().resolved()
        run.version_warnings()
        assert type(found).from_json(json.loads(json.dumps(found.to_json()))).resolved() == found

    return Reader(
        json.dumps(values[0]).encode(), lambda random: mutated_json(random, random.choice(values)), read
    )


LINE = {"epoch": 1, "step": 13, "train_bound": -100.5, "validation_bound": None, "kl": "discrete"}


def metrics(folder: Path) -> Reader:
    run = RunFolder(write_run(folder / "run", {}, evaluation([-1.0] * 4), curve=[-120.0, -110.0]))
    lines = [{**LINE, "epoch": epoch, "step": 13 * epoch} for epoch in range(1, 6)]
    write = written(run.path / "metrics.jsonl")

    def read(file: bytes) -> None:
        write(file)
        assert all("step" in line for line in run.metrics())
        (found,) = read_runs([run.path])
        run.rewind(26)
        assert len(found.curve("train_bound")) <= len(found.metrics)

    right = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return Reader(right, lambda random: mutated_lines(random, lines), read)


def results(folder: Path) -> Reader:
    estimate = {"value": 1.0, "standard_error": 0.1}
    run = RunFolder(write_run(folder / "run", {}))
    record = evaluation([-100.0, -101.0, None, -99.0]).to_json() | {
        "by_samples": {"1": estimate, "10": estimate},
        "components": {
            "weights": [0.5, 0.5],
            "num_active": 2,
            "active_per_image": estimate,
            "shares": [0.5, 0.5],
            "shares_per_image": estimate,
            "neighbour_errors": {"3": estimate},
            "num_known": 10,
        },
    }
    value = {
        "training": {"seconds": 1.0, "epochs": 10},
        "evaluation": record,
        "validation_evaluation": record,
    }
    write = written(run.path / "result.json")

    def read(file: bytes) -> None:
        write(file)
        stored_evaluation(run, "validation")
        (found,) = read_runs([run.path])
        if found.evaluation is not None:
            assert found.measured.num_data is not None
        assert runs_to_csv([found])
        run.update_result({"more": 1})

    return Reader(json.dumps(value).encode(), lambda random: mutated_json(random, value), read)


def checkpoint(folder: Path) -> Reader:
    tensors = {
        "model.a.weight": torch.randn(4, 3),
        "model.b": torch.randn(5, dtype=torch.float64),
        "adam.step": torch.zeros(()),
        "epoch.sums": torch.zeros(2, dtype=torch.float64),
    }
    path = checkpoints.write(folder, 12, 3, tensors)
    data = path.read_bytes()
    write = written(path)

    def read(file: bytes) -> None:
        found = checkpoints.read(write(file), tensors)
        assert {name: (of.shape, of.dtype) for name, of in found.tensors.items()} == {
            name: (of.shape, of.dtype) for name, of in tensors.items()
        }
        assert type(found.step) is int
        # Every byte, from the disk.
        assert all(of.clone().shape == of.shape for of in found.tensors.values())
        checkpoints.read(path, {"epoch.sums": tensors["epoch.sums"]})

    return Reader(data, lambda random: mutated_safetensors(random, data), read)


def trained(folder: Path) -> Reader:
    """The folder of a trained run, of which one file is another."""
    pytest.importorskip("sklearn")
    train(TINY, folder / "run")
    run = RunFolder(folder / "run")
    latest = run.latest_checkpoint()
    assert latest is not None
    config, state = run.path / "config.json", latest.read_bytes()
    right, value = config.read_bytes(), json.loads(config.read_bytes())

    def make(random: Random) -> bytes:
        if random.random() < 0.3:
            return b"c" + mutated_json(random, value)
        return b"s" + mutated_safetensors(random, state)

    def read(file: bytes) -> None:
        config.write_bytes(file[1:] if file[:1] == b"c" else right)
        latest.write_bytes(file[1:] if file[:1] == b"s" else state)
        assert load_run(run.path).step == 4

    return Reader(b"s" + state, make, read)


def pretrained(folder: Path) -> Reader:
    """The folder of a model that somebody passed on, of which one file is another."""
    fit([0.2, 0.3, 0.5], "igr").save(folder / "fit.json")
    write_run_of(replace(TINY, prior=str(folder / "fit.json")).resolved(), folder / "run")
    path = save_pretrained(folder / "run", folder / "model")
    right = {name: (path / name).read_bytes() for name in ("config.json", "model.safetensors", "prior.json")}
    values = {name: json.loads(data) for name, data in right.items() if name.endswith(".json")}
    names = sorted(right)

    def make(random: Random) -> bytes:
        place = random.randrange(len(names))
        name = names[place]
        if name in values:
            data = mutated_json(random, values[name])
        else:
            data = mutated_safetensors(random, right[name])
        return bytes([place]) + data

    def read(file: bytes) -> None:
        # A file without the number of its place is another config.
        place = file[0] if file and file[0] < len(names) else 0
        for name, data in right.items():
            (path / name).write_bytes(file[1:] if name == names[place] else data)
        found = from_pretrained(path)
        assert type(found.step) is int
        assert found.sample(2).shape == (2, *found.config.image_shape)

    return Reader(bytes([1]) + right[names[1]], make, read)


# What is fitted, swept and studied.


FAMILIES = ("igr", "gumbel-softmax", "igr-planar", "igr-sb")


def fitted(family: str) -> dict[str, Any]:
    options = {"num_iterations": 3, "num_samples": 100} if family == "igr-planar" else {}
    return fit([0.2, 0.3, 0.5], family, **options).to_json()


def prior(folder: Path) -> Reader:
    """The file of a prior, as training reads it, of several families."""
    values = [fitted(family) for family in FAMILIES]
    write = written(folder / "prior.json")

    def make(random: Random) -> bytes:
        return mutated_json(random, random.choice(values))

    def read(file: bytes) -> None:
        path = write(file)
        refused = 0
        for latent in FAMILIES:
            config = TrainConfig(latent=latent, num_categories=3, num_variables=2, prior=str(path)).resolved()
            try:
                assert build_latent(config).num_outputs >= 4
            except UserError as error:
                refused, last = refused + 1, error
        if refused == len(FAMILIES):
            raise last

    return Reader(json.dumps(values[0]).encode(), make, read)


def fits(folder: Path) -> Reader:
    """The file of a fit, as the library reads it, which has ValueError for what it did not write."""
    values = [fitted(family) for family in FAMILIES]
    write = written(folder / "fit.json")

    def read(file: bytes) -> None:
        found = Fit.load(write(file))
        assert found.num_categories >= 2
        assert repr(found)
        assert (found.total_variation >= 0).all()
        found.distribution(0.5).rsample()

    right = json.dumps(values[0]).encode()
    return Reader(right, lambda random: mutated_json(random, random.choice(values)), read, (ValueError,))


def kept_prior(folder: Path) -> Reader:
    """A prior in the cache, as if whatever is there had the right digest: it is read, or fitted anew."""

    def load() -> None:
        assert uniform_prior(3, "igr-sb").num_categories == 3

    load()
    (path,) = (cache.folder() / "priors").iterdir()
    value = json.loads(path.read_text())
    write = written(path)

    def make(random: Random) -> bytes:
        if random.random() < 0.3:
            return mutated_json(random, value)
        fit = mutated_json(random, value["fit"])
        try:
            other = json.loads(fit)
            return json.dumps({**value, "fit": other, "sha256": priors._digest(other)}).encode()
        except (ValueError, RecursionError):
            return fit

    def read(file: bytes) -> None:
        write(file)
        load()

    return Reader(path.read_bytes(), make, read)


SWEPT = [replace(TINY, temperature=temperature).resolved() for temperature in (0.3, 0.4)]


def sweep(folder: Path) -> Reader:
    groups = [group.Group("igr", tuple(SWEPT), (0, 1)), group.Group("sop", (CONFIGS["sop"],), (0,))]
    record.begin(folder, groups, EvaluationSettings())
    value = json.loads((folder / "sweep.json").read_text())
    write = written(folder / "sweep.json")

    def read(file: bytes) -> None:
        write(file)
        found = record.read_sweep(folder)
        for one in found.groups:
            found.chosen(one)
            for run in one.runs_of(0):
                assert (folder / run.path).resolve().is_relative_to(folder.resolve())
        record.begin(folder, groups, EvaluationSettings())

    return Reader(json.dumps(value).encode(), lambda random: mutated_json(random, value), read)


def grids(folder: Path) -> Reader:
    values: list[Any] = [
        {"latent": ["igr", "gumbel-softmax"], "temperature": [0.2, 0.4], "seed": [0, 1, 2], "epochs": 5},
        [{"latent": "igr-sb", "num_categories": 5}, {"latent": "gaussian", "continuous_dim": [5, 10]}],
        {
            "continuous_dim": 2,
            "continuous_capacity": [[0, 5, 100], [0, 9, 50]],
            "discrete_capacity": [0, 5, 100],
        },
    ]
    write = written(folder / "grid.json")

    def make(random: Random) -> bytes:
        if random.random() < 0.1:
            names = random.sample(
                ("seed", "epochs", "batch_size", "num_variables", "eval_every", "max_images"), 5
            )
            return json.dumps(
                {name: [*range(1, random.choice((3, 30, 1_000, 20_000)))] for name in names}
            ).encode()
        return mutated_json(random, random.choice(values))

    def read(file: bytes) -> None:
        found = grid.expand(grid.read_grid(write(file)))
        assert grid.groups_of(found)

    return Reader(json.dumps(values[0]).encode(), make, read)


ATTEMPTS = {
    "failures": {"igr/a-s0": "expected finite numbers; got a step"},
    "tasks": {"12_0": ["igr/a-s1"], "12_1": ["igr/b-s0", "igr/b-s1"]},
    "last_tasks": {"igr/a-s1": "12_0", "igr/b-s0": "12_1", "igr/b-s1": "12_1"},
}


def attempts(folder: Path) -> Reader:
    """What a sweep notes of failures and tasks, gone on with."""
    write = written(folder / LEDGER)

    def read(file: bytes) -> None:
        write(file)
        ledger = Ledger(folder)
        ledger.ended([*ledger.tasks])
        ledger.failed(Path("igr/a-s0"), "once more")
        assert {*ledger.failures} == {*Ledger(folder).failures}

    return Reader(json.dumps(ATTEMPTS).encode(), lambda random: mutated_json(random, ATTEMPTS), read)


def endings(folder: Path) -> Reader:
    """How the two runs of a task of a cluster ended."""
    value = {
        "endings": [
            {"interrupted": False, "failure": None, "traceback": None},
            {"failure": "it broke", "traceback": "of", "may_pass": True, "was_taken_away": False},
        ]
    }
    write = written(folder / "ending.json")

    def read(file: bytes) -> None:
        for ending in read_endings(write(file), 2) or ():
            assert isinstance(ending.failure, str | None)
            assert all(type(flag) is bool for flag in (ending.interrupted, ending.may_pass))

    return Reader(json.dumps(value).encode(), lambda random: mutated_json(random, value), read)


SETTINGS = b"""partition = "gpu"
time_limit = 120
gpus = 1
memory = "8G"
setup = ["module load cuda", "ulimit -n 4096"]

[options]
nice = 100
mail-type = "FAIL"
exclusive = true
"""


def cluster(folder: Path) -> Reader:
    """What is asked of a cluster, as TOML; what is read is what sbatch can be asked."""
    write = written(folder / "cluster.toml")

    def make(random: Random) -> bytes:
        if random.random() < 0.5:
            return mutated_bytes(random, SETTINGS)
        lines = SETTINGS.decode().splitlines()
        place = random.randrange(len(lines))
        name = lines[place].partition(" = ")[0]
        lines[place] = f"{name} = {json.dumps(hostile_value(random), default=str)}"
        return "\n".join(lines).encode(errors="surrogatepass")

    def read(file: bytes) -> None:
        found = read_slurm_settings(write(file))
        assert not any(
            "\n" in str(value) for value in (found.partition, found.memory, *found.options.values())
        )

    return Reader(SETTINGS, make, read)


def moves(folder: Path) -> Reader:
    """What a process that was killed amid an export was moving; the folder may have come from others."""
    left = folder / f"model/.unfinished-{2**22 + 1}-model"
    left.mkdir(parents=True)
    for path in (left / "config.json", folder / "model/mine"):
        path.touch()
    value = {"README.md": [1, 2, 3], "mine": [4, 0, 5], "../model": [6, 7, 8]}
    write = written(left / ".moves.json")

    def read(file: bytes) -> None:
        write(file)
        assert {*atomic.amid_moves(folder / "model", "config.json")} == set()

    return Reader(json.dumps(value).encode(), lambda random: mutated_json(random, value), read)


READERS = {
    "attempts": attempts,
    "endings": endings,
    "moves": moves,
    "cluster": cluster,
    "idx": idx,
    "trusted idx": trusted_idx,
    "omniglot": omniglot,
    "omniglot idx": omniglot_idx,
    "celeba": celeba,
    "cache": kept,
    "unfinished": half_prepared,
    "config": configs,
    "metrics": metrics,
    "result": results,
    "checkpoint": checkpoint,
    "run": trained,
    "pretrained": pretrained,
    "prior": prior,
    "fit": fits,
    "kept prior": kept_prior,
    "sweep": sweep,
    "grid": grids,
    "published idx": published_idx,
}
# Files of which nothing depends: what is none is made anew.
NEVER_REFUSED = ("unfinished", "kept prior", "moves")


def findings(name: str, folder: Path, numbers: range) -> Findings:
    """What comes of the files of a reader, which are made from their numbers."""
    reader = READERS[name](folder)
    right = read_each(reader.read, [(-1, reader.right)], reader.refusals)
    assert right.counts == {"read": 1}, right
    files = ((number, reader.make(Random(f"{name}/{number}"))) for number in numbers)
    return read_each(reader.read, files, reader.refusals)


def check(name: str, folder: Path, numbers: range) -> None:
    found = findings(name, folder, numbers)
    number, fault = next(iter(found.faults.items()), (None, ""))
    assert not found.faults, f"{len(found.faults)} of {len(numbers)}; number {number} of {name}: {fault}"
    assert sum(found.counts.values()) == len(numbers)
    # Where all were refused at the door, what is behind it would not have been met.
    assert found.counts["refused"] >= len(numbers) // 4 or name in NEVER_REFUSED
    print(f"{name}: {dict(found.counts)}, at most {found.slowest:.2f} s, {found.growth / 1e6:.0f} MB more")


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused_in_one_sentence(tmp_path, name):
    quick, _ = FEWER.get(name, (QUICK, MANY))
    check(name, tmp_path, range(quick))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_mutated_files_are_read_or_refused(tmp_path, name):
    quick, many = FEWER.get(name, (QUICK, MANY))
    check(name, tmp_path, range(quick, quick + many))


# Nothing is executed.


def pickles(folder: Path) -> dict[str, bytes]:
    """Files in forms that some readers unpickle, each of which makes a folder if one does."""
    trap = pickled_trap(folder)
    array = io.BytesIO()
    # An array of objects, as numpy writes it.
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    npy = array.getvalue() + trap
    header = json.dumps({"__metadata__": {"igr": trap.decode("latin-1")}}).encode()
    return {
        "pickle": trap,
        "gzip": gzip.compress(trap),
        "npy": npy,
        "npz": zipped({"images.npy": npy, "labels.npy": npy}),
        "torch": zipped({"archive/data.pkl": trap, "archive/version": b"3"}),
        "safetensors": struct.pack("<Q", len(header)) + header + trap,
    }


@pytest.mark.parametrize("name", READERS)
def test_nothing_in_a_file_is_executed(tmp_path, name):
    folder = tmp_path / "reader"
    folder.mkdir()
    reader, made = READERS[name](folder), tmp_path / "made"
    found = read_each(reader.read, list(enumerate(pickles(made).values())), reader.refusals)
    assert not found.faults
    assert not made.exists()


def test_the_pickles_of_these_tests_would_do_something(tmp_path):
    made = tmp_path / "made"
    for form in ("pickle", "npy"):
        data = io.BytesIO(pickles(made)[form])
        if form == "npy":
            np.load(data, allow_pickle=True)
        else:
            pickle.load(data)
        made.rmdir()


# What would let a file, or what came from one, be run as code or written to a path of its own.
DANGEROUS = {
    "modules": {
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
        "yaml",
        "imp",
        "runpy",
        "code",
    },
    "functions": {"eval", "exec", "compile", "__import__"},
    "methods": {
        "extract",
        "extractall",
        "unpack_archive",
        "system",
        "popen",
        "spawnv",
        "execv",
        "recv",
        "torch.load",
        "np.load",
        "numpy.load",
        "np.fromregex",
        "torch.compile",
    },
    "arguments": {"allow_pickle", "shell"},
}
# Where one of these is meant, and why that is safe.
MEANT = {
    # Jobs and their endings, between processes of one sweep, over a pipe that nobody else can open.
    ("sweeps/workers.py", "recv"),
}


def dangers(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from {name.name.partition(".")[0] for name in node.names} & DANGEROUS["modules"]
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").partition(".")[0]} & DANGEROUS["modules"]
            yield from {name.name for name in node.names} & DANGEROUS["methods"]
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield from {node.func.id} & DANGEROUS["functions"]
            elif isinstance(node.func, ast.Attribute):
                yield from {node.func.attr, ast.unparse(node.func)} & DANGEROUS["methods"]
            yield from {str(keyword.arg) for keyword in node.keywords} & DANGEROUS["arguments"]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml.loader",
        "eval('1')",
        "archive.extractall()",
        "from os import system",
        "import torch; torch.load('x')",
        "np.load('x')",
        "subprocess.run('x', shell=True)",
        "f(allow_pickle=False)",
        "connection.recv()",
    ],
)
def test_a_danger_is_seen(source):
    assert list(dangers(source))


def test_no_module_has_a_way_to_run_what_is_in_a_file():
    root = Path(igr.__file__).parent
    found = {
        (str(path.relative_to(root)), danger)
        for path in root.rglob("*.py")
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert found == MEANT


# What the above would find.


def grown(data: bytes) -> None:
    bytearray(600_000_000)


def grown_unseen(data: bytes) -> None:
    try:
        bytearray(600_000_000)
    except MemoryError:
        raise UserError("expected a small file; got another; take a small one") from None


def waited(data: bytes) -> None:
    source, _ = os.pipe()
    os.read(source, 1)


def counted(data: bytes) -> None:
    while True:
        sum(range(1_000_000))


def crashed(data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refused_at_length(data: bytes) -> None:
    raise UserError("expected less; got " + "x" * 5_000)


def refused_in_lines(data: bytes) -> None:
    raise UserError("expected one line; got\ntwo")


FAULTS = {
    "another error": (lambda data: data[1_000], "IndexError"),
    "memory": (grown, "MemoryError"),
    "memory that is touched": (lambda data: bytes(b"x" * 400_000_000), "the process grew by"),
    "time": (counted, "it took more than"),
    "a wait": (waited, "it took more than"),
    "a crash": (crashed, "SIGKILL"),
    "an end": (lambda data: os._exit(3), "it ended the process with 3"),
    "a long refusal": (refused_at_length, "a refusal of 5,019 characters"),
    "a refusal in lines": (refused_in_lines, "in several lines"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_seen_and_the_files_after_it_are_read(fault, said):
    def read(data: bytes) -> None:
        if data == b"bad":
            fault(data)

    files = [(0, b"good"), (1, b"bad"), (2, b"good")]
    found = read_each(read, files, (UserError,), seconds=0.1, most_bytes=500_000_000)
    if "grew" in said:
        found = read_each(read, files, (UserError,), seconds=5, most_bytes=300_000_000)
    assert list(found.faults) in ([1], [1, 2])
    assert said in found.faults[1]
    assert found.counts["read"] == 2
