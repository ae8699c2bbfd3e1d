# HorNet's schedule for UPerNet: Swin's with a higher learning rate, which decays by stages.
_base_ = ["./adamw_poly_160k.py"]
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=dict(
        decay_rate=0.9,
        decay_type="stage_wise",
        # The authors count eight more stages between the backbone's and its norms, which do not
        # exist, and take all downsampling layers for the stem. The longest key that a name contains
        # applies.
        custom_keys={
            "backbone": dict(lr_mult=0.9**8),
            "backbone.norm": dict(lr_mult=1.0),
            **{f"backbone.downsample_layers.{i}": dict(lr_mult=0.9 ** (9 + i)) for i in (1, 2, 3)},
        },
    ),
)
