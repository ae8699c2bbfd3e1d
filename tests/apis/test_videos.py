"""Videos with bad spots, lying headers and times of all kinds; the truth is in their pictures."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gfnet_dense.apis.inputs import InputFile
from gfnet_dense.apis.predict_files import PredictOptions, predict_files
from gfnet_dense.apis.videos import OverlayVideo, Video, frame_rate, missing_frames, repeats
from gfnet_dense.utils.errors import InputError
from tests.apis import films
from tests.apis.films import FPS, NUM, SIZE, cut, film, jpegs, number_of, overwritten, timed
from tests.apis.red_segmentor import RedSegmentor


@pytest.fixture(scope="module")
def model():
    return RedSegmentor()


def lost(count, of=NUM):
    return (
        f"{count} of the {of} frames that FILE announces could not be read, and frames behind them "
        "may be damaged; the overlay shows the others"
    )


NO_VIDEO = "FILE is no video that OpenCV can read"
NO_FRAME = "FILE has no frame that can be read"
STILL = (
    "{} frames in a row of FILE are equal: a still picture, or frames of another size, in place of "
    "which OpenCV repeats the last one"
)


def ticks(path):
    return films.ticks_per_second(film(path)) // FPS


# Fault: suffix, bytes from a path that may be written, number of frames read, sentence, exit code
VIDEOS = {
    "whole": [(".avi .mp4 .mov .mkv .webm", film, 30, "", 0)],
    "cut to 40 %": [
        (".avi", lambda p: cut(film(p)), 11, lost(19), 1),
        (".mp4 .mov", lambda p: cut(film(p)), 0, NO_VIDEO, 1),
        (".mkv", lambda p: cut(film(p)), 5, lost(25), 1),
        (".webm", lambda p: cut(film(p)), 11, lost(19), 1),
        (".mp4 with its tables first", lambda p: cut(films.tables_first(film(p)), 0.6),
         12, lost(18), 1),
    ],
    "3 kB overwritten at the start": [
        (".avi", lambda p: overwritten(film(p), 0.1), 28, lost(2), 1),
        (".mp4 .mov", lambda p: overwritten(film(p), 0.1), 29, lost(1), 1),
        (".mkv .webm", lambda p: overwritten(film(p), 0.1), 20, lost(10), 1),
    ],
    "3 kB overwritten in the middle": [
        (".avi", lambda p: overwritten(film(p), 0.5), 28, lost(2), 1),
        (".mp4 .mov", lambda p: overwritten(film(p), 0.5), 24, lost(6), 1),
        (".mkv", lambda p: overwritten(film(p), 0.5), 10, lost(20), 1),
        (".webm", lambda p: overwritten(film(p), 0.5), 20, lost(10), 1),
    ],
    "3 kB overwritten near the end": [
        (".avi", lambda p: overwritten(film(p), 0.85), 28, lost(2), 1),
        (".mkv .webm", lambda p: overwritten(film(p), 0.85), 25, lost(5), 1),
    ],
    "table of frames overwritten": [
        (".mp4", lambda p: overwritten(film(p), 0.97, 300), 0, NO_VIDEO, 1)
    ],
    "announces 0 frames": [(".avi", lambda p: films.announcing(film(p), 0), 30, "", 0)],
    "announces 10 of 30 frames": [(".avi", lambda p: films.announcing(film(p), 10), 30, "", 0)],
    "announces 100 frames, has 30": [
        (".avi", lambda p: films.announcing(film(p), 100), 30, lost(70, 100), 1)
    ],
    "no frame": [
        (".avi", lambda p: film(p, num=0), 0, NO_FRAME, 1),
        (".mp4", lambda p: film(p, num=0), 0, NO_VIDEO, 1),
    ],
    "one frame": [(".avi .mp4", lambda p: film(p, num=1), 1, "", 0)],
    "variable rate": [
        (".mp4", lambda p: timed(film(p), [(10, ticks(p)), (20, 2 * ticks(p))]), 30, "", 0)
    ],
    "a pause of 20 s": [
        (".mp4", lambda p: timed(film(p), [(10, ticks(p)), (1, 200 * ticks(p)), (19, ticks(p))]),
         30, "", 0)
    ],
    "trimmed to half by its list of edits": [
        (".mp4", lambda p: timed(film(p), [(30, 2 * ticks(p))], edited=True), 15, "", 0)
    ],
    "rate of 0": [(".avi", lambda p: films.patched(film(p), b"strh", 24, 0), 30, "", 0)],
    "rate of a million": [
        (".avi", lambda p: films.patched(film(p), b"strh", 24, 10**6), 30, "", 0),
        (".mp4", lambda p: films.faster(timed(film(p), [(30, 1)]), 100), 30, "", 0),
    ],
    "to be turned by 90 degrees": [(".mp4", lambda p: films.turned(film(p)), 30, "", 0)],
    "odd size": [(".avi", lambda p: jpegs([(63, 47)] * NUM), 30, "", 0)],
    "another size from the middle on": [
        (".avi", lambda p: jpegs([SIZE] * 15 + [(96, 80)] * 15), 30, STILL.format(16), 0)
    ],
    "sound alone": [(".avi .mp4", films.sound, 0, NO_VIDEO, 1)],
    "an animated GIF": [(".mp4", films.animation, 5, "", 0)],
    "a JPEG": [(".mp4", lambda p: jpegs([SIZE]), 1, "", 0)],
    "text": [(".mp4", lambda p: b"no video\n" * 100, 0, NO_VIDEO, 1)],
    "empty": [(".avi .mp4 .mkv", lambda p: b"", 0, NO_VIDEO, 1)],
}  # fmt: skip


def overlay_numbers(path):
    """Return what the frames of a written overlay show, whose opacity was 0."""
    overlay = cv2.VideoCapture(str(path))
    numbers = []
    while (frame := overlay.read()[1]) is not None:
        numbers.append(number_of(frame[: SIZE[1]]))
    return numbers


def test_videos_are_read_behind_damaged_spots_and_what_was_lost_is_said(
    tmp_path, model, check_table
):
    rows = [["video", "file", "frames read", "what is said", "exit code"]]
    for fault, cases in VIDEOS.items():
        for suffixes, make, expected_read, expected_said, expected_code in cases:
            for suffix in suffixes.partition(" with")[0].split():
                path = tmp_path / f"film{suffix}"
                path.write_bytes(make(tmp_path / f"whole{suffix}"))
                options = PredictOptions(tmp_path / "out", opacity=0)
                summary = predict_files(
                    model, [InputFile(path, path.relative_to(tmp_path))], options
                )
                said = "; ".join(summary.skipped + summary.notes).replace(str(path), "FILE")
                found = (summary.images, said, int(bool(summary.skipped)))
                assert found == (expected_read, expected_said, expected_code), (fault, suffix)
            rows.append(
                [fault, suffixes, *map(str, found[:1]), found[1] or "nothing", str(found[2])]
            )
    check_table("videos", rows)


def predicted(path, data, model):
    """Predict a video, and return the numbers in its overlay."""
    path.write_bytes(data)
    options = PredictOptions(path.parent / "out", opacity=0)
    predict_files(model, [InputFile(path, Path(path.name))], options)
    return overlay_numbers(path.parent / "out" / "overlays" / f"{path.name}.mp4")


def test_the_overlay_of_a_whole_video_has_its_frames(tmp_path, model):
    for suffix in (".avi", ".mp4", ".mkv", ".webm"):
        path = tmp_path / f"film{suffix}"
        assert predicted(path, film(path), model) == list(range(NUM))


@pytest.mark.parametrize("where", [0.1, 0.5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_frames_behind_a_damaged_spot_keep_their_time_in_the_overlay(
    tmp_path, model, suffix, where
):
    """Frames 24 and later are behind a keyframe: they are whole, and at their own places."""
    path = tmp_path / f"film{suffix}"
    numbers = predicted(path, overwritten(film(path), where), model)
    assert len(numbers) == NUM and numbers[28:] == [28, 29] and numbers[0] == 0


def test_a_pause_repeats_the_overlay_before_it(tmp_path, model):
    path = tmp_path / "film.mp4"
    data = film(path)
    step = films.ticks_per_second(data) // FPS
    numbers = predicted(path, timed(data, [(10, step), (1, 31 * step), (19, step)]), model)
    # OpenCV gives the mean rate, 5; the frames of the first second would be shown in two.
    assert numbers == [*range(10), *[10] * 31, *range(11, 30)]


def test_a_varying_rate_keeps_its_times(tmp_path, model):
    path = tmp_path / "film.mp4"
    data = film(path)
    step = films.ticks_per_second(data) // FPS
    numbers = predicted(path, timed(data, [(10, step), (20, 2 * step)]), model)
    assert numbers[:10] == [*range(10)] and numbers[10::2] == [*range(10, 30)]


@pytest.mark.parametrize(
    "announced, times, expected",
    [
        (25.0, np.arange(50) / 25, 25.0),
        (29.97, np.arange(90) / 29.97 // 0.001 * 0.001, 29.97),  # full milliseconds
        (1000.0, np.arange(90) / 20, 20.0),  # a recording of a browser
        (0.0, np.arange(90) / 20, 20.0),
        (float("nan"), [], 30.0),
        (1e9, [], 30.0),
        (1e9, [0.0] * 30, 30.0),
        (7.5, [i / 10 for i in [*range(10), *range(10, 30, 2)]], 10.0),
        (0.2, np.arange(9) * 5, 0.2),
        (0.01, np.arange(9) * 100, 0.1),
        (25.0, -1e18 * np.ones(9), 25.0),
    ],
)
def test_the_rate_is_that_of_the_frames_if_the_announced_one_is_not(announced, times, expected):
    assert frame_rate(announced, times) == pytest.approx(expected)


def test_times_that_are_damaged_do_not_fill_the_disk(tmp_path):
    path = tmp_path / "out.mp4"
    video = OverlayVideo(path, 1)
    for time in (0, 1, 1e9, 1e9 + 1, 1e9 + 2, float("nan"), float("inf"), -1e18, 0):
        video.write(films.frame(5), time)
    video.close()
    assert video.written == 9 + 60  # the longest pause: 60 seconds
    assert overlay_numbers(path) == [5] * 69


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (2, 2), (1, 1), (33, 2)])
def test_overlays_of_any_size_are_written_with_all_pixels(tmp_path, size):
    path = tmp_path / "out.mp4"
    video = OverlayVideo(path, 10)
    frame = np.full((*size[::-1], 3), 200, np.uint8)
    for i in range(3):
        video.write(frame, i / 10)
    video.write(np.full((50, 20, 3), 200, np.uint8), 0.3)  # resized
    video.close()
    read = cv2.VideoCapture(str(path))
    frames = [read.read()[1] for _ in range(4)]
    for each in frames:
        assert each.shape[:2] == (size[1] + size[1] % 2, size[0] + size[0] % 2)
        assert abs(int(each.mean()) - 200) < 6


def test_an_overlay_that_does_not_reach_the_disk_is_an_error(tmp_path):
    """OpenCV writes on when the disk is full, and says nothing."""
    video = OverlayVideo(tmp_path / "out.mp4", 10)
    for i in range(3):
        video.write(films.frame(i), i / 10)
    video._writer.release()
    data = (tmp_path / "out.mp4").read_bytes()
    (tmp_path / "out.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError):
        video.close()


@pytest.mark.parametrize(
    "time, written, expected",
    [(0.0, 0, 0), (0.1, 1, 0), (0.5, 1, 4), (0.1, 5, 0), (-1e18, 3, 0), (float("nan"), 1, 0)],
)
def test_the_frame_before_is_repeated_until_the_time_of_the_next(time, written, expected):
    assert repeats(time, 10, written) == expected


def at(*numbers):
    return [number / 10 for number in numbers]


@pytest.mark.parametrize(
    "times, duration, expected",
    [
        (at(*range(30)), 3.0, 0),
        (at(*range(10), *range(15, 30)), 3.0, 5),  # a gap
        (at(*range(5, 30)), 3.0, 5),
        (at(*range(20)), 3.0, 10),
        (at(*range(28)), 3.0, 0),  # within the tolerance
        (at(*range(30)), 0.0, 0),  # duration not known
        (at(0, 1, 4, 5, 9, 10, 12, 19, 20, 21), 2.2, 0),  # variable rate
        ([i / 30 // 0.001 * 0.001 for i in range(90)], 3.0, 0),  # full milliseconds
        ([0.0] * 30, 3.0, 0),
        ([0.0], 3.0, 0),
        ([], 3.0, 0),
    ],
)
def test_missing_frames_are_counted_in_the_times_of_the_others(times, duration, expected):
    assert missing_frames(times, duration) == expected


@pytest.mark.parametrize(
    "name", ["film%02d.mp4", "data:film.mp4", "film#1?.mp4", "-film.mp4", "a\nb.mp4"]
)
def test_names_are_neither_addresses_nor_patterns(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "whole.mp4")
    os.rename("whole.mp4", name)
    assert len(list(Video(Path(name)))) == NUM


def test_a_picture_named_as_a_video_is_not_taken_for_the_first_of_many(tmp_path):
    for i in range(3):
        (tmp_path / f"img_{i}.mp4").write_bytes(jpegs([SIZE]))
    assert len(list(Video(tmp_path / "img_0.mp4"))) == 1


def test_turned_frames_are_upright(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(films.turned(film(path)))
    frames = list(Video(path))
    assert [number_of(np.rot90(frame)) for frame in frames] == list(range(NUM))


def test_an_undecodable_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not valid UTF-8"):
        Video(tmp_path / os.fsdecode(b"\xff.mp4"))
