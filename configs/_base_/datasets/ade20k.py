# ADE20K scene parsing (http://sceneparsing.csail.mit.edu), 150 classes, 20210 + 2000 images.
_base_ = ["./segmentation.py"]
ade20k = dict(
    type="ADE20KDataset", data_root="data/ade/ADEChallengeData2016", reduce_zero_label=True
)
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=_base_.train_pipeline,
        **ade20k,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=_base_.test_pipeline,
        **ade20k,
    )
)
test_dataloader = val_dataloader
