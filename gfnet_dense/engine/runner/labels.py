"""Tests and validations of segmentors that make class indices alone, where nobody reads logits."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmengine.evaluator import DumpResults
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from gfnet_dense.models.label_prediction import SEGMENTOR, is_from, predict_labels

SEGMENTORS = "mmseg.models.segmentors.base"
# Libraries of which the metrics, hooks, loops and visualizers are known: none but DumpResults reads
# the logits of a segmentor (seen in onedl-mmengine 0.10.12 and onedl-mmsegmentation 1.4.2).
KNOWN = ("gfnet_dense", "mmengine", "mmseg")


def with_labels_alone(runner: Runner, loop: BaseLoop) -> BaseLoop:
    """Let a loop's segmentor of mmsegmentation predict class indices without logits, in place.

    mmsegmentation's ``predict`` makes the logits of all classes at the size of the network's input
    and at that of the image, and hands them on. They stay where the model has a ``predict`` of its
    own, where it is part of a test with augmentation, which averages them, and where a metric,
    hook, loop or visualizer may read them: any that is not of :data:`KNOWN`. Between the runs of
    the loop the model is as it was.

    Args:
        runner: Its model, hooks and visualizer take part.
        loop: A validation or test loop of the runner, with its metrics.

    Returns:
        The loop.
    """
    built: Any = loop
    run = built.run

    def run_with_labels() -> Any:
        with _labels_alone(runner, loop):
            return run()

    built.run = run_with_labels
    return loop


@contextmanager
def _labels_alone(runner: Runner, loop: BaseLoop) -> Iterator[None]:
    model: Any = runner.model
    while is_model_wrapper(model):
        model = model.module
    stock = is_from(SEGMENTOR, getattr(model, "predict", None))
    stock = stock and is_from(SEGMENTORS, model.postprocess_result)
    if not stock or not _all_known(_readers(runner, loop)):
        yield
        return
    model.predict = partial(predict_labels, model)
    try:
        yield
    finally:
        del model.predict


def _readers(runner: Runner, loop: BaseLoop) -> Iterable[Any]:
    """Return what is given the predictions of a loop."""
    evaluator = getattr(loop, "evaluator", None)
    metrics = getattr(evaluator, "metrics", ())
    return [loop, evaluator, *metrics, *runner.hooks, runner.visualizer]


def _all_known(readers: Iterable[Any]) -> bool:
    return all(
        type(reader).__module__.partition(".")[0] in KNOWN and not isinstance(reader, DumpResults)
        for reader in readers
    )
