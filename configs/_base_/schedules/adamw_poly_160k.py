# Swin's schedule for UPerNet: 160k iterations of 16 images, 1500 iterations of warm-up, then linear
# decay.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="gfnet_dense.LayerDecayConstructor",  # no decay of norms, biases, pos_embed, gamma
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# The learning rate is for batches of 16 images: 8 GPUs x 2. For another batch, enable scaling
# (--cfg-options auto_scale_lr.enable=True): lr = 6e-5 * GPUs * batch_size / 16.
auto_scale_lr = dict(enable=False, base_batch_size=16)
