import pytest
import torch

from gfnet_dense.models.layers import spectral
from gfnet_dense.models.layers.spectral import next_fast_length


def test_the_next_fast_length_is_the_next_product_of_twos_threes_and_fives():
    products = {2**a * 3**b * 5**c for a in range(13) for b in range(9) for c in range(7)}
    for n in range(1, 3000):
        assert next_fast_length(n) == min(p for p in products if p >= n)


@pytest.mark.parametrize("n, length", [(7, 8), (49, 50), (77, 80), (121, 125), (1331, 1350)])
def test_sevens_and_elevens_are_not_fast(n, length):
    assert next_fast_length(n) == length


@pytest.mark.parametrize("shape", [(1, 5, 7, 3), (3, 8, 33, 20), (2, 1, 4, 4), (0, 4, 5, 6)])
@pytest.mark.parametrize("group_bytes", [1, 2000, 2**19])
def test_maps_are_copied_to_channels_first_in_pieces_of_any_size(shape, group_bytes, monkeypatch):
    monkeypatch.setattr(spectral, "CPU_GROUP_BYTES", group_bytes)
    x = torch.randn(shape)
    last = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    copied = spectral.contiguous_maps(last)
    assert copied.is_contiguous() and torch.equal(copied, x)
    assert spectral.contiguous_maps(x) is x
    every_other = torch.randn(*shape[:3], 2 * shape[3])[..., ::2]
    assert torch.equal(spectral.contiguous_maps(every_other), every_other)
