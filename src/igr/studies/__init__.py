"""Studies: what makes one table or figure. A new one is a module with a ``STUDY`` and its line here."""

import importlib
from typing import Any

from igr.errors import unknown_name
from igr.studies.report import Picture, Report, Table
from igr.studies.run import Outcome, default_folder, run_study
from igr.studies.study import Item, Record, Study, StudyConfig, Work

# Modules rather than studies, so that only the one that is asked for is loaded.
STUDIES = {
    "discrete-laws": "igr.studies.discrete_laws",
    "simplex-proximity": "igr.studies.simplex_proximity",
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
    "STUDIES",
    "Item",
    "Outcome",
    "Picture",
    "Record",
    "Report",
    "Study",
    "StudyConfig",
    "Table",
    "Work",
    "default_folder",
    "run_study",
    "study",
]
