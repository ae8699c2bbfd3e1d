"""Conversion of a source to a data set for mmsegmentation or mmdetection, step by step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfnet_dense.datasets.fixing.copy import write_files
from gfnet_dense.datasets.survey.contents import Report
from gfnet_dense.datasets.survey.pictures import identical_files
from gfnet_dense.utils.errors import InputError

from .classes import choose_classes, drop_others, renumber
from .files import Files
from .formats import choose_format, find_formats, read_source
from .images import Content, fit_images, unique_names
from .model import LabeledImage, Source, is_background
from .splitting import group_names, split
from .to_coco import plan_coco
from .to_masks import BACKGROUND, plan_masks

VAL = 0.2  # share of the validation, if the source has none
ORDER = ("train", "val", "test")


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
        chosen_format: One of :data:`.formats.FORMATS`, None to find it out.
        images: Folder of the images, where they are not in the source.
        classes: Classes to take, in this order; None takes all.
        colors: Table of the colors of masks.
        val: Share of the validation, None for :data:`VAL` or the splits of the source.
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
    result = Conversion(out, to, name, source)
    if not source.images and not source.problems:
        raise InputError(f"{path} holds no image with an annotation")
    if source.images:
        result.classes = _take_classes(source, classes, to)
    contents = fit_images(source)
    if not source.problems:
        _split(source, files, val, group_by)
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


def reports(plan: Conversion) -> list[Report]:
    """Return the numbers of images, and of objects or pixels of each class, for each split."""
    found = []
    for name in ORDER:
        images = [image for image in plan.source.images if image.split == name]
        if not images:
            continue
        unit = "objects" if images[0].objects is not None else "pixels"
        report = Report(name, unit, len(images))
        is_made = plan.to == "masks" and unit == "objects"
        report.add_classes(plan.classes[1:] if is_made else plan.classes)
        for image in images:
            counts = _counts(image, plan.classes)
            report.counts.update(counts)
            report.images.update(counts.keys())
            report.ignored += image.label_map.ignored if image.label_map else 0
        found.append(report)
    return found


def _take_classes(source: Source, chosen: Sequence[str] | None, to: str) -> list[str]:
    """Return the classes of the result, and leave out all others of the source, in place."""
    classes = choose_classes(source, chosen)
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


def _counts(image: LabeledImage, classes: Sequence[str]) -> Counter:
    """Return the number of objects, or of pixels, of each class."""
    if image.objects is not None:
        return Counter(each.name for each in image.objects if each.name in classes)
    assert image.label_map is not None
    return Counter({classes[index]: n for index, n in image.label_map.counts.items()})


def _split(source: Source, files: Files, val: float | None, group_by: str | None) -> None:
    """Give each image its split, in place; those of the source are kept if it can train by them."""
    images = source.images
    without = [image for image in images if not image.split]
    if 0 < len(without) < len(images):
        other = next(image for image in images if image.split)
        raise InputError(
            f"{other.path} is in {other.split}, and {len(without)} images, first "
            f"{without[0].path}, in no split: sort all images, or none"
        )
    if {"train", "val"} <= {image.split for image in images}:
        for option, value in (("--val", val), ("--group-by", group_by)):
            if value is not None:
                raise InputError(f"{option} splits images, and the source has splits already")
        return
    pool = [image for image in images if image.split != "test"] or images
    for image in pool:
        if image.split in ("val", "test"):
            source.note(
                f"images of {image.split} are split anew, since the source has no training",
                image.path,
            )
    names = {_relative(image.path, files): image for image in pool}
    groups: dict[str, str] = {}
    if group_by is not None:
        groups, others = group_names(names, group_by)
        for name in others:
            source.refuse(name, f"--group-by {group_by!r} finds nothing in {name}")
        if others:
            return
    same = identical_files(str(image.path) for image in pool if image.data is None)
    for paths in same:
        twins = [_relative(Path(path), files) for path in paths]
        source.note(
            "images are the same as another one, and in one split with it", paths[1], len(twins) - 1
        )
        _join(groups, twins, names)
    share = VAL if val is None else val
    labels = {name: _labels(image, source) for name, image in names.items()}
    chosen = split(labels, groups, share)
    if share and not chosen:
        raise InputError(
            f"--val {share:g} of {len(pool)} images leaves none for the validation, since a class "
            "of one image is for the training; label more images, ask for a larger share, or take "
            "--val 0 for no validation"
        )
    for name, image in names.items():
        image.split = "val" if name in chosen else "train"


def _labels(image: LabeledImage, source: Source) -> set:
    if image.objects is not None:
        return {each.name for each in image.objects}
    assert image.label_map is not None
    return {index for index, count in image.label_map.counts.items() if count}


def _relative(path: Path, files: Files) -> str:
    is_below = path.is_relative_to(files.image_root)
    return (path.relative_to(files.image_root) if is_below else path).as_posix()


def _join(groups: dict[str, str], twins: Sequence[str], names: dict[str, LabeledImage]) -> None:
    """Bring images into one group with all of their groups, in place."""
    former = {groups[name] for name in twins if name in groups}
    target = min(former, default=twins[0])
    for name in names:
        if name in twins or groups.get(name) in former:
            groups[name] = target
