# ADE20K with test images resized to multiples of 32, as in PVT's evaluation: Semantic FPN upsamples
# maps by factors of 2, and only then do their sizes match exactly.
_base_ = ["./ade20k.py"]
load_image, resize, *rest = _base_.test_pipeline
align = dict(type="ResizeToMultiple", size_divisor=32)
test_pipeline = [load_image, resize, align, *rest]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
