"""A Ray cluster that somebody else has started: what goes to its workers, and which devices it has or can have."""

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import l2t_ray
from l2t_ray.errors import InputError
from l2t_ray.launch.placement.devices import Group, cluster_fleet, n_cards
from l2t_ray.launch.worker.places import SOCKET_BYTES, home, is_writable, private, temporary

NEVER_ON_WORKERS = frozenset({"analysis", "l2t"})  # a file of that name beside the user does no harm
LOOK_S = 180.0  # for a node's worker to start
CARD_S = 1800.0  # for a machine of the cloud to start, with all that is installed on it
LOOK_AGAIN_S = 1.0
LOOPBACK_S = 10.0  # for an answer of this machine to itself
START_TRIES = 3
SESSION_BYTES = 68  # of /ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store

logger = logging.getLogger(__name__)
ENVIRONMENT = {  # ours unless the user has set them; what is Tune's has no other way to be told
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "240",  # a busy machine needs more than the 30 and 60 s that Ray gives itself
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_AUTH_MODE": "token",  # also on one machine: another user of it could reach the ports
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the default of Ray to come
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a table for every failed trial, however quiet it is asked to be
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths count from the working folder
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results go to the ledger alone
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # told by our progress, with the reason
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is not used: the ledger is
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
}
GIVEN_UP = ("TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR", "RAY_CLIENT_MODE")  # Tune raises an error where they are set


def runtime_environment() -> dict[str, Any]:
    """Ray's runtime environment: workers import the driver's code, whatever is installed on their machines."""
    passed = [name for name in os.environ if name.startswith("RAY_CHDIR")]
    return {
        "py_modules": [str(Path(l2t_ray.__file__).parent)],
        "excludes": ["__pycache__"],
        "env_vars": {name: os.environ[name] for name in passed},
    }


def joined_fleet(say: Callable[[str], None] = lambda line: None) -> list[Group]:
    """Lists the devices of the joined cluster; one worker on each node looks.

    If the cluster has neither a CPU nor a card (its head trains nothing and all other nodes are gone), the autoscaler
    is asked for one card first. Waiting packs make it add more; the cluster's idle timeout removes nodes again.

    Args:
        say: receives a line if there is something to wait for.

    Returns:
        A group for each kind of device.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    _await_card(say)
    seen = {}
    nodes = ray.nodes()
    for node in nodes:
        if not node["Alive"]:
            continue
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        n_gpus = 1 if node["Resources"].get("GPU", 0) >= 1 else 0
        options = {"num_cpus": 0, "num_gpus": n_gpus, "max_calls": 1, "scheduling_strategy": on_node}
        look = ray.remote(**options)(_look)
        seen[node["NodeManagerAddress"]] = look.remote()
    found = {}
    for address, answer in seen.items():
        try:
            found[address] = ray.get(answer, timeout=LOOK_S)
        except ray.exceptions.RayError as error:
            logger.warning("%s: what its devices are cannot be found out: %s", address, error)
    return cluster_fleet(nodes, found)


def _await_card(say: Callable[[str], None]) -> None:
    import ray
    from ray.autoscaler.sdk import request_resources

    def has(kind: str) -> bool:
        return any(node["Resources"].get(kind, 0) >= 1 for node in ray.nodes() if node["Alive"])

    if has("CPU") or has("GPU"):
        return
    say("no machine that can train runs yet; the cluster is asked for one with a card")
    end = time.monotonic() + CARD_S
    request_resources(bundles=[{"GPU": 1}])
    try:
        while not has("GPU"):
            if time.monotonic() > end:
                raise InputError(
                    f"--address must lead to a cluster that has a CPU or a card, or starts one in {CARD_S / 60:.0f} "
                    "minutes, got neither; `ray status` on its head tells why"
                )
            time.sleep(LOOK_AGAIN_S)
    finally:
        request_resources(bundles=[])  # it may go again when it is idle


def _look() -> tuple[str, int]:
    """Runs in a worker: returns its device's name and the device's memory in bytes."""
    import torch

    from l2t_ray.launch.placement.limits import memory_bytes
    from l2t_ray.training.device import device_name

    if torch.cuda.is_available():
        return device_name(), int(torch.cuda.get_device_properties(0).total_memory)
    return device_name(), memory_bytes()


@contextmanager
def cluster(address: str | None, *, n_cores: int) -> Iterator[bool]:
    """Starts Ray on this machine, or joins a cluster; a Ray that this process already uses is used as it is.

    Args:
        address: of a running cluster; None starts one here.
        n_cores: of a cluster started here.

    Yields:
        Whether the cluster was started here, so that its devices are this machine's.

    Raises:
        InputError: if no cluster runs at the address.
    """
    # stdout is for results: Ray prints there what becomes of its processes, however quiet it is asked to be
    with redirect_stdout(sys.stderr), _ray(address, n_cores) as is_ours:
        yield is_ours


@contextmanager
def _ray(address: str | None, n_cores: int) -> Iterator[bool]:
    prepare_environment()
    import ray

    if ray.is_initialized():
        with _terminate_as_interrupt():
            yield False
        return
    refuse_namesakes()
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        try:
            ray.init(address=address, runtime_env=runtime_environment(), **quiet)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"--address must name a running Ray cluster, got {address!r}: {error}") from error
    else:
        _start(n_cores, quiet)
    try:
        close_token()
        with _terminate_as_interrupt():  # now: Ray has put a handler of its own in our place
            yield not address
    finally:
        ray.shutdown()


def _start(n_cores: int, quiet: Mapping[str, Any]) -> None:
    import ray

    reach_itself()
    keep_token()
    place = {"_temp_dir": str(folder)} if (folder := session_folder()) else {}
    for n_left in reversed(range(START_TRIES)):
        try:
            ray.init(address="local", num_cpus=n_cores, num_gpus=n_cards(), include_dashboard=False, **place, **quiet)
        except Exception as error:  # of a busy machine it raises a plain one, after half a minute
            ray.shutdown()
            if not n_left:
                if isinstance(error, OSError) and error.filename:
                    raise
                raise InputError(f"Ray must start on this machine, got {error}; is it busy? Launch again") from error
            logger.warning("Ray does not start, it is tried again: %s", error)
        else:
            return


def reach_itself() -> None:
    """Refuses a machine without a loopback, on which Ray's processes would wait for each other for minutes.

    Raises:
        InputError: with the kernel's reason.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), LOOPBACK_S).close()
    except OSError as error:
        told = error.strerror or str(error)
        raise InputError(f"127.0.0.1: this machine must reach itself, got {told!r}; ip link set lo up") from error


def refuse_namesakes() -> None:
    """Refuses files of the working folder that workers would import in the place of a module: Ray lists it first.

    Raises:
        InputError: with a line for each, such as `numpy.py`.
    """
    here, problems = Path.cwd(), []
    for file in sorted([*here.glob("*.py"), *here.glob("*/__init__.py")]):
        within = file.relative_to(here)
        name = within.parts[0].removesuffix(".py")
        meant = getattr(sys.modules.get(name), "__file__", None)
        if name not in NEVER_ON_WORKERS and meant and Path(meant).resolve() != file.resolve():
            rule = f"must not have the name of a module, because workers would import it in the place of {meant}"
            problems.append(f"{within}: {rule}; rename it")
    if problems:
        raise InputError(problems)


def prepare_environment() -> None:
    """Sets the variables that Ray and Tune read, unless the user has set them, and removes what they refuse."""
    for name in GIVEN_UP:
        os.environ.pop(name, None)
    for name, value in ENVIRONMENT.items():
        if name != "RAY_AUTH_MODE" or "ray" not in sys.modules:  # read when ray is imported; later is too late
            os.environ.setdefault(name, value)


def keep_keys() -> None:
    """Keeps AWS_* keys on this machine: Tune would send them to workers in a runtime environment, which Ray logs."""
    from ray.tune.execution import class_cache

    for name in [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]:
        class_cache.ENV_VARS_TO_PROPAGATE.discard(name)


def session_folder() -> Path | None:
    """Returns a folder for Ray's files where its own choice is too long for sockets or cannot be written; else None."""
    wanted = os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR"))
    with suppress(FileNotFoundError):  # there is none; the refusal tells what to set
        usual = Path(tempfile.gettempdir() if wanted is None else wanted)
        shared = usual / "ray"
        fits = len(os.fsencode(usual)) + SESSION_BYTES <= SOCKET_BYTES
        if fits and is_writable(shared if shared.exists() else usual):
            return None
    return private(temporary(("RAY_TMPDIR", "TMPDIR"), SESSION_BYTES + len("l2t-12345678")))


def keep_token() -> None:
    """Gives Ray a token of this process alone where the home folder has none and takes none."""
    token = _token()
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or os.environ.get("RAY_AUTH_MODE") != "token" or os.access(token, os.R_OK):
        return
    with suppress(OSError):
        if token.is_absolute() and not token.exists():
            token.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=token.parent):
                return
    own = private(temporary()) / "auth_token"
    own.touch(0o600)
    own.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(own)


def close_token() -> None:
    """Makes Ray's token readable by its owner only; `ray.init` leaves it readable by all."""
    with suppress(OSError):  # there is none, or it is somebody else's
        _token().chmod(0o600)


def _token() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM, and the end of the terminal or ssh session, end a launch as Ctrl-C does; not under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if number == signal.SIGTERM or handler == signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
