"""On a spot machine: asks the cloud every few seconds whether it will be taken, and tells Ray and the trainings.

Ray then places nothing new here, and every training writes a checkpoint after the epoch at hand (`l2t_ray.notice`). AWS
tells two minutes before, Google Cloud half a minute. `node.sh notice` starts it; on a machine of no cloud it ends.
"""

import argparse
import errno
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from l2t_ray.launch.worker.preemption import announce

LOOK_S = 3.0
FIND_S = 60.0  # a service that does not answer in time is asked again so long: a machine that boots is slow
AWS, GCP = "http://169.254.169.254", "http://metadata.google.internal"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns when the machine is about to go, or has no such service.

    Args:
        arguments: of the command line, by default the process'.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aws", default=AWS, help=argparse.SUPPRESS)
    parser.add_argument("--gcp", default=GCP, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    cloud = find([Aws(given.aws), Gcp(given.gcp)])
    if cloud is None:
        print("no cloud's metadata service answers; nobody will take this machine", file=sys.stderr)
        return 0
    import ray  # noqa: F401 (now: it takes seconds, of which there are few later)

    while True:
        end = time.monotonic() + cloud.left_s
        if cloud.is_taken():
            break
        time.sleep(LOOK_S)
    announce()
    print(f"{time.strftime('%FT%TZ', time.gmtime())}: this machine is about to be taken", file=sys.stderr, flush=True)
    return drain(end)


def find(clouds: Sequence["Aws | Gcp"]) -> "Aws | Gcp | None":
    """The cloud of this machine.

    Args:
        clouds: that it may be of.

    Returns:
        The one whose service answers; None where all say no, or are silent for `FIND_S`.
    """
    end = time.monotonic() + FIND_S
    while True:
        said = []
        for cloud in clouds:
            said.append(cloud.answers())
            if said[-1]:
                return cloud
        if None not in said or time.monotonic() > end:
            return None
        time.sleep(LOOK_S)


def drain(end: float) -> int:
    """Has Ray place nothing new on this machine.

    Args:
        end: of the machine, by `time.monotonic`.

    Returns:
        The exit code.
    """
    import ray

    address = address_of_ray()
    if address is None:
        print("no Ray runs here", file=sys.stderr)
        return 0
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        node = ray.get_runtime_context().get_node_id()
    except Exception as error:  # it raises several kinds, and plain ones
        print(f"Ray at {address} must answer, got {error!r}; it may place new trainings here", file=sys.stderr)
        return 1
    command = ["ray", "drain-node", "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "the cloud takes this spot machine"]
    left_s = max(1, int(end - time.monotonic()))
    return subprocess.run([*command, "--deadline-remaining-seconds", str(left_s)], check=False).returncode


def address_of_ray() -> str | None:
    """What `ray start` has left on this machine: `auto` would also take a Ray of somebody else.

    Returns:
        The address of the cluster that this machine is a node of; None where it is none.
    """
    try:
        text = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster").read_text()
    except OSError:
        return None
    return text.strip() or None


class Aws:
    """EC2's metadata service, version 2.

    Args:
        root: its address.
    """

    left_s = 120

    def __init__(self, root: str) -> None:
        self.root = root

    def answers(self) -> bool | None:
        """Whether this is a machine of AWS; None where nobody answered in time."""
        token = self._token()
        return None if token is None else bool(token)

    def is_taken(self) -> bool:
        """Whether AWS has said that it will take the machine."""
        token = self._token()
        action = f"{self.root}/latest/meta-data/spot/instance-action"
        return bool(token and ask(action, {"X-aws-ec2-metadata-token": token}))

    def _token(self) -> str | None:
        return ask(f"{self.root}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")


class Gcp:
    """Google Cloud's metadata service.

    Args:
        root: its address.
    """

    left_s = 30

    def __init__(self, root: str) -> None:
        self.root = root

    def answers(self) -> bool | None:
        """Whether this is a machine of Google Cloud; None where nobody answered in time."""
        text = self._preempted()
        return None if text is None else bool(text)

    def is_taken(self) -> bool:
        """Whether Google Cloud has said that it will take the machine."""
        return self._preempted() == "TRUE"

    def _preempted(self) -> str | None:
        return ask(f"{self.root}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})


def ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The answer of a metadata service.

    Args:
        url: of the question.
        headers: of the request.
        method: of HTTP.

    Returns:
        Its text; empty where there is no such service; None where it did not answer in time, or was not ready.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=2) as answer:
            text: str = answer.read().decode().strip()
            return text
    except urllib.error.HTTPError as error:
        return None if error.code == http.HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500 else ""
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, socket.gaierror):
            return None if reason.errno == socket.EAI_AGAIN else ""
        return "" if isinstance(reason, OSError) and reason.errno == errno.ECONNREFUSED else None


if __name__ == "__main__":
    sys.exit(main())
