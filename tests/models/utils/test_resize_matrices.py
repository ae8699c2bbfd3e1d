"""The matrices that resize an axis: their values, and keeping them as tensors."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from gfnet_dense.models.utils import resize_matrices
from gfnet_dense.models.utils.filter_resize import (
    FILTER_RESIZE_MODES,
    resize_filter,
    resize_position_embedding,
)
from gfnet_dense.models.utils.resize_matrices import (
    apply_matrix,
    shifted_bilinear,
    trigonometric_matrix,
    used_samples,
)

SIZE, NEW_SIZE = (6, 7), (9, 12)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(resize_matrices, "_kept", {})


def parameters(requires_grad=False):
    weight = torch.randn(6, 4, 3, 2, requires_grad=requires_grad)
    return weight, torch.randn(1, 42, 3, requires_grad=requires_grad)


def resize(weight, embedding, mode="trigonometric", new_size=NEW_SIZE):
    return (
        resize_filter(weight, SIZE, new_size, mode),
        resize_position_embedding(embedding, SIZE, new_size),
    )


def gradients(results, weight, embedding):
    return torch.autograd.grad(sum(each.pow(3).sum() for each in results), (weight, embedding))


def assert_equal(results, expected, atol=0):
    for result, want in zip(results, expected, strict=True):
        torch.testing.assert_close(result, want, rtol=0, atol=atol)


# ---- values ------------------------------------------------------------------------------------

KINDS = [("bicubic", "bicubic", False), ("bicubic_corners", "bicubic", True),
         ("bilinear_corners", "bilinear", True)]  # fmt: skip


@pytest.mark.parametrize("kind, mode, corners", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 14, 56])
@pytest.mark.parametrize("m", [1, 2, 3, 8, 13, 14, 56, 128, 171])
def test_interpolation_equals_that_of_pytorch(kind, mode, corners, n, m):
    x = torch.randn(n, 5, dtype=torch.float64)
    image = x.t()[None, :, :, None]  # one column wide, which is resized to one column
    expected = F.interpolate(image, size=(m, 1), mode=mode, align_corners=corners)[0, :, :, 0].t()
    assert_equal([apply_matrix(kind, n, m, x)], [expected], atol=1e-12)
    assert_equal([apply_matrix(kind, n, m, x.float()).double()], [expected], atol=2e-6)


def test_a_constant_stays_constant_at_every_length():
    for kind, *_ in KINDS:
        for n in range(1, 12):
            for m in range(1, 25):
                rows = apply_matrix(kind, n, m, torch.ones(n, 1, dtype=torch.float64))
                assert_equal([rows], [torch.ones(m, 1, dtype=torch.float64)], atol=1e-13)


# ---- keeping -----------------------------------------------------------------------------------


def test_a_matrix_is_made_once_for_each_size_dtype_and_device(monkeypatch):
    made = []
    make = resize_matrices._make
    monkeypatch.setattr(resize_matrices, "_make", lambda *key: made.append(key) or make(*key))
    weight, embedding = parameters()
    for _ in range(3):
        resize(weight, embedding)
    # Rows and columns of the filter, rows and columns of the embedding.
    assert len(made) == 4
    resize(weight.double(), embedding.double())
    resize(weight.to("meta"), embedding.to("meta"))
    assert len(made) == len(set(made)) == 12


def test_matrices_are_bounded_in_number_and_bytes(monkeypatch):
    kept = resize_matrices._kept
    monkeypatch.setattr(resize_matrices, "MAX_MATRICES", 3)
    x = torch.randn(4, 1)
    for m in (5, 6, 7, 5, 8):
        apply_matrix("bicubic", 4, m, x)
    assert [key[2] for key in kept] == [7, 5, 8]  # 6 was not used for longest
    monkeypatch.setattr(resize_matrices, "MAX_BYTES", 4 * 4 * (5 + 8))
    apply_matrix("bicubic", 4, 5, x)
    apply_matrix("bicubic", 4, 9, x)
    assert [key[2] for key in kept] == [9]
    expected = trigonometric_matrix(4, 100) @ x.double().numpy()
    np.testing.assert_allclose(apply_matrix("trigonometric", 4, 100, x), expected, atol=1e-6)
    assert not kept  # a matrix above the limit is used, not kept


def test_matrices_that_a_cuda_graph_reads_are_never_forgotten(monkeypatch):
    monkeypatch.setattr(resize_matrices, "_captured", {})
    monkeypatch.setattr(resize_matrices, "MAX_MATRICES", 1)
    x = torch.randn(4, 1)
    with monkeypatch.context() as patch:
        patch.setattr(resize_matrices, "records_cuda_graph", lambda: True)
        apply_matrix("bicubic", 4, 5, x)
    matrix = next(iter(resize_matrices._kept.values()))
    apply_matrix("bicubic", 4, 6, x)
    assert [key[2] for key in resize_matrices._kept] == [6]
    assert [each is matrix for each in resize_matrices._captured.values()] == [True]


@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
def test_training_works_after_the_first_use_in_inference_mode(mode):
    weight, embedding = parameters(requires_grad=True)
    with torch.inference_mode():
        first = [each.clone() for each in resize(weight, embedding, mode)]
    assert not any(matrix.is_inference() for matrix in resize_matrices._kept.values())
    found = gradients(resize(weight, embedding, mode), weight, embedding)
    resize_matrices._kept.clear()
    assert_equal(found, gradients(resize(weight, embedding, mode), weight, embedding))
    assert_equal(first, resize(weight, embedding, mode))


@pytest.mark.parametrize("first", ["fake", "real"])
def test_fake_tensors_are_neither_kept_nor_mixed_with_kept_ones(first):
    weight, embedding = parameters(requires_grad=True)
    if first == "real":
        resize(weight, embedding)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(each) for each in (weight, embedding)]
        for mode_name in FILTER_RESIZE_MODES:
            results = resize(*fake, mode_name)
            assert all(isinstance(each, FakeTensor) for each in results)
            assert [tuple(each.shape) for each in results] == [(9, 7, 3, 2), (1, 108, 3)]
    assert not any(isinstance(matrix, FakeTensor) for matrix in resize_matrices._kept.values())
    assert all(each.isfinite().all() for each in resize(weight, embedding))


@pytest.mark.parametrize("context", [lambda: torch.device("meta"), torch.no_grad])
def test_the_contexts_of_the_first_use_do_not_matter(context):
    weight, embedding = parameters()
    with context():
        first = resize(weight, embedding)
    assert all(matrix.device.type == "cpu" for matrix in resize_matrices._kept.values())
    resize_matrices._kept.clear()
    assert_equal(first, resize(weight, embedding))


def test_transformations_of_torch_func_leave_plain_matrices():
    weight, embedding = parameters(requires_grad=True)

    def loss(weight, embedding):
        return sum(each.pow(3).sum() for each in resize(weight, embedding))

    found = torch.func.grad(loss, argnums=(0, 1))(weight.detach(), embedding.detach())
    batch = [torch.stack([each.detach(), each.detach()]) for each in (weight, embedding)]
    batched = torch.func.vmap(resize)(*batch)
    expected = gradients(resize(weight, embedding), weight, embedding)
    assert_equal(found, expected, atol=1e-5)
    assert_equal([each[1] for each in batched], resize(*(each[1] for each in batch)), atol=1e-6)


def test_threads_share_the_matrices(monkeypatch):
    monkeypatch.setattr(resize_matrices, "MAX_MATRICES", 4)  # each thread discards those of others
    weight, embedding = parameters()
    sizes = [(8 + i % 7, 9 + i % 5) for i in range(60)]
    expected = [resize(weight, embedding, new_size=size) for size in sizes]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda size: resize(weight, embedding, new_size=size), sizes)
        for results, want in zip(found, expected, strict=True):
            assert_equal(results, want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_uses_and_adds_matrices():
    weight, embedding = parameters()
    before = resize(weight, embedding)
    process = os.fork()
    if process == 0:
        # No exception may reach pytest, which would go on in the child as well.
        try:
            assert_equal(resize(weight, embedding), before)
            resize(weight, embedding, new_size=(10, 11))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0


# ---- graphs ------------------------------------------------------------------------------------


def test_a_compiled_graph_has_no_break_and_no_matrix_as_a_constant():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    weight, embedding = parameters(requires_grad=True)
    compiled = torch.compile(resize, fullgraph=True, dynamic=True, backend=backend)
    for new_size in (NEW_SIZE, (20, 25), (11, 8)):
        found = compiled(weight, embedding, "trigonometric", new_size)
        expected = resize(weight, embedding, "trigonometric", new_size)
        assert_equal(found, expected)
        assert_equal(
            gradients(found, weight, embedding), gradients(expected, weight, embedding), atol=1e-6
        )
    for graph in graphs:
        assert not [*graph.buffers(), *graph.parameters()]
        assert not [node for node in graph.graph.nodes if node.op == "get_attr"]


def test_a_traced_graph_has_no_matrix_as_a_constant():
    weight, embedding = parameters()
    with pytest.warns(torch.jit.TracerWarning):  # the check of the shape
        traced = torch.jit.trace(resize, (weight, embedding))
    graph = str(traced.graph)
    assert graph.count("gfnet_dense::resize_axis") == 4
    assert "value=<Tensor>" not in graph
    other = parameters()
    assert_equal(traced(*other), resize(*other))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "kind, n, rows, columns", [("bicubic", 1, 7, 1), ("trigonometric_columns", 4, 4, 6)]
)
def test_the_operator_keeps_the_rules_of_operators(kind, n, rows, columns, transposed):
    length = rows if transposed else columns
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    arguments = (kind, n, 7, transposed)
    torch.library.opcheck(resize_matrices._operator, (x, *arguments))
    assert torch.autograd.gradcheck(lambda x: resize_matrices._operator(x, *arguments), x)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # nothing is kept here
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 90),
    start=st.integers(0, 89),
    count=st.integers(1, 30),
    taps=st.sampled_from([1, 3, 5]),
    align_corners=st.booleans(),
)
def test_positions_are_made_of_the_used_samples(n, m, start, count, taps, align_corners):
    start = min(start, m - 1)
    positions = slice(start, min(start + count, m))
    like = torch.empty(0, dtype=torch.float64)
    matrices = shifted_bilinear(n, m, taps, align_corners, like)[:, positions]
    used = used_samples(n, m, positions, taps, align_corners)
    assert 0 <= used.start < used.stop <= n
    rest = torch.cat([matrices[..., : used.start], matrices[..., used.stop :]], dim=-1)
    assert not rest.numel() or rest.abs().max() < 1e-12
