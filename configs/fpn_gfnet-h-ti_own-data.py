# Semantic FPN, GFNet-H-Ti, your own images, crop 512, 8k iterations: see docs/own_data.md.
_base_ = [
    "./_base_/models/fpn_gfnet.py",
    "./_base_/datasets/own_data.py",
    "./_base_/schedules/adamw_poly_80k.py",
    "./_base_/seg_runtime.py",
]
# Set these: the folder, the names of class 0, 1, ..., and the endings of the file names.
data_root = "data/my_dataset"
classes = ["background", "road", "car"]
suffixes = dict(img_suffix=".jpg", seg_map_suffix=".png")
# With two classes: one output channel with a sigmoid, in place of two with a softmax
sigmoid = False

# For one GPU. The learning rate, 1e-4, is for batches of 16 images. For another batch_size, use
# --cfg-options auto_scale_lr.enable=True.
max_iters = 8000
val_interval = 800
own_data = dict(data_root=data_root, metainfo=dict(classes=classes), **suffixes)
train_dataloader = dict(batch_size=16, dataset=own_data)
val_dataloader = dict(dataset=own_data)
test_dataloader = val_dataloader
head = dict(num_classes=len(classes))
if sigmoid:
    head.update(out_channels=1, threshold=0.5, loss_decode=dict(use_sigmoid=True))
model = dict(decode_head=head)
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=max_iters, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=val_interval))
