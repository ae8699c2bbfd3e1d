"""What an analysis has found, before it becomes files."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

from .page import Section


@dataclass(frozen=True)
class Report:
    """What an analysis has found.

    Attributes:
        title: Title of its page.
        findings: Sentences on the main results.
        sections: Sections of the page.
        figures: All figures, for errors.json.
    """

    title: str
    findings: list[str]
    sections: list[Section]
    figures: dict[str, Any]


def numbers_of(metrics: dict[str, Any] | None) -> dict[str, float]:
    """Return the numbers among the results of evaluators; those of mmsegmentation are float32."""
    return {
        name: round(float(value), 6)
        for name, value in (metrics or {}).items()
        if isinstance(value, Real)
    }
