"""The configs of all kinds of models, by name."""

from igr.errors import unknown_name
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.run_config import RunConfig
from igr.training.sop_config import SOPConfig

CONFIGS: dict[str, type[RunConfig]] = {one.model: one for one in (TrainConfig, SOPConfig, DLGMMConfig)}
# That of folders and files that do not say: they are older than the others.
DEFAULT = TrainConfig.model


def config_class(model: object) -> type[RunConfig]:
    """The class of the configs of a kind of model.

    Raises:
        UserError: There is no such kind.
    """
    if not isinstance(model, str) or model not in CONFIGS:
        raise unknown_name("model", model, CONFIGS)
    return CONFIGS[model]
