"""Survey of a data set as text: numbers of images, table of classes, warnings and errors."""

from collections import defaultdict

from gfnet_dense.utils.tables import format_table

from .contents import Problem, Report

UNLABELED = "(not labeled)"
MAX_GROUPS = 20  # maximum number of different problems on the console
MAX_FILES = 8  # maximum number of files that the console lists for one problem


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
    parts = ["\n".join(line for report in reports for line in _format_contents(report))]
    parts += [format_classes(reports)]
    for kind, problems in (("warnings", warnings), ("errors", errors)):
        problems = list(dict.fromkeys(problems))  # splits may share a problem
        lines = format_problems(problems, max_groups, max_files)
        parts.append("\n".join([f"{kind}: {len(problems) or 'none'}", *lines]))
    return "\n\n".join(parts)


def _format_contents(report: Report) -> list[str]:
    return [f"{report.split}: {report.num_images} images", *(f"  {note}" for note in report.notes)]


def format_classes(reports: list[Report]) -> str:
    """Return a text table of the classes, for each split.

    Its columns are the share of pixels or the number of objects, and the number of images.
    """
    reports = [report for report in reports if report.total]
    if not reports:
        return "classes: no annotation could be read"
    names = list(dict.fromkeys(name for report in reports for name in report.classes))
    heading = ["class"]
    for report in reports:
        heading += [f"{report.split}: {report.unit}", "images"]
    rows = [[name, *(cell for each in reports for cell in _cells(name, each))] for name in names]
    if reports[0].unit == "pixels":
        ignored = (cell for each in reports for cell in (_share(each.ignored, each), ""))
        rows.append([UNLABELED, *ignored])
    return format_table([heading, *rows], markdown=False)


def _cells(name: str, report: Report) -> tuple[str, str]:
    if name not in report.counts:
        return "-", "-"
    count = report.counts[name]
    cell = _share(count, report) if report.unit == "pixels" else str(count)
    return cell, str(report.images[name] or "never")


def _share(count: int, report: Report) -> str:
    return f"{count / report.total:.2%}"


def _missing_classes(report: Report) -> list[Problem]:
    missing = [name for name in report.classes if not report.counts[name]]
    # Which classes a COCO file has no object of is among its own warnings.
    if not missing or not report.total or report.unit != "pixels":
        return []
    return [Problem("", f"no label map of {report.split} has a pixel of {', '.join(missing)}")]


def format_problems(
    problems: list[Problem], max_groups: int | None, max_files: int | None
) -> list[str]:
    """Return a line for each different problem, followed by lines for the files that have it.

    Problems of the config come first, then problems of files, the most frequent ones first.

    Args:
        problems: The problems.
        max_groups: Largest number of different problems that are shown; None shows all.
        max_files: Largest number of files that are listed for each of them; None lists all.
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
