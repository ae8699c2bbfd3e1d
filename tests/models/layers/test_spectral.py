import pytest

from gfnet_dense.models.layers.spectral import next_fast_length


def test_the_next_fast_length_is_the_next_product_of_twos_threes_and_fives():
    products = {2**a * 3**b * 5**c for a in range(13) for b in range(9) for c in range(7)}
    for n in range(1, 3000):
        assert next_fast_length(n) == min(p for p in products if p >= n)


@pytest.mark.parametrize("n, length", [(7, 8), (49, 50), (77, 80), (121, 125), (1331, 1350)])
def test_sevens_and_elevens_are_not_fast(n, length):
    assert next_fast_length(n) == length
