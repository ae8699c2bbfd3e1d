"""The configs of docs/stock.md: ours for stock tools, stock configs for our commands."""

from dataclasses import dataclass

STOCK_TOOLS, OUR_COMMANDS = "stock tools on our configs", "our commands on stock configs"

OURS = (
    "upernet_gfnet_ade20k", "segformer_gfnet-h-ti_ade20k", "fpn_gfnet-h-ti_ade20k",
    "mask2former_gfnet-h-ti_ade20k", "retinanet_gfnet-h-ti_coco", "mask-rcnn_gfnet-h-ti_coco",
    "dino-4scale_gfnet-h-ti_coco", "atss_gfnet-h-ti_coco",
)  # fmt: skip
THEIRS = {
    "mmseg": (
        "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512",
        "segformer_mit-b0_8xb2-160k_ade20k-512x512",
        "pspnet_r50-d8_4xb4-160k_ade20k-512x512",
        "mask2former_r50_8xb2-160k_ade20k-512x512",
        "maskformer_r50-d32_8xb2-160k_ade20k-512x512",
        "knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512",
        "ocrnet_hr18_4xb4-160k_ade20k-512x512",
        "bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
        "stdc1_4xb12-80k_cityscapes-512x1024",
        "segmenter_vit-t_mask_8xb1-160k_ade20k-512x512",
        "encnet_r50-d8_4xb4-160k_ade20k-512x512",
    ),
    "mmdet": (
        "mask-rcnn_r50_fpn_1x_coco",
        "rtmdet_tiny_8xb32-300e_coco",
        "rtmdet-ins_tiny_8xb32-300e_coco",
        "yolox_tiny_8xb8-300e_coco",
        "yolov3_mobilenetv2_8xb24-320-300e_coco",
        "centernet_r18_8xb16-crop512-140e_coco",
        "sparse-rcnn_r50_fpn_1x_coco",
        "solov2_r50_fpn_1x_coco",
        "detr_r50_8xb2-150e_coco",
        "deformable-detr_r50_16xb2-50e_coco",
        "dino-4scale_r50_8xb2-12e_coco",
    ),
}
LAZY = (  # also run in the style with lazy imports
    "segformer_mit-b0_8xb2-160k_ade20k-512x512",
    "mask2former_r50_8xb2-160k_ade20k-512x512",
    "mask-rcnn_r50_fpn_1x_coco",
    "rtmdet_tiny_8xb32-300e_coco",
    "yolox_tiny_8xb8-300e_coco",
    "detr_r50_8xb2-150e_coco",
)
WITH_WEIGHTS = ("pspnet_r50-d8_4xb4-160k_ade20k-512x512", "open-mmlab://resnet50_v1c")


@dataclass(frozen=True)
class Row:
    """A config and what is run on it.

    Attributes:
        table: Heading of its table.
        name: Name of the config.
        library: 'mmseg' or 'mmdet'.
        is_lazy: Whether the config is written with lazy imports.
    """

    table: str
    name: str
    library: str
    is_lazy: bool = False

    @property
    def key(self) -> str:
        return f"{self.table}/{self.name}{', lazy' * self.is_lazy}"


def all_rows() -> list[Row]:
    """Return the rows of both tables."""
    ours = [Row(STOCK_TOOLS, name, "mmdet" if "coco" in name else "mmseg") for name in OURS]
    theirs = [
        Row(OUR_COMMANDS, name, library, is_lazy)
        for library, names in THEIRS.items()
        for name in names
        for is_lazy in (False, True)
        if name in LAZY or not is_lazy
    ]
    return ours + theirs
