"""The fast paths of the backbone against the plain one, block by block."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.backbones import base
from gfnet_dense.models.layers import block as layers
from gfnet_dense.models.layers import chunked_mlp, global_filter, spectral
from gfnet_dense.models.layers.block import Block

ARCH = dict(dims=(8, 16), depths=(2, 1), layer_scale_init_value=0.3)
SHAPES = [(1, 3, 64, 64), (3, 3, 37, 90), (2, 3, 120, 33)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks and groups so small that tiny maps are cut, across samples too."""
    monkeypatch.setattr(chunked_mlp, "CPU_CHUNK_BYTES", 2**14)
    monkeypatch.setattr(chunked_mlp, "CPU_TRAIN_CHUNK_BYTES", 2**14)
    monkeypatch.setattr(chunked_mlp, "MIN_CHUNK", 1)
    monkeypatch.setattr(spectral, "CPU_GROUP_BYTES", 2**12)


@pytest.fixture
def inferences(monkeypatch):
    """Counts the uses of the fast path."""
    calls, infer = [], base.infer
    monkeypatch.setattr(base, "infer", lambda *args: calls.append(1) or infer(*args))
    return calls


def hierarchical(**kwargs):
    torch.manual_seed(0)
    return randomize(GFNet(ARCH, img_size=64, out_indices=(0, 1), **kwargs))


def isotropic(**kwargs):
    torch.manual_seed(0)
    arch = dict(dim=8, depth=4, layer_scale_init_value=kwargs.pop("layer_scale_init_value", None))
    return randomize(IsotropicGFNet(arch, img_size=64, out_indices=(0, 2), **kwargs))


def randomize(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def assert_fast_is_plain(model, x, rtol=1e-5):
    plain = model(x)
    with torch.no_grad():
        fast = model(x)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and a.is_contiguous()
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("border", global_filter.BORDERS)
@pytest.mark.parametrize("build", [hierarchical, isotropic])
def test_same_maps_as_block_by_block(build, border, inferences):
    model = build(border=border)
    for shape in SHAPES:
        x = torch.randn(shape)
        kept = x.clone()
        assert_fast_is_plain(model, x)
        assert torch.equal(x, kept)
    assert len(inferences) == 2 * len(SHAPES)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "spectral_pad"])
def test_same_maps_with_other_resizing(mode):
    assert_fast_is_plain(hierarchical(filter_resize=mode), torch.randn(SHAPES[1]))


def test_same_maps_in_float64():
    assert_fast_is_plain(hierarchical().double(), torch.randn(SHAPES[1]).double(), rtol=1e-13)


@pytest.mark.parametrize("build", [hierarchical, isotropic])
def test_same_maps_under_autocast(build):
    with torch.autocast("cpu", torch.bfloat16):
        assert_fast_is_plain(build(), torch.randn(SHAPES[1]), rtol=2e-2)


def test_filters_too_large_to_keep_are_resized_in_groups(monkeypatch):
    monkeypatch.setattr(global_filter.GlobalFilter, "CACHE_BYTES", 0)
    for border in global_filter.BORDERS:
        model = hierarchical(border=border)
        assert_fast_is_plain(model, torch.randn(SHAPES[1]))
        assert not model.blocks[0][0].filter._cache


def test_weights_that_change_are_used():
    model, x = hierarchical(), torch.randn(1, 3, 50, 70)
    average = ExponentialMovingAverage(model)
    assert_fast_is_plain(model, x)
    randomize(average.module)
    # As mmengine's EMAHook swaps them
    for mine, other in zip(model.parameters(), average.module.parameters(), strict=True):
        mine.data.copy_(other.data)
    assert_fast_is_plain(model.eval(), x)
    model.load_state_dict({k: 2 * v for k, v in model.state_dict().items()})
    assert_fast_is_plain(model, x)
    assert_fast_is_plain(copy.deepcopy(model), x)
    assert_fast_is_plain(model.train().eval(), x)
    assert_fast_is_plain(model.double(), x.double(), rtol=1e-13)
    with torch.no_grad():
        for block in model.blocks[0]:
            block.gamma += 1
            block.mlp.fc2.weight *= 2
    assert_fast_is_plain(model, x.double(), rtol=1e-13)


def test_nothing_is_left_behind():
    """But for resized filters, in the cache of the layer, which is not saved."""
    model = hierarchical()
    keys = list(model.state_dict())
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    with torch.inference_mode():
        model(torch.randn(1, 3, 64, 64))
        model(torch.randn(1, 3, 50, 70))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert list(model.state_dict()) == keys and not list(model.buffers())


def test_hooks_see_what_they_see_block_by_block(inferences):
    model, x, seen = hierarchical(), torch.randn(1, 3, 64, 64), []
    for module in (model.blocks[0][0], model.blocks[0][1].mlp, model.norm0):
        module.register_forward_hook(lambda module, args, output: seen.append(output))
    model(x)
    with torch.no_grad():
        model(x)
    assert len(seen) == 6 and not inferences
    for plain, again in zip(seen[:3], seen[3:], strict=True):
        torch.testing.assert_close(again, plain)


def test_stochastic_depth_stays_in_training(inferences):
    model, x = hierarchical(drop_path_rate=0.9).train(), torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model(x)[1], model(x)[1])
    assert not inferences


def test_blocks_that_are_not_ours_are_called(inferences):
    class Doubled(Block):
        def forward(self, x):
            return 2 * super().forward(x)

    model = hierarchical()
    model.blocks[0][1].__class__ = Doubled
    assert_fast_is_plain(model, torch.randn(1, 3, 64, 64))
    assert not inferences


class LargestTensor(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that an operator makes."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        # bytes: never touched, see keep_freed_memory
        sizes = [t.numel() for t in tensors if t.dtype != torch.uint8]
        self.largest = max(self.largest, *sizes, 0)
        return result


@pytest.mark.parametrize("border", ["circular", "zeros"])
def test_no_temporary_is_as_large_as_a_hidden_layer(border):
    model = GFNet(dict(dims=(64,), depths=(2,)), img_size=256, out_indices=(0,), border=border)
    with torch.inference_mode(), LargestTensor() as mode:
        model.eval()(torch.randn(1, 3, 256, 256))
    assert mode.largest < 4 * 64 * 64 * 64  # as large as the hidden layer of an mlp


def test_large_images_keep_no_resized_filters_in_whole(monkeypatch):
    monkeypatch.setattr(global_filter.GlobalFilter, "CACHE_BYTES", 0)
    model = GFNet(dict(dims=(64,), depths=(1,)), img_size=32, out_indices=(0,)).eval()
    layer = model.blocks[0][0].filter
    with torch.inference_mode(), LargestTensor() as mode:
        layer.filter_(torch.randn(1, 64, 128, 128))
    # Columns of all channels, of which the stored filter has 8 rows; rows of few channels
    assert mode.largest <= max(64 * 128 * 128, 64 * 8 * 65 * 2)


@pytest.fixture
def always_recompute(monkeypatch):
    monkeypatch.setattr(chunked_mlp, "LARGE_BYTES", 0)


@pytest.mark.parametrize("shape", [(1, 6, 6, 4), (3, 7, 10, 4)])
def test_recomputed_hidden_layer_gives_the_same_gradients(shape, monkeypatch):
    block = Block(4, (6, 6), 0.0, 0.3, "trigonometric", "circular").double()
    randomize(block).train()
    x, gradient = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    results = []
    for limit in (2**40, 0):
        monkeypatch.setattr(chunked_mlp, "LARGE_BYTES", limit)
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, shapes=shapes: shapes.append(t.shape) or t, lambda t: t
        ):
            y = block(x)
        assert any(16 in s[-1:] and s.numel() > 16 * 4 for s in shapes) == (limit > 0)
        results.append([y, *torch.autograd.grad(y, [x, *block.parameters()], gradient)])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=1e-12)


def test_gradients_of_the_recomputed_hidden_layer_by_finite_differences(always_recompute):
    block = randomize(Block(2, (3, 4), 0.0, 0.3, "trigonometric", "zeros").double())
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]

    def run(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(block, values, (x,))

    assert torch.autograd.gradcheck(run, (x, *block.parameters()))


def test_frozen_weights_and_checkpointing_with_the_recomputed_hidden_layer(always_recompute):
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for with_cp in (False, True):
        model = hierarchical(with_cp=with_cp, frozen_stages=1).train()
        sum(map(torch.sum, model(x))).backward()
        gradients.append({k: p.grad for k, p in model.named_parameters()})
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == (not parameter.requires_grad), name
    torch.testing.assert_close(*gradients)


def test_autocast_and_other_modules_take_the_plain_mlp(always_recompute):
    model, x = hierarchical(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        model(x)[1].float().sum().backward()
    model.blocks[0][0].mlp = torch.nn.Identity()
    model.blocks[0][1].mlp.fc1 = torch.nn.Sequential(model.blocks[0][1].mlp.fc1)
    model(x)[1].sum().backward()


def test_memory_layout_of_filters_is_the_usual():
    """Optimizers, safetensors and FSDP want contiguous parameters."""
    assert all(p.is_contiguous() for p in hierarchical().parameters())


def test_compiled_training_of_stages_of_different_size():
    model, x = hierarchical().train(), torch.randn(2, 3, 64, 96)
    gradients = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        sum(out.square().mean() for out in run(x)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_traced_graph_takes_other_batches():
    model = hierarchical()
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.randn(2, 3, 64, 64), check_trace=False)
        x = torch.randn(5, 3, 64, 64)
        torch.testing.assert_close(traced(x), model(x))


def test_hooks_in_training_work_as_with_the_plain_mlp(always_recompute):
    block, fired = randomize(Block(4, (6, 6), 0.0, 0.3, "trigonometric", "circular")).train(), []
    x = torch.randn(1, 6, 6, 4)
    fc1 = block.mlp.fc1
    hook = fc1.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    y = block(x)
    hook.remove()
    with torch.no_grad():
        fc1.weight *= 2
    torch.testing.assert_close(block(x), y)
    block.norm2.register_full_backward_pre_hook(lambda *args: fired.append(1))
    block(x).sum().backward()
    assert fired


def test_autocast_around_the_backward(always_recompute):
    block = randomize(Block(4, (6, 6), 0.0, 0.3, "trigonometric", "circular")).train()
    x = torch.randn(1, 6, 6, 4)
    expected = torch.autograd.grad(block(x).sum(), block.parameters())
    y = block(x).sum()
    with torch.autocast("cpu", torch.bfloat16):
        gradients = torch.autograd.grad(y, block.parameters())
    torch.testing.assert_close(gradients, expected)


def test_hidden_layers_that_are_kept_give_the_same_gradients(monkeypatch):
    """Also if the number of threads, on which chunks depend, changes before the backward."""
    block = randomize(Block(4, (9, 9), 0.0, 0.3, "trigonometric", "circular").double()).train()
    x = torch.randn(2, 9, 9, 4, dtype=torch.float64)
    gradients = []
    for chunked in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(layers, "can_chunk", lambda *args, value=chunked: value)
            patch.setattr(chunked_mlp, "CPU_TRAIN_CHUNK_BYTES", 2**11)
            y = block(x).square().sum()
            patch.setattr(chunked_mlp, "CPU_TRAIN_CHUNK_BYTES", 2**13)
            gradients.append(torch.autograd.grad(y, block.parameters()))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "replace",
    [
        lambda m: setattr(m, "norm0", torch.nn.InstanceNorm2d(16)),
        lambda m: setattr(m.blocks[0][1], "drop_path", torch.nn.LeakyReLU()),
        lambda m: setattr(m.blocks[0][1].mlp, "forward", lambda x: 2 * x),
        lambda m: torch.nn.utils.spectral_norm(m.blocks[1][0].mlp.fc1),
    ],
)
def test_replaced_modules_are_called_as_block_by_block(replace, inferences):
    model = hierarchical()
    replace(model)
    assert_fast_is_plain(model.eval(), torch.randn(1, 3, 64, 64))
    assert not inferences


@pytest.mark.parametrize("build", [hierarchical, isotropic])
def test_maps_that_hooks_keep_are_not_overwritten(build):
    seen = []
    for watched in ("patch_embed", "blocks.0"):
        model = build()
        modules = [m for n, m in model.named_modules() if n.startswith(watched)]
        for module in modules:
            module.register_forward_hook(lambda m, a, out: seen.append((out, out.detach().clone())))
        with torch.no_grad():
            model(torch.randn(1, 3, 64, 64))
    assert seen and all(torch.equal(kept, copy) for kept, copy in seen)


def test_hooks_of_all_modules_are_called():
    model, seen = hierarchical(), []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, args, output: seen.append(type(module))
    )
    try:
        with torch.no_grad():
            model(torch.randn(1, 3, 64, 64))
    finally:
        hook.remove()
    assert seen.count(Block) == 3
