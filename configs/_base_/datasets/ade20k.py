# ADE20K scene parsing (http://sceneparsing.csail.mit.edu), 150 classes, 20210 + 2000 images.
_base_ = ["./segmentation.py"]
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
tta_flips = [dict(type="RandomFlip", prob=p, direction="horizontal") for p in (0.0, 1.0)]
tta_pipeline = [
    load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=scale, keep_ratio=True) for scale in tta_scales],
            tta_flips,
            [load_annotations],
            [pack],
        ],
    ),
]
ade20k = dict(
    type="ADE20KDataset", data_root="data/ade/ADEChallengeData2016", reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
        **ade20k,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=test_pipeline,
        **ade20k,
    )
)
test_dataloader = val_dataloader
