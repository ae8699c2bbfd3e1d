"""Results of a test, written by a hook under the names of the images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from gfnet_dense.engine.hooks.results_hook import ResultsHook, draw_beside_truth
from gfnet_dense.utils.errors import InputError

METAINFO = dict(classes=("a", "b"), palette=[(255, 0, 0), (0, 0, 255)])


class Photos(BaseDataset):
    def __init__(self, paths, **metainfo):
        self.paths = paths
        super().__init__(metainfo={**METAINFO, **metainfo})

    def load_data_list(self):
        return [dict(img_path=path) for path in self.paths]


def sample_of(path, label, truth=None, size=(20, 30)):
    sample = BaseDataElement(metainfo=dict(img_path=str(path)))
    sample.pred_sem_seg = PixelData(data=torch.full((1, *size), label))
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=torch.full((1, *truth[1]), truth[0]))
    return sample


def finish(hook, dataset, samples):
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook.before_test(runner)
    for i, sample in enumerate(samples):
        hook.after_test_iter(runner, i, outputs=[sample])
    hook.after_test(runner)


@pytest.mark.parametrize("reduce_zero_label, first", [(None, 0), (False, 0), (True, 1)])
def test_label_maps_of_concatenated_datasets_are_written(tmp_path, reduce_zero_label, first):
    """The first images of both have one name, and one image is in both."""
    paths = [str(tmp_path / name) for name in ("x/1.png", "x/2.png", "y/1.png")]
    parts = [Photos(part, reduce_zero_label=reduce_zero_label) for part in (paths[:2], paths[1:])]
    samples = [sample_of(path, label) for path, label in zip(paths, (0, 1, 300), strict=True)]
    finish(ResultsHook(label_dir=str(tmp_path / "out")), ConcatDataset(parts), samples)
    found = {
        str(path.relative_to(tmp_path / "out")): np.asarray(Image.open(path)).max()
        for path in (tmp_path / "out").rglob("*.png")
    }
    assert found == {"x/1.png": first, "x/2.png": first + 1, "y/1.png": first + 300}
    key = (tmp_path / "out" / "classes.txt").read_text()
    assert key == f"{first} a\n{first + 1} b\n"


def test_results_that_cannot_be_written_are_told_at_the_end(tmp_path):
    names = ["1.png", "x" * 253 + ".x", "y" * 253 + ".x", "2.png"]
    paths = [str(tmp_path / name) for name in names]
    samples = [sample_of(path, 0) for path in paths]
    expected = "the results of .*xx.x could not be written: File name too long, and 1 more; the "
    with pytest.raises(InputError, match=expected + "other 2 were written"):
        finish(ResultsHook(label_dir=str(tmp_path / "out")), Photos(paths), samples)
    assert {path.name for path in (tmp_path / "out").glob("?.png")} == {"1.png", "2.png"}


def test_the_truth_is_left_of_the_prediction_with_all_classes_in_the_legend(tmp_path):
    path = tmp_path / "1.png"
    Image.fromarray(np.full((200, 300, 3), 100, np.uint8)).save(path)
    picture = draw_beside_truth(sample_of(path, 1, (0, (200, 300)), (200, 300)), METAINFO)
    assert (picture[:200, :300] == (178, 50, 50)).all() and picture.shape[1] == 600
    assert (picture[:200, 300:] == (50, 50, 178)).all()
    legend = {tuple(map(int, color)) for color in picture[200:].reshape(-1, 3)}
    assert {(255, 0, 0), (0, 0, 255), (255, 255, 255)} <= legend
    for truth in (None, (0, (100, 150))):  # of another size, it cannot be beside the prediction
        picture = draw_beside_truth(sample_of(path, 1, truth, (200, 300)), METAINFO)
        assert (picture[:200] == (50, 50, 178)).all() and picture.shape[1] == 300
