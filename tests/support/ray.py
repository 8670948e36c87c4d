"""One Ray for the tests of a session: its start takes seconds, and a node that is ending may be found by the next."""

import logging
import sys

KINDS = {"plain": {"num_cpus": 2}, "card": {"num_cpus": 2, "num_gpus": 1}}  # a pretended card
_running = {"kind": ""}


def start(kind):
    """Makes Ray run in this process as it is wanted; it stays for the tests that want the same.

    Args:
        kind: of KINDS.
    """
    if _running["kind"] == kind:
        return
    stop()
    from l2t_ray.launch.cluster import connection

    connection.prepare_environment()
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    for last in (False, False, True):
        try:
            ray.init(address="local", **KINDS[kind], **quiet)
        except Exception:  # of a busy machine Ray raises a plain one, after a time of its own
            ray.shutdown()
            if last:
                raise
        else:
            break
    _running["kind"] = kind


def stop():
    """Ends it, for tests that start one of their own."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()
    _running["kind"] = ""
