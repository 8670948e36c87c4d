"""Bytes with something done to them, a command in this process, and what may not happen.

Some hundred inputs are tried in the default tests; `make fuzz` sets L2T_FUZZ to a factor, and takes new ones each time.
"""

import contextlib
import io
import os
import re
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from l2t_ray.errors import LedgerDamagedError, LedgerUnavailableError

FACTOR = int(os.environ.get("L2T_FUZZ", "1"))
TRIED = Counter()

CACHES = (".cache", ".l2t")  # of digests and speeds: written whole, and computed again where they are damaged
ADVICE = (LedgerUnavailableError.advice, LedgerDamagedError.advice)
PLACE = re.compile(r"^(\S.*?): |^(--\w|data\.|execution\.|source\.)")


def inputs(n):
    """Settings of hypothesis for n inputs, times the factor."""
    return settings(
        max_examples=n * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
    )


@st.composite
def damaged(draw, content):
    """The content, cut, with bits flipped, or with a part overwritten, doubled or left out."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "double", "leave out"]))
        start = draw(st.integers(0, max(0, len(changed) - 1)))
        size = draw(st.sampled_from([1, 4, 16, 100, 512, 4096]))
        if kind == "cut":
            del changed[start:]
        elif kind == "flip" and changed:
            changed[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            end = min(start + size, len(changed))
            changed[start:end] = bytes([draw(st.sampled_from([0, 0xFF, 0x20]))]) * (end - start)
        elif kind == "double":
            changed[start:start] = changed[start : start + size]
        else:
            del changed[start : start + size]
    return bytes(changed)


def command(main, *arguments):
    """Exit code, stdout and stderr; an exception passes through and fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def snapshot(folder):
    """Every file's bytes, but for the caches, and SQLite's own journals, which come with every look."""
    return {
        path: path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not any(part in CACHES for part in path.parts)
        if not path.name.endswith(("-wal", "-shm"))
    }


def check_refusal(code, out, err, before, folder):
    """A refusal has exit code 2, a place in every line, nothing on stdout, and leaves every file as it was."""
    assert code == 2, (code, err)
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert lines
    for line in lines:
        assert PLACE.match(line) or line in ADVICE, line
    assert snapshot(folder) == before
