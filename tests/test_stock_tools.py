"""The libraries' own tools on a config of ours, and our commands on configs of theirs.

The table of docs/stock.md has many more of both: python .dev/stock.py.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest
from mmengine.config import Config

import stock_configs
import stock_inference
from gfnet_dense.utils.config import type_name
from tests.commands import run, tool
from tests.conftest import TINY, needs_operators

SMALL = dict(type="gfnet_dense.GFNet", arch=TINY, img_size=64)


def stock_tool(library, name, *arguments):
    package = Path(import_module(library).__file__).parent
    return [sys.executable, str(package / ".mim" / "tools" / name), *map(str, arguments)]


def passes(command, folder, **options):
    result = run(command, folder, **options)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


@pytest.fixture
def folder(tmp_path, demo_data):
    (tmp_path / "data").symlink_to(demo_data)
    return tmp_path


def small_config(name, folder):
    """Write the config of a demo, as ``print_config.py --demo`` prints it, with a tiny backbone."""
    text = passes(tool("print_config", name, "--demo"), folder)
    path = folder / f"{name}.py"
    path.write_text(text[: text.index("# Changed by")])
    cfg = Config.fromfile(path)
    backbone = {"out_indices": cfg.model.backbone.get("out_indices", (0, 1, 2, 3)), **SMALL}
    dims = [TINY["dims"][i] for i in backbone["out_indices"]]
    cfg.model.backbone = backbone
    for key in ("neck", "decode_head"):
        if key in cfg.model:
            cfg.model[key].in_channels = dims
    if "auxiliary_head" in cfg.model:
        cfg.model.auxiliary_head.in_channels = dims[2]
    stock_configs.shorten(cfg)
    path.write_text(cfg.pretty_text)
    return path


def test_mmsegmentations_tools_run_on_our_config(folder):
    config = small_config("upernet_gfnet_ade20k", folder)
    work_dir = folder / "work_dir"
    passes(stock_tool("mmseg", "train.py", config, "--work-dir", work_dir), folder, fresh=True)
    checkpoint = work_dir / "iter_2.pth"
    arguments = (config, checkpoint, "--work-dir", work_dir)
    assert "mIoU" in passes(stock_tool("mmseg", "test.py", *arguments), folder)
    flops = stock_tool("mmseg", "analysis_tools/get_flops.py", config, "--shape", 64, 64)
    assert "Flops: " in passes(flops, folder)
    browse = stock_tool("mmseg", "analysis_tools/browse_dataset.py", config, "--not-show")
    passes([*browse, "--output-dir", str(folder / "samples")], folder)
    assert any((folder / "samples").rglob("*.jpg"))
    assert "GFNet" in passes(stock_tool("mmseg", "misc/print_config.py", config), folder)
    image = next((folder / "data").rglob("ADE_val*.jpg"))
    stock_inference.predict(str(config), str(checkpoint), str(image))


@needs_operators
def test_mmdetections_tools_run_on_our_config(folder):
    config = small_config("retinanet_gfnet-h-ti_coco", folder)
    work_dir = folder / "work_dir"
    passes(stock_tool("mmdet", "train.py", config, "--work-dir", work_dir), folder)
    checkpoint = work_dir / "iter_2.pth"
    assert "bbox_mAP" in passes(stock_tool("mmdet", "test.py", config, checkpoint), folder)
    flops = stock_tool("mmdet", "analysis_tools/get_flops.py", config, "--num-images", 1)
    assert "Flops: " in passes(flops, folder)
    browse = stock_tool("mmdet", "analysis_tools/browse_dataset.py", config, "--not-show")
    passes([*browse, "--output-dir", str(folder / "samples")], folder)
    assert "GFNet" in passes(stock_tool("mmdet", "misc/print_config.py", config), folder)
    image = next((folder / "data").rglob("val2017/*.jpg"))
    stock_inference.predict(str(config), str(checkpoint), str(image))


LAZY = [
    pytest.param("mmseg", "segformer_mit-b0_8xb2-160k_ade20k-512x512", id="segformer"),
    pytest.param("mmdet", "rtmdet_tiny_8xb32-300e_coco", id="rtmdet", marks=needs_operators),
]


@pytest.mark.parametrize(("library", "name"), LAZY)
def test_our_commands_run_on_a_stock_config_with_lazy_imports(library, name, folder):
    cfg = stock_configs.tiny_config(stock_configs.find_stock_config(library, name))
    config, work_dir = folder / "lazy.py", folder / "work_dir"
    config.write_text(stock_configs.lazy_text(cfg))
    lazy = Config.fromfile(config)
    assert lazy.default_scope is None
    assert type_name(lazy.model) == type_name(cfg.model)
    assert not isinstance(lazy.model.type, str) and not isinstance(lazy.train_cfg.type, str)
    passes(tool("train", config, "--work-dir", work_dir), folder)
    checkpoint = next(work_dir.glob("*_[0-9]*.pth"))
    passes(tool("test", config, checkpoint, "--work-dir", work_dir, "--out", "out"), folder)
    assert any((folder / "out").iterdir())
    image = next((folder / "data").rglob("val*/*.jpg"))
    passes(tool("infer", config, checkpoint, image, "--out-dir", "predicted"), folder)
    passes(tool("check_dataset", config, "--work-dir", work_dir), folder)
    passes(tool("browse_dataset", config, "--num", 2, "--work-dir", work_dir), folder)
    printed = folder / "printed.py"
    printed.write_text(passes(tool("print_config", config), folder))
    assert type_name(Config.fromfile(printed).model) == type_name(cfg.model)
