# HorNet-T-GF (https://arxiv.org/abs/2207.14284): the last two stages have global filters.
hornet = dict(
    type="gfnet_dense.HorNet",
    arch="tiny-gf",
    # The published models resize their filters in this way and need it. A training of your own may
    # start exact, --cfg-options model.backbone.filter_resize=trigonometric: see docs/resizing.md.
    filter_resize="bilinear",
    drop_path_rate=0.4,
    init_cfg=dict(type="Pretrained", checkpoint="hornet://tiny-gf"),
)
