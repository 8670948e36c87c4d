"""The methods: the thesis' and its rivals, one file each; docs/howto/own_method.md explains how to add one."""

from l2t_ray.methods import (
    attention_transfer,
    bss,
    co_tuning,
    delta,
    distillation,
    factor_transfer,
    feature_matching,
    finetune,
    hint,
    l2_sp,
    lora,
    spottune,
    stochnorm,
    surgical,
)
from l2t_ray.methods.feature_matching import FeatureMatching
from l2t_ray.methods.method import Batch, Method, Shapes, Stage
from l2t_ray.registry import register

__all__ = ["Batch", "FeatureMatching", "Method", "Shapes", "Stage"]

FAMILIES = (
    feature_matching,
    finetune,
    hint,
    attention_transfer,
    distillation,
    factor_transfer,
    spottune,
    surgical,
    l2_sp,
    bss,
    stochnorm,
    co_tuning,
    delta,
    lora,
)
for family in FAMILIES:
    for method in family.METHODS:
        register(method)
