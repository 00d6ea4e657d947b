"""One profile for hypothesis; the presence of this file also puts tests/ on the import path, for cases.py."""

from hypothesis import settings

# The same examples on every run, and no limit on the time of one: machines are shared.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
