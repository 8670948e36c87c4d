"""Makes once, in your AWS account, what cluster.yaml names: the bucket, and roles for the head and for the workers.

    python clusters/aws_prepare.py --region us-east-1 --bucket YOUR-BUCKET

The head may start and end machines with the worker's role, attach volumes, and use the bucket; a worker may use the
bucket alone. Again: corrects the policies, changes nothing else. Credentials are boto3's usual ones.
"""

import argparse
import contextlib
import json
import sys
from typing import Any

HEAD, WORKER = "l2t-ray-head", "l2t-ray-worker"
EC2 = [
    *("RunInstances", "TerminateInstances", "StartInstances", "StopInstances", "CreateTags", "Describe*"),
    *("CreateVolume", "AttachVolume", "RequestSpotInstances", "CancelSpotInstanceRequests"),
]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command line, by default the process'.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", required=True)
    parser.add_argument("--bucket", required=True, help="a name that nobody else in the world has")
    given = parser.parse_args(arguments)
    make_bucket(given.region, given.bucket)
    allow_spot()
    worker = make_role(WORKER, [use_bucket(given.bucket)])
    start = [
        allow([f"ec2:{action}" for action in EC2], "*"),
        allow(["iam:PassRole"], worker),
        allow(["iam:GetInstanceProfile"], "*"),
        allow(["ssm:GetParameters"], "arn:aws:ssm:*::parameter/aws/service/*"),  # the names of images
    ]
    make_role(HEAD, [*start, use_bucket(given.bucket)])
    print(f"L2T_ARTIFACTS=s3://{given.bucket}/mlflow")
    print(f"execution.storage=s3://{given.bucket}/checkpoints?region={given.region}")
    return 0


def allow(actions: list[str], *resources: str) -> dict[str, Any]:
    """A statement of a policy.

    Args:
        actions: of AWS.
        *resources: their names.

    Returns:
        The statement.
    """
    return {"Effect": "Allow", "Action": actions, "Resource": [*resources]}


def use_bucket(name: str) -> dict[str, Any]:
    """The statement that lets a role list, read, write and delete in one bucket.

    Args:
        name: the bucket's.

    Returns:
        The statement.
    """
    actions = ["s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    return allow([*actions, "s3:AbortMultipartUpload"], f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*")


def make_bucket(region: str, name: str) -> None:
    """A private, encrypted bucket.

    Args:
        region: of AWS.
        name: the bucket's.
    """
    import boto3

    client = boto3.client("s3", region_name=region)
    if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=name, **place)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def allow_spot() -> None:
    """The role by which AWS itself starts spot machines in an account; there may be one already."""
    import boto3

    client = boto3.client("iam")
    taken = (client.exceptions.InvalidInputException, client.exceptions.EntityAlreadyExistsException)
    with contextlib.suppress(*taken):
        client.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def make_role(name: str, statements: list[dict[str, Any]]) -> str:
    """A role for machines, with an instance profile of the same name.

    Args:
        name: of both.
        statements: of its policy.

    Returns:
        The role's ARN.
    """
    import boto3

    client = boto3.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    try:
        role = client.get_role(RoleName=name)["Role"]
    except client.exceptions.NoSuchEntityException:
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = client.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    client.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy)
    try:
        profile = client.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except client.exceptions.NoSuchEntityException:
        profile = client.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    if not profile["Roles"]:
        client.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    arn: str = role["Arn"]
    return arn


if __name__ == "__main__":
    sys.exit(main())
