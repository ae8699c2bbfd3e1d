# The images of own_data_detection.py with masks.
_base_ = ["./own_data_detection.py"]
load_annotations = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
load_image, _, *rest = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(dataset=dict(pipeline=[load_image, load_annotations, *rest]))
load_image, resize, _, pack = _base_.val_dataloader.dataset.pipeline
val_dataloader = dict(dataset=dict(pipeline=[load_image, resize, load_annotations, pack]))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator
