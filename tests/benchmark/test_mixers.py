import pytest
import torch

from gfnet_dense.benchmark.measure import Settings
from gfnet_dense.benchmark.mixers import DIM, MIXERS, cases, count, run


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("size", [1, 5, 14, 512])
def test_counted_params_and_flops_match_the_formulas(name, size):
    counts = count(name, size)
    assert counts["params"] == counts["params_formula"]
    assert counts["flops"] == counts["flops_formula"]


def test_formulas_match_calculations_by_hand():
    # 14 x 14 = 196 tokens of 64 channels
    expected = {
        "global filter": (14 * 8 * 2 * 64, 64 * (2.5 * 196 * 7.614709844 + 3 * 14 * 8)),
        "depth-wise convolution": (49 * 64, 49 * 196 * 64),
        "self-attention": (4 * 64 * 64, 196 * 4 * 64 * 64 + 2 * 196 * 196 * 64),
        "spatial MLP": (196 * 196, 196 * 196 * 64),
    }
    for name, (params, flops) in expected.items():
        assert MIXERS[name].params(14) == params
        assert MIXERS[name].flops(14) == pytest.approx(flops)


def test_mixers_have_the_expected_receptive_fields_and_outputs():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 6, DIM, dtype=torch.float64)
    modules = {name: mixer.build(6).double() for name, mixer in MIXERS.items()}
    for name, module in modules.items():
        y = module(x)
        assert y.shape == x.shape
        moved = x.clone()
        moved[0, 0, 0] += 1
        changed = (module(moved) - y)[0].abs().amax(-1) > 1e-12
        # From the corner a kernel of 7 reaches 3 pixels, the other mixers reach the whole map.
        assert changed.sum() == (16 if name == "depth-wise convolution" else 36), name
        assert torch.equal(module(moved)[1], y[1])

    attention = modules["self-attention"]
    q, k, v = attention.qkv(x).reshape(2, 36, 3, DIM).unbind(2)
    weights = (q @ k.transpose(1, 2) / DIM**0.5).softmax(-1)
    expected = attention.proj(weights @ v).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)

    mlp = modules["spatial MLP"]
    torch.nn.init.normal_(mlp.weight)
    expected = torch.einsum("nm,bmc->bnc", mlp.weight, x.reshape(2, 36, DIM)).reshape(x.shape)
    torch.testing.assert_close(mlp(x), expected)


def test_cases_run_for_each_mixer_and_size():
    settings = Settings(train=True, batch_size=2)
    made = cases([7, 14], settings)
    assert [(c.series, c.size) for c in made] == [(n, s) for n in MIXERS for s in (7, 14)]
    for case in made:
        record = run(case.size, **case.options)
        assert record["batch_size"] == 2 and record["latencies"]
        assert record["params"] == MIXERS[case.series].params(case.size)
