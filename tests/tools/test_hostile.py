"""A checkpoint that would run code, given to every command that reads one."""

import pytest
import torch

from gfnet_dense import api
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.test_loading import Evil
from tests.commands import CONFIG, SHORT, error_of, run, tool
from tests.conftest import ROOT, needs_operators
from tests.published import official_state_dict

FPN = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
INIT = "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=evil.pth"
COMMANDS = {
    "resume": ("train", CONFIG, "--demo", "--work-dir", "run", "--resume"),
    "load_from": ("train", CONFIG, "--demo", "--cfg-options", "load_from=evil.pth"),
    "init_cfg": ("train", CONFIG, "--demo", "--cfg-options", *INIT.split()),
    "test": ("test", CONFIG, "evil.pth", "--demo", "--cfg-options", *SHORT.split()),
    "infer": ("infer", FPN, "evil.pth", "photo.png", "--demo"),
    "export_onnx": ("export_onnx", FPN, "evil.pth", "--demo", "--size", "64"),
    "filters": ("visualize", "filters", "evil.pth"),
    "publish_checkpoint": ("publish_checkpoint", "evil.pth", "out.pth"),
    "convert_checkpoint": ("convert_checkpoint", "evil.pth", "out.pth"),
    "transfer": ("benchmark", "transfer", FPN, "evil.pth", "--demo"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    from PIL import Image

    path = tmp_path_factory.mktemp("hostile")
    (path / "data").symlink_to(demo_data)
    (path / "run").mkdir()
    Image.new("RGB", (64, 64)).save(path / "photo.png")
    state = official_state_dict((8, 16), (1, 1), img_size=64)
    for name in ("evil.pth", "run/iter_1.pth"):
        torch.save({"state_dict": state, "args": Evil(path / "trace")}, path / name)
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_command_refuses_a_checkpoint_with_code_and_does_not_run_it(name, folder):
    error = error_of(run(tool(*COMMANDS[name]), folder))
    assert "was refused: it holds the object" in error and "--trust-checkpoint" in error
    assert not (folder / "trace").exists()
    assert not (folder / "out.pth").exists()


def test_trusted_checkpoint_is_read(folder):
    command = tool("convert_checkpoint", "evil.pth", "out.pth", "--trust-checkpoint")
    result = run(command, folder)
    assert result.returncode == 0, result.stderr
    (folder / "trace").rmdir()  # its code has run
    (folder / "out.pth").unlink()


@needs_operators
def test_checkpoint_with_code_is_refused_in_the_constructor_of_a_model(folder, tmp_path):
    """The student in mmdetection's distillation reads the teacher's weights in its constructor."""
    config = tmp_path / "distilled.py"
    base = ROOT / "configs" / "retinanet_gfnet-h-ti_coco.py"
    config.write_text(
        f"_base_ = [{str(base)!r}]\n"
        "model = dict(type='KnowledgeDistillationSingleStageDetector', eval_teacher=True,\n"
        f"    teacher_config={str(base)!r}, teacher_ckpt={str(folder / 'evil.pth')!r})\n"
    )
    with pytest.raises(InputError, match="was refused: it holds the object"):
        api.load_model(config, None)
    assert not (folder / "trace").exists()
