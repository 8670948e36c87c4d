"""What tests of whole launches share: a method that raises, the command line in this process, others' warnings."""

import contextlib
import io

import pytest

OF_RAY = [
    # Ray leaves sockets and pipes of its own processes to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
# mlflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates; ours to wait for, not to change
OF_MLFLOW = [pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")]
BOOM = """
from dataclasses import dataclass
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class Boom(Method):
    def loss(self, extra, batch, options):
        raise ValueError("boom, says the method")

register(Boom("boom", uses=frozenset({"transfer.beta"})))
"""


def call(main, *arguments):
    """Exit code, stdout, stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*arguments])
    return code, out.getvalue(), err.getvalue()
