"""Attaches the cluster's kept volume to the head that runs this, and makes it the first time; prints the device.

    python clusters/aws_volume.py --cluster l2t --gib 50

A head that was lost leaves the volume, and the next head finds the ledger on it. It is known by its tag `l2t-kept`.
"""

import argparse
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

METADATA = "http://169.254.169.254"
TAG = "l2t-kept"
WAIT_S = 180.0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command line, by default the process'.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", required=True, help="the volume's tag")
    parser.add_argument("--gib", type=int, default=50, help="of a new volume")
    parser.add_argument("--metadata", default=METADATA, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    token = ask(f"{given.metadata}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    instance, zone = (
        ask(f"{given.metadata}/latest/meta-data/{name}", "GET", {"X-aws-ec2-metadata-token": token})
        for name in ("instance-id", "placement/availability-zone")
    )
    try:
        volume = attached(given.cluster, given.gib, instance, zone)
    except ValueError as error:
        print(f"aws_volume.py: {error}", file=sys.stderr)
        return 2
    print(device(volume))
    return 0


def ask(url: str, method: str, headers: dict[str, str]) -> str:
    """The answer of the cloud's metadata service.

    Args:
        url: of the question.
        method: of HTTP.
        headers: of the request.

    Returns:
        Its text.
    """
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def attached(cluster: str, gib: int, instance: str, zone: str) -> str:
    """The cluster's volume, attached to an instance.

    Args:
        cluster: its tag's value.
        gib: size of a new one.
        instance: the head's id.
        zone: where it runs.

    Returns:
        The volume's id.

    Raises:
        ValueError: if the volume lies in another zone, or another machine has it.
    """
    import boto3

    client = boto3.client("ec2", region_name=zone[:-1])
    volume = find(client, cluster)
    if volume is None:
        tags = [{"Key": TAG, "Value": cluster}, {"Key": "project", "Value": "l2t-ray"}]
        made = client.create_volume(
            AvailabilityZone=zone,
            Size=gib,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )
        client.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]])
        volume = {**made, "Attachments": []}
    name = str(volume["VolumeId"])
    if volume["AvailabilityZone"] != zone:
        raise ValueError(
            f"the head must run in {volume['AvailabilityZone']}, where the ledger's volume {name} is, got {zone}; "
            "correct provider.availability_zone, or move the volume by a snapshot"
        )
    end = time.monotonic() + WAIT_S
    while holders := [one["InstanceId"] for one in volume["Attachments"]]:
        if instance in holders:
            return name
        if time.monotonic() > end:  # a machine that is ending keeps it for some seconds
            raise ValueError(f"the ledger's volume {name} must be free, {holders[0]} has it; end that machine first")
        time.sleep(5)
        volume = find(client, cluster) or volume
    client.attach_volume(VolumeId=name, InstanceId=instance, Device="/dev/sdf")
    client.get_waiter("volume_in_use").wait(VolumeIds=[name])
    return name


def find(client: Any, cluster: str) -> dict[str, Any] | None:
    """The cluster's volume.

    Args:
        client: of EC2.
        cluster: the tag's value.

    Returns:
        What AWS knows of it; None where there is none yet.
    """
    filters = [{"Name": f"tag:{TAG}", "Values": [cluster]}, {"Name": "status", "Values": ["available", "in-use"]}]
    found = client.describe_volumes(Filters=filters)["Volumes"]
    return found[0] if found else None


def device(volume: str) -> str:
    """Where the kernel shows a volume, on machines with NVMe (all of today's) and on others.

    Args:
        volume: its id.

    Returns:
        The device's path.
    """
    nvme = Path("/dev/disk/by-id") / f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    for _ in range(180):
        if nvme.exists():
            return str(nvme)
        if Path("/dev/xvdf").exists():
            return "/dev/xvdf"
        time.sleep(1)
    return str(nvme)


if __name__ == "__main__":
    sys.exit(main())
