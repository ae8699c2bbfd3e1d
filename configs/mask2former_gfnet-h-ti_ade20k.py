# Mask2Former, GFNet-H-Ti, ADE20K, crop 512, 160k iterations, with Mask2Former's optimizer.
_base_ = [
    "./_base_/models/mask2former_gfnet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/adamw_poly_160k.py",
    "./_base_/seg_runtime.py",
]
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={"backbone": dict(lr_mult=0.1)}
        | {name: dict(decay_mult=0.0) for name in ("query_embed", "query_feat", "level_embed")}
    ),
)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=160000, by_epoch=False)]
