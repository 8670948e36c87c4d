"""The wheel: what it carries, and its command in an empty folder of a fresh environment."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest
import yaml

import l2t_ray
from l2t_ray.sweepfile.schema import sweep_schema
from tests.support.marks import LONG
from tests.support.places import ROOT

pytestmark = LONG
PACKED = ["l2t", "l2t_ray", "analysis", "sweeps", "pyproject.toml", "README.md", "LICENSE"]
# as sweeps/, but two runs and a source of one epoch
SMALL = {
    "quickstart_source.yaml": {"training": {"epochs": 1, "batch_size": 32}},
    "quickstart.yaml": {
        "grid": [{"data": {"samples_per_class": [1]}, "method": ["scratch", "ufm"], "seed": {"from": 0, "to": 1}}]
    },
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKED:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / "src" / name, symlinks=True, ignore=leave)
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", *build, str(folder / "src")], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The scripts of an environment that has the wheel; it sees this one's libraries, so that none is downloaded."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [sysconfig.get_path("purelib"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    others = [path for path in libraries if path and not pathlib.Path(path).samefile(ROOT)]
    (site / "libraries.pth").write_text("\n".join(others) + "\n")
    install = ["pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    return folder / "bin"


def run(installed, folder, *words):
    """A command of the fresh environment, in a folder, with nothing in its own environment."""
    kept = {"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    kept |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.run(
        [installed / words[0], *words[1:]], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )


def test_the_wheel_carries_sweep_files_schema_and_types(wheel):
    names = {*zipfile.ZipFile(wheel).namelist()}
    assert {f"l2t/sweeps/{path.name}" for path in (ROOT / "sweeps").iterdir()} <= names
    assert {"l2t/py.typed", "l2t_ray/py.typed", "analysis/py.typed", "l2t_ray/launch/placement/shipped.json"} <= names
    assert "l2t_ray-" + l2t_ray.__version__ in wheel.name


def test_the_shipped_schema_is_the_printed_one():
    import json

    assert json.loads((ROOT / "sweeps" / "schema.json").read_text()) == json.loads(json.dumps(sweep_schema()))


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == l2t_ray.__version__


def test_the_workflow_of_a_public_host_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    steps = [step.get("run", "") for step in job["steps"]]
    assert ".ci/run" in steps
    needed = set(re.findall(r":([\w-]+)", re.search(r"for pair in (.*);", (ROOT / ".ci" / "run").read_text())[1]))
    assert needed <= set(" ".join(steps).split())


def test_an_installed_command_answers_in_an_empty_folder(installed, tmp_path):
    assert run(installed, tmp_path, "l2t", "--version").stdout == f"l2t-ray {l2t_ray.__version__}\n"
    assert "l2t quickstart" in run(installed, tmp_path, "l2t").stdout
    assert run(installed, tmp_path, "l2t", "init").returncode == 0
    done = run(installed, tmp_path, "l2t", "plan", "sweeps/quickstart.yaml")
    assert done.returncode == 0
    assert "digits/1/scratch" in done.stdout


def begin(folder):
    """A working folder with a small quick start, and files that are named like modules."""
    (folder / "sweeps").mkdir()
    for name, changes in SMALL.items():
        content = yaml.safe_load((ROOT / "sweeps" / name).read_text()) | changes
        if "run" in content:
            content["run"]["training"] = {"epochs": 1, "batch_size": 64, "lr": 0.05}
        (folder / "sweeps" / name).write_text(yaml.safe_dump(content))
    for name in ("analysis", "l2t"):
        (folder / f"{name}.py").write_text(f"raise ImportError('{name}.py of the working folder')")


@pytest.mark.slow
def test_the_quick_start_runs_beside_files_named_like_modules(installed, tmp_path):
    begin(tmp_path)
    done = run(installed, tmp_path, "l2t", "quickstart")
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout
    written = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert written
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in written} == {0o666 & ~umask}


@pytest.mark.slow
def test_the_whole_quick_start_runs_in_an_empty_folder(installed, tmp_path):
    done = run(installed, tmp_path, "l2t", "quickstart")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "quickstart" / "index.html").is_file()
