"""What made a result: the commit of the code and the versions that can change a number."""

import functools
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
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
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def versions(files: Mapping[str, str] | None = None) -> str:
    """Python's and the installed packages' versions, and those of files that no package and no commit holds.

    Args:
        files: a method's own, name to what tells two versions apart (`registry.CODE`).

    Returns:
        A JSON object of name to version.
    """
    return json.dumps({**_installed(), **(files or {})})


@functools.cache
def _installed() -> Mapping[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
