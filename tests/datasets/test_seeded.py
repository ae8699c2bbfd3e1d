import pickle

import pytest
import torch

from gfnet_dense.datasets import seeded
from gfnet_dense.datasets.seeded import SeededDataset, with_seeds
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from tests.toy import ToyNumbers, toy_runner


def loader(num_workers, sampler="InfiniteSampler", **more):
    config = dict(
        batch_size=2,
        num_workers=num_workers,
        dataset=dict(type="ToyNumbers", length=9),
        sampler=dict(type=sampler, shuffle=True),
        **more,
    )
    return DenseRunner.build_dataloader(with_seeds(config), seed=3)


def batches(dataloader, count):
    iterator = iter(dataloader)
    return torch.stack([torch.stack(next(iterator)["inputs"]) for _ in range(count)])


def test_samples_do_not_depend_on_the_number_of_workers():
    expected = batches(loader(0), 10)
    assert len(torch.unique(expected)) == expected.numel()  # no number twice
    for num_workers in (1, 3):
        assert torch.equal(batches(loader(num_workers), 10), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_after_a_skip_equal_those_of_a_loader_that_skipped_none(num_workers):
    expected, resumed = batches(loader(0), 10), loader(num_workers)
    resumed.sampler.skip(2 * 6)
    assert torch.equal(batches(resumed, 4), expected[6:])


def test_every_epoch_has_random_numbers_of_its_own():
    dataloader = loader(0, "DefaultSampler")
    first = batches(dataloader, 4)
    assert torch.equal(batches(dataloader, 4), first)
    dataloader.sampler.set_epoch(1)
    assert not torch.isin(batches(dataloader, 4), first).any()


def test_a_seeded_dataset_forwards_attributes_and_can_be_pickled():
    dataset = loader(0).dataset
    assert isinstance(dataset, SeededDataset) and len(dataset) == 9
    assert isinstance(dataset.dataset, ToyNumbers) and dataset.metainfo == {}
    dataset.length = 5  # hooks that replace a pipeline set attributes, too
    assert dataset.dataset.length == len(dataset) == 5
    with pytest.raises(AttributeError, match="nothing"):
        dataset.nothing  # noqa: B018
    assert len(pickle.loads(pickle.dumps(dataset))) == 5  # spawned workers unpickle the dataset


def test_a_runner_seeds_its_training_dataset_but_not_its_validation_dataset(tmp_path):
    runner = toy_runner(tmp_path, max_iters=2, val=True)
    runner.train()
    assert type(runner.train_dataloader.dataset) is SeededDataset
    assert type(runner.val_dataloader.dataset) is ToyNumbers


def test_each_rank_has_random_numbers_of_its_own(monkeypatch):
    """All ranks load the same samples here, because their samplers see a single process."""
    by_rank = {}
    for rank in (0, 1, 2, 0):
        monkeypatch.setattr(seeded, "get_rank", lambda rank=rank: rank)
        found = batches(loader(0), 4)
        assert torch.equal(by_rank.setdefault(rank, found), found)  # the same numbers again
    numbers = torch.stack(list(by_rank.values()))
    assert len(numbers) == 3 and len(torch.unique(numbers)) == numbers.numel()
