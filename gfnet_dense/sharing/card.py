"""The model card of a shared folder: measured facts, and the Markdown page that tells them.

Its front matter has the form of https://huggingface.co/docs/hub/model-cards.
"""

import copy
import json
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from rich.console import Console
from rich.progress import track

import gfnet_dense
from gfnet_dense.apis.inference import predict
from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.models.layers.base_filter import BaseFilter
from gfnet_dense.models.utils.sliding_window import windows
from gfnet_dense.utils.channels import channels_of, image_channels, read_shown
from gfnet_dense.utils.config import (
    LIBRARY,
    find_datasets,
    registered_class,
    type_name,
)
from gfnet_dense.utils.tables import format_table
from gfnet_dense.utils.types import Size
from gfnet_dense.visualization.predictions import draw

PICTURE = "prediction.jpg"
TIMED_RUNS = 3
PHOTO = (480, 640)  # (H, W) of the image that is timed if none is given
OPACITY = 0.5  # of the colors in the picture, as in tools/infer.py
PACKAGES = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmdetection")
# Names of data sets on the hub, by the type in the config
HUB_DATASETS = {
    "ADE20KDataset": "ade20k",
    "CityscapesDataset": "cityscapes",
    "CocoDataset": "coco",
    "PascalVOCDataset": "pascal-voc",
}


@dataclass(frozen=True)
class Speed:
    """The cost of one prediction, measured where the folder was written.

    Attributes:
        image: (H, W) of the image.
        tested: (H, W) at which the model saw it, behind the test pipeline.
        window: (H, W) of the windows that slide over it; None if it is tested as a whole.
        windows: Number of windows.
        seconds: Median of :data:`TIMED_RUNS` predictions, reading of files left out.
        device: Name of the processor or GPU, and threads.
        flops: Multiply-adds of one forward, of a window if there are any; None if they cannot be
            counted.
    """

    image: Size
    tested: Size
    window: Size | None
    windows: int
    seconds: float
    device: str
    flops: int | None


@dataclass(frozen=True)
class Facts:
    """All that a model card says.

    Attributes:
        name: Argument of ``from_pretrained``: the id on the hub, or the name of the folder.
        kind: ``image-segmentation`` or ``object-detection``.
        method: Class of the model, and those of its parts.
        has_filters: Whether there are global filters in it.
        params: Number of parameters.
        dataset: Type of the test data in the config.
        hub_dataset: Name of the data set on the hub; None for another one, or other classes.
        classes: Names of the classes.
        metrics: Values by name, such as ``{"mIoU": 49.2}``.
        speed: The cost of a prediction.
        license: Identifier of the license; None if none was given.
        notes: What the config in the folder lacks.
        has_picture: Whether there is a :data:`PICTURE`.
        versions: Versions of the packages with which the folder was written, by name.
    """

    name: str
    kind: str
    method: str
    has_filters: bool
    params: int
    dataset: str
    hub_dataset: str | None
    classes: tuple[str, ...]
    metrics: Mapping[str, float]
    speed: Speed
    license: str | None
    notes: tuple[str, ...]
    has_picture: bool
    versions: Mapping[str, str]


def describe(
    model: BaseModel,
    meta: Mapping[str, Any],
    name: str,
    image: str | Path | None,
    license: str | None,
    metrics: Mapping[str, float],
    notes: tuple[str, ...],
) -> tuple[Facts, np.ndarray | None]:
    """Predict an image, and return the facts of a model and a picture of the prediction.

    Args:
        model: A model of ``load_model``, in evaluation mode.
        meta: Its ``dataset_meta``, with a color for each class.
        name: See :class:`Facts`.
        image: An image file; None for noise, of which there is no picture.
        license: See :class:`Facts`.
        metrics: See :class:`Facts`.
        notes: See :class:`Facts`.

    Returns:
        The facts, and the picture, (H, W, 3), uint8, RGB, if an image is given.

    Raises:
        InputError: If the image cannot be read.
    """
    cfg, meta = model.cfg, dict(meta)
    dataset = find_datasets(cfg.test_dataloader.dataset)[0]
    shown = None if image is None else read_shown(image, meta, channels_of(model))
    speed, sample = _measure(model, image)
    picture = None if shown is None else draw(shown, sample, meta, OPACITY)
    facts = Facts(
        name=name,
        kind="image-segmentation" if hasattr(model, "encode_decode") else "object-detection",
        method=_method(cfg.model),
        has_filters=any(isinstance(module, BaseFilter) for module in model.modules()),
        params=sum(p.numel() for p in model.parameters()),
        dataset=type_name(dataset),
        hub_dataset=_hub_dataset(dataset, cfg.default_scope, meta["classes"]),
        classes=tuple(meta["classes"]),
        metrics=metrics,
        speed=speed,
        license=license,
        notes=notes,
        has_picture=picture is not None,
        versions={LIBRARY: gfnet_dense.__version__} | _versions(),
    )
    return facts, picture


def _measure(model: BaseModel, image: str | Path | None) -> tuple[Speed, Any]:
    """Time predictions of an image, and return the times and one of the predictions."""
    content: Any = image
    if image is None:
        noise = np.random.default_rng(0)
        content = noise.integers(0, 256, (*PHOTO, image_channels(model)), np.uint8)
    seconds = []
    # The first one resizes and caches the filters.
    for _ in track(range(1 + TIMED_RUNS), "predictions", console=Console(stderr=True)):
        start = time.perf_counter()
        (sample,) = predict(model, [content])
        seconds.append(time.perf_counter() - start)
    tested: Any = tuple(sample.img_shape[:2])
    window, count = _windows(getattr(model, "test_cfg", None) or {}, tested)
    speed = Speed(
        image=tuple(sample.ori_shape[:2]),
        tested=tested,
        window=window,
        windows=count,
        seconds=median(seconds[1:]),
        device=_device(next(model.parameters()).device),
        flops=_flops(model, window or tested),
    )
    return speed, sample


def _windows(test_cfg: Mapping[str, Any], tested: Size) -> tuple[Size | None, int]:
    """Return size and number of the windows of mmsegmentation's sliding test, (None, 0) without."""
    if test_cfg.get("mode") != "slide":
        return None, 0
    places = [
        windows(*each)
        for each in zip(tested, test_cfg["crop_size"], test_cfg["stride"], strict=True)
    ]
    (top, bottom), (left, right) = (axis[0] for axis in places)
    return (bottom - top, right - left), len(places[0]) * len(places[1])


def _flops(model: BaseModel, size: Size) -> int | None:
    try:
        return count_flops(copy.deepcopy(model).to("meta"), size).total
    except Exception as e:  # some models have operators that exist for some devices alone
        print_log(f"the FLOPs cannot be counted: {type(e).__name__}: {e}", logger="current")
        return None


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = (names or [platform.processor() or platform.machine()])[0]
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def _method(settings: Any) -> str:
    """Return the class of a model and of its parts, as the config names them."""
    parts = [type_name(settings)]
    for key in ("backbone", "neck", "decode_head", "bbox_head", "rpn_head", "roi_head"):
        part = settings.get(key)
        if isinstance(part, dict):
            arch = part.get("arch")
            parts.append(type_name(part) + (f" {arch}" if isinstance(arch, str) else ""))
    return " with ".join([parts[0], ", ".join(parts[1:])])


def _hub_dataset(dataset: Any, scope: str, classes: Sequence[str]) -> str | None:
    """Return the name of a data set on the hub if its classes are the model's."""
    known: Any = registered_class(DATASETS, dataset, scope)
    own = getattr(known, "METAINFO", {}).get("classes", ())
    return HUB_DATASETS.get(type_name(dataset)) if list(own) == list(classes) else None


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except ModuleNotFoundError:  # importlib.metadata's, of a package that is not installed
            continue
    return installed


def text(facts: Facts) -> str:
    """Return the model card, Markdown with YAML front matter."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front}---", f"# {facts.name.rpartition('/')[2]}", _introduction(facts)]
    if facts.has_picture:
        parts.append(f"![Prediction]({PICTURE})")
    parts += ["## Use", _usage(facts), "## Model", _model(facts), "## Data", _data(facts)]
    if facts.metrics:
        rows = [["metric", "value"], *([k, f"{v:.2f}"] for k, v in facts.metrics.items())]
        parts += ["## Results", format_table(rows)]
    parts += ["## This folder", _folder(facts)]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: Facts) -> dict[str, Any]:
    front: dict[str, Any] = {"license": facts.license} if facts.license else {}
    tags = [facts.kind, *(["global-filter-networks"] if facts.has_filters else []), LIBRARY]
    front |= {"library_name": LIBRARY, "pipeline_tag": facts.kind, "tags": tags}
    if facts.hub_dataset:
        front["datasets"] = [facts.hub_dataset]
    if facts.metrics:
        metrics = [dict(type=k, value=float(v), name=k) for k, v in facts.metrics.items()]
        result = dict(
            task=dict(type=facts.kind),
            dataset=dict(name=_dataset(facts), type=facts.hub_dataset or "other"),
            metrics=metrics,
        )
        front["model-index"] = [dict(name=facts.name.rpartition("/")[2], results=[result])]
    return front


def _introduction(facts: Facts) -> str:
    task = "A segmentor" if facts.kind == "image-segmentation" else "A detector"
    filters = " with global filters" if facts.has_filters else ""
    return f"{task} of {len(facts.classes)} classes{filters}, written by GFNet-Dense."


def _usage(facts: Facts) -> str:
    extra = "seg" if facts.kind == "image-segmentation" else "det"
    is_folder = "/" not in facts.name
    # No command: the package has no address yet, and a name alone may be somebody else's package.
    extras = f"the extra `{extra}`" if is_folder else f"the extras `{extra}` and `hub`"
    place = "  # the path of this folder" if is_folder else ""
    lines = [
        f"With GFNet-Dense installed (its README says how) and {extras}:",
        "",
        "```python",
        "from gfnet_dense import from_pretrained, predict",
        "",
        f"model = from_pretrained({json.dumps(facts.name, ensure_ascii=False)}){place}",
        'for sample in predict(model, ["photo.jpg"]):',
        "    print(sample)",
        "```",
    ]
    folder = shlex.quote(f"./{facts.name.rpartition('/')[2]}")  # no name of a config, no option
    lines += ["", "On the command line:", "", "```bash"]
    if not is_folder:
        lines.append(f"hf download {facts.name} --local-dir {folder}")
    lines += [f"gfnet-dense infer {folder} photo.jpg --out-dir out", "```"]
    return "\n".join(lines)


def _model(facts: Facts) -> str:
    speed = facts.speed
    in_windows, forward = "", f"one forward at {_size(speed.tested)}"
    if speed.window is not None:
        plural = "s" if speed.windows > 1 else ""
        in_windows = f" in {speed.windows} window{plural} of {_size(speed.window)}"
        forward = f"one forward of a window of {_size(speed.window)}"
    lines = [
        f"- {facts.method}",
        f"- {facts.params / 1e6:.2f} M parameters",
        f"- An image of {_size(speed.image)} pixels (height x width) is tested at "
        f"{_size(speed.tested)}{in_windows} and takes {speed.seconds:.3g} s "
        f"(median of {TIMED_RUNS} predictions on {speed.device})",
    ]
    if speed.flops is not None:
        lines.append(f"- {speed.flops / 1e9:.1f} G multiply-adds in {forward}")
    return "\n".join(lines)


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _dataset(facts: Facts) -> str:
    """Return the type of the data, and whether their classes are not those of the type."""
    return facts.dataset if facts.hub_dataset else f"own data, read as {facts.dataset}"


def _data(facts: Facts) -> str:
    classes = ", ".join(" ".join(name.split()) for name in facts.classes)
    return f"{_dataset(facts)}, {len(facts.classes)} classes: {classes}"


def _folder(facts: Facts) -> str:
    lines = [
        "- License: "
        + (facts.license or "none was given; ask the author before you use the weights"),
        "- Written with " + ", ".join(f"{name} {v}" for name, v in facts.versions.items()),
        *(f"- In `config.json`, {note}" for note in facts.notes),
    ]
    if not facts.metrics:
        lines.append("- No accuracy was given or found in the checkpoint")
    return "\n".join(lines)
