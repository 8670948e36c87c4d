"""Folders that tests read: the project's own, and one with real images, weights and inputs that once failed."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"  # tests that need it skip where it is missing
