"""The image files of a result: of the size that was labeled, with names of their own."""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from gfnet_dense.datasets.coco.pictures import EXCHANGES, check_size
from gfnet_dense.datasets.fixing.orientation_tag import without_orientation
from gfnet_dense.datasets.fixing.segmentation import untagged
from gfnet_dense.datasets.survey.contents import in_parallel
from gfnet_dense.datasets.survey.pictures import DEEP_MODES, Picture, read_picture, why_broken
from gfnet_dense.utils.decoding import decode_image
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import FORMATS, exif_orientation
from gfnet_dense.utils.images import read_bytes

from .files import Files
from .model import LabeledImage, Source
from .shapes import THIN, fit_object

Content = Path | Callable[[], bytes]
UNTAGGED = "photos are written without their EXIF orientation, since they were labeled as stored"
DOUBTFUL = (
    "photos are turned or mirrored by their EXIF orientation, and nothing tells whether their "
    "labels are; they are taken for the turned photo"
)
UNTOLD = (
    "photos are turned or mirrored by their EXIF orientation, and labels without the size of the "
    "photo, such as YOLO's shares, do not tell whether they are for the turned one, for which they "
    "are taken: look at some in the contact sheet of check_dataset"
)


def check_places(source: Source, files: Files, name: str) -> None:
    """Add to a source where images were found by nothing but their name, in place.

    The photos of labelme and VIA lie beside their annotation. If some do, one of that name in
    another folder is probably another photo. In other formats images lie elsewhere, but together.

    Args:
        source: The source.
        files: Its files.
        name: Its format, one of :data:`gfnet_dense.utils.types.LABEL_FORMATS`.
    """
    num_images = Counter(image.source for image in source.images)
    places = defaultdict(list)
    for image in source.images:
        many = num_images[image.source] > 1
        places[image.source if many else image.source.parent].append(image)
    for images in places.values():
        found = [image for image in images if image.path in files.searched]
        is_beside = any(image.path.parent == image.source.parent for image in images)
        for image in found:
            if is_beside and image.path.parent != image.source.parent:
                source.refuse(
                    image.source,
                    f"{image.source} names an image that is not beside it, as others are, and "
                    f"{image.path} in another folder may be another one: put the image there, or "
                    "give the folder of all images with --images",
                )
            elif not is_beside and name in ("labelme", "via"):
                source.note("images are taken from another folder by their name", image.source)
        folders = Counter(image.path.parent for image in found)
        for image in found if not is_beside else []:
            if image.path.parent != folders.most_common(1)[0][0]:
                source.note("images are taken by name from another folder than most", image.path)


def fit_images(source: Source) -> list[Content]:
    """Bring images and their objects together, in place, and add what is wrong to the source.

    Sizes become those of the images as they are shown. A photo that was labeled as it is stored
    loses its EXIF orientation. Objects are clipped to their image.

    Args:
        source: The source.

    Returns:
        The content of each image, in the order of ``source.images``.
    """
    contents: list[Content] = []
    examined = in_parallel(_examine, source.images, "images")
    labeled_by: dict[Path, Path] = {}
    for image, (picture, broken) in zip(source.images, examined, strict=True):
        contents.append(image.path)
        if broken:
            source.refuse(image.path, broken)
            continue
        real = image.path.resolve()
        if real in labeled_by:
            source.refuse(
                image.path,
                f"the image {image.path} is there twice, with labels in {labeled_by[real]} and "
                f"{image.source}",
            )
        labeled_by[real] = image.source
        with source.collecting(image.path):
            contents[-1] = _content(image, picture, source)
            _fit_objects(image, source)
    return contents


def _examine(image: LabeledImage) -> tuple[Picture, str]:
    path = str(image.path)
    if image.data is not None:
        with Image.open(io.BytesIO(image.data)) as opened:
            return Picture(path, opened.size, exif_orientation(image.data)), ""
    picture = read_picture(path)
    return picture, picture.error or why_broken(path)


def _content(image: LabeledImage, picture: Picture, source: Source) -> Content:
    """Return the content of an image, and set its size to the one that is shown."""
    width, height = picture.size
    stored = height, width
    is_turned = picture.orientation in EXCHANGES
    shown = stored[::-1] if is_turned else stored
    labeled = image.size or shown
    if is_turned and labeled == stored != shown:
        data = without_orientation(image.data or read_bytes(image.path))
        if data is None:
            raise InputError(
                f"{image.path} was labeled as it is stored, and its EXIF orientation cannot be "
                "taken out: save it without"
            )
        source.note(UNTAGGED, image.path)
        return partial(untagged, image.path) if image.data is None else partial(bytes, data)
    check_size(image.path, shown, labeled, image.source, picture.orientation)
    if picture.orientation != 1 and image.size is None:
        source.note(UNTOLD, image.path)
    elif picture.orientation != 1 and (not is_turned or shown == stored):
        source.note(DOUBTFUL, image.path)
    image.size = shown
    return image.path if image.data is None else partial(bytes, image.data)


def _fit_objects(image: LabeledImage, source: Source) -> None:
    if image.objects is None:
        return
    assert image.size is not None
    fitted = []
    for each in image.objects:
        try:
            result, change = fit_object(each, image.size)
        except InputError as e:
            raise InputError(f"{image.source}: {e}") from None
        if result is None:
            source.leave_out(change, image.source)
            continue
        if change:
            source.note("objects that reach out of their image have a clipped box", image.source)
        fitted.append(result)
        num_thin = len(each.polygons) - len(result.polygons)
        if num_thin:
            source.leave_out(f"{THIN} in objects of several", image.source, num_thin)
    image.objects = fitted


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return names, with ``/`` between folders, of which no two are the same without suffix.

    They are the last parts of the paths, as few as tell all apart, without regard to case. Files of
    one folder that differ in the suffix alone get it into their name: ``a.jpg``, ``a_png.png``.

    Args:
        paths: Paths, all different.
    """
    paths = [path.absolute() for path in paths]
    length, deepest = 1, max((len(path.parts) for path in paths), default=1) - 1
    while length < deepest and _repeated(["/".join(p.parts[-length:]) for p in paths], paths):
        length += 1
    names = ["/".join(path.parts[-min(length, len(path.parts) - 1) :]) for path in paths]
    taken: set[str] = set()
    for i in sorted(range(len(names)), key=lambda i: names[i]):
        stem = _stem(names[i])
        if stem in taken:
            suffix = paths[i].suffix
            names[i] = f"{names[i].removesuffix(suffix)}_{suffix[1:]}{suffix}"
        taken.add(_stem(names[i]))
    return names


def _stem(name: str) -> str:
    return str(Path(name).with_suffix("")).casefold()


def _repeated(names: list[str], paths: Sequence[Path]) -> bool:
    """Return whether names of files in different folders are the same without suffix."""
    folders = defaultdict(set)
    for name, path in zip(names, paths, strict=True):
        folders[_stem(name)].add(path.parent)
    return any(len(each) > 1 for each in folders.values())


def one_suffix(
    names: Sequence[str], contents: Sequence[Content], source: Source
) -> tuple[list[str], list[Content], str]:
    """Give all images of a segmentation data set the same suffix, as mmsegmentation needs it.

    ``.JPG`` and ``.jpeg`` become ``.jpg``, other suffixes lower case. Files of several formats
    become PNG, without loss of their 8 bits.

    Args:
        names: Names of the images.
        contents: Their contents.
        source: The source, which gets a note.

    Returns:
        Names, contents, and the suffix.

    Raises:
        InputError: If an image that would become PNG has more than 8 bits.
    """
    suffixes = [Path(name).suffix for name in names]
    new = [_canonical(suffix) for suffix in suffixes]
    kinds = Counter(new)
    contents = list(contents)
    if len(kinds) > 1:
        for i, image in enumerate(source.images):
            if new[i] != ".png":
                _check_depth(contents[i], image.path)
                contents[i] = partial(_as_png, contents[i], image.path)
                source.note("images are written as PNG, since all must have one suffix", image.path)
        new = [".png"] * len(new)
    pairs = zip(names, suffixes, new, strict=True)
    return [name.removesuffix(old) + suffix for name, old, suffix in pairs], contents, new[0]


def _check_depth(content: Content, path: Path) -> None:
    with Image.open(content if isinstance(content, Path) else io.BytesIO(content())) as image:
        # A number among the arguments is the largest value of a Netpbm file.
        maxima = [each for tile in image.tile for each in tile.args if type(each) is int]
        is_netpbm = image.format == "PPM" and max(maxima, default=255) > 255
        if image.mode in DEEP_MODES or ";16" in str(image.tile) or is_netpbm:
            raise InputError(
                f"{path} has more than 8 bits per channel, and images of several formats would "
                "become PNG of 8 bits: write all images in one format"
            )


def _canonical(suffix: str) -> str:
    """Return the first suffix of a format: '.jpg' for '.JPEG'."""
    return next((group[0] for group in FORMATS.values() if suffix.lower() in group), suffix.lower())


def _as_png(content: Content, path: Path) -> bytes:
    data = content.read_bytes() if isinstance(content, Path) else content()
    file = io.BytesIO()
    Image.fromarray(decode_image(data, str(path)).pixels).save(file, "PNG")
    return file.getvalue()
