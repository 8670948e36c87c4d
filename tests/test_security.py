"""What SECURITY.md promises: the tests it names exist; nothing foreign is run; planted secrets turn up nowhere."""

import ast
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
import torch

from l2t_ray.config import Data, Source
from l2t_ray.data.load import cache_file, load_data
from l2t_ray.errors import InputError
from l2t_ray.launch.cluster import connection
from l2t_ray.models import load_source
from l2t_ray.training import checkpoint
from tests.support.places import ROOT

PLANTED = ("planted-secret", "planted-in-the-environment")
FOLDERS = ("l2t_ray", "analysis", "benchmarks", "clusters")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


def test_every_test_that_the_table_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 25
    for file, name in named:
        functions = [node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")]
        assert name in functions, f"{file}::{name}"
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    threats = [row for row in rows[2:] if "`tests/" not in row]
    assert threats == [], "a threat without a test"


def calls(path):
    """(dotted name of the function, its keyword arguments, line) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            words = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            yield ast.unparse(node.func), words, node.lineno


def test_nothing_foreign_is_unpickled_evaluated_extracted_or_given_to_a_shell():
    never = (
        "eval",
        "exec",
        "pickle.load",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "joblib.load",
        "os.system",
    )
    pickles = []
    for path in SOURCES:
        for name, words, line in calls(path):
            place = f"{path.relative_to(ROOT)}:{line}: {name}"
            assert name not in never, place
            assert not name.endswith((".extractall", ".extract")), place
            assert words.get("shell") is not True, place
            assert words.get("allow_pickle") is not True, place
            assert words.get("verify") is not False, place
            if name == "torch.load":
                assert words["weights_only"] is True, place
            if name == "pickle.loads":
                pickles.append(str(path.relative_to(ROOT)))
    assert pickles == [
        "l2t_ray/launch/cluster/callback.py"
    ]  # what Tune in this process wrote a moment before: a worker's error


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def evil(tmp_path):
    """A pickle that makes a file where it is read, and that file."""
    marker = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save({"state_dict": Evil(marker)}, buffer)
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()  # it is as evil as it should be
    marker.unlink()
    return buffer.getvalue(), marker


def test_code_in_weights_checkpoints_and_caches_is_not_run(evil, tmp_path, capsys):
    content, marker = evil
    weights = tmp_path / "weights.pt"
    weights.write_bytes(content)
    with pytest.raises(InputError, match="is not a readable file of weights, got more than tensors") as caught:
        load_source(Source(arch="resnet20", weights=str(weights)))
    assert "weights_only" not in str(caught.value)  # torch's advice is to run the code
    state = tmp_path / "run.ckpt"
    checkpoint.save_state(state, {"epoch": 1})
    import hashlib

    state.write_bytes(checkpoint.MAGIC + hashlib.sha256(content).digest() + content)  # its checksum is right
    assert checkpoint.load_state(state) is None
    settings = Data(name="digits", samples_per_class=1)
    cache = cache_file(settings, tmp_path)
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert len(load_data(settings, tmp_path).classes) == 10
    assert "this cache is damaged" in capsys.readouterr().err
    assert not marker.exists()


def test_a_tar_of_endless_members_is_refused(tmp_path, monkeypatch):
    from l2t_ray.data import archive

    monkeypatch.setattr(archive, "MAX_FILES", 10)
    path = tmp_path / "many.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(12):
            tar.addfile(tarfile.TarInfo(f"train/cat/{number}.png"))
    with pytest.raises(InputError, match=r"must have at most 10 files, got more; .*"):
        load_data(Data(name="image_folder", path=str(path), samples_per_class=1), tmp_path)


def test_the_token_is_for_its_owner_alone(tmp_path, monkeypatch):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)  # as Ray makes it
    monkeypatch.setenv("HOME", str(tmp_path))
    connection.close_token()
    assert token.stat().st_mode & 0o777 == 0o600
    token.unlink()
    connection.close_token()  # there is none with another mode of authentication


@pytest.mark.parametrize("name", ["RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE"])
def test_a_launch_sets_what_ray_reads_unless_the_user_has(name, tmp_path):
    code = "import os; from l2t_ray.launch.cluster.connection import prepare_environment; prepare_environment()"
    code += f"; print(os.environ[{name!r}])"

    def told(**settings):
        environment = {key: value for key, value in os.environ.items() if key != name}
        return subprocess.run(
            [sys.executable, "-c", code], env={**environment, **settings}, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert told() == connection.ENVIRONMENT[name]
    assert told(**{name: "as-the-user-says"}) == "as-the-user-says"


def test_mlflow_tells_nobody_that_it_is_used(tmp_path):
    code = """
import os
os.environ.pop("MLFLOW_DISABLE_TELEMETRY", None)
from l2t_ray.ledger.ledger import Ledger
Ledger("quiet")._client
from mlflow.telemetry.utils import is_telemetry_disabled
print(is_telemetry_disabled())
"""
    environment = {key: value for key, value in os.environ.items() if key not in {"MLFLOW_DISABLE_TELEMETRY", "CI"}}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["True"]


SWEEP = """
sweep: tiny
methods: [mine.py]
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 2, batch_size: 16}
  record: {evaluations: 0}
grid:
  - {method: [scratch, boom], seed: [0]}
execution: {retries: 0, checkpoint_s: 0}
"""
BOOM = """
import os
from dataclasses import dataclass
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class Boom(Method):
    def loss(self, extra, batch, options):
        if len(batch.labels) > 2:  # a launch tries two images first
            raise ValueError("cannot reach " + os.environ["MLFLOW_TRACKING_URI"])
        return batch.logits.sum() * 0

register(Boom("boom", uses=frozenset({"transfer.beta"})))
"""


def test_what_a_training_raised_is_told_without_passwords():
    from l2t_ray.launch.worker.train import describe

    told = describe(ValueError("cannot reach postgresql://me:planted-secret@host/db?sslpassword=planted-secret"))
    assert told == "ValueError: cannot reach postgresql://***@host/db?sslpassword=***"


def test_tune_sends_no_key_of_the_environment_to_workers(monkeypatch):
    from ray.tune.execution.class_cache import _ActorClassCache

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED[1])
    connection.keep_keys()
    made = _ActorClassCache().get(type("Trainable", (), {}))
    assert PLANTED[1] not in str(made._default_options)
    assert "PL_DISABLE_FORK" in str(made._default_options)  # what Tune sends, as it would have sent the key


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_planted_secrets_are_in_no_log_table_or_artifact(tmp_path, postgresql):
    """The password of the ledger's address and a key in the environment, through a sweep of which one run fails."""
    import psycopg

    folder, uri = tmp_path / "work", postgresql.database()
    folder.mkdir()
    (folder / "tiny.yaml").write_text(SWEEP)
    (folder / "mine.py").write_text(BOOM)
    with tempfile.TemporaryDirectory(prefix="l2t-s", dir="/tmp") as short:  # Ray's sockets have long names
        logs = Path(short)
        assert PLANTED[0] in uri
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "AWS_SECRET_ACCESS_KEY": PLANTED[1],
            "RAY_TMPDIR": str(logs),
            "PYTHONPATH": str(ROOT),
        }
        launched = subprocess.run(
            [sys.executable, "-m", "l2t_ray.sweep", "tiny.yaml"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )
        reported = subprocess.run(
            [sys.executable, "-m", "analysis.stats", "tiny", "--out", "report"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )
        assert launched.returncode == 1, launched.stderr  # one run failed, and its reason names the address
        assert "cannot reach postgresql://***@" in launched.stdout
        texts = {"launch": launched.stdout + launched.stderr, "report": reported.stdout + reported.stderr}
        with psycopg.connect(uri) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            assert len(tables) > 20
            for (table,) in tables:
                texts[table] = str(connection.execute(f'SELECT * FROM "{table}"').fetchall())
        for path in [*folder.rglob("*"), *logs.rglob("*")]:
            if path.is_file() and not path.is_symlink() and path.name != "mine.py":
                texts[str(path)] = path.read_bytes().decode(errors="replace")
    assert "cannot reach" in texts["tags"]
    assert any("session" in name for name in texts)  # Ray's own logs are among them
    told = [name for name, text in texts.items() if any(secret in text for secret in PLANTED)]
    assert told == []
