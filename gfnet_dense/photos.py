"""Finding what a user wants predicted: photos, folders, patterns, frames of videos."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .data_check import IMAGE_SUFFIXES
from .errors import InputError

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True)
class Photo:
    """A file to predict, and the name that its results get, a relative path without suffix."""

    path: Path
    name: Path


def find_photos(inputs: Sequence[str]) -> list[Photo]:
    """Return the images and videos of files, folders (with all below) and patterns.

    Raises:
        InputError: If an input is nothing, or two files would get one name.
    """
    photos = []
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            photos += [Photo(p, p.relative_to(path).with_suffix("")) for p in found]
            if not found:
                raise InputError(f"the folder {text} holds no images ({_list(IMAGE_SUFFIXES)})")
        elif path.is_file():
            photos.append(Photo(path, Path(path.stem)))
        elif found := sorted(glob.glob(str(path), recursive=True)):
            photos += [Photo(Path(p), Path(Path(p).stem)) for p in found if Path(p).is_file()]
        else:
            raise InputError(f"{text} is no image, folder, pattern of files, or video")
    by_name = {}
    for photo in photos:
        other = by_name.setdefault(photo.name, photo)
        if other.path != photo.path:
            raise InputError(
                f"the results of {other.path} and {photo.path} would have one name: give them to "
                "two commands, or their common folder"
            )
    return list(by_name.values())


def is_video(path: Path) -> bool:
    """Tell whether a file is named as videos are."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video:
    """The frames of a video file, RGB.

    Attributes:
        fps: Frames per second.
        count: How many frames the file says it has.
    """

    def __init__(self, path: Path):
        self.path, self.capture = path, cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise InputError(f"{path} is no video that OpenCV can read")
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.count = max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            while True:
                found, frame = self.capture.read()
                if not found:
                    return
                yield frame[..., ::-1]
        finally:
            self.capture.release()


def _list(suffixes: set[str]) -> str:
    return ", ".join(sorted(suffixes))
