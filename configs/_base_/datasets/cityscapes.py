# Cityscapes (https://www.cityscapes-dataset.com), 19 classes, 2975 + 500 images of 2048x1024. The
# label maps, *_gtFine_labelTrainIds.png, are made by cityscapesScripts' csCreateTrainIdLabelImgs.
_base_ = ["./segmentation.py"]
load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_annotations = dict(type="LoadAnnotations")
pack = dict(type="PackSegInputs")
train_pipeline = [
    load_image,
    load_annotations,
    dict(type="RandomResize", scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    pack,
]
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(2048, 1024), keep_ratio=True),
    load_annotations,  # behind Resize: predictions are compared at the size of the file
    pack,
]
tta_scales = [(2048 * i // 4, 1024 * i // 4) for i in (2, 3, 4, 5, 6, 7)]
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
cityscapes = dict(type="CityscapesDataset", data_root="data/cityscapes")
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=train_pipeline,
        **cityscapes,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        pipeline=test_pipeline,
        **cityscapes,
    )
)
test_dataloader = val_dataloader
