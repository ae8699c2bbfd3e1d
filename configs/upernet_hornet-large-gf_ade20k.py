# UPerNet, HorNet-L-GF pretrained on ImageNet-22K at 384, ADE20K, crop 640, 160k iterations.
_base_ = ["./upernet_hornet-base-gf_ade20k.py"]
model = dict(
    backbone=dict(
        arch="large-gf",
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(checkpoint="hornet://large-gf"),
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(
        decay_rate=0.8,
        custom_keys={
            "backbone": dict(lr_mult=0.8**8),
            **{f"backbone.downsample_layers.{i}": dict(lr_mult=0.8 ** (9 + i)) for i in (1, 2, 3)},
        },
    ),
)
