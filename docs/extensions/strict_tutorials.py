"""What sphinx-gallery calls around each tutorial: every warning in one is an error."""

import warnings
from contextlib import ExitStack

_around = ExitStack()


def strict(_settings: object, _script: str, when: str) -> None:
    _around.close()
    if when == "before":
        _around.enter_context(warnings.catch_warnings(action="error"))
