"""On a spot machine: asks the cloud every few seconds whether it will be taken, and tells Ray and the trainings.

Ray then places nothing new here, and every training writes a checkpoint after the epoch at hand (`l2t_ray.notice`). AWS
tells two minutes before, Google Cloud half a minute. `node.sh notice` starts it; on a machine of no cloud it ends.
"""

import argparse
import subprocess
import sys
import time
import urllib.error
import urllib.request

from l2t_ray.launch.worker.preemption import announce

LOOK_S = 3.0
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
    cloud = next((cloud for cloud in (Aws(given.aws), Gcp(given.gcp)) if cloud.answers()), None)
    if cloud is None:
        print("no cloud's metadata service answers; nobody will take this machine", file=sys.stderr)
        return 0
    while not cloud.is_taken():
        time.sleep(LOOK_S)
    announce()
    print(f"{time.strftime('%FT%TZ', time.gmtime())}: this machine is about to be taken", file=sys.stderr, flush=True)
    return drain(cloud.left_s)


def drain(left_s: int) -> int:
    """Has Ray place nothing new on this machine.

    Args:
        left_s: until it goes.

    Returns:
        The exit code.
    """
    import ray

    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        print("no Ray runs here", file=sys.stderr)
        return 0
    command = ["ray", "drain-node", "--node-id", ray.get_runtime_context().get_node_id()]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes this spot machine"]
    return subprocess.run([*command, "--deadline-remaining-seconds", str(left_s)], check=False).returncode


class Aws:
    """EC2's metadata service, version 2.

    Args:
        root: its address.
    """

    left_s = 120

    def __init__(self, root: str) -> None:
        self.root = root

    def answers(self) -> bool:
        """Whether this is a machine of AWS."""
        return bool(self._token())

    def is_taken(self) -> bool:
        """Whether AWS has said that it will take the machine."""
        return bool(
            ask(f"{self.root}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token()})
        )

    def _token(self) -> str:
        return ask(f"{self.root}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")


class Gcp:
    """Google Cloud's metadata service.

    Args:
        root: its address.
    """

    left_s = 30

    def __init__(self, root: str) -> None:
        self.root = root

    def answers(self) -> bool:
        """Whether this is a machine of Google Cloud."""
        return bool(self._preempted())

    def is_taken(self) -> bool:
        """Whether Google Cloud has said that it will take the machine."""
        return self._preempted() == "TRUE"

    def _preempted(self) -> str:
        return ask(f"{self.root}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})


def ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    """The answer of a metadata service.

    Args:
        url: of the question.
        headers: of the request.
        method: of HTTP.

    Returns:
        Its text; empty where there is no answer, or 404.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=2) as answer:
            text: str = answer.read().decode().strip()
            return text
    except (urllib.error.URLError, OSError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
