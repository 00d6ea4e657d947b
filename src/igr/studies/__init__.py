"""Studies: what makes one table or figure. A new one is a module with a ``STUDY`` and its line here."""

import importlib
from typing import Any

from igr.errors import unknown_name
from igr.studies.folder import RUNS
from igr.studies.report import Picture, Report, Table
from igr.studies.run import Machine, Outcome, default_folder, groups_of, run_study, sweep_study
from igr.studies.study import BUDGETS, Findings, Item, Record, Runs, Study, StudyConfig, Work

# Modules rather than studies, so that only the one that is asked for is loaded.
STUDIES = {
    "vae-table": "igr.studies.vae_table",
    "elbo-curves": "igr.studies.elbo_curves",
    "jointvae": "igr.studies.jointvae",
    "posterior-proximity": "igr.studies.posterior_proximity",
    "vanishing-gradients": "igr.studies.vanishing_gradients",
    "discrete-laws": "igr.studies.discrete_laws",
    "simplex-proximity": "igr.studies.simplex_proximity",
    "toy": "igr.studies.toy",
    "estimators-vae": "igr.studies.estimators_vae",
    "sop": "igr.studies.sop",
    "dlgmm": "igr.studies.dlgmm",
}


def study(name: str) -> Study[Any]:
    """The study of that name.

    Raises:
        UserError: There is no such study.
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    found: Study[Any] = importlib.import_module(STUDIES[name]).STUDY
    return found


__all__ = [
    "BUDGETS",
    "RUNS",
    "STUDIES",
    "Findings",
    "Item",
    "Machine",
    "Outcome",
    "Picture",
    "Record",
    "Report",
    "Runs",
    "Study",
    "StudyConfig",
    "Table",
    "Work",
    "default_folder",
    "groups_of",
    "run_study",
    "study",
    "sweep_study",
]
