# Schedule and settings of detectors on own data, some hundreds to a few thousand images, one GPU:
# 24 epochs, one of them warm-up.
_base_ = ["./schedules/adamw_1x.py", "./det_runtime.py"]
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, begin=0, end=1, convert_to_iter_based=True),
    dict(type="MultiStepLR", milestones=[16, 22], gamma=0.1, by_epoch=True, begin=0, end=24),
]
train_cfg = dict(max_epochs=24, val_interval=2)
auto_scale_lr = dict(base_batch_size=4)  # the learning rate, 1e-4, is for batches of 4 images
default_hooks = dict(logger=dict(interval=10))  # an epoch may have fewer iterations than 50
