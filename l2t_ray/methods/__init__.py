"""The methods: the thesis' and its rivals, one file each; docs/howto/own_method.md explains how to add one."""

from l2t_ray.methods import (
    attention_transfer,
    distillation,
    factor_transfer,
    feature_matching,
    finetune,
    hint,
    lora,
    spottune,
)
from l2t_ray.methods.feature_matching import FeatureMatching
from l2t_ray.methods.method import Batch, Method, Shapes, Stage
from l2t_ray.registry import register

__all__ = ["Batch", "FeatureMatching", "Method", "Shapes", "Stage"]

for family in (
    feature_matching,
    finetune,
    hint,
    attention_transfer,
    distillation,
    factor_transfer,
    spottune,
    lora,
):
    for method in family.METHODS:
        register(method)
