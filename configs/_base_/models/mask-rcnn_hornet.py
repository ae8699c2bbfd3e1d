# Mask R-CNN with HorNet-T-GF.
_base_ = ["./mask-rcnn_gfnet.py", "./hornet.py"]
model = dict(backbone=dict(_base_.hornet, _delete_=True, img_size=224))
