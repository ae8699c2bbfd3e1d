import gc
import weakref

import torch

from gfnet_dense.models.utils.scratch import Scratch


def test_a_name_has_one_memory_and_no_two_names_share_it():
    scratch = Scratch(torch.empty(0, dtype=torch.float64))
    first = scratch("a", 4, 5)
    other = scratch("b", 2)
    smaller = scratch("a", 3, 2)
    assert first.dtype == torch.float64 and smaller.shape == (3, 2)
    assert smaller.data_ptr() == first.data_ptr() != other.data_ptr()
    assert scratch("a", 30, 2).shape == (30, 2)


def test_the_tensor_that_it_is_like_is_not_kept():
    like = torch.empty(3)
    reference = weakref.ref(like)
    scratch = Scratch(like)
    del like
    gc.collect()
    assert reference() is None and scratch("a", 2).dtype == torch.float32
