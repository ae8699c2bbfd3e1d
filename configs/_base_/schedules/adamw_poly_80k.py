# PVT's schedule for Semantic FPN, also used by GFNet's authors: 80k iterations of 16 images.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="gfnet_dense.LayerDecayConstructor",  # no decay of norms, biases, pos_embed, gamma
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
)
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80000, val_interval=8000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# The learning rate is for batches of 16 images: 8 GPUs x 2. For another batch, enable scaling
# (--cfg-options auto_scale_lr.enable=True): lr = 1e-4 * GPUs * batch_size / 16.
auto_scale_lr = dict(enable=False, base_batch_size=16)
