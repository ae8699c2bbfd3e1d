"""Writing ONNX and torch.export files, and comparing them with PyTorch."""

import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from mmengine.model import BaseModel
from torch import Tensor

from gfnet_dense import __version__
from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.channels import channels_of, image_channels
from gfnet_dense.utils.decoding import check_image_range
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.third_party import errors_alone
from gfnet_dense.utils.types import Size

from .graphs import DetectorGraph, SegmentorGraph, build_graph, freeze_size

if TYPE_CHECKING:  # onnx is an optional dependency
    from onnx import ModelProto

OPSET = 20  # of ONNX's operators: the first with GELU, which runtimes fuse (ONNX 1.15, 2023)
INPUT = "images"  # name of the input in ONNX files
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ROUNDS = 5  # number of timed forward passes of each model, of which the median is taken


@dataclass
class Check:
    """Comparison of an exported model with PyTorch on random images.

    Attributes:
        max_error: Maximum absolute difference of an element, over all outputs.
        relative_error: Maximum over the outputs of ||exported - PyTorch|| / ||PyTorch||, with the
            Euclidean norm of the whole tensor.
        latency: Seconds of the forward pass of one image, exported and in PyTorch.
    """

    max_error: float
    relative_error: float
    latency: tuple[float, float]


def check_format(path: Path) -> None:
    """Check that :func:`export` can write a file of this suffix with the installed packages.

    Raises:
        InputError: If the suffix is neither ``.onnx`` nor ``.pt2``, or ONNX's packages are missing.
    """
    if path.suffix not in (".onnx", ".pt2"):
        raise InputError(f"an exported file is named *.onnx or *.pt2 (torch.export), got {path}")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise InputError(
            f"ONNX files need {' and '.join(missing)}: pip install 'gfnet-dense[export]'"
        )


def export(model: BaseModel, size: Size, path: Path, tolerance: float = 1e-4) -> Check:
    """Export a model for one image size and any batch size, and compare the file with PyTorch.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`, on the CPU.
        size: Image size, (H, W).
        path: The file to write, ``*.onnx``, or ``*.pt2`` for torch.export. It is only written if
            the comparison succeeds.
        tolerance: Maximum relative error, see :class:`Check`.

    Raises:
        InputError: If the model cannot be traced, the relative error exceeds the tolerance, or
            :func:`check_format` rejects the path.
    """
    check_format(path)
    reference, metadata = build_graph(model, size), describe(model, size)
    graph = build_graph(freeze_size(model, size), size)
    shape = 2, image_channels(model), *size
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
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


def _trace(graph: SegmentorGraph | DetectorGraph, images: Tensor) -> torch.export.ExportedProgram:
    """Trace a graph for images (B, bands, H, W) with a dynamic batch size.

    Raises:
        InputError: If torch.export fails.
    """
    batch = ({0: torch.export.Dim("batch", min=1)},)
    try:
        with torch.no_grad():
            return torch.export.export(graph, (images,), dynamic_shapes=batch)
    except Exception as e:  # the code of a head can raise anything while it is traced
        head = getattr(graph.model, "decode_head", graph.model)
        reason = str(e).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"torch.export cannot trace {type(head).__name__}, which would have to do without "
            f"decisions on data and own kernels ({type(e).__name__}: {reason}); UPerNet, Semantic "
            "FPN, SegFormer and the necks of detectors can be exported"
        ) from e


def _write_onnx(
    program: torch.export.ExportedProgram,
    outputs: Sequence[str],
    metadata: dict[str, str],
    path: Path,
) -> Callable[[Tensor], list[Tensor]]:
    """Write an ONNX file and return a function that runs it in onnxruntime on the CPU."""
    import onnx
    import onnxruntime

    with _quiet_exporter():
        onnx_program = torch.onnx.export(
            program, input_names=[INPUT], output_names=list(outputs), opset_version=OPSET
        )
    assert onnx_program is not None  # None is for the exporter of TorchScript
    proto = onnx_program.model_proto
    check_types(proto)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(y) for y in session.run(None, {INPUT: images.numpy()})]

    return run


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep PyTorch's exporter from printing its progress, and from asking for torchvision."""
    with errors_alone(logging.getLogger("torch.onnx")), redirect_stdout(io.StringIO()):
        yield


def check_types(proto: "ModelProto") -> None:
    """Raise InputError if an ONNX model has complex tensors or a discrete Fourier transform.

    The filters of a backbone have become real products; a head of the user's may use such.
    """
    import onnx

    complex_types = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
    graph = proto.graph
    kinds = Counter(node.op_type for node in graph.node)
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    if "DFT" in kinds or not types.isdisjoint(complex_types):
        raise InputError(
            "a part of the model other than its global filters has complex numbers or Fourier "
            "transforms, which runtimes without PyTorch do not run: export it to *.pt2"
        )


def describe(model: BaseModel, size: Size) -> dict[str, str]:
    """Return the metadata of an exported file: how to prepare images, and what class indices mean.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`.
        size: Image size, (H, W).

    Returns:
        JSON strings ``size``, ``mean``, ``std`` (for pixels in 0..255), ``classes``, ``palette``,
        ``image_range`` (see :func:`gfnet_dense.utils.decoding.decode_image`; null if there is none)
        ``bands`` (how many, and which are red, green and blue; null for three) and the plain
        strings ``channels`` (RGB, BGR, or bands for another number) and ``made_with``.
    """
    preprocessor = model.data_preprocessor
    # The attribute that says whether BGR, as OpenCV reads, becomes RGB: with an underscore in
    # mmengine and mmdetection, without one in mmsegmentation
    converts = getattr(preprocessor, "_channel_conversion", None) or getattr(
        preprocessor, "channel_conversion", False
    )
    channels = channels_of(model)
    bands = asdict(channels) if channels is not None and channels.count != 3 else None
    return {
        "classes": json.dumps(list(model.dataset_meta["classes"])),
        "palette": json.dumps([list(map(int, c)) for c in model.dataset_meta["palette"]]),
        "size": json.dumps(list(size)),
        "channels": "bands" if bands else "RGB" if converts else "BGR",
        "bands": json.dumps(bands),
        "mean": json.dumps(preprocessor.mean.flatten().tolist()),
        "std": json.dumps(preprocessor.std.flatten().tolist()),
        "image_range": json.dumps(check_image_range(model.dataset_meta.get("image_range"))),
        "made_with": f"gfnet_dense {__version__}, torch {torch.__version__}",
    }


def compare(
    reference: SegmentorGraph | DetectorGraph,
    run: Callable[[Tensor], Sequence[Tensor]],
    images: Tensor,
) -> Check:
    """Compare outputs and latency of an exported model with those of PyTorch.

    Outputs are compared on the whole batch and on its first image; latency is of the first image.

    Args:
        reference: A module of :func:`build_graph`.
        run: Function that runs the exported model on a batch.
        images: Normalized images, (B, bands, H, W).
    """
    errors: list[tuple[Tensor, Tensor]] = []
    times: list[tuple[float, float]] = []
    for i in range(ROUNDS + 1):
        batch = images if i == 0 else images[:1]
        with torch.inference_mode():
            start = time.perf_counter()
            outputs = run(batch)
            middle = time.perf_counter()
            expected_outputs = reference(batch)
            times.append((middle - start, time.perf_counter() - middle))
        for name, output, expected in zip(
            reference.outputs, outputs, expected_outputs, strict=True
        ):
            if name != "labels":  # rounding may decide between classes of equal logits
                difference = output.double() - expected
                norm = expected.double().norm().clamp(min=1e-30)
                errors.append((difference.abs().max(), difference.norm() / norm))
    exported, pytorch = (median(seconds) for seconds in zip(*times[1:], strict=True))
    # If any error is NaN, so is the maximum.
    max_error, relative_error = torch.tensor(errors, dtype=torch.float64).amax(dim=0).tolist()
    return Check(max_error, relative_error, (exported, pytorch))
