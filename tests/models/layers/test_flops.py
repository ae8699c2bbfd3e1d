from math import log2

import torch
from mmengine.analysis import complexity_analysis
from torch.utils.flop_counter import FlopCounterMode

from gfnet_dense.models import GlobalFilter

FILTER, BACKWARD = (
    torch.ops.gfnet_dense.spectral_filter,
    torch.ops.gfnet_dense.spectral_filter_backward,
)
POINTS = 2 * 3 * 8 * 6  # of a batch of 2 maps of 3 channels
TRANSFORM, PRODUCT = 2.5 * POINTS * log2(8 * 6), 6 * 2 * 3 * 8 * 4


def test_a_training_step_counts_four_transforms_and_three_products():
    """Two transforms and a product forward; backward a product for each gradient."""
    layer = GlobalFilter(3, (8, 6))
    x = torch.randn(2, 8, 6, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    assert counts == {FILTER: 2 * TRANSFORM + PRODUCT, BACKWARD: 2 * TRANSFORM + 2 * PRODUCT}


def test_a_gradient_of_the_filter_alone_needs_one_transform():
    layer = GlobalFilter(3, (8, 6))
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(2, 8, 6, 3)).sum().backward()
    assert counter.get_flop_counts()["Global"][BACKWARD] == TRANSFORM + PRODUCT


def test_the_table_of_mmengine_has_one_more_entry_and_no_other_change():
    table = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
    assert [name for name in table if not name.startswith("aten::")] == [
        "gfnet_dense::spectral_filter"
    ]
