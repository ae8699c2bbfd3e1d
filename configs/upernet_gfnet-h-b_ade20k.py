# UPerNet, GFNet-H-B, ADE20K, crop 512, 160k iterations; HorNet's recipe with layer-wise decay
# (https://arxiv.org/abs/2207.14284), for the deepest arch.
_base_ = ["./upernet_gfnet-h-s_ade20k.py"]
model = dict(backbone=dict(arch="h-base", init_cfg=dict(checkpoint="gfnet://h-base")))
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.9, decay_type="layer_wise"),
)
