"""A conversion as text: what it holds, what it leaves out, and how a config uses it."""

import json
from collections import Counter
from collections.abc import Sequence

from gfnet_dense.datasets.survey.contents import Report
from gfnet_dense.datasets.survey.report import format_classes

from .convert import Conversion
from .model import LabeledImage

ORDER = ("train", "val", "test")


def format_conversion(plan: Conversion) -> str:
    """Return a conversion as text, after it was written.

    Args:
        plan: A conversion without problems.
    """
    found = reports(plan)
    empty = Counter(image.split for image in plan.source.images if image.objects == [])
    counts = ", ".join(
        f"{each.split}: {each.num_images} images"
        + (f" ({empty[each.split]} without objects)" if empty[each.split] else "")
        for each in found
    )
    parts = [f"{plan.format}; {counts}", format_classes(found)]
    for title, reasons in (("left out", plan.source.left_out), ("changed", plan.source.notes)):
        lines = [f"  {count} {reason} (first {path})" for reason, (count, path) in reasons.items()]
        parts.append("\n".join([f"{title}:{'' if lines else ' nothing'}", *lines]))
    if plan.pixels["in objects"]:
        share = plan.pixels["in several"] / plan.pixels["in objects"]
        parts.append(f"overlaps: {share:.2%} of the pixels of objects lie in several of them")
    lines = [f"the data set is {plan.out}; set in the config:"]
    lines.append(f"  data_root = {json.dumps(str(plan.out), ensure_ascii=False)}")
    lines.append(f"  classes = {json.dumps(plan.classes, ensure_ascii=False)}")
    if plan.suffix:
        lines.append(f'  suffixes = dict(img_suffix="{plan.suffix}", seg_map_suffix=".png")')
    lines.append("and check it: python tools/check_dataset.py configs/my_dataset.py")
    return "\n\n".join([*parts, "\n".join(lines)])


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


def _counts(image: LabeledImage, classes: Sequence[str]) -> Counter:
    """Return the number of objects, or of pixels, of each class."""
    if image.objects is not None:
        return Counter(each.name for each in image.objects if each.name in classes)
    assert image.label_map is not None
    return Counter({classes[index]: n for index, n in image.label_map.counts.items()})
