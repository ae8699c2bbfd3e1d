"""Finding what a user wants predicted: photos, folders, patterns, frames of videos."""

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
    """A file to predict, and the name of its results, a relative path that gets their suffixes."""

    path: Path
    name: Path


def find_inputs(inputs: Sequence[str]) -> list[InputFile]:
    """Return the images and videos of files, folders (with all below) and patterns.

    Raises:
        InputError: If an input is nothing, or two files would get one name.
    """
    photos = []
    for text in inputs:
        path = Path(os.path.expanduser(text))
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            photos += [InputFile(p, p.relative_to(path).with_suffix("")) for p in found]
            if not found:
                raise InputError(
                    f"the folder {text} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
                )
        elif path.is_file():
            photos.append(InputFile(path, Path(path.stem)))
        elif found := sorted(glob.glob(str(path), recursive=True)):
            photos += [InputFile(Path(p), Path(Path(p).stem)) for p in found if Path(p).is_file()]
        else:
            raise InputError(f"{text} is no image, folder, pattern of files, or video")
    photos = list({(photo.path, photo.name): photo for photo in photos}.values())
    files = Counter(photo.name for photo in photos)
    photos = [  # a.jpg and a.png of one folder keep their suffixes
        InputFile(photo.path, photo.name.with_name(photo.path.name))
        if files[photo.name] > 1
        else photo
        for photo in photos
    ]
    by_name = {}
    for photo in photos:
        other = by_name.setdefault(photo.name, photo)
        if other is not photo:
            raise InputError(
                f"the results of {other.path} and {photo.path} would have one name: give their "
                "common folder, or run two commands"
            )
    return photos


def is_video(path: Path) -> bool:
    """Tell whether a file is named as videos are."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video:
    """The frames of a video file, RGB.

    Attributes:
        fps: Frames per second.
    """

    def __init__(self, path: Path):
        self.path, self.capture = path, cv2.VideoCapture()
        name = str(path).encode(errors="surrogateescape")
        if name.decode(errors="replace") == str(path):  # OpenCV crashes on names that are no text
            self.capture.open(str(path))
        if not self.capture.isOpened():
            raise InputError(f"{path} is no video that OpenCV can read")
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            found, frame = self.capture.read()
            if not found:
                return
            yield frame[..., ::-1]

    def close(self) -> None:
        """Give the file back."""
        self.capture.release()
