"""Predicting image and video files and writing the results: the work of ``tools/infer.py``."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar
from PIL import Image

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.bands import NUMPY_SUFFIX
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES, write_image
from gfnet_dense.utils.results import Writing, make_writable, mark_results
from gfnet_dense.utils.types import Size
from gfnet_dense.visualization.predictions import draw, label_map, write_key

from .inference import check_options, predict
from .inputs import VIDEO_SUFFIXES, InputFile
from .outputs import CocoResults
from .reading import reader_of
from .videos import STILL, OverlayVideo, Video

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
        amp: See :func:`.inference.predict`.
    """

    out_dir: Path
    opacity: float = 0.5
    classes: Sequence[str] | None = None
    batch_size: int = 1
    window: Size | None = None
    stride: Size | None = None
    amp: str | None = None


@dataclass
class Summary:
    """Result of :func:`predict_files`.

    Attributes:
        images: Number of images and frames that were predicted.
        seconds: Duration of reading, predicting and writing.
        skipped: What was skipped, as a whole or in part, and why: one sentence for each input.
        notes: What is odd in an input, though it was predicted as a whole.
    """

    images: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict_files(
    model: BaseModel, inputs: Sequence[InputFile], options: PredictOptions
) -> Summary:
    """Predict images and videos, and write the results to the folder ``options.out_dir``.

    Written are ``overlays/NAME.jpg`` for images and ``overlays/NAME.mp4`` for videos. A segmentor
    also writes ``labels/NAME.png``, the class indices of an image, and ``labels/classes.txt``, what
    they mean; a detector also writes ``results.json``, the detections of all images in COCO's
    format, even if it is interrupted. Inputs that cannot be read are skipped, as are results that
    cannot be written. A video is read as far as it can be.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`.
        inputs: Images and videos, as found by :func:`.inputs.find_inputs`.
        options: See :class:`PredictOptions`.

    Raises:
        InputError: If a class does not exist, a window is given for a detector, the device has no
            ``amp``, the folder cannot be written to, or its disk is full.
    """
    return _FilePredictor(model, options).run(inputs)


def class_indices(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the index in ``classes`` of each name.

    Raises:
        InputError: If a name is not in ``classes``.
    """
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise InputError(
            f"the model has no class {unknown[0]!r}, it has: {', '.join(map(str, classes))}"
        )
    return [list(classes).index(name) for name in names]


def check_shape(image: np.ndarray, path: Path) -> None:
    """Raise InputError for an image (H, W, bands) so narrow that resizing would leave no pixel."""
    short, long = sorted(image.shape[:2])
    if long > MAX_RATIO * short:
        raise InputError(
            f"{path} is of {image.shape[1]}x{image.shape[0]} pixels: one side is more than "
            f"{MAX_RATIO} times the other"
        )


def is_video(path: Path) -> bool:
    """Return whether a file is to be read as a video: by its suffix, else by its content."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in {*IMAGE_SUFFIXES, NUMPY_SUFFIX}:
        return suffix in VIDEO_SUFFIXES
    try:
        Image.open(path).close()
        return False
    except Exception:  # Pillow may raise anything at a broken header
        pass
    try:
        Video(path).close()
        return True
    except InputError:
        return False


@contextmanager
def _progress(total: int) -> Iterator[ProgressBar]:
    """Yield a progress bar on stderr, and end its line."""
    try:
        yield ProgressBar(total, file=sys.stderr)
    finally:
        print(file=sys.stderr)


class _FilePredictor:
    """One call of :func:`predict_files`: its arguments and what it has done so far."""

    def __init__(self, model: BaseModel, options: PredictOptions):
        self.model, self.options, self.metainfo = model, options, model.dataset_meta
        self.reader = reader_of(model)
        check_options(model, options.window, options.amp)
        names = options.classes
        self.shown = None if names is None else class_indices(names, self.metainfo["classes"])
        self.coco = CocoResults(self.metainfo["classes"])
        self.overlays, self.labels = options.out_dir / "overlays", options.out_dir / "labels"
        self.summary, self.writing = Summary(), Writing()

    def run(self, inputs: Sequence[InputFile]) -> Summary:
        make_writable(self.options.out_dir)
        start = time.perf_counter()
        try:
            mark_results(self.overlays)
            self._predict_all(inputs)
        finally:  # also after Ctrl-C
            if self.coco.images:
                with self.writing.of(path := self.options.out_dir / "results.json"):
                    self.coco.write(path)
        self.summary.skipped += self.writing.failures
        self.summary.seconds = time.perf_counter() - start
        return self.summary

    def _predict_all(self, inputs: Sequence[InputFile]) -> None:
        images: list[InputFile] = []
        videos: list[InputFile] = []
        for file in inputs:
            (videos if is_video(file.path) else images).append(file)
        if images:
            with _progress(len(images)) as progress:
                self._predict_images(images, progress)
        for file in videos:
            try:
                with self.writing.of(file.path):
                    self._predict_video(file)
            except InputError as e:
                self.summary.skipped.append(str(e))

    def _predict(self, images: Iterable[np.ndarray]) -> Iterator[BaseDataElement]:
        options = self.options
        return predict(
            self.model, images, options.batch_size, options.window, options.stride, options.amp
        )

    def _draw(self, image: np.ndarray, sample: BaseDataElement, is_frame: bool) -> np.ndarray:
        image = self.reader.shown(image)
        return draw(image, sample, self.metainfo, self.options.opacity, self.shown, is_frame)

    def _predict_images(self, inputs: Iterable[InputFile], progress: ProgressBar) -> None:
        waiting: deque[tuple[InputFile, np.ndarray]] = deque()  # read, but not yet predicted

        def read() -> Iterator[np.ndarray]:
            for file in inputs:
                try:
                    image = self.reader.read(file.path)
                    check_shape(image, file.path)
                except InputError as e:
                    self.summary.skipped.append(str(e))
                except OSError as e:
                    self.summary.skipped.append(f"{file.path} cannot be read: {e.strerror}")
                else:
                    waiting.append((file, image))
                    yield image
                    continue
                progress.update()

        for sample in self._predict(read()):
            file, image = waiting.popleft()
            with self.writing.of(file.path):
                self._write(file, image, sample)
                self.summary.images += 1
            progress.update()

    def _write(self, file: InputFile, image: np.ndarray, sample: BaseDataElement) -> None:
        if "pred_instances" in sample:
            self.coco.add(file, image.shape[:2], sample.pred_instances)
        else:
            if not self.summary.images:
                mark_results(self.labels)
                write_key(self.metainfo["classes"], self.labels / "classes.txt")
            write_image(label_map(sample), self.labels / f"{file.name}.png")
        write_image(self._draw(image, sample, False), self.overlays / f"{file.name}.jpg")

    def _predict_video(self, file: InputFile) -> None:
        waiting: deque[tuple[np.ndarray, float]] = deque()  # read, but not yet predicted

        def read(video: Video) -> Iterator[np.ndarray]:
            for frame in video:
                check_shape(frame, file.path)
                waiting.append((frame, video.times[-1]))
                yield frame

        path = self.overlays / f"{file.name}.mp4"
        with closing(Video(file.path)) as video, atomic_write(path) as part:
            print(file.path, file=sys.stderr)
            with (
                _progress(video.announced) as progress,
                closing(OverlayVideo(part, video.fps)) as overlay,
            ):
                for sample in self._predict(read(video)):
                    frame, seconds = waiting.popleft()
                    overlay.write(self._draw(frame, sample, True), seconds)
                    progress.update()
            if not overlay.written:
                raise InputError(f"{file.path} has no frame that can be read")
        self.summary.images += len(video.times)
        if lost := video.lost():
            self.summary.skipped.append(
                f"{lost} of the {len(video.times) + lost} frames that {file.path} announces could "
                "not be read, and frames behind them may be damaged; the overlay shows the others"
            )
        if video.still >= STILL:
            self.summary.notes.append(
                f"{video.still + 1} frames in a row of {file.path} are equal: a still picture, or "
                "frames of another size, in place of which OpenCV repeats the last one"
            )
