"""Conversion of a source to a data set for mmsegmentation or mmdetection, step by step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfnet_dense.datasets.fixing.copy import write_files
from gfnet_dense.utils.errors import InputError

from .classes import choose_classes, drop_others, note_similar, renumber
from .files import Files
from .formats import choose_format, find_formats, read_source
from .images import Content, check_places, fit_images, unique_names
from .model import Source, is_background
from .splitting import set_splits
from .to_coco import plan_coco
from .to_masks import BACKGROUND, plan_masks


@dataclass
class Conversion:
    """A data set that is not yet written.

    Attributes:
        out: Its folder.
        to: 'masks' or 'coco'.
        format: Format of the source.
        source: What was read; nothing is written if it has problems.
        classes: Class names in their order.
        files: Contents by path below ``out``.
        suffix: Suffix of the images, '' for COCO.
        pixels: Numbers of pixels 'in objects' and 'in several', known after writing.
    """

    out: Path
    to: str
    format: str
    source: Source
    classes: list[str] = field(default_factory=list)
    files: dict[str, Content] = field(default_factory=dict)
    suffix: str = ""
    pixels: Counter = field(default_factory=Counter)


def plan_conversion(
    path: Path,
    out: Path,
    to: str,
    chosen_format: str | None = None,
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    colors: Path | None = None,
    val: float | None = None,
    group_by: str | None = None,
) -> Conversion:
    """Read a source, and plan the data set that is made of it.

    Args:
        path: Folder or file of the source.
        out: Folder of the data set.
        to: 'masks' or 'coco'.
        chosen_format: One of :data:`gfnet_dense.utils.types.LABEL_FORMATS`, None to find it out.
        images: Folder of the images, where they are not in the source.
        classes: Classes to take, in this order; None takes all.
        colors: Table of the colors of masks.
        val: Share of the validation, None for :data:`.splitting.VAL` or the splits of the source.
        group_by: Regular expression of groups that stay together, see :func:`.group_names`.

    Returns:
        The plan. If its source has problems, it has no files.

    Raises:
        InputError: If ``out`` is there and not empty or inside of the source, or if the source as a
            whole cannot be converted.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"OUT is a new folder, but {out} is there already")
    if val is not None and not 0 <= val < 1:
        raise InputError(f"--val is a share of the images, such as 0.2, got {val}")
    files = Files(path, images)
    if out.resolve().is_relative_to(files.root.resolve()) and path.is_dir():
        raise InputError(f"{out} lies in the source {path}: give a folder outside of it")
    name = choose_format(find_formats(files), to, chosen_format)
    source = read_source(files, name, to, colors, classes)
    check_places(source, files, name)
    result = Conversion(out, to, name, source)
    if not source.images and not source.problems:
        raise InputError(f"{path} holds no image with an annotation")
    if source.images:
        result.classes = _take_classes(source, classes, to)
    contents = fit_images(source)
    if not source.problems:
        set_splits(source, files, val, group_by)
    if not source.problems:
        names = unique_names([image.path for image in source.images])
        if to == "coco":
            result.files = plan_coco(source, names, contents, result.classes)
        else:
            result.files, result.suffix = plan_masks(
                source, names, contents, result.classes, result.pixels
            )
    return result


def write_conversion(plan: Conversion) -> None:
    """Write a data set, as a whole or not at all.

    Raises:
        InputError: If the source has problems.
        OSError: If it cannot be written.
    """
    if plan.source.problems:
        raise InputError(f"{len(plan.source.problems)} problems: nothing is written")
    write_files(plan.files, plan.out, "write")


def _take_classes(source: Source, chosen: Sequence[str] | None, to: str) -> list[str]:
    """Return the classes of the result, and leave out all others of the source, in place."""
    classes = choose_classes(source, chosen)
    note_similar(source, classes)
    drop_others(source, classes)
    if source.images[0].label_map is None:
        return classes if to == "coco" else [BACKGROUND, *classes]
    assert source.classes is not None
    if to == "coco":
        return [name for name in classes if not is_background(name)]
    own = next((name for name in source.classes if is_background(name)), None)
    if own is not None and own not in classes:
        classes = [own, *classes]
    for image in source.images:
        assert image.label_map is not None
        for index, number in image.label_map.counts.items():
            if source.classes[index] not in classes:
                source.leave_out(
                    f"pixels of other classes, {source.classes[index]}, which become 255",
                    image.source, number,
                )  # fmt: skip
        image.label_map = renumber(image.label_map, source.classes, classes)
    return classes
