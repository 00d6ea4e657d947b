"""`igr prior`: what it writes, says and refuses."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

import igr.fitting
from igr.cli import main
from igr.fitting import Fit, priors


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refusal(capsys, *argv: object) -> str:
    """The one sentence that is said of bad input; nothing is written."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(["prior", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("igr prior: expected ")
    assert err.count("\n") == 1, err
    assert sorted(Path.cwd().rglob("*")) == before
    return err.strip()


def test_a_prior_goes_from_the_command_to_a_distribution(capsys):
    assert main(["prior", "--family", "igr-sb", "--num-categories", "5"]) == 0
    out, err = capsys.readouterr()
    rows = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.splitlines() if line.strip())
    assert rows["family"] == "igr-sb"
    assert rows["categories"] == "5"
    assert rows["uniform over the first"] == "4"
    assert rows["method"] == "newton"
    assert float(rows["total variation from uniform"]) < 1e-9
    assert float(rows["KL from uniform [nats]"]) < 1e-9
    assert float(rows["time of the fit [s]"]) >= 0
    assert max(map(len, out.splitlines())) <= 80
    # What it says can be typed.
    said = re.fullmatch(r"written: (\S+); in Python: (.*)\n", err)
    assert said is not None
    assert said[1] == "prior-igr-sb-5.json"
    law = eval(said[2], {"igr": igr})
    assert law.temperature == 0.5
    torch.testing.assert_close(law.discrete().probs, torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]))


@pytest.mark.parametrize("family", ["gumbel-softmax", "igr", "igr-sb-log"])
def test_json_for_scripts(capsys, family):
    assert main(["prior", "--family", family, "--num-categories", "3", "--json", "--out", "a b.json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["path"], result["family"], result["num_categories"]) == ("a b.json", family, 3)
    assert (result["uniform_over"], result["num_draws"]) == (3, None)
    assert result["total_variation"] < 1e-9
    found = Fit.load("a b.json")
    assert (found.family, found.method, found.seconds) == (family, result["method"], result["seconds"])
    assert err.startswith("written: 'a b.json'; ")


def test_the_planar_flow_comes_with_its_error_and_from_the_cache(capsys, monkeypatch):
    flags = [
        "prior",
        "--family",
        "igr-planar",
        "--num-categories",
        "3",
        "--num-iterations",
        "3",
        "--seed",
        "7",
    ]
    assert main(flags) == 0
    out, _ = capsys.readouterr()
    text = " ".join(out.split())
    assert "relaxed" in text
    noise = float(re.search(r"estimated from 100,000 draws, .* would be (\S+)\.$", text)[1])
    # Three categories of a third each.
    expected = math.sqrt(0.5 / math.pi) * 3 * math.sqrt(2 / 9 / 100_000)
    assert noise == pytest.approx(expected, rel=0.05)

    def no_fit(*arguments: object, **settings: object) -> Fit:
        raise AssertionError("fitted, though it is in the cache")

    monkeypatch.setattr(priors, "fit", no_fit)
    assert main([*flags, "--out", "again.json"]) == 0
    assert Path("again.json").read_bytes() == Path("prior-igr-planar-3.json").read_bytes()


def test_flags_arrive(capsys):
    assert main(["prior", "--num-categories", "3", "--scale", "2.5"]) == 0
    assert "closed form" in capsys.readouterr().out
    assert Fit.load("prior-igr-3.json").parameters["scale"].tolist() == [2.5, 2.5]


def test_a_file_that_is_there_is_kept_unless_overwritten(capsys):
    assert main(["prior", "--num-categories", "3"]) == 0
    capsys.readouterr()
    before = Path("prior-igr-3.json").read_bytes()
    said = refusal(capsys, "--num-categories", 3, "--scale", 2)
    assert "got prior-igr-3.json" in said
    assert "--overwrite" in said
    assert Path("prior-igr-3.json").read_bytes() == before
    assert main(["prior", "--num-categories", "3", "--scale", "2", "--overwrite"]) == 0
    assert Fit.load("prior-igr-3.json").parameters["scale"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "expected the argument --num-categories; got none; see igr prior --help"),
        (["--num-categories", "few"], "expected --num-categories to be a whole number"),
        (["--num-categories", 1], "num_categories of igr to be a whole number of at least 2; got 1; change"),
        (
            ["--num-categories", 2, "--family", "igr-sb"],
            "num_categories of igr-sb .* at least 3; got 2; change",
        ),
        (["--num-categories", 4, "--family", "igr-sp"], "got 'igr-sp'; did you mean igr-sb?"),
        (
            ["--num-categories", 4, "--scale", 0],
            "scale of igr to be a finite number above 0; got 0.0; change",
        ),
        (["--num-categories", 4, "--scale", "inf"], "scale of igr to be a finite number above 0; got inf"),
        (["--num-categories", 4, "--scale", "nan"], "scale of igr to be a finite number above 0; got nan"),
        (["--num-categories", 4, "--seed", -1], "seed of igr to be a whole number from 0"),
        (
            ["--num-categories", 4, "--family", "igr-planar", "--num-iterations", 0],
            "num_iterations of igr-planar",
        ),
        (["--num-categories", 4, "--num-iterations", 3], "expected no num_iterations for the family igr"),
        (
            ["--num-categories", 4, "--family", "gumbel-softmax", "--scale", 2],
            "expected no scale for the family",
        ),
        (
            ["--num-categories", 3, "--family", "igr-sb", "--scale", 0.001],
            "expected a scale at which the law",
        ),
        (
            ["--num-categories", 4, "--out", "no/prior.json"],
            "a folder that is there; got no/prior.json; make",
        ),
        (["--num-categories", 4, "--out", "."], "expected a file after --out; got the folder .; name a file"),
        (["--num-category", 4], "did you mean --num-categories?"),
    ],
)
def test_input_that_cannot_be_used_is_refused(capsys, flags, said):
    sentence = refusal(capsys, *flags)
    assert re.search(said.replace("?", r"\?"), sentence), sentence
    # No name of a Python function, and no full stop before the shell's prompt.
    assert "uniform_prior" not in sentence
    assert not sentence.endswith(".")


def test_a_folder_that_cannot_be_written_is_refused_and_left_clean(capsys, monkeypatch):
    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said = refusal(capsys, "--num-categories", 4)
    told = "(No space left on device); make room there, or choose another with --out"
    assert said.endswith(f"got prior-igr-4.json {told}")


def test_a_cache_that_cannot_be_written_is_a_line_and_the_file_is_there(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert main(["prior", "--num-categories", "3", "--family", "igr-sb"]) == 0
    _, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith("warning: expected a cache folder that can be written; got ")
    assert second.startswith("written: prior-igr-sb-3.json; ")
    assert Fit.load("prior-igr-sb-3.json").num_categories == 3


def test_help_names_every_family(capsys):
    assert main(["prior", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "igr-planar" in text
    assert main(["--help"]) == 0
    assert "prior" in capsys.readouterr().out
