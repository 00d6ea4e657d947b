"""Trained models as folders that can be passed on: safetensors and JSON, and what one does with them."""

from igr.pretrained.folder import AnyTrained, from_pretrained, save_pretrained
from igr.pretrained.trained import Trained, TrainedDLGMM, TrainedSOP, TrainedVAE

__all__ = [
    "AnyTrained",
    "Trained",
    "TrainedDLGMM",
    "TrainedSOP",
    "TrainedVAE",
    "from_pretrained",
    "save_pretrained",
]
