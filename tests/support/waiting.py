"""Waiting for what a process does, without a guess of how fast the machine is."""

import time

MOST_S = 240.0  # nobody needs it: a test that comes here has failed; below pytest's limit, so that the test says why


def wait_for(holds, *, process=None, told=lambda: "", most_s=MOST_S, pause_s=0.05):
    """Waits until something is true.

    Args:
        holds: asked again and again.
        process: which makes it true; when it has ended, it never will be.
        told: what a failure shows.
        most_s: after which it never will be, too.
        pause_s: between two looks.

    Returns:
        What was true.
    """
    end = time.monotonic() + most_s
    while True:
        over = process is not None and process.poll() is not None  # asked first: it may make it true and end
        if found := holds():
            return found
        assert not over, f"its process has ended: {told()}"
        assert time.monotonic() < end, f"not in {most_s:g} s: {told()}"
        time.sleep(pause_s)
