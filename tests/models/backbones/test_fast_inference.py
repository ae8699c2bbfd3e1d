"""Fast inference and training of the backbones, compared with the plain forward of each block."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.backbones import gfnet_base, hornet
from gfnet_dense.models.layers import base_filter, chunked_mlp, spectral
from gfnet_dense.models.layers.block import Block

ARCH = dict(dims=(8, 16), depths=(2, 1), layer_scale_init_value=0.3)
SHAPES = [(1, 3, 64, 64), (3, 3, 37, 90), (2, 3, 120, 33)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Make chunks and groups so small that even tiny maps and batches are divided."""
    monkeypatch.setattr(chunked_mlp, "CPU_CHUNK_BYTES", 2**14)
    monkeypatch.setattr(chunked_mlp, "MIN_CHUNK", 1)
    monkeypatch.setattr(spectral, "CPU_GROUP_BYTES", 2**12)


@pytest.fixture
def fast_path_calls(monkeypatch):
    """Record each use of the fast path."""
    calls = []
    for module in (gfnet_base, hornet):

        def recorded(*args, infer=module.infer):
            calls.append(1)
            return infer(*args)

        monkeypatch.setattr(module, "infer", recorded)
    return calls


def hierarchical(**kwargs):
    torch.manual_seed(0)
    return randomize(GFNet(ARCH, img_size=64, out_indices=(0, 1), **kwargs))


def isotropic(**kwargs):
    torch.manual_seed(0)
    arch = dict(dim=8, depth=4, layer_scale_init_value=kwargs.pop("layer_scale_init_value", None))
    return randomize(IsotropicGFNet(arch, img_size=64, out_indices=(0, 2), **kwargs))


def recursive(**kwargs):
    """A HorNet with global filters in its last two stages."""
    torch.manual_seed(0)
    arch = dict(dims=(4, 8, 16, 32), depths=(1, 2, 2, 1), layer_scale_init_value=0.3)
    return randomize(HorNet(arch, img_size=64, out_indices=(0, 2, 3), **kwargs))


def recursive_7x7(**kwargs):
    torch.manual_seed(0)
    arch = dict(dims=(4, 8, 16), depths=(1, 2, 1), filters=False)
    return randomize(HorNet(arch, out_indices=(1, 2), **kwargs))


def randomize(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def assert_fast_equals_plain(model, x, rtol=1e-5):
    plain = model(x)
    with torch.no_grad():
        fast = model(x)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and a.is_contiguous()
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("border", base_filter.BORDERS)
@pytest.mark.parametrize("build", [hierarchical, isotropic, recursive, recursive_7x7])
def test_fast_path_gives_the_maps_of_the_plain_forward(build, border, fast_path_calls):
    model = build(border=border)
    for shape in SHAPES:
        x = torch.randn(shape)
        kept = x.clone()
        assert_fast_equals_plain(model, x)
        assert torch.equal(x, kept)
    if build in (hierarchical, isotropic):
        assert len(fast_path_calls) == 2 * len(SHAPES)  # stages, or outputs
    else:
        assert len(fast_path_calls) == len(model.depths) * len(SHAPES)


@pytest.mark.parametrize("build", [hierarchical, recursive])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "spectral_pad"])
def test_fast_path_gives_the_same_maps_with_other_filter_resize_modes(mode, build):
    assert_fast_equals_plain(build(filter_resize=mode), torch.randn(SHAPES[1]))


@pytest.mark.parametrize("build", [hierarchical, recursive])
def test_fast_path_gives_the_same_maps_in_float64(build):
    assert_fast_equals_plain(build().double(), torch.randn(SHAPES[1]).double(), rtol=1e-13)


@pytest.mark.parametrize("build", [hierarchical, isotropic, recursive])
def test_fast_path_gives_the_same_maps_under_autocast(build):
    with torch.autocast("cpu", torch.bfloat16):
        assert_fast_equals_plain(build(), torch.randn(SHAPES[1]), rtol=2e-2)


def test_filters_too_large_for_the_cache_are_resized_in_groups(monkeypatch):
    monkeypatch.setattr(base_filter.BaseFilter, "CACHE_BYTES", 0)
    for border in base_filter.BORDERS:
        model = hierarchical(border=border)
        assert_fast_equals_plain(model, torch.randn(SHAPES[1]))
        assert not model.blocks[0][0].filter._cache


def test_fast_path_uses_weights_that_changed_after_the_last_forward():
    model, x = hierarchical(), torch.randn(1, 3, 50, 70)
    average = ExponentialMovingAverage(model)
    assert_fast_equals_plain(model, x)
    randomize(average.module)
    # mmengine's EMAHook swaps weights like this
    for mine, other in zip(model.parameters(), average.module.parameters(), strict=True):
        mine.data.copy_(other.data)
    assert_fast_equals_plain(model.eval(), x)
    model.load_state_dict({k: 2 * v for k, v in model.state_dict().items()})
    assert_fast_equals_plain(model, x)
    assert_fast_equals_plain(copy.deepcopy(model), x)
    assert_fast_equals_plain(model.train().eval(), x)
    assert_fast_equals_plain(model.double(), x.double(), rtol=1e-13)
    with torch.no_grad():
        for block in model.blocks[0]:
            block.gamma += 1
            block.mlp.fc2.weight *= 2
    assert_fast_equals_plain(model, x.double(), rtol=1e-13)


def test_inference_adds_no_attributes_buffers_or_state_dict_keys():
    """Resized filters stay in the cache of their layer, which is not saved."""
    model = hierarchical()
    keys = list(model.state_dict())
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    with torch.inference_mode():
        model(torch.randn(1, 3, 64, 64))
        model(torch.randn(1, 3, 50, 70))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert list(model.state_dict()) == keys and not list(model.buffers())


def test_forward_hooks_get_the_same_outputs_without_gradients(fast_path_calls):
    model, x, seen = hierarchical(), torch.randn(1, 3, 64, 64), []
    for module in (model.blocks[0][0], model.blocks[0][1].mlp, model.norm0):
        module.register_forward_hook(lambda module, args, output: seen.append(output))
    model(x)
    with torch.no_grad():
        model(x)
    assert len(seen) == 6 and not fast_path_calls
    for plain, again in zip(seen[:3], seen[3:], strict=True):
        torch.testing.assert_close(again, plain)


def test_stochastic_depth_is_active_in_training_mode_without_gradients(fast_path_calls):
    model, x = hierarchical(drop_path_rate=0.9).train(), torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model(x)[1], model(x)[1])
    assert not fast_path_calls


def test_subclasses_of_block_are_called_instead_of_the_fast_path(fast_path_calls):
    class Doubled(Block):
        def forward(self, x):
            return 2 * super().forward(x)

    model = hierarchical()
    model.blocks[0][1].__class__ = Doubled
    assert_fast_equals_plain(model, torch.randn(1, 3, 64, 64))
    assert not fast_path_calls


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operator returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.largest = max(self.largest, *(t.numel() for t in tensors), 0)
        return result


@pytest.mark.parametrize("border", ["circular", "zeros"])
def test_no_temporary_is_as_large_as_the_hidden_layer_of_an_mlp(border):
    model = GFNet(dict(dims=(64,), depths=(2,)), img_size=256, out_indices=(0,), border=border)
    with torch.inference_mode(), LargestTensor() as mode:
        model.eval()(torch.randn(1, 3, 256, 256))
    assert mode.largest < 4 * 64 * 64 * 64  # elements of the hidden layer of an mlp


def test_large_images_need_no_whole_resized_filter(monkeypatch):
    monkeypatch.setattr(base_filter.BaseFilter, "CACHE_BYTES", 0)
    model = GFNet(dict(dims=(64,), depths=(1,)), img_size=32, out_indices=(0,)).eval()
    layer = model.blocks[0][0].filter
    with torch.inference_mode(), LargestTensor() as mode:
        layer.filter_(torch.randn(1, 64, 128, 128))
    # The map; or 8 stored rows, each resized to 65 columns, of all channels
    assert mode.largest <= max(64 * 128 * 128, 64 * 8 * 65 * 2)


@pytest.fixture
def always_recompute(monkeypatch):
    """Recompute hidden layers of any size in the backward."""
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


def test_recomputed_hidden_layer_passes_gradcheck(always_recompute):
    block = randomize(Block(2, (3, 4), 0.0, 0.3, "trigonometric", "zeros").double())
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]

    def run(x, *parameters):
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(block, values, (x,))

    assert torch.autograd.gradcheck(run, (x, *block.parameters()))


def test_recomputed_hidden_layer_works_with_frozen_stages_and_checkpointing(always_recompute):
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for with_cp in (False, True):
        model = hierarchical(with_cp=with_cp, frozen_stages=1).train()
        sum(map(torch.sum, model(x))).backward()
        gradients.append({k: p.grad for k, p in model.named_parameters()})
        for name, parameter in model.named_parameters():
            assert (parameter.grad is None) == (not parameter.requires_grad), name
    torch.testing.assert_close(*gradients)


def test_training_runs_under_autocast_and_with_replaced_mlp_modules(always_recompute):
    model, x = hierarchical(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        model(x)[1].float().sum().backward()
    first, second = model.blocks[0][:2]
    for block in (first, second):
        assert block.mlp.fc1.weight.grad.isfinite().all() and block.mlp.fc1.weight.grad.any()
    expected = model(x)[1]
    second.mlp.fc1 = torch.nn.Sequential(second.mlp.fc1)  # the plain mlp, with the same numbers
    torch.testing.assert_close(model(x)[1], expected, rtol=1e-4, atol=1e-5)
    first.mlp = torch.nn.Identity()
    out = model(x)[1]
    assert not torch.allclose(out, expected, rtol=1e-3)
    out.sum().backward()


def test_all_parameters_are_contiguous():
    """Optimizers, safetensors and FSDP want contiguous parameters."""
    assert all(p.is_contiguous() for p in hierarchical().parameters())


def test_compiled_model_gives_the_same_gradients_for_stages_of_different_size():
    model, x = hierarchical().train(), torch.randn(2, 3, 64, 96)
    gradients = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        sum(out.square().mean() for out in run(x)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_traced_model_takes_other_batch_sizes():
    model = hierarchical()
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.randn(2, 3, 64, 64), check_trace=False)
        x = torch.randn(5, 3, 64, 64)
        torch.testing.assert_close(traced(x), model(x))


def test_hooks_inside_a_block_are_called_in_training(always_recompute):
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


def test_autocast_around_the_backward_does_not_change_the_gradients(always_recompute):
    block = randomize(Block(4, (6, 6), 0.0, 0.3, "trigonometric", "circular")).train()
    x = torch.randn(1, 6, 6, 4)
    expected = torch.autograd.grad(block(x).sum(), block.parameters())
    y = block(x).sum()
    with torch.autocast("cpu", torch.bfloat16):
        gradients = torch.autograd.grad(y, block.parameters())
    torch.testing.assert_close(gradients, expected)


def test_chunked_mlp_that_keeps_the_hidden_layer_gives_the_same_gradients(monkeypatch):
    """Between forward and backward the chunk size may change with the number of threads."""
    block = randomize(Block(4, (9, 9), 0.0, 0.3, "trigonometric", "circular").double()).train()
    x = torch.randn(2, 9, 9, 4, dtype=torch.float64)
    gradients = []
    for chunked in (False, True):
        with monkeypatch.context() as patch:
            can_chunk = "gfnet_dense.models.layers.block.can_chunk"
            patch.setattr(can_chunk, lambda *args, value=chunked: value)
            patch.setattr(chunked_mlp, "CPU_CHUNK_BYTES", 2**11)
            y = block(x).square().sum()
            patch.setattr(chunked_mlp, "CPU_CHUNK_BYTES", 2**13)
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
def test_replaced_modules_are_called_instead_of_the_fast_path(replace, fast_path_calls):
    model = hierarchical()
    replace(model)
    assert_fast_equals_plain(model.eval(), torch.randn(1, 3, 64, 64))
    assert not fast_path_calls


@pytest.mark.parametrize(
    "replace",
    [
        lambda m: setattr(m, "norm0", torch.nn.InstanceNorm2d(4)),
        lambda m: setattr(m.stages[2][1].gnconv, "dwconv", torch.nn.Identity()),
        lambda m: setattr(m.stages[2][1].gnconv.dwconv, "forward", lambda x: 2 * x),
        lambda m: torch.nn.utils.spectral_norm(m.stages[0][0].pwconv1),
    ],
)
def test_replaced_modules_of_a_hornet_are_called(replace, fast_path_calls):
    model = recursive()
    replace(model)
    assert_fast_equals_plain(model.eval(), torch.randn(1, 3, 64, 64))
    assert not fast_path_calls


@pytest.mark.parametrize("build", [hierarchical, isotropic, recursive])
def test_maps_that_hooks_keep_are_not_overwritten(build):
    seen = []
    for watched in ("patch_embed", "blocks.0", "downsample_layers", "stages.0"):
        model = build()
        modules = [m for n, m in model.named_modules() if n.startswith(watched)]
        for module in modules:
            module.register_forward_hook(lambda m, a, out: seen.append((out, out.detach().clone())))
        with torch.no_grad():
            model(torch.randn(1, 3, 64, 64))
    assert seen and all(torch.equal(kept, copy) for kept, copy in seen)


def test_global_forward_hooks_are_called_for_each_block():
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
