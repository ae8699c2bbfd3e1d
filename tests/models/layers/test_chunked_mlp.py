"""When the mlp is computed in chunks, and when its hidden layer is kept for the gradients."""

import copy

import pytest
import torch
from torch import nn

from gfnet_dense.models.layers import chunked_mlp
from gfnet_dense.models.layers.chunked_mlp import can_chunk, feed_forward
from gfnet_dense.models.layers.mlp import Mlp

DIM, HIDDEN_DIM = 64, 256


def arguments(height=16, width=17):
    """A map, and the norm, mlp and gamma of a block."""
    x = torch.randn(1, height, width, DIM)
    return x, nn.LayerNorm(DIM), Mlp(DIM, HIDDEN_DIM), nn.Parameter(torch.full((DIM,), 0.3))


def moved(given, where):
    return [copy.deepcopy(each).to(where) for each in given]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_in_training_on_a_cpu(dtype):
    assert can_chunk(*moved(arguments(), dtype))


def test_no_chunks_where_the_weights_are_larger_than_the_map():
    assert can_chunk(*arguments(16, 16)) and not can_chunk(*arguments(15, 17))


def test_no_chunks_without_gradients():
    with torch.no_grad():
        assert not can_chunk(*arguments())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_chunks_under_autocast(dtype):
    """Even where map and weights are all of float32."""
    with torch.autocast("cpu", dtype):
        assert not can_chunk(*arguments())
    with torch.autocast("cpu", enabled=False):
        assert can_chunk(*arguments())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_chunks_in_half_precision(dtype):
    assert not can_chunk(*moved(arguments(), dtype))


def test_no_chunks_on_another_device_than_a_cpu():
    given = moved(arguments(), "meta")
    assert all(each.device.type == "meta" for each in (given[0], given[3], *given[2].parameters()))
    assert not can_chunk(*given)


def keeps_the_hidden_layer(given):
    """Tell whether the hidden layer of all tokens, in chunks, waits for the backward."""
    (x, _, mlp, _), kept = given, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        feed_forward(*given)
    weights = {parameter.data_ptr() for parameter in mlp.parameters()}
    hidden = [t for t in kept if t.shape[-1] == HIDDEN_DIM and t.data_ptr() not in weights]
    num_tokens = sum(t.numel() for t in hidden) // HIDDEN_DIM
    assert num_tokens in (0, x[..., 0].numel())
    return num_tokens > 0


def test_the_hidden_layer_is_kept_below_a_size_and_computed_again_from_it_on(monkeypatch):
    given = arguments()
    num_bytes = 16 * 17 * HIDDEN_DIM * 4
    for limit, is_kept in ((num_bytes - 1, False), (num_bytes, False), (num_bytes + 1, True)):
        monkeypatch.setattr(chunked_mlp, "LARGE_BYTES", limit)
        assert keeps_the_hidden_layer(given) == is_kept


def test_the_size_from_which_on_hidden_layers_are_computed_again_is_32_mib():
    """A token's hidden layer has 1 KiB here."""
    assert keeps_the_hidden_layer(arguments(511, 64))
    assert not keeps_the_hidden_layer(arguments(512, 64))
