"""What made a result: the commit of the code and the versions that can change a number."""

import functools
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

PACKAGES = ("l2t-ray", "torch", "torchvision", "ray", "mlflow", "numpy")


@functools.cache
def commit() -> str:
    """The code's git commit, with "-dirty" where files differ from it.

    Returns:
        40 hex digits; empty outside a checkout.
    """
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def versions() -> str:
    """Python's and the installed packages' versions.

    Returns:
        A JSON object of name to version.
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return json.dumps(found)
