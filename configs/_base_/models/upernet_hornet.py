# UPerNet with HorNet-T-GF. The published models store filters for 384, whatever their crop, and are
# tested with sliding windows of the crop.
_base_ = ["./upernet_gfnet.py", "./hornet.py"]
model = dict(backbone=dict(_base_.hornet, _delete_=True, img_size=384), test_cfg=dict(mode="slide"))
