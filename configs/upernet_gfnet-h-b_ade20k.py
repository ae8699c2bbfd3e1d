# UPerNet, GFNet-H-B, ADE20K, crop 512, 160k iterations, with HorNet's optimizer
# (https://arxiv.org/abs/2207.14284) and a similarly mild layer-wise decay: 0.22 at the stem.
_base_ = ["./upernet_gfnet-h-s_ade20k.py"]
model = dict(backbone=dict(arch="h-base", init_cfg=dict(checkpoint="gfnet://h-base")))
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=dict(decay_rate=0.96, decay_type="layer_wise"),
)
