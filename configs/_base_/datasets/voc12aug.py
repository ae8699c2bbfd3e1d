# Pascal VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012), 21 classes, with the additional
# label maps of SBD (http://home.bharathh.info/pubs/codes/SBD/download.html): 10582 + 1449 images.
# SegmentationClassAug and aug.txt are made by mmsegmentation's tools/dataset_converters/voc_aug.py.
_base_ = ["./segmentation.py"]
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
voc = dict(type="PascalVOCDataset", data_root="data/VOCdevkit/VOC2012")
train_dataloader = dict(
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                data_prefix=dict(img_path="JPEGImages", seg_map_path=f"SegmentationClass{suffix}"),
                ann_file=f"ImageSets/Segmentation/{split}.txt",
                pipeline=train_pipeline,
                **voc,
            )
            for suffix, split in (("", "train"), ("Aug", "aug"))
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/val.txt",
        pipeline=test_pipeline,
        **voc,
    )
)
test_dataloader = val_dataloader
