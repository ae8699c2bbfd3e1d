"""Backbones in graphs of other tools: compiled, traced, exported, and their FLOPs counted."""

import io

import pytest
import torch
from mmengine.analysis import FlopAnalyzer

from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.backbones import gfnet_base

ARCH = dict(dims=(4, 8), depths=(1, 1), layer_scale_init_value=0.3)


def small(**kwargs):
    return GFNet(ARCH, img_size=64, out_indices=(0, 1), **kwargs)


def gradients(run, model, x):
    sum(y.square().mean() for y in run(x)).backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    "build, size",
    [
        (small, (64, 64)),  # the size of the filters
        (lambda: small(border="zeros", with_cp=True), (64, 90)),
        (lambda: small(border="reflect", test_border="zeros"), (70, 97)),
        (lambda: small(filter_resize="bilinear"), (64, 90)),
        (lambda: IsotropicGFNet(dict(dim=4, depth=2), img_size=64), (90, 70)),
        (lambda: HorNet(dict(dims=(4, 8, 16), depths=(1, 1, 1)), 64, (0, 2)), (90, 70)),
    ],
    ids=["stored", "zeros", "reflect", "bilinear", "isotropic", "hornet"],
)
def test_the_whole_backbone_compiles_to_one_graph_with_the_same_results(build, size):
    model, x = build(), torch.randn(2, 3, *size)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        gradients(compiled, model, x), gradients(model, model, x), rtol=1e-4, atol=1e-5
    )
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_one_graph_serves_images_of_several_sizes():
    """There is another graph for sizes that are padded."""
    model = GFNet(dict(dims=(4,), depths=(1,)), img_size=64, out_indices=(0,))
    torch._dynamo.reset()
    graphs = []
    compiled = torch.compile(
        model, fullgraph=True, backend=lambda g, _: graphs.append(g) or g.forward, dynamic=True
    )
    with torch.no_grad():
        for size in [(72, 100), (96, 76), (128, 104)]:
            x = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (70, 97)])
def test_a_trace_gives_the_same_maps_and_gradients_and_can_be_saved(train, size):
    model, x = small(border="zeros").train(train), torch.randn(2, 3, *size)
    traced = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x), model(x))
    torch.testing.assert_close(
        gradients(traced, model, x), gradients(model, model, x), rtol=1e-4, atol=1e-5
    )
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(file)(x), model(x))


def test_torch_export_takes_the_backbone_with_any_batch_size():
    model, x = small().eval(), torch.randn(3, 3, 70, 97)
    batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (x,), dynamic_shapes=batch)
    with torch.no_grad():
        for images in (x, x[:1]):
            torch.testing.assert_close(
                program.module()(images), model(images), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("border", ["circular", "zeros"])
@pytest.mark.parametrize("size", [(64, 64), (70, 97)])
def test_flops_of_mmengine_are_those_of_the_zoo_and_those_of_norms(size, border):
    """get_flops.py of mmsegmentation prints the total. Resizing counts for neither."""
    model = small(border=border).eval()
    analyzer = FlopAnalyzer(model, torch.randn(1, 3, *size))
    counts = analyzer.by_operator()
    expected = count_flops(model, size)
    assert counts["spectral_filter"] == pytest.approx(expected.filters, abs=1)
    assert sum(counts.values()) - counts["layer_norm"] == pytest.approx(expected.total, abs=1)
    assert not [name for name in analyzer.unsupported_ops() if "fft" in name]


def test_torch_func_calls_the_backbone_with_other_weights_and_each_sample_alone():
    model, x = small(), torch.randn(2, 3, 70, 97)

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,))[1].square().sum()

    found = torch.func.grad(loss)(dict(model.named_parameters()), x)
    loss(dict(model.named_parameters()), x).backward()
    parameters = dict(model.named_parameters())
    of_samples = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x[:, None])
    for name, parameter in parameters.items():
        if parameter.grad is not None:  # norm0 belongs to the other output
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(
                of_samples[name].sum(0), parameter.grad, rtol=1e-3, atol=1e-4
            )


def test_fast_inference_is_for_cpus_alone(monkeypatch):
    monkeypatch.setattr(gfnet_base, "infer", None)
    with torch.device("meta"), torch.no_grad():
        maps = small().eval()(torch.empty(1, 3, 70, 97))
    assert [tuple(y.shape) for y in maps] == [(1, 4, 18, 25), (1, 8, 9, 13)]
