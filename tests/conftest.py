"""Settings of the test run that every file shares."""

from hypothesis import settings

# the same examples every time, no folder of found ones, and no clock: the machine may be busy
settings.register_profile("here", derandomize=True, database=None, deadline=None)
settings.load_profile("here")
