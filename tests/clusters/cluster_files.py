"""The cluster files as Ray reads them."""

import importlib.util

import yaml

from tests.support.places import ROOT

FILES = ("cluster.yaml", "clusters/onprem.yaml", "clusters/gcp.yaml")


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def prepared(name, **provider):
    """As `ray up` prepares a file, before it asks the provider."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    config["provider"] |= provider
    config["file_mounts"] = {}  # relative to the checkout; checked below
    config = prepare_config(config)
    validate_config(config)
    return config


def module_of(name):
    """The module of a command of clusters/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "clusters" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
