"""Predicting image and video files and writing the results: the work of ``tools/infer.py``."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image, write_image
from gfnet_dense.utils.types import Size

from .inference import check_window, predict
from .inputs import InputFile, Video, is_video
from .outputs import CocoResults, class_indices, draw, label_map

MAX_RATIO = 100  # maximum ratio of the longer to the shorter side of an image


@dataclass
class PredictOptions:
    """Options of :func:`predict_files`.

    Attributes:
        out_dir: Folder for the results.
        opacity: Opacity of colors and masks in overlays, 0..1.
        classes: Names of the classes to draw; all if None.
        batch_size: See :func:`.inference.predict`.
        window: See :func:`.inference.predict`.
        stride: See :func:`.inference.predict`.
    """

    out_dir: Path
    opacity: float = 0.5
    classes: Sequence[str] | None = None
    batch_size: int = 1
    window: Size | None = None
    stride: Size | None = None


@dataclass
class Summary:
    """Result of :func:`predict_files`.

    Attributes:
        images: Number of images and frames that were predicted.
        seconds: Duration of reading, predicting and writing.
        skipped: Reasons why inputs were skipped, one sentence each.
    """

    images: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


def predict_files(
    model: BaseModel, inputs: Sequence[InputFile], options: PredictOptions
) -> Summary:
    """Predict images and videos, and write the results to the folder ``options.out_dir``.

    Written are ``overlays/NAME.jpg`` for images and ``overlays/NAME.mp4`` for videos. A segmentor
    also writes ``labels/NAME.png``, the class indices of an image; a detector also writes
    ``results.json``, the detections of all images in COCO's format. Inputs that cannot be read are
    skipped.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`.
        inputs: Images and videos, as returned by :func:`.inputs.find_inputs`.
        options: See :class:`PredictOptions`.

    Raises:
        InputError: If a class does not exist, or a window is given for a detector.
        OSError: If a result cannot be written.
    """
    return _FilePredictor(model, options).run(inputs)


def check_shape(image: np.ndarray, path: Path) -> None:
    """Raise InputError for an image (H, W, 3) so narrow that resizing would leave no pixel."""
    short, long = sorted(image.shape[:2])
    if long > MAX_RATIO * short:
        raise InputError(
            f"{path} is of {image.shape[1]}x{image.shape[0]} pixels: one side is more than "
            f"{MAX_RATIO} times the other"
        )


class _FilePredictor:
    """One call of :func:`predict_files`: its arguments and what it has done so far."""

    def __init__(self, model: BaseModel, options: PredictOptions):
        self.model, self.options, self.metainfo = model, options, model.dataset_meta
        check_window(model, options.window)
        names = options.classes
        self.shown = None if names is None else class_indices(names, self.metainfo["classes"])
        self.coco = CocoResults(self.metainfo["classes"])
        self.summary = Summary()

    def run(self, inputs: Sequence[InputFile]) -> Summary:
        self.progress = ProgressBar(len(inputs), file=sys.stderr)
        start = time.perf_counter()
        self._predict_images([file for file in inputs if not is_video(file.path)])
        for file in inputs:
            if is_video(file.path):
                try:
                    self._predict_video(file)
                except InputError as e:
                    self.summary.skipped.append(str(e))
                self.progress.update()
        print(file=sys.stderr)  # ends the line of the progress bar
        if self.coco.images:
            self.coco.write(self.options.out_dir / "results.json")
        self.summary.seconds = time.perf_counter() - start
        return self.summary

    def _predict(self, images: Iterable[np.ndarray]) -> Iterator[BaseDataElement]:
        options = self.options
        return predict(self.model, images, options.batch_size, options.window, options.stride)

    def _draw(self, image: np.ndarray, sample: BaseDataElement, is_frame: bool) -> np.ndarray:
        return draw(image, sample, self.metainfo, self.options.opacity, self.shown, is_frame)

    def _predict_images(self, inputs: Iterable[InputFile]) -> None:
        waiting: deque[tuple[InputFile, np.ndarray]] = deque()  # read, but not yet predicted
        out = self.options.out_dir

        def read() -> Iterator[np.ndarray]:
            for file in inputs:
                try:
                    image = read_image(file.path)
                    check_shape(image, file.path)
                except InputError as e:
                    self.summary.skipped.append(str(e))
                    self.progress.update()
                    continue
                waiting.append((file, image))
                yield image

        for sample in self._predict(read()):
            file, image = waiting.popleft()
            write_image(self._draw(image, sample, False), out / "overlays" / f"{file.name}.jpg")
            if "pred_instances" in sample:
                self.coco.add(file, image.shape[:2], sample.pred_instances)
            else:
                write_image(label_map(sample), out / "labels" / f"{file.name}.png")
            self.summary.images += 1
            self.progress.update()

    def _predict_video(self, file: InputFile) -> None:
        waiting: deque[np.ndarray] = deque()  # frames read, but not yet predicted
        writer = cv2.VideoWriter()
        path = self.options.out_dir / "overlays" / f"{file.name}.mp4"

        def read(video: Video) -> Iterator[np.ndarray]:
            for frame in video:
                waiting.append(frame)
                yield frame

        with closing(Video(file.path)) as video, atomic_write(path) as part, ExitStack() as end:
            end.callback(writer.release)
            for sample in self._predict(read(video)):
                overlay = self._draw(waiting.popleft(), sample, True)
                height, width = (n // 2 * 2 for n in overlay.shape[:2])  # codecs want even sizes
                if not writer.isOpened():
                    # Missing in OpenCV's stubs
                    code = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
                    writer.open(str(part), code, video.fps, (width, height))
                    if not writer.isOpened():
                        raise InputError(f"this OpenCV cannot write MP4 files, so not {path}")
                writer.write(np.ascontiguousarray(overlay[:height, :width, ::-1]))
                self.summary.images += 1
            if not writer.isOpened():
                raise InputError(f"{file.path} has no frame that can be read")
