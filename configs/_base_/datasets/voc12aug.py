# Pascal VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012), 21 classes, with the additional
# label maps of SBD (http://home.bharathh.info/pubs/codes/SBD/download.html): 10582 + 1449 images.
# SegmentationClassAug and aug.txt are made by mmsegmentation's tools/dataset_converters/voc_aug.py.
_base_ = ["./segmentation.py"]
voc = dict(type="PascalVOCDataset", data_root="data/VOCdevkit/VOC2012")
train_dataloader = dict(
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                data_prefix=dict(img_path="JPEGImages", seg_map_path=f"SegmentationClass{suffix}"),
                ann_file=f"ImageSets/Segmentation/{split}.txt",
                pipeline=_base_.train_pipeline,
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
        pipeline=_base_.test_pipeline,
        **voc,
    )
)
test_dataloader = val_dataloader
