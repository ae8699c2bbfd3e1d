"""What convert_checkpoint.py says of files in which there is nothing to resize."""

import pytest
import torch

from tests.commands import run, tool
from tests.published_hornet import official_hornet_state_dict

NOTE = "hornet.pth; a HorNet without global filters has nothing to resize: its weights stay"


@pytest.mark.parametrize(
    "filters, options, is_told",
    [(False, ["--img-size", "96"], True), (False, [], False), (True, ["--img-size", "96"], False)],
)
def test_an_image_size_for_a_hornet_without_filters_is_told_to_change_nothing(
    filters, options, is_told, tmp_path
):
    state = official_hornet_state_dict((8, 16, 32, 64), (1, 1, 1, 1), filters, img_size=64)
    torch.save({"model": state}, tmp_path / "hornet.pth")
    command = tool("convert_checkpoint", "hornet.pth", "out.pth", "--to", "official", *options)
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (NOTE in result.stdout + result.stderr) == is_told
    written = torch.load(tmp_path / "out.pth")["model"]
    same = all(torch.equal(written[name], state[name]) for name in state)
    assert written.keys() == state.keys() and same == (not filters)


def test_the_help_is_of_both_families(tmp_path):
    text = " ".join(run(tool("convert_checkpoint", "--help"), tmp_path).stdout.split())
    assert "as in gfnet_dense.GFNet and HorNet (default), or as in the official files" in text
    assert "global filters, and the position embedding of a GFNet, are stored" in text
