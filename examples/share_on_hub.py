"""Shares a trained model on the Hugging Face Hub, and reads one from there.

    pip install -e ".[interoperability]"
    hf auth login
    python examples/share_on_hub.py upload runs/my-run USER/NAME
    python examples/share_on_hub.py download USER/NAME

The folder that igr.pretrained writes is what the Hub expects: config.json, model.safetensors and README.md.
Nothing in it can run code, so a model of somebody else can be read without trust.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any, Self

from huggingface_hub import HfApi, ModelHubMixin, snapshot_download

from igr.errors import UserError
from igr.pretrained import Trained, from_pretrained, save_pretrained

# All that is read of a folder.
FILES = ("config.json", "model.safetensors", "prior.json")


def upload(run: str | Path, repo_id: str, api: HfApi | None = None) -> str:
    """Puts a run on the Hub, which has to know the user; returns where it is."""
    api = HfApi() if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(run, Path(temporary) / "model")
        repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def download(repo_id: str, **options: Any) -> Trained[Any, Any]:
    """A model from the Hub; options are those of ``snapshot_download``, for instance ``revision``."""
    return from_pretrained(snapshot_download(repo_id, allow_patterns=list(FILES), **options))


class SharedModel(ModelHubMixin, library_name="igr", tags=["igr"]):
    """The same as a class with from_pretrained, save_pretrained and push_to_hub, as many on the Hub are read.

    Arguments:
        trained: A trained model of igr.
    """

    def __init__(self, trained: Trained[Any, Any]) -> None:
        self.trained = trained

    def _save_pretrained(self, save_directory: Path) -> None:
        save_pretrained(self.trained, save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
        **_: Any,
    ) -> Self:
        if not os.path.isdir(model_id):
            model_id = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=list(FILES),
            )
        return cls(from_pretrained(model_id, device))


def main(argv: list[str] | None = None) -> None:
    """Uploads or downloads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("upload")
    verb.add_argument("run", type=Path)
    verb.add_argument("repo_id", metavar="USER/NAME")
    verb = verbs.add_parser("download")
    verb.add_argument("repo_id", metavar="USER/NAME")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "upload":
            print(f"uploaded: {upload(arguments.run, arguments.repo_id)}")
        else:
            trained = download(arguments.repo_id)
            print(f"{trained.config.run_name}, as of epoch {trained.epoch}: {trained.config.described}")
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
