"""Reading videos behind damaged spots, and writing overlays that keep their time."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from gfnet_dense.utils.errors import InputError

from .mp4_edits import hidden_seconds

MAX_REFUSALS = 1000  # frames in a row that are refused before the video is taken to end
FPS = (0.1, 240.0)  # slowest and fastest frame rate that is believed, in frames per second
DEFAULT_FPS = 30.0
NUM_TIMES = 10_000  # number of times, from the start of a video, that decide its frame rate
MAX_PAUSE = 60.0  # longest time for which one overlay is shown, in seconds
# Where a container announces no number of frames, but a duration: time at both ends that other
# streams, such as sound, may last longer, in seconds
TOLERANCE = 0.3
STILL = 10  # number of equal frames in a row that is told


class Video:
    """The frames of a video file, an iterable of arrays (H, W, 3), uint8, RGB.

    Frames are turned upright as the file says. Frames behind a damaged spot are read as well. A
    frame that the decoder repairs counts as read, since OpenCV does not tell. From frames of
    another size than the first one OpenCV 4.12 makes copies of the frame before, and does not tell
    either: see ``still``.

    Args:
        path: The file.

    Attributes:
        fps: Frames per second, see :func:`frame_rate`.
        announced: Number of frames as the file says, or as follows from its duration; 0 if the file
            does not say.
        times: Time of each frame that was read, in seconds.
        refused: Number of frames that the decoder refused, before others that it read.
        still: Largest number of frames in a row that equal the frame before them.

    Raises:
        InputError: If OpenCV cannot read the file.
    """

    def __init__(self, path: Path):
        self.path, self.times, self.refused, self.still = path, list[float](), 0, 0
        name = _name_for_opencv(path)
        # Other readers of OpenCV take a name such as img_1.mp4 for the first of many images.
        has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()
        reader = cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY
        self.capture = cv2.VideoCapture(name, reader)
        if not self.capture.isOpened():
            raise InputError(f"{path} is no video that OpenCV can read")
        fps, count = (self.capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps = frame_rate(fps, _stored_times(name, reader))
        self._announced_seconds = count / fps if fps > 0 and count > 0 else 0.0
        hidden = round(hidden_seconds(path) * fps) if fps > 0 else 0
        self.announced = max(int(count) - hidden, 0) if 0 < count < 2**40 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        refused = 0  # since the last frame
        still, last = 0, None
        while True:
            try:
                _, frame = self.capture.read()
            except cv2.error:  # such as more pixels than OpenCV takes
                frame = None
            if frame is not None:
                self.refused, refused = self.refused + refused, 0
                self.times.append(self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                still = still + 1 if last is not None and _equal(last, frame) else 0
                self.still, last = max(self.still, still), frame
                yield np.asarray(frame)[..., ::-1]
                continue
            # At the end of a file as well as at a damaged frame
            refused += 1
            if len(self.times) + self.refused + refused >= self.announced:
                return
            if refused >= MAX_REFUSALS:
                return

    def lost(self) -> int:
        """Return how many frames were not read, once all that can be have been."""
        if _counts_frames(self.path):
            return max(self.announced - len(self.times), self.refused)
        return max(missing_frames(self.times, self._announced_seconds), self.refused)

    def close(self) -> None:
        """Close the file."""
        self.capture.release()


def _stored_times(name: str, reader: int) -> list[float]:
    """Return the times of the first frames of a video, in seconds, without decoding them."""
    raw = cv2.VideoCapture(name, reader, [cv2.CAP_PROP_FORMAT, -1])
    times: list[float] = []
    while len(times) < NUM_TIMES and raw.grab():
        times.append(raw.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    raw.release()
    return times


def frame_rate(announced: float, times: Sequence[float]) -> float:
    """Return the rate of a video in which each frame has its time, or nearly.

    This is the announced rate, unless it is absurd or far from the rate at which frames follow each
    other. If it varies, files announce its mean, or the common multiple of all rates.

    Args:
        announced: Rate as the file says it, in frames per second.
        times: Times of frames, in seconds, in any order.
    """
    steps = np.diff(np.sort(times))
    steps = steps[steps > 1 / FPS[1]]
    fastest = 1 / float(np.percentile(steps, 10)) if len(steps) else DEFAULT_FPS
    if FPS[0] <= announced <= FPS[1] and not (len(steps) and fastest > 1.2 * announced):
        return announced
    return float(np.clip(fastest, *FPS))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two frames are equal, soon if they are not."""
    return np.array_equal(a[::16, ::16], b[::16, ::16]) and np.array_equal(a, b)


def _name_for_opencv(path: Path) -> str:
    """Return the absolute path of a file: relative, ``http:x.mp4`` would be an address.

    Raises:
        InputError: If the path is not valid UTF-8: OpenCV would crash.
    """
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the path {path} is not valid UTF-8, which OpenCV needs for videos: rename it"
        ) from None
    return name


def _counts_frames(path: Path) -> bool:
    """Return whether a file is in a container that stores its number of frames.

    Containers are AVI, by its main header, and MP4, MOV and 3GP, by their table of sample sizes
    (ISO/IEC 14496-12). For all others FFmpeg multiplies the duration with the frame rate.
    """
    with open(path, "rb") as file:
        head = file.read(12)
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") or head[:4] == b"RIFF"


def missing_frames(times: Sequence[float], duration: float) -> int:
    """Return how many frames are missing among times that frames of a constant rate would have.

    The rate is taken to be constant if four fifths of the steps are equal. In a video of variable
    rate, a pause between two frames says nothing, so that only its ends count.

    Args:
        times: Times of frames, ascending, in seconds.
        duration: Duration as announced, in seconds; 0 if it is not known.
    """
    if len(times) < 2:
        return 0
    steps = np.diff(times)
    step = float(np.median(steps))
    if step <= 0:
        return 0
    missing = 0
    if np.mean(np.abs(steps - step) < max(0.02 * step, 0.0015)) >= 0.8:  # times of full ms
        missing = int(np.maximum(np.rint(steps / step) - 1, 0).sum())
    for rest in (times[0], duration - times[-1] - step):
        if rest > TOLERANCE:
            missing += round(rest / step)
    return missing


class OverlayVideo:
    """Writer of an MP4 file in which each frame has the time that it had in another video.

    Frames have the size of the first one, made even as codecs want it. Where time has passed
    between two frames, because frames in between were damaged or the rate varies, the former is
    repeated.

    Args:
        path: The file.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self.fps, self.written = path, fps, 0
        self._writer, self._shift = cv2.VideoWriter(), 0
        self._last: np.ndarray | None = None
        self._size = (0, 0)  # (width, height)

    def write(self, frame: np.ndarray, time: float) -> None:
        """Write a frame.

        Args:
            frame: (H, W, 3), uint8, RGB.
            time: Its time, in seconds.

        Raises:
            InputError: If OpenCV cannot write such files.
        """
        if not self._writer.isOpened():
            self._open(*frame.shape[:2])
        frame = self._fit(np.ascontiguousarray(frame[..., ::-1]))
        pause = repeats(time, self.fps, self.written + self._shift)
        longest = round(MAX_PAUSE * self.fps)
        if pause > longest:  # most likely a damaged time: what follows it is not late
            self._shift, pause = self._shift + pause - longest, longest
        for each in [frame if self._last is None else self._last] * pause + [frame]:
            self._writer.write(each)
        self.written, self._last = self.written + pause + 1, frame

    def close(self) -> None:
        """Close the file.

        Raises:
            OSError: If not all frames have arrived in the file, which OpenCV does not say itself.
        """
        self._writer.release()
        if not self.written:
            return
        found = cv2.VideoCapture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if found != self.written:
            full = shutil.disk_usage(self.path.parent).free < 2**20
            code = errno.ENOSPC if full else errno.EFBIG
            raise OSError(code, os.strerror(code), str(self.path.parent))

    def _open(self, height: int, width: int) -> None:
        self._size = (width + width % 2, height + height % 2)
        code = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]  # not in the stubs
        self._writer.open(_name_for_opencv(self.path), code, self.fps, self._size)
        if not self._writer.isOpened():
            raise InputError(f"this OpenCV cannot write MP4 files to {self.path.parent}")

    def _fit(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        missing = (self._size[1] - height, self._size[0] - width)
        if not set(missing) <= {0, 1}:
            return cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        return cv2.copyMakeBorder(frame, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)


def repeats(time: float, fps: float, written: int) -> int:
    """Return how often the frame before is repeated so that the next has its time.

    Args:
        time: Time of the next frame, in seconds. Times that do not rise give 0.
        fps: Frames per second.
        written: Number of frames before.
    """
    return max(round(time * fps) - written, 0) if np.isfinite(time) else 0
