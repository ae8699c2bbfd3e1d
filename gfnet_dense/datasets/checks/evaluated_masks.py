"""The check that a detector predicts the masks that its evaluator measures."""

from collections.abc import Iterable, Sequence
from typing import Any

from gfnet_dense.utils.errors import InputError


def check_evaluated_masks(metrics: Iterable[Any], predicted: Any) -> None:
    """Check the first batch of an evaluation; mmdetection fails behind the last one.

    Args:
        metrics: Metrics of the evaluator. Those with 'segm' in their ``metrics`` need masks, as
            mmdetection's CocoMetric.
        predicted: Samples of the batch, a list of mmdetection's DetDataSample; others pass.

    Raises:
        InputError: If masks are measured and the first sample has none. mmdetection decides by the
            first one, too (``CocoMetric.results2json`` in onedl-mmdetection 3.5.1).
    """
    kinds = [type(each).__name__ for each in metrics if "segm" in _names(each)]
    first = next(iter(predicted), None) if isinstance(predicted, (list, tuple)) else None
    instances = getattr(first, "pred_instances", None)
    if kinds and instances is not None and "masks" not in instances:
        raise InputError(
            f"{kinds[0]} measures masks (metric='segm'), but the model predicts boxes alone: set "
            "metric='bbox' in val_evaluator and test_evaluator"
        )


def _names(metric: Any) -> Sequence[str]:
    names = getattr(metric, "metrics", ())
    return names if isinstance(names, (list, tuple)) else ()
