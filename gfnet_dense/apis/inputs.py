"""Finding the images and videos to predict: files, folders, glob patterns, frames of videos."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True)
class InputFile:
    """An image or video to predict.

    Attributes:
        path: The file.
        name: Relative path of its results, to which the suffix of each result is appended.
    """

    path: Path
    name: Path


def find_inputs(inputs: Sequence[str]) -> list[InputFile]:
    """Return the images and videos that files, folders and glob patterns stand for.

    A folder stands for the images in it and in its subfolders, whose names are kept in ``name``. A
    file that is given twice is returned once.

    Args:
        inputs: Paths of images, videos and folders, and glob patterns; ``~`` is expanded.

    Raises:
        InputError: If one of the inputs matches no file, or the results of two files would have
            the same name.
    """
    found: list[InputFile] = []
    for text in inputs:
        path = Path(os.path.expanduser(text))
        if path.is_dir():
            images = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            found += [InputFile(p, p.relative_to(path).with_suffix("")) for p in images]
            if not images:
                raise InputError(
                    f"the folder {text} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
                )
        elif path.is_file():
            found.append(InputFile(path, Path(path.stem)))
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            found += [InputFile(Path(p), Path(Path(p).stem)) for p in matches if Path(p).is_file()]
        else:
            raise InputError(f"{text} is no image, folder, pattern of files, or video")
    found = list(dict.fromkeys(found))
    counts = Counter(file.name for file in found)
    found = [  # a.jpg and a.png in one folder keep their suffixes in the names of their results
        InputFile(file.path, file.name.with_name(file.path.name)) if counts[file.name] > 1 else file
        for file in found
    ]
    by_name: dict[Path, InputFile] = {}
    for file in found:
        other = by_name.setdefault(file.name, file)
        if other is not file:
            raise InputError(
                f"the results of {other.path} and {file.path} would have one name: give their "
                "common folder, or run two commands"
            )
    return found


def is_video(path: Path) -> bool:
    """Return whether the suffix of a file is one of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video:
    """The frames of a video file, an iterable of arrays (H, W, 3), uint8, RGB.

    Args:
        path: The file.

    Attributes:
        fps: Frames per second; 25 if the file does not say.

    Raises:
        InputError: If OpenCV cannot read the file.
    """

    def __init__(self, path: Path):
        self.path, self.capture = path, cv2.VideoCapture()
        name = str(path).encode(errors="surrogateescape")
        # OpenCV crashes on a file name that is not valid UTF-8.
        if name.decode(errors="replace") == str(path):
            self.capture.open(str(path))
        if not self.capture.isOpened():
            raise InputError(f"{path} is no video that OpenCV can read")
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            has_frame, frame = self.capture.read()
            if not has_frame:
                return
            yield frame[..., ::-1]

    def close(self) -> None:
        """Close the file."""
        self.capture.release()
