"""The head of fully convolutional networks (Long et al., 2015), which many configs have beside."""

from mmseg.models.decode_heads import FCNHead as StockFCNHead

from gfnet_dense.registry import MODELS

from .decode_head import DecodeHead


@MODELS.register_module()
class FCNHead(DecodeHead, StockFCNHead):
    """mmsegmentation's FCNHead: same arguments, same weights, same outputs and losses.

    Args:
        num_convs, kernel_size, concat_input, dilation: See mmsegmentation's class.
        kwargs: Arguments of mmsegmentation's BaseDecodeHead.
    """
