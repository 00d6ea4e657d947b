"""`igr data`: what there is, whether it is right, and what it looks like."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from igr.cli import main
from igr.cli.data import _short
from igr.data import SOURCES, cache
from igr.data.unfinished import Unfinished
from small_celeba import small_celeba
from small_images import compressed, small_arrays, small_source, write_files


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small data set of files among the others, and an empty folder to be in."""
    monkeypatch.setitem(SOURCES, "small", small_source())
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_files(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def refused(capsys):
    """Runs a command that has to be refused, and returns the one sentence that it says."""

    def run(*argv: object) -> str:
        assert main([*map(str, argv)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        return err.strip()

    return run


def output(capsys, *argv: object) -> str:
    """What a command that succeeds prints on standard output."""
    assert main([*map(str, argv)]) == 0
    return capsys.readouterr().out


def entry(capsys, name: str, *argv: object) -> dict:
    (found,) = [line for line in json.loads(output(capsys, *argv, "--json")) if line["name"] == name]
    return found


def test_the_table_names_every_data_set(capsys):
    text = " ".join(output(capsys, "data", "list").split())
    assert all(name in text for name in SOURCES)
    assert "1,300 train" in text
    assert "images of 1 x 8 x 8" in text
    assert "23,000 train, 1,345 validation, 8,115 test" in text
    assert "to be downloaded" in text


def test_json_for_scripts(capsys):
    digits = entry(capsys, "digits", "data", "list")
    assert (digits["train"], digits["validation"], digits["test"]) == (1300, 197, 300)
    assert digits["present"] is True


def test_the_list_says_what_is_here_from_where_and_how_large(capsys, data_dir):
    absent = entry(capsys, "small", "data", "list")
    assert (absent["present"], absent["bytes"]) == (False, None)
    assert absent["where"].startswith("to be downloaded from 127.0.0.1, about ")
    files = entry(capsys, "small", "data", "list", "--data-dir", data_dir)
    size = sum(path.stat().st_size for path in (data_dir / "small").iterdir())
    assert (files["present"], files["bytes"]) == (True, size)
    assert files["where"] == str(data_dir / "small")
    assert main(["data", "prepare", "small", "--data-dir", str(data_dir)]) == 0
    capsys.readouterr()
    kept = entry(capsys, "small", "data", "list")
    path = cache.path_of("small")
    assert (kept["present"], kept["bytes"]) == (True, path.stat().st_size)
    assert kept["where"] == f"{path}, made of the files in {data_dir / 'small'}"


def test_prepare_reads_once_and_says_what_it_did(capsys, data_dir):
    (record,) = json.loads(output(capsys, "data", "prepare", "small", "--data-dir", data_dir, "--json"))
    assert (record["train"], record["validation"], record["test"]) == (40, 8, 12)
    assert cache.path_of("small").exists()
    assert main(["data", "prepare", "small", "digits", "--data-dir", str(data_dir)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("small: 40 train, 8 validation, 12 test images, ")
    assert lines[1].startswith("digits: 1,300 train")


def test_check_says_what_was_right(capsys, data_dir):
    assert entry(capsys, "small", "data", "check")["right"] is None
    assert entry(capsys, "small", "data", "check", "small", "--data-dir", data_dir)["right"] is True
    output(capsys, "data", "prepare", "small", "--data-dir", data_dir)
    text = " ".join(output(capsys, "data", "check", "small", "--data-dir", data_dir).split())
    assert "hold 60 images, checksums right" in text
    assert "the cache holds the images of these files" in text


def test_check_finds_a_broken_file_and_still_reports_the_others(capsys, data_dir):
    labels = small_arrays()["train-labels"]
    (data_dir / "small" / "train-labels.gz").write_bytes(compressed(9 - labels))
    assert main(["data", "check", "digits", "small", "--data-dir", str(data_dir)]) == 2
    out, err = capsys.readouterr()
    assert "1,797 images" in out
    assert err.count("\n") == 1
    assert err.startswith("igr data: expected a content with checksum")
    assert main(["data", "check", "small", "--data-dir", str(data_dir), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)[0]["right"] is False


def test_check_of_all_finds_a_broken_cache_and_skips_only_what_is_not_here(capsys):
    cache.folder().mkdir()
    cache.path_of("small").write_bytes(b"nonsense")
    assert main(["data", "check", "--json"]) == 2
    out, err = capsys.readouterr()
    found = {record["name"]: record["right"] for record in json.loads(out)}
    absent = dict.fromkeys(("mnist", "fmnist", "omniglot", "celeba"))
    assert found == {"digits": True, **absent, "small": False}
    assert err.startswith("igr data: expected a whole cache file in the cache ")
    assert err.count("\n") == 1


def test_check_of_all_finds_a_folder_that_lacks_a_file(capsys, data_dir):
    (data_dir / "small" / "test-labels.gz").unlink()
    assert main(["data", "check", "--data-dir", str(data_dir)]) == 2
    assert "expected test-labels.gz or test-labels of small" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "of-another-kind.jpg", "right.png"])
def test_show_writes_a_png_under_whatever_name(capsys, name):
    output(capsys, "data", "show", "digits", "--count", 3, "--out", name)
    assert Path(name).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in Path().iterdir()] == [name]


def test_a_label_keeps_what_tells_it_from_others():
    names = SOURCES["omniglot"].class_names
    short = [_short(name) for name in names]
    assert len(set(short)) == len(names)
    assert max(len(line) for name in short for line in name.split("\n")) <= 22
    assert max(name.count("\n") for name in short) == 1


@pytest.mark.parametrize("name", ["digits", "small"])
def test_show_draws_the_images_of_a_split(capsys, data_dir, name):
    flags = ["--data-dir", data_dir] if name == "small" else []
    record = json.loads(
        output(capsys, "data", "show", name, "--split", "test", "--count", 12, "--json", *flags)
    )
    assert record["path"] == f"{name}-test.png"
    dataset = SOURCES[name].load(data_dir if name == "small" else None)
    assert record["labels"] == [str(label) for label in dataset.test.labels[:12].tolist()]
    assert imread(record["path"]).shape[1] > 1000


def test_show_draws_binary_images_as_a_model_sees_them(capsys, data_dir):
    common = ["data", "show", "small", "--data-dir", data_dir, "--count", 3]
    shades = {}
    for form in ("None", "fixed", "stochastic"):
        output(capsys, *common, "--binarization", form, "--out", f"{form}.png")
        shades[form] = imread(f"{form}.png")
    assert not np.array_equal(shades["fixed"], shades["stochastic"])
    # Between white paper and black ink there is little but the edges of letters.
    grey = {form: ((image[..., 0] > 0.2) & (image[..., 0] < 0.8)).mean() for form, image in shades.items()}
    assert grey["fixed"] < 0.1 * grey["None"]


def test_what_cannot_be_used_is_one_sentence(refused, data_dir, tmp_path):
    for argv, message in (
        (["data"], "expected igr data list or igr data check"),
        (["data", "lsit"], "did you mean list?"),
        (["data", "list", "--jsn"], "did you mean --json?"),
        (["data", "check", "digts"], "did you mean digits?"),
        (["data", "check", "small"], "got no such file; read it once with igr data prepare small"),
        (["data", "check", "--data-dir", tmp_path / "no"], "expected a folder after --data-dir; got"),
        (["data", "list", "--data-dir", "a" * 300], "expected a folder after --data-dir; got"),
        (["data", "check", "small", "--data-dir", tmp_path], "expected train-images.gz or"),
        (["data", "list", "--no-jsn"], "did you mean --json?"),
        (["data", "show", "digits", "--out", tmp_path], "Is a directory"),
        (["data", "prepare"], "expected names of data sets after igr data prepare; got none"),
        (["data", "prepare", "digits", "mnits"], "did you mean mnist?"),
        (["data", "prepare", "small"], "expected train-images.gz of small in"),
        (["data", "show"], "expected the argument NAME; got none"),
        (["data", "show", "digits", "--split", "tset"], "did you mean test?"),
        (
            ["data", "show", "digits", "--count", "0"],
            "whole number from 1 to 1000; got 0",
        ),
        (["data", "show", "digits", "--binarization", "random"], "expected binarization to be one of fixed"),
        (["data", "show", "digits", "--data-dir", data_dir], "expected no data folder for digits"),
        (
            ["data", "show", "digits", "--out", tmp_path / "no" / "a.png"],
            "expected a file that can be",
        ),
    ):
        assert message in refused(*argv)
    assert list(Path().iterdir()) == []


def test_a_small_set_of_files_is_trained_on_by_the_command(capsys, data_dir):
    flags = ["--network", "dense", "--epochs", "1", "--batch-size", "10", "--num-variables", "2"]
    assert main(["train", "--data", "small", "--data-dir", str(data_dir), *flags, "--out", "run"]) == 0
    for path in (data_dir / "small").iterdir():
        path.unlink()
    # Its files are gone, but what they held is verified and in the cache.
    assert main(["evaluate", "run", "--num-eval-samples", "2"]) == 0
    assert main(["train", "--resume", "run"]) == 0
    cache.path_of("small").unlink()
    assert main(["train", "--resume", "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert "or name another folder with --data-dir" in capsys.readouterr().err


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the archive of a few faces, which stand for all of CelebA."""
    monkeypatch.setitem(SOURCES, "celeba", small_celeba(tmp_path / "faces", (4, 2, 3)))
    return tmp_path / "faces"


def test_faces_are_listed_prepared_checked_and_shown(capsys, faces):
    archive = faces / "celeba" / "img_align_celeba.zip"
    absent = entry(capsys, "celeba", "data", "list")
    assert (absent["present"], absent["image_shape"]) == (False, [3, 64, 64])
    assert absent["where"].startswith("to be prepared with igr data prepare celeba --archive img_align_cele")
    assert entry(capsys, "celeba", "data", "list", "--data-dir", faces)["present"] is False
    (record,) = json.loads(
        output(capsys, "data", "prepare", "celeba", "--archive", archive, "--workers", 1, "--json")
    )
    assert (record["train"], record["validation"], record["test"]) == (4, 2, 3)
    assert record["where"] == f"{cache.path_of('celeba')}, made of {archive}"
    for folder in ([], ["--data-dir", faces]):
        assert entry(capsys, "celeba", "data", "list", *folder)["present"] is True
        assert entry(capsys, "celeba", "data", "check", "celeba", *folder)["right"] is True
    assert main(["data", "prepare", "celeba"]) == 0
    assert capsys.readouterr().err.startswith("celeba: 4 train, 2 validation, 3 test images, ")
    shown = json.loads(output(capsys, "data", "show", "celeba", "--split", "test", "--json"))
    assert shown["labels"] == ["face"] * 3
    colours = imread("celeba-test.png")[..., :3]
    assert (np.ptp(colours, axis=-1) > 0.2).mean() > 0.1


def test_an_interrupted_preparation_says_how_to_go_on(capsys, faces, monkeypatch):
    def interrupt(self, piece, pixels):
        raise KeyboardInterrupt

    archive = faces / "celeba" / "img_align_celeba.zip"
    monkeypatch.setattr(Unfinished, "put", interrupt)
    assert main(["data", "prepare", "celeba", "--archive", str(archive), "--workers", "1"]) == 130
    assert capsys.readouterr() == (
        "",
        "igr data: stopped after 0 of 9 images of celeba, which are kept; go on with igr data prepare celeba "
        f"--archive {archive}\n",
    )


def test_an_archive_goes_to_the_set_that_takes_one(refused, faces, tmp_path):
    archive = faces / "celeba" / "img_align_celeba.zip"
    for argv, message in (
        (
            ["prepare", "mnist", "--archive", archive],
            f"expected no --archive for mnist; got {archive}; leave",
        ),
        (["prepare", "celeba", "digits", "--archive", archive], "expected no --archive for digits; got"),
        (["prepare", "digits", "--workers", 2], "expected no --workers for digits; got 2; leave it out, or"),
        (
            ["prepare", "celeba"],
            "prepare them once with igr data prepare celeba --archive img_align_celeba.z",
        ),
        (["prepare", "celeba", "--archive", tmp_path / "no.zip"], "no.zip; got No such file or directory"),
        (["prepare", "celeba", "--archive", "a" * 300], "got File name too long; check the path, or get"),
        (["prepare", "celeba", "--archive", faces], f"at {faces}; got a folder; check the path"),
        (["prepare", "celeba", "--archive", archive, "--workers", 0], "expected 1 or more workers; got 0"),
        (["prepare", "celeba", "--archive", archive, "--data-dir", faces], "got both, "),
        (
            ["prepare", "celeba", "--data-dir", tmp_path],
            f"in {tmp_path}/celeba or {tmp_path}; got no such file",
        ),
        (["show", "celeba"], "prepare them once with igr data prepare celeba"),
        (["check", "celeba"], "prepare them once with igr data prepare celeba"),
    ):
        assert message in refused("data", *argv)
    assert main(["data", "prepare", "celeba", "--data-dir", str(faces), "--workers", "1"]) == 0


def test_training_on_faces_that_are_not_prepared_is_refused(refused, faces):
    for flags in ([], ["--data-dir", faces]):
        message = refused("train", "--data", "celeba", "--likelihood", "normal", "--out", "run", *flags)
        assert "got no such images; prepare them once with igr data prepare celeba --" in message
    assert not cache.is_there("celeba")


def test_help_names_each_command(capsys):
    text = output(capsys, "data", "--help")
    assert all(command in text for command in ("list", "check", "prepare", "show"))
    for command in ("list", "check", "prepare", "show"):
        assert "--data-dir" in output(capsys, "data", command, "--help")


@pytest.mark.parametrize("name", ["mnist", "fmnist", "omniglot"])
def test_real_data_are_checked(real_data, real_cache, monkeypatch, capsys, name):
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    record = entry(capsys, name, "data", "check", name, "--data-dir", real_data)
    assert record["right"] is True
    assert len(record["found"]) == 3
