# UPerNet, HorNet-T-GF, ADE20K, crop 512, 160k iterations: the training of the published model
# (https://github.com/raoyongming/HorNet/tree/master/semantic_segmentation).
_base_ = [
    "./_base_/models/upernet_hornet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/hornet_poly_160k.py",
    "./_base_/seg_runtime.py",
]
# Two more stages than there are, not eight as for the larger models
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.9**2),
            **{f"backbone.downsample_layers.{i}": dict(lr_mult=0.9 ** (3 + i)) for i in (1, 2, 3)},
        }
    )
)
