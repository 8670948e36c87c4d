"""The cluster files against Ray's own schema and bootstrap code: AWS's on loopback (moto), Google's against its API."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from l2t_ray.launch.cluster.connection import ENVIRONMENT
from tests.clusters.cluster_files import FILES, ROOT, module_of, prepared, read

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # botocore's and moto's own
]


@pytest.mark.parametrize("name", FILES)
def test_rays_schema_accepts_the_file(name, monkeypatch):
    config = prepared(name)
    assert config["cluster_name"] == "l2t"


@pytest.mark.parametrize("name", FILES)
def test_the_file_says_what_every_cluster_of_ours_must(name):
    config, text = read(name), (ROOT / name).read_text()
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert commands[0] == "RAY_AUTH_MODE=token ray stop"
    for command in starts:
        if "ray start" in command:
            assert "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start" in command
            assert command.endswith("--disable-usage-stats")
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head
    assert "PRIVATE KEY" not in text
    assert not [word for word in text.split() if len(word) > 40 and word.isalnum()]  # no token, no key
    for mounted in config["file_mounts"].values():
        assert mounted.startswith("~") or (ROOT / mounted).exists(), mounted
    assert [line for line in text.splitlines() if line.startswith("# ---- Fill in this section")]
    assert config["setup_commands"][-1] == "~/l2t-ray/clusters/node.sh install"
    assert len(text.splitlines()) <= 120


@pytest.mark.parametrize("name", FILES)
def test_what_is_filled_in_and_stands_once_more_is_named_in_the_section(name):
    head, _, rest = (ROOT / name).read_text().partition("# ---- End of the section")
    config = read(name)
    zone = config["provider"].get("availability_zone")
    words = [f"--cluster {config['cluster_name']}", *([f"zones/{zone}/"] if zone else [])]
    repeated = [word for word in words if word in rest]
    assert len(repeated) == (0 if name == "clusters/onprem.yaml" else 1)
    for word in repeated:
        assert rest.count(word) == 1
        assert [line for line in head.splitlines() if line.startswith("# Another ") and word in line]
    assert not zone or rest.count(zone) == sum(word.startswith("zones") for word in repeated)


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/gcp.yaml"])
def test_the_list_of_packages_is_fetched_again_while_the_first_boot_holds_its_lock(name, tmp_path):
    """`apt-get update` takes the lock of the lists, for which DPkg::Lock::Timeout does not wait."""
    (command,) = [line for line in read(name)["setup_commands"] if "apt-get update" in line]
    for program, lines in {
        "sudo": 'echo "$*" >> asked; [ "$(wc -l < asked)" -ge 4 ]',
        "sleep": 'echo "$*" >> slept',
    }.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={"PATH": path}, check=True, timeout=240)
    assert (tmp_path / "asked").read_text().splitlines() == ["apt-get update -qq"] * 4
    assert (tmp_path / "slept").read_text().splitlines() == ["10"] * 3


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_installed_that_ray_needs_before_its_setup_commands(name):
    """Ray copies `file_mounts` by rsync first: an image has it, or the machine is lost to Ray."""
    assert not [line for line in read(name)["setup_commands"] if "rsync" in line]


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/gcp.yaml"])
def test_a_cloud_has_a_head_without_a_card_and_spot_workers_from_none_before_others(name):
    config = read(name)
    spot, other = (config["available_node_types"][kind] for kind in ("gpu_spot", "gpu_on_demand"))
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in config["head_start_ray_commands"][-1]
    assert spot["min_workers"] == other["min_workers"] == 0
    assert spot["priority"] > other["priority"]
    assert spot["max_workers"] == config["max_workers"] > 0
    assert config["idle_timeout_minutes"] <= 15
    paid = {"InstanceMarketOptions", "scheduling"}
    assert {**spot["node_config"], **dict.fromkeys(paid)} == {**other["node_config"], **dict.fromkeys(paid)}


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/gcp.yaml"])
def test_rays_scheduler_takes_spot_first_and_the_others_while_there_is_none(name):
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = read(name)
    for node_type in config["available_node_types"].values():
        if not node_type["resources"]:
            node_type["resources"] = {"CPU": 4, "GPU": 1}  # as asked of AWS
    kinds = AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs()

    def launched(n_packs, failed):
        demand = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make({"GPU": 0.5})] * n_packs)
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=kinds,
            max_num_nodes=config["max_workers"],
            resource_requests=demand,
            recoverable_resource_availabilities=failed,
        )
        reply = ResourceDemandScheduler(None).schedule(request)
        return {one.instance_type: one.count for one in reply.to_launch if one.instance_type != "head"}

    assert launched(0, {}) == {}
    assert launched(3, {}) == {"gpu_spot": 2}
    assert launched(100, {}) == {"gpu_spot": config["max_workers"]}
    assert launched(3, {"gpu_spot": 0.1}) == {"gpu_on_demand": 2}


@pytest.fixture(scope="module")
def aws():
    """AWS on loopback, with credentials of nobody, also for Ray's own code."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "nobody")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patched.delenv("AWS_PROFILE", raising=False)
        yield f"http://{host}:{port}"
    server.stop()


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "clusters" / script, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def prepare_aws(*arguments):
    """The same in this process."""
    return module_of("aws_prepare").main([*arguments])


def test_rays_own_code_for_aws_makes_a_group_closed_but_for_ssh_and_the_files_machines(aws, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # the key pair
    made = run("aws_prepare.py", "--region", "us-east-1", "--bucket", "a-bucket")
    assert (made.returncode, made.stderr) == (0, "")
    assert prepare_aws("--region", "us-east-1", "--bucket", "a-bucket") == 0  # again
    from ray.autoscaler._private.aws import config as ray_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = AWSNodeProvider.fillout_available_node_types_resources(prepared("cluster.yaml"))
    config = ray_aws.bootstrap_aws(config)
    key = Path(config["auth"]["ssh_private_key"])
    assert key.parent == tmp_path / ".ssh"
    assert key.stat().st_mode & 0o077 == 0
    ec2 = boto3.client("ec2", region_name="us-east-1")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["l2t-ray"]}])["SecurityGroups"]
    rules = group["IpPermissions"]
    from_outside = [rule for rule in rules if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in from_outside] == [(22, 22, "tcp")]
    inside = [pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]]
    assert inside == [group["GroupId"]]

    types = config["available_node_types"]
    assert types["gpu_spot"]["resources"]["GPU"] == types["gpu_on_demand"]["resources"]["GPU"] == 1  # asked of AWS
    provider = AWSNodeProvider(config["provider"], "l2t")
    image = ec2.describe_images()["Images"][0]["ImageId"]  # moto resolves no parameter in place of an image
    started = {}
    for kind, node_type in types.items():
        node_config = {**copy.deepcopy(node_type["node_config"]), "ImageId": image}
        (started[kind],) = provider.create_node(node_config, {"ray-node-type": "worker"}, 1)
    machines = {
        machine["InstanceId"]: machine
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
    }
    machines = {kind: machines[name] for kind, name in started.items()}
    assert {kind: one.get("InstanceLifecycle") for kind, one in machines.items()} == {
        **dict.fromkeys(machines),
        "gpu_spot": "spot",
    }
    for kind, machine in machines.items():
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert (tags["project"], tags["ray-cluster-name"]) == ("l2t-ray", "l2t")
        assert machine["IamInstanceProfile"]["Arn"].endswith("/l2t-ray-head" if kind == "head" else "/l2t-ray-worker")
        assert [one["GroupId"] for one in machine["SecurityGroups"]] == [group["GroupId"]]
        (disk,) = [one["Ebs"]["VolumeId"] for one in machine["BlockDeviceMappings"]]
        (volume,) = ec2.describe_volumes(VolumeIds=[disk])["Volumes"]
        assert volume["Size"] == (60 if kind == "head" else 120)
        assert volume["Encrypted"]
        assert machine["MetadataOptions"]["HttpTokens"] == "required"


def test_a_worker_may_use_the_bucket_alone(aws):
    assert prepare_aws("--region", "eu-central-1", "--bucket", "b-bucket") == 0
    iam, s3 = boto3.client("iam"), boto3.client("s3", region_name="eu-central-1")

    def statements(role):
        return iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]["Statement"]

    (worker,) = statements("l2t-ray-worker")
    assert {action.partition(":")[0] for action in worker["Action"]} == {"s3"}
    assert worker["Resource"] == ["arn:aws:s3:::b-bucket", "arn:aws:s3:::b-bucket/*"]
    (passed,) = [one for one in statements("l2t-ray-head") if one["Action"] == ["iam:PassRole"]]
    assert [arn.rpartition("/")[2] for arn in passed["Resource"]] == ["l2t-ray-worker"]  # not its own
    assert all(s3.get_public_access_block(Bucket="b-bucket")["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_location(Bucket="b-bucket")["LocationConstraint"] == "eu-central-1"


def test_the_ledgers_volume_goes_from_a_lost_head_to_the_next(aws, monkeypatch):
    aws_volume = module_of("aws_volume")
    ec2 = boto3.client("ec2", region_name="us-east-1")
    image = ec2.describe_images()["Images"][0]["ImageId"]

    def machine(zone):
        placed = {"Placement": {"AvailabilityZone": zone}, "MinCount": 1, "MaxCount": 1}
        return ec2.run_instances(ImageId=image, InstanceType="m7i.large", **placed)["Instances"][0]["InstanceId"]

    first = machine("us-east-1b")
    volume = aws_volume.attached("mine", 50, first, "us-east-1b")
    assert aws_volume.attached("mine", 50, first, "us-east-1b") == volume  # `ray up` again
    (known,) = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert (known["Size"], known["Encrypted"], known["State"]) == (50, True, "in-use")
    with pytest.raises(ValueError, match=r"must run in us-east-1b, where the ledger.s volume .*, got us-east-1c"):
        aws_volume.attached("mine", 50, machine("us-east-1c"), "us-east-1c")
    ec2.detach_volume(VolumeId=volume, InstanceId=first, Device="/dev/sdf")  # as the end of a machine does
    second = machine("us-east-1b")
    assert aws_volume.attached("mine", 50, second, "us-east-1b") == volume
    monkeypatch.setattr(aws_volume, "WAIT_S", -1.0)
    with pytest.raises(ValueError, match="must be free"):
        aws_volume.attached("mine", 50, first, "us-east-1b")


def test_googles_api_has_every_field_of_the_file():
    """Ray hands `node_config` on as the body of instances.insert, whose schema the client library ships."""
    googleapiclient = pytest.importorskip("googleapiclient", reason="needs google-api-python-client")
    document = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
    schemas = json.loads(document.read_text())["schemas"]
    simple = {"string": str, "boolean": bool, "integer": int, "number": float}

    def check(value, schema, place):
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        if "enum" in schema:
            assert value in schema["enum"], place
        if schema["type"] == "array":
            for number, item in enumerate(value):
                check(item, schema["items"], f"{place}[{number}]")
        elif schema["type"] == "object":
            for name, item in value.items():
                inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
                assert inner is not None, f"{place}.{name} is unknown to Google"
                check(item, inner, f"{place}.{name}")
        else:
            kinds = (int, str) if schema.get("format") in {"int64", "uint64"} else simple[schema["type"]]
            assert isinstance(value, kinds), place

    for name, node_type in read("clusters/gcp.yaml")["available_node_types"].items():
        check(node_type["node_config"], {"$ref": "Instance"}, name)
    with pytest.raises(AssertionError, match="unknown to Google"):
        check({"machinetype": "x"}, {"$ref": "Instance"}, "broken")


def test_the_launch_and_the_files_agree_on_how_to_be_let_in():
    assert ENVIRONMENT["RAY_AUTH_MODE"] == "token"
    assert ENVIRONMENT["RAY_USAGE_STATS_ENABLED"] == "0"
