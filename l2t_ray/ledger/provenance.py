"""What produced a result: the commit of the code, and the versions that can change a number."""

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
    """Returns the code's git commit in 40 hex digits, with "-dirty" where files differ; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def versions(files: Mapping[str, str] | None = None) -> str:
    """Returns the versions of Python, the packages and a method's own files, as a JSON object by name.

    Args:
        files: a method's own, name to a digest of its version (`registry.CODE`).
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
