# What every segmentation dataset shares: how it is loaded and evaluated, and the pipelines of the
# usual crop, 512, of images whose shorter sides are 512.
# Pillow, unlike OpenCV, does not take a truncated file for an image that is grey below.
load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_annotations = dict(type="LoadAnnotations")
pack = dict(type="PackSegInputs")
train_pipeline = [
    load_image,
    load_annotations,
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    pack,
]
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    load_annotations,  # behind Resize: predictions are compared at the size of the file
    pack,
]
tta_scales = [(2048 * i // 4, 512 * i // 4) for i in (2, 3, 4, 5, 6, 7)]
tta_pipeline = [
    load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=scale, keep_ratio=True) for scale in tta_scales],
            [dict(type="RandomFlip", prob=p, direction="horizontal") for p in (0.0, 1.0)],
            [load_annotations],
            [pack],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
