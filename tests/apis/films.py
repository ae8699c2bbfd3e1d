"""Videos of numbered frames, whole and with every fault that a byte can make."""

import struct
import wave

import cv2
import numpy as np
from PIL import Image

NUM, FPS, SIZE = 30, 10, (64, 48)  # number of frames, frames per second, (width, height)
BITS = 6


def frame(number, size=SIZE):
    """Return an image (H, W, 3), uint8, that shows its number as black and white columns.

    Its lower half is noise, so that the files have some bytes for each frame.
    """
    width, height = size
    image = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        image[: height // 2, left:right] = 255 * (number >> bit & 1)
    return image


def number_of(image, size=SIZE):
    """Return the number that an image shows, after lossy compression."""
    width, height = size
    columns = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(image[height // 4, x].mean() > 127) << bit for bit, x in enumerate(columns))


def film(path, code=None, num=NUM, fps=FPS, size=SIZE):
    """Write a video, and return its bytes."""
    code = code or {".avi": "MJPG", ".webm": "VP80"}.get(path.suffix, "mp4v")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size)
    for number in range(num):
        writer.write(frame(number, size))
    writer.release()
    return bytearray(path.read_bytes())


def cut(data, share=0.4):
    return data[: int(len(data) * share)]


def overwritten(data, where, num=3000):
    """Overwrite some bytes with noise; ``where`` is their place, from 0 to 1."""
    start = int(where * len(data))
    noise = np.random.default_rng(0).integers(0, 256, num, np.uint8).tobytes()
    data[start : start + num] = noise[: len(data) - start]
    return data


def box(data, *names):
    """Return begin and end of a box of an MP4 file (ISO/IEC 14496-12), by the names on its way."""
    begin, end = 0, len(data)
    for i, name in enumerate(names):
        while data[begin + 4 : begin + 8] != name:
            begin += int.from_bytes(data[begin : begin + 4], "big")
            assert begin < end, name
        end = begin + int.from_bytes(data[begin : begin + 4], "big")
        if i + 1 < len(names):
            begin += 8
    return begin, end


MEDIA = (b"moov", b"trak", b"mdia")
TABLES = (*MEDIA, b"minf", b"stbl")


def timed(data, durations, edited=False):
    """Give the frames of an MP4 file durations, a list of (number of frames, ticks).

    The list of edits, which shows the first three seconds, is taken out unless ``edited``.
    """
    begin, end = box(data, *TABLES, b"stts")
    entries = struct.pack(">I", len(durations))
    entries += b"".join(struct.pack(">II", *entry) for entry in durations)
    table = struct.pack(">I4sI", 12 + len(entries), b"stts", 0) + entries
    for depth in range(len(TABLES)):  # the boxes around the table; samples come before them
        start, _ = box(data, *TABLES[: depth + 1])
        size = int.from_bytes(data[start : start + 4], "big") + len(table) - (end - begin)
        data[start : start + 4] = size.to_bytes(4, "big")
    data[begin:end] = table
    begin, _ = box(data, *MEDIA, b"mdhd")
    data[begin + 24 : begin + 28] = struct.pack(">I", sum(n * ticks for n, ticks in durations))
    begin, _ = box(data, b"moov", b"trak", b"edts")
    if not edited:
        data[begin + 4 : begin + 8] = b"free"
    return data


def tables_first(data):
    """Put the tables of an MP4 file before its frames, as for streaming."""
    (begin, end), (start, _) = box(data, b"moov"), box(data, b"mdat")
    place, stop = box(data, *TABLES, b"stco")  # places of frames in the file
    for i in range(place + 16, stop, 4):
        data[i : i + 4] = struct.pack(">I", struct.unpack_from(">I", data, i)[0] + end - begin)
    return data[:start] + data[begin:end] + data[start:begin]


def ticks_per_second(data):
    begin, _ = box(data, *MEDIA, b"mdhd")
    return int.from_bytes(data[begin + 20 : begin + 24], "big")


def faster(data, factor):
    """Multiply the ticks in a second of an MP4 file."""
    begin, _ = box(data, *MEDIA, b"mdhd")
    data[begin + 20 : begin + 24] = struct.pack(">I", factor * ticks_per_second(data))
    return data


def turned(data):
    """Have the frames of an MP4 file turned by 90 degrees clockwise, as phones do."""
    begin, end = box(data, b"moov", b"trak", b"tkhd")
    one = 1 << 16
    matrix = struct.pack(">9i", 0, one, 0, -one, 0, 0, SIZE[1] * one, 0, 1 << 30)
    data[end - 44 : end - 8] = matrix
    return data


def patched(data, name, offset, number):
    """Set a number of 32 bits in a chunk of an AVI file, at an offset behind the chunk's head."""
    place = data.index(name) + 8 + offset
    data[place : place + 4] = struct.pack("<I", number)
    return data


def announcing(data, num):
    """Set the number of frames in both headers of an AVI file."""
    return patched(patched(data, b"avih", 16, num), b"strh", 32, num)


def jpegs(sizes):
    """Return a stream of JPEG files, whose sizes may differ."""
    images = [frame(i, size) for i, size in enumerate(sizes)]
    return bytearray().join(cv2.imencode(".jpg", image)[1].tobytes() for image in images)


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    return bytearray(path.read_bytes())


def animation(path):
    images = [Image.fromarray(frame(i)) for i in range(5)]
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=100)
    return bytearray(path.read_bytes())
