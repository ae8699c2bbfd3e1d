# Swin's schedule for Mask R-CNN, 1x: 12 epochs with batches of 16, 1000 iterations of warm-up.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="gfnet_dense.LayerDecayConstructor",  # no decay of norms, biases, pos_embed, gamma
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", milestones=[8, 11], gamma=0.1, by_epoch=True, begin=0, end=12),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# The learning rate is for batches of 16 images: 8 GPUs x 2. For another batch, enable scaling
# (--cfg-options auto_scale_lr.enable=True): lr = 1e-4 * GPUs * batch_size / 16.
auto_scale_lr = dict(enable=False, base_batch_size=16)
