"""`l2t ui`: MLflow's pages of the ledger on loopback, and the address that opens a sweep's table of runs."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

from l2t.shipped import sweep_name
from l2t_ray.errors import InputError, say, suggest
from l2t_ray.ledger.address import SERVER_SCHEMES, runs_page, tracking_uri
from l2t_ray.ledger.reader import open_ledger

HOST = "127.0.0.1"
MOST_PORT = 65535


def serve(sweep: str | None, port: int) -> int:
    """Starts MLflow's pages and waits until they are ended.

    Args:
        sweep: name or file whose page is printed; None for the list of all sweeps.
        port: to listen on.

    Returns:
        The exit code.

    Raises:
        InputError: if the ledger has no such sweep, or the port is taken.
    """
    uri = tracking_uri()
    reader, shown = open_ledger()
    ids = {entry.experiment: entry.experiment_id for entry in reader.entries()}
    name = sweep_name(sweep) if sweep else None
    if name is not None and name not in ids:
        raise InputError(f"{shown}: no sweep {name!r}; {suggest(name, ids)}")
    if uri.startswith(SERVER_SCHEMES):
        print(runs_page(shown, ids[name]) if name else shown)
        return 0
    if not 0 < port <= MOST_PORT:
        raise InputError(f"--port must be 1 to {MOST_PORT}, got {port}; choose another")
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"--port must be free, got {port}: {error.strerror}; choose another") from error
    address = f"http://{HOST}:{port}"
    print(runs_page(address, ids[name]) if name else address, flush=True)
    say("MLflow starts in some seconds; Ctrl-C ends it")
    settings = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}  # a password in an argument shows
    command = [sys.executable, "-P", "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, env={**os.environ, **settings}) as server:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, signal.default_int_handler)
        try:
            return 1 if server.wait() else 0
        except KeyboardInterrupt:  # from a terminal the server has got the signal, too
            server.terminate()
            server.wait()
            return 0
