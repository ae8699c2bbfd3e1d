"""Writing ONNX and torch.export files, and comparing them with PyTorch."""

import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from gfnet_dense import __version__
from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .graphs import build_graph, freeze_size

OPSET = 18
INPUT = "images"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ROUNDS = 5  # of the comparison of times


@dataclass
class Check:
    """How an exported graph compares with PyTorch on random images.

    Attributes:
        max_error: Largest absolute difference of any output.
        relative_error: Largest |a - b| / |b| of any output.
        latency: Seconds of a forward of one image, exported, and in PyTorch.
    """

    max_error: float
    relative_error: float
    latency: tuple[float, float]


def check_format(path: Path) -> None:
    """Raise InputError unless the suffix of ``path`` is one that :func:`export` writes, and what
    that needs is installed."""
    if path.suffix not in (".onnx", ".pt2"):
        raise InputError(f"an exported file is named *.onnx or *.pt2 (torch.export), got {path}")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise InputError(
            f"ONNX files need {' and '.join(missing)}: pip install 'gfnet-dense[export]'"
        )


def export(model: nn.Module, size: Size, path: Path, tolerance: float = 1e-4) -> Check:
    """Write a model for images of one size and any number of them, and check the file.

    Args:
        model: As :func:`.api.load_model` returns it, on the CPU.
        size: Image size (H, W).
        path: The file, ``*.onnx``, or ``*.pt2`` of torch.export. It appears when it has passed.
        tolerance: Largest relative error.

    Raises:
        InputError: If the model cannot be traced, the outputs are off by more, or for another
            suffix.
    """
    check_format(path)
    reference, metadata = build_graph(model, size), describe(model, size)
    graph = build_graph(freeze_size(model, size), size)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with atomic_write(path) as part:
        program = _trace(graph, images)
        if path.suffix == ".onnx":
            run = _write_onnx(program, graph.outputs, metadata, part)
        else:
            torch.export.save(program, part, extra_files={"metadata": json.dumps(metadata)})
            run = torch.export.load(part).module()
        check = compare(reference, run, images)
        if not check.relative_error <= tolerance:
            raise InputError(
                f"the exported graph is off by {check.relative_error:.1e} relative to PyTorch, "
                f"above the tolerance of {tolerance:g}: {path} was not written"
            )
    return check


def _trace(graph: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    batch = ({0: torch.export.Dim("batch", min=1)},)
    try:
        with torch.no_grad():
            return torch.export.export(graph, (images,), dynamic_shapes=batch)
    except Exception as e:  # whatever Python code of a head can raise while it is traced
        head = getattr(graph.model, "decode_head", graph.model)
        reason = str(e).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"torch.export cannot trace {type(head).__name__}, which would have to do without "
            f"decisions on data and own kernels ({type(e).__name__}: {reason}); UPerNet, Semantic "
            "FPN, SegFormer and the necks of detectors can be exported"
        ) from e


def _write_onnx(
    program: torch.export.ExportedProgram, outputs: Sequence[str], metadata: dict, path: Path
) -> Callable[[Tensor], list[Tensor]]:
    """Write an ONNX file and return what runs it."""
    import onnx
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # without torchvision it warns
    with redirect_stdout(io.StringIO()):  # its progress
        onnx_program = torch.onnx.export(
            program, input_names=[INPUT], output_names=list(outputs), opset_version=OPSET
        )
    proto = onnx_program.model_proto
    _check_types(proto)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(y) for y in session.run(None, {INPUT: images.numpy()})]

    return run


def _check_types(proto) -> None:
    """Make sure that no complex number and no Fourier transform is left."""
    import onnx

    complex_types = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
    graph = proto.graph
    kinds = Counter(node.op_type for node in graph.node)
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    assert "DFT" not in kinds and types.isdisjoint(complex_types), kinds


def describe(model: nn.Module, size: Size) -> dict[str, str]:
    """Return the metadata of an exported file: what one needs to feed it and to read it."""
    preprocessor = model.data_preprocessor
    # mmengine's name, and mmsegmentation's; OpenCV reads BGR
    converts = getattr(preprocessor, "_channel_conversion", None) or getattr(
        preprocessor, "channel_conversion", False
    )
    return {
        "classes": json.dumps(list(model.dataset_meta["classes"])),
        "palette": json.dumps([list(map(int, c)) for c in model.dataset_meta["palette"]]),
        "size": json.dumps(list(size)),
        "channels": "RGB" if converts else "BGR",  # of images in 0..255, for mean and std
        "mean": json.dumps(preprocessor.mean.flatten().tolist()),
        "std": json.dumps(preprocessor.std.flatten().tolist()),
        "made_with": f"gfnet_dense {__version__}, torch {torch.__version__}",
    }


def compare(
    reference: nn.Module, run: Callable[[Tensor], Sequence[Tensor]], images: Tensor
) -> Check:
    """Compare an exported model with PyTorch, on all ``images`` and, for the time, on one.

    Args:
        reference: The model, of :func:`build_graph`.
        run: The exported one.
        images: (B, 3, H, W).
    """
    errors, times = [], {run: [], reference: []}
    for i in range(ROUNDS + 1):
        batch, results = images if i == 0 else images[:1], []
        for function, seconds in times.items():
            start = time.perf_counter()
            with torch.inference_mode():
                results.append(function(batch))
            seconds.append(time.perf_counter() - start)
        for name, ours, expected in zip(reference.outputs, *results, strict=True):
            if name != "labels":  # of equal logits a rounding error decides
                difference = ours.double() - expected
                norm = expected.double().norm().clamp(min=1e-30)
                errors.append((difference.abs().max(), difference.norm() / norm))
    exported, torchs = (median(seconds[1:]) for seconds in times.values())
    worst = torch.tensor(errors, dtype=torch.float64).amax(dim=0)  # nan if any is
    return Check(*worst.tolist(), (exported, torchs))
