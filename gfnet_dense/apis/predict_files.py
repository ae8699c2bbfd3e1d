"""Predicting files and writing what a person and a program want of it: tools/infer.py."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar
from torch import nn

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image, write_image
from gfnet_dense.utils.types import Size

from .inference import check_window, predict
from .inputs import InputFile, Video, is_video
from .outputs import CocoResults, class_indices, draw, label_map

MAX_RATIO = 100  # of the sides of an image


@dataclass
class Options:
    """What is drawn, and how images go through the model.

    Attributes:
        out_dir: Where results go.
        opacity: Of colors in overlays, 0..1.
        classes: Names of the classes to draw; all if None.
        batch_size, window, stride: See :func:`.predict.predict`.
    """

    out_dir: Path
    opacity: float = 0.5
    classes: Sequence[str] | None = None
    batch_size: int = 1
    window: Size | None = None
    stride: Size | None = None


@dataclass
class Summary:
    """What has been done.

    Attributes:
        images: How many images and frames were predicted.
        seconds: In which time.
        skipped: Why inputs were skipped, a sentence for each.
    """

    images: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)


def infer(model: nn.Module, photos: Sequence[InputFile], options: Options) -> Summary:
    """Predict images and videos, and write overlays, label maps or boxes.

    ``overlays/NAME.jpg`` (``.mp4`` of videos); of a segmentor ``labels/NAME.png``, the numbers of
    the classes; of a detector ``results.json``, COCO's format. What cannot be read is skipped.

    Args:
        model: As :func:`.api.load_model` returns it.
        photos: Of :func:`.photos.find_inputs`.
        options: See there.

    Raises:
        InputError: For classes that the model does not have, or a window with a detector.
    """
    return _Inference(model, options).run(photos)


def check_shape(image: np.ndarray, path: Path) -> None:
    """Raise InputError for an image of which nothing is left when it is made smaller."""
    short, long = sorted(image.shape[:2])
    if long > MAX_RATIO * short:
        raise InputError(
            f"{path} is of {image.shape[1]}x{image.shape[0]} pixels: one side is more than "
            f"{MAX_RATIO} times the other"
        )


class _Inference:
    def __init__(self, model: nn.Module, options: Options):
        self.model, self.options, self.meta = model, options, model.dataset_meta
        check_window(model, options.window)
        names = options.classes
        self.shown = None if names is None else class_indices(names, self.meta["classes"])
        self.coco = CocoResults(self.meta["classes"])
        self.summary = Summary()

    def run(self, photos: Sequence[InputFile]) -> Summary:
        self.progress = ProgressBar(len(photos), file=sys.stderr)
        start = time.perf_counter()
        self._images([photo for photo in photos if not is_video(photo.path)])
        for photo in photos:
            if is_video(photo.path):
                try:
                    self._video(photo)
                except InputError as e:
                    self.summary.skipped.append(str(e))
                self.progress.update()
        print(file=sys.stderr)  # the bar has no end of line
        if self.coco.images:
            self.coco.write(self.options.out_dir / "results.json")
        self.summary.seconds = time.perf_counter() - start
        return self.summary

    def _predict(self, images: Iterable[np.ndarray]) -> Iterator[BaseDataElement]:
        options = self.options
        return predict(self.model, images, options.batch_size, options.window, options.stride)

    def _draw(self, image: np.ndarray, sample: BaseDataElement, is_frame: bool) -> np.ndarray:
        return draw(image, sample, self.meta, self.options.opacity, self.shown, is_frame)

    def _images(self, photos: Iterable[InputFile]) -> None:
        waiting, out = deque(), self.options.out_dir

        def read() -> Iterator[np.ndarray]:
            for photo in photos:
                try:
                    image = read_image(photo.path)
                    check_shape(image, photo.path)
                except InputError as e:
                    self.summary.skipped.append(str(e))
                    self.progress.update()
                    continue
                waiting.append((photo, image))
                yield image

        for sample in self._predict(read()):
            photo, image = waiting.popleft()
            write_image(self._draw(image, sample, False), out / "overlays" / f"{photo.name}.jpg")
            if "pred_instances" in sample:
                self.coco.add(photo, image.shape[:2], sample.pred_instances)
            else:
                write_image(label_map(sample), out / "labels" / f"{photo.name}.png")
            self.summary.images += 1
            self.progress.update()

    def _video(self, photo: InputFile) -> None:
        waiting, writer = deque(), cv2.VideoWriter()
        path = self.options.out_dir / "overlays" / f"{photo.name}.mp4"

        def read(video: Video) -> Iterator[np.ndarray]:
            for frame in video:
                waiting.append(frame)
                yield frame

        with closing(Video(photo.path)) as video, atomic_write(path) as part, ExitStack() as end:
            end.callback(writer.release)
            for sample in self._predict(read(video)):
                overlay = self._draw(waiting.popleft(), sample, True)
                height, width = (n // 2 * 2 for n in overlay.shape[:2])  # codecs want even sizes
                if not writer.isOpened():
                    code = cv2.VideoWriter_fourcc(*"mp4v")
                    writer.open(str(part), code, video.fps, (width, height))
                    if not writer.isOpened():
                        raise InputError(f"this OpenCV cannot write MP4 files, so not {path}")
                writer.write(np.ascontiguousarray(overlay[:height, :width, ::-1]))
                self.summary.images += 1
            if not writer.isOpened():
                raise InputError(f"{photo.path} has no frame that can be read")
