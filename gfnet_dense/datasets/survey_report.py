"""Survey of a data set as text: numbers of images, table of classes, warnings and errors."""

from collections import defaultdict

from gfnet_dense.utils.tables import format_table

from .survey import Problem, Report

UNLABELED = "(not labeled)"


def format_report(
    reports: list[Report], max_groups: int | None = None, max_files: int | None = None
) -> str:
    """Return reports as text: numbers of images, table of classes, warnings, and errors at the end.

    Args:
        reports: One report for each split.
        max_groups: Largest number of different warnings, and of different errors, that are shown;
            None shows all.
        max_files: Largest number of files that are listed for each of them; None lists all.
    """
    errors = [problem for report in reports for problem in report.errors]
    warnings = [problem for report in reports for problem in _missing_classes(report)]
    warnings += [problem for report in reports for problem in report.warnings]
    parts = ["\n".join(f"{each.split}: {each.num_images} images" for each in reports)]
    parts += [format_classes(reports)]
    for kind, problems in (("warnings", warnings), ("errors", errors)):
        problems = list(dict.fromkeys(problems))  # splits may share a problem
        lines = _format_problems(problems, max_groups, max_files)
        parts.append("\n".join([f"{kind}: {len(problems) or 'none'}", *lines]))
    return "\n\n".join(parts)


def format_classes(reports: list[Report]) -> str:
    """Return a text table of the classes: share of pixels and number of images for each split."""
    reports = [report for report in reports if report.num_pixels]
    if not reports:
        return "classes: no label map could be read"
    names = list(dict.fromkeys(name for report in reports for name in report.pixels))
    heading = ["class"]
    for report in reports:
        heading += [f"{report.split}: pixels", "images"]
    rows = [[name, *(cell for each in reports for cell in _cells(name, each))] for name in names]
    ignored = [cell for each in reports for cell in (_share(each.ignored, each), "")]
    return format_table([heading, *rows, [UNLABELED, *ignored]], markdown=False)


def _cells(name: str, report: Report) -> tuple[str, str]:
    if name not in report.pixels:
        return "-", "-"
    return _share(report.pixels[name], report), str(report.images[name] or "never")


def _share(count: int, report: Report) -> str:
    return f"{count / report.num_pixels:.2%}"


def _missing_classes(report: Report) -> list[Problem]:
    missing = [name for name, count in report.pixels.items() if not count]
    if not missing or not report.num_pixels:
        return []
    return [Problem("", f"no label map of {report.split} has a pixel of {', '.join(missing)}")]


def _format_problems(
    problems: list[Problem], max_groups: int | None, max_files: int | None
) -> list[str]:
    """Return a line for each different problem, followed by lines for the files that have it.

    Problems of the config come first, then problems of files, the most frequent ones first.
    """
    groups = defaultdict(list)
    for problem in problems:
        path, sentence = problem
        groups[sentence.replace(path, "FILE") if path else sentence].append(problem)
    ordered = sorted(groups.items(), key=lambda group: (bool(group[1][0].path), -len(group[1])))
    lines = []
    for kind, members in ordered[:max_groups]:
        paths = [path for path, _ in members]
        if len(paths) == 1:
            lines.append(f"  {members[0].sentence}")
            continue
        lines += [f"  {kind} ({len(paths)} files):"]
        lines += [f"    {path}" for path in paths[:max_files]]
        if max_files is not None and len(paths) > max_files:
            lines.append(f"    ... and {len(paths) - max_files} more")
    if max_groups is not None and len(ordered) > max_groups:
        lines.append(f"  ... and {len(ordered) - max_groups} more")
    return lines
