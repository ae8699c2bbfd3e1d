"""Cases of .dev/gpu.py that tools/benchmark.py does not have: many shapes, and precision.

The processes that measure are forks of one that has imported this module. It imports the libraries
of all models, as far as they are here, so that no measurement waits for them.
"""

import copy
import random
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from gfnet_dense.benchmark.backbones import fill
from gfnet_dense.benchmark.measure import Settings, autocast, tf32, timed_call
from gfnet_dense.models import GFNet
from gfnet_dense.models.layers.global_filter import GlobalFilter

for _library in ("mmseg.models", "mmpretrain.models", "gfnet_dense.benchmark.whole_model"):
    with suppress(Exception):  # .dev/gpu.py says why a library is left out
        import_module(_library)

PLANS = (0, 16, 64, 256, 4096)  # sizes of cuFFT's plan cache; 4096 is PyTorch's default, 0 no cache
DIM = 64  # channels of the filter whose precision is measured, as in the first stage of GFNet-H-Ti
EXACT_MODES = ("trigonometric", "spectral_pad")  # of resizing a filter: those without interpolation


def image_shapes(count: int, shortest: int = 480) -> list[tuple[int, int]]:
    """Return distinct sizes (H, W) of images as a multi-scale training of detectors has them.

    The short side is between ``shortest`` and 5/3 of it, the long side at most 25/9 of it
    (mmdetection: 480 to 800, at most 1333), both padded to multiples of 32; either may be the
    height.
    """
    short = range(shortest, shortest * 5 // 3 + 1, 32)
    longest = -(-shortest * 25 // 9 // 32) * 32
    shapes = [(h, w) for h in short for w in range(h, longest + 1, 32)]
    shapes += [(w, h) for h, w in shapes if h != w]
    return random.Random(0).sample(shapes, count)


def run_shapes(size: int, plans: int, settings: dict[str, Any], shortest: int) -> dict[str, Any]:
    """Measure GFNet-H-Ti on images of many shapes, with a limit to the number of cuFFT's plans.

    All images pass twice, the second time in another order. The second pass is timed, image by
    image: plans that the cache still has are used again, others are made anew.

    Args:
        size: Number of images, each of another shape.
        plans: Size of PyTorch's cache of cuFFT's plans; on a CPU it has no effect.
        settings: Fields of :class:`.measure.Settings`.
        shortest: See :func:`image_shapes`.

    Returns:
        ``latencies``, the seconds of each image. On a GPU also ``plans``, the number of plans in
        the cache at the end; ``plan_memory``, the bytes of GPU memory that become free when the
        cache is cleared (PyTorch's allocator does not hold them); and ``reserved_memory``, the
        bytes that the allocator holds at the end.
    """
    run_settings = Settings(**settings)
    device = torch.device(run_settings.device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        if device.index is not None:  # the cache is that of the current device
            torch.cuda.set_device(device)
        torch.backends.cuda.cufft_plan_cache.max_size = plans
    model = GFNet("h-tiny", img_size=512).to(device).train(run_settings.train)
    shapes = image_shapes(size, shortest)

    def call(shape: tuple[int, int]) -> float:
        images = torch.randn(run_settings.batch_size, 3, *shape, device=device)
        return timed_call(model, model, (images,), run_settings)

    with tf32(run_settings.tf32):
        for shape in shapes:
            call(shape)
        latencies = [call(shape) for shape in random.Random(1).sample(shapes, size)]
    record: dict[str, Any] = {"latencies": latencies, "batch_size": run_settings.batch_size}
    if on_gpu:
        cache = torch.backends.cuda.cufft_plan_cache
        record["plans"] = cache.size
        record["reserved_memory"] = torch.cuda.memory_reserved(device)
        free, _ = torch.cuda.mem_get_info(device)  # of all processes: nobody else may use the GPU
        cache.clear()
        record["plan_memory"] = torch.cuda.mem_get_info(device)[0] - free
    return record


def run_precision(size: int, stored: int, settings: dict[str, Any]) -> dict[str, float]:
    """Compare resized filters, a filter layer and GFNet-H-Ti with float64 on a CPU.

    Args:
        size: Side of the square map to which filters are resized, in positions.
        stored: Side of the map for which they are stored.
        settings: ``device``, ``tf32`` and ``amp`` of :class:`.measure.Settings` are used.

    Returns:
        Largest absolute differences over the largest absolute value: ``resized_error`` of filters
        resized exactly, ``output_error`` and ``gradient_error`` of the layer (gradients of input
        and weight). Euclidean norm of the difference over that of the value: ``backbone_error``,
        the largest over the maps of GFNet-H-Ti in evaluation, on images of four times ``size``.
    """
    run_settings = Settings(**settings)
    generator = torch.Generator().manual_seed(0)
    x, direction = (torch.randn(2, size, size, DIM, generator=generator) for _ in range(2))
    filters = {mode: GlobalFilter(DIM, (stored, stored), mode).eval() for mode in EXACT_MODES}
    model = GFNet("h-tiny", img_size=4 * stored).eval()
    fill(model)
    images = torch.randn(1, 3, 4 * size, 4 * size, generator=generator)

    def run(on: Settings, dtype: torch.dtype) -> tuple[list[Tensor], ...]:
        def place(value: Any) -> Any:
            return copy.deepcopy(value).to(on.device, dtype)

        resized, outputs, gradients = [], [], []
        layers = [place(layer) for layer in filters.values()]
        for layer in layers:
            with tf32(on.tf32), autocast(on), torch.no_grad():
                resized.append(torch.view_as_real(layer.response((size, size), dtype)))
                outputs.append(layer(place(x)))
        with tf32(on.tf32):
            leaf = place(x).requires_grad_()
            with autocast(on):
                outputs.append(layers[0](leaf))
            outputs[-1].backward(place(direction))
            gradients += [leaf.grad, layers[0].complex_weight.grad]
            with autocast(on), torch.no_grad():
                maps = list(place(model)(place(images)))
        groups = (resized, outputs, gradients, maps)
        return tuple([t.detach().cpu().double() for t in tensors] for tensors in groups)

    exact = run(Settings(), torch.float64)
    measured = run(run_settings, torch.float32)
    errors = {}
    for i, name in enumerate(("resized_error", "output_error", "gradient_error")):
        pairs = zip(measured[i], exact[i], strict=True)
        errors[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    pairs = zip(measured[-1], exact[-1], strict=True)
    return errors | {"backbone_error": max(float((a - b).norm() / b.norm()) for a, b in pairs)}
