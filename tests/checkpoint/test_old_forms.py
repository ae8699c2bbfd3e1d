"""Checkpoints of mmsegmentation 0.x, mmdetection 2.x and Swin's own code, in models of today.

Old files are written here by the inverse of the changes, from what the old code computes.
"""

import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import nn

from gfnet_dense.apis.loading import load_model
from gfnet_dense.checkpoint.contents import find_weights
from gfnet_dense.checkpoint.old_forms import in_new_form, unfold_order
from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages, Ways, added, tiny_weights
from tests.conftest import ROOT, TINY, needs_operators
from tests.toy import ToyNumbers  # noqa: F401 (registers)

pytest.importorskip("mmseg")
CLASSES = tuple("abcde")
SWIN = dict(
    type="SwinTransformer", embed_dims=8, depths=(2, 1, 2, 1), num_heads=(1, 2, 4, 8), window_size=4
)  # fmt: skip
DIMS = [8, 16, 32, 64]
# ``meta`` and the rest of a file as mmcv 1.x wrote it
META = dict(
    env_info="sys.platform: linux\nPython: 3.7.10\nMMSegmentation: 0.11.0+e1b4b6c",
    config="norm_cfg = dict(type='SyncBN', requires_grad=True)\nmodel = dict(...)\n",
    seed=None, exp_name="upernet_swin_tiny.py", epoch=12, iter=160000, mmcv_version="1.3.0",
    time="Fri Apr 23 01:12:14 2021", hook_msgs={"best_score": 0.44, "last_ckpt": "iter_160000.pth"},
)  # fmt: skip
SEGMENTOR = META | dict(mmseg_version="0.11.0+e1b4b6c", CLASSES=CLASSES, PALETTE=[[1, 2, 3]] * 5)
DETECTOR = META | dict(mmdet_version="2.24.1c76ab0e", CLASSES=("circle", "square"))
OPTIMIZER = {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def swin_upernet():
    """Return the config of a tiny UPerNet with our heads and mmseg's Swin."""
    cfg = read_config(ROOT / "configs" / "upernet_gfnet-h-s_ade20k.py")
    shrink(cfg)
    norm = dict(type="BN", requires_grad=True)
    head = dict(channels=8, num_classes=5, norm_cfg=norm)
    cfg.model.backbone = ConfigDict(SWIN)
    cfg.model.decode_head.update(in_channels=DIMS, **head)
    cfg.model.auxiliary_head.update(in_channels=DIMS[2], **head)
    return cfg


def gfnet_upernet():
    """Return the config of a tiny UPerNet with our backbone."""
    cfg = swin_upernet()
    cfg.model.backbone = ConfigDict(type="gfnet_dense.GFNet", arch=TINY, img_size=64)
    cfg.model.decode_head.in_channels = list(TINY["dims"])
    cfg.model.auxiliary_head.in_channels = TINY["dims"][2]
    return cfg


def concatenated(tensor):
    """Bring (..., 4 * C) from the order of nn.Unfold into that of Swin, number by number."""
    channels = tensor.shape[-1] // 4
    old = torch.empty_like(tensor)
    for i, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        for channel in range(channels):
            old[..., i * channels + channel] = tensor[..., channel * 4 + 2 * row + column]
    return old


def in_swins_form(state_dict):
    """Return the weights of a Swin model as Swin's own code names and orders them."""
    old = OrderedDict()
    for name, tensor in state_dict.items():
        if re.search(r"stages\.\d+\.downsample\.", name):
            tensor = concatenated(tensor)
        for new_part, old_part in [
            ("backbone.stages.", "backbone.layers."), (".attn.w_msa.", ".attn."),
            (".ffn.layers.0.0.", ".mlp.fc1."), (".ffn.layers.1.", ".mlp.fc2."),
            ("backbone.patch_embed.projection.", "backbone.patch_embed.proj."),
        ]:  # fmt: skip
            name = name.replace(new_part, old_part)
        old[name] = tensor
    return old


def weights_of(model):
    """Return random weights; buffers of integers keep their values."""
    state_dict, random = model.state_dict(), tiny_weights(model)
    return OrderedDict(
        (name, random[name] if tensor.is_floating_point() else tensor)
        for name, tensor in state_dict.items()
    )


@pytest.fixture(scope="module")
def swin():
    """Return a config, its weights, and the logits that they give for an image."""
    cfg = swin_upernet()
    model = load_model(cfg, None)
    state_dict = weights_of(model)
    model.load_state_dict(state_dict)
    return cfg, state_dict, logits(model)


@torch.no_grad()
def logits(model):
    image = torch.linspace(-2, 2, 3 * 60 * 76).reshape(1, 3, 60, 76).sin()
    return model(image, mode="tensor")


def saved(path, state_dict, meta=SEGMENTOR, **others):
    torch.save({"meta": meta, "state_dict": state_dict, **others}, path)
    return path


class SwinsMerging(nn.Module):
    """Swin's patch merging as its paper has it: the four pixels of a patch, one after the other."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 6, False)

    def forward(self, x):
        even, odd = slice(0, None, 2), slice(1, None, 2)
        places = [(even, even), (odd, even), (even, odd), (odd, odd)]
        joined = torch.cat([x[:, rows, columns] for rows, columns in places], -1)
        return self.reduction(self.norm(joined))


def test_patch_merging_gives_the_features_of_swins():
    from mmseg.models.utils.embed import PatchMerging

    official, ours = SwinsMerging(3), PatchMerging(3, 6)
    nn.init.normal_(official.norm.weight), nn.init.normal_(official.norm.bias)
    ours.load_state_dict({name: unfold_order(t) for name, t in official.state_dict().items()})
    x = torch.randn(2, 6, 10, 3)
    found, size = ours(x.flatten(1, 2), (6, 10))
    assert size == (3, 5)
    torch.testing.assert_close(found.unflatten(1, size), official(x))


@pytest.mark.parametrize("shape", [(), (0,), (6, 7), (2, 0)])
def test_tensors_that_are_no_patch_merging_keep_their_order(shape):
    tensor = torch.zeros(shape)
    assert unfold_order(tensor).shape == tensor.shape


def test_swins_names_become_those_of_mmdets_converter(swin):
    converter = pytest.importorskip("mmdet.models.backbones.swin").swin_converter
    _, state_dict, _ = swin
    old = in_swins_form(state_dict)
    truth = converter({n.removeprefix("backbone."): t for n, t in old.items() if "backbone" in n})
    found, left_out, notes = in_new_form(old, state_dict)
    assert left_out == () and list(found) == list(state_dict)
    assert {name for name in found if "backbone" in name} == set(truth)
    assert all(torch.equal(found[name], tensor) for name, tensor in truth.items())
    unchanged = sum(name in state_dict for name in old)
    assert notes == (f"{len(old) - unchanged} names of Swin's own code changed",)


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("meta", [SEGMENTOR, {}, None])
def test_a_segmentor_of_swins_code_gives_the_same_logits(swin, tmp_path, prefix, meta):
    cfg, state_dict, truth = swin
    content = {"state_dict": added(prefix)(in_swins_form(state_dict)), "optimizer": OPTIMIZER}
    torch.save(content if meta is None else {**content, "meta": meta}, tmp_path / "upernet.pth")
    with Messages() as messages:
        model = load_model(cfg, tmp_path / "upernet.pth")
    assert torch.equal(logits(model), truth)
    (report,) = (m for m in messages if m.startswith("upernet.pth"))
    assert f"loaded {len(state_dict)} of {len(state_dict)} tensors" in report
    assert "names of Swin's own code changed" in report
    assert ("written by mmsegmentation 0.11" in report) == bool(meta)
    if meta:
        assert model.dataset_meta == dict(classes=CLASSES, palette=[(1, 2, 3)] * 5)


def hornet_upernet():
    """Return the config of a tiny UPerNet with HorNet-GF, whose published form is an old one."""
    cfg = gfnet_upernet()
    arch = dict(dims=(16, 32, 64, 128), depths=(1, 1, 1, 1), filters=True)
    cfg.model.backbone = ConfigDict(type="gfnet_dense.HorNet", arch=arch, img_size=64)
    cfg.model.decode_head.in_channels = [16, 32, 64, 128]
    cfg.model.auxiliary_head.in_channels = 64
    return cfg


@pytest.mark.parametrize("config", [swin_upernet, gfnet_upernet, hornet_upernet])
def test_files_of_mmsegmentation_0_with_names_of_today_are_loaded(config, tmp_path):
    cfg = config()
    model = load_model(cfg, None)
    model.load_state_dict(weights_of(model))
    path = saved(tmp_path / "x.pth", model.state_dict(), optimizer=OPTIMIZER)
    with Messages() as messages:
        assert torch.equal(logits(load_model(cfg, path)), logits(model))
    (report,) = (m for m in messages if m.startswith("x.pth"))
    assert "written by mmsegmentation 0.11" in report and "changed" not in report


def runner_of(cfg, work_dir, trains):
    """Return a runner of a segmentor whose data are never used."""
    loader = dict(
        batch_size=2, num_workers=0, dataset=dict(type="ToyNumbers", classes=CLASSES),
        sampler=dict(type="DefaultSampler", shuffle=False),
    )  # fmt: skip
    training = dict(
        train_dataloader=loader, train_cfg=dict(type="IterBasedTrainLoop", max_iters=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
    )  # fmt: skip
    testing = dict(
        test_dataloader=loader, test_cfg=dict(type="TestLoop"),
        test_evaluator=dict(type="ToyMean"),
    )  # fmt: skip
    return DenseRunner(
        model=ConfigDict(cfg.model), work_dir=str(work_dir), default_scope="mmseg",
        default_hooks=dict(logger=None), experiment_name=f"{work_dir.name}_{trains}",
        **(training if trains else testing),
    )  # fmt: skip


@pytest.mark.parametrize("trains", [True, False])
def test_a_training_starts_from_an_old_file_and_a_test_takes_it(swin, tmp_path, trains):
    cfg, state_dict, truth = swin
    path = saved(tmp_path / "old.pth", in_swins_form(state_dict))
    runner = runner_of(cfg, tmp_path, trains)
    runner.load_checkpoint(str(path))
    assert torch.equal(logits(runner.model.eval()), truth)


def test_a_training_with_other_classes_starts_from_the_old_backbone(swin, tmp_path):
    cfg, state_dict, _ = swin
    fewer = in_swins_form(state_dict)
    fewer = {name: t[:3] if "conv_seg" in name else t for name, t in fewer.items()}
    runner = runner_of(cfg, tmp_path, True)
    runner.load_checkpoint(str(saved(tmp_path / "old.pth", fewer, META)))
    found = runner.model.state_dict()
    assert all(torch.equal(found[n], t) for n, t in state_dict.items() if "conv_seg" not in n)


def test_resuming_from_an_old_file_is_refused(swin, tmp_path):
    cfg, state_dict, _ = swin
    path = saved(tmp_path / "iter_9.pth", in_swins_form(state_dict), optimizer=OPTIMIZER)
    runner = runner_of(cfg, tmp_path, True)
    runner._resume = True
    with pytest.raises(InputError, match="nothing to resume from: give it as load_from"):
        runner.resume(str(path))
    assert runner.iter == 0


def test_our_backbone_is_taken_from_an_old_segmentor(tmp_path):
    weights = tiny_weights()
    path = saved(tmp_path / "old.pth", added("module.")(weights))
    found = Ways(tmp_path).init_cfg(path)
    assert found and all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


def test_buffers_of_mmcvs_ema_hook_are_left_out(swin, tmp_path):
    cfg, state_dict, truth = swin
    old = in_swins_form(state_dict)
    parameters = {n: t for n, t in old.items() if t.is_floating_point() and "running" not in n}
    old |= {f"ema_{n.replace('.', '_')}": t * 0.5 for n, t in parameters.items()}
    with Messages() as messages:
        model = load_model(cfg, saved(tmp_path / "ema.pth", old))
    assert torch.equal(logits(model), truth)
    (report,) = (m for m in messages if m.startswith("ema.pth"))
    assert "the buffers of mmcv's EMAHook are a second set of weights, not used" in report
    assert f"and {len(parameters) - 6} more" in report
    old["ema_rate"] = torch.ones(1)
    with pytest.raises(InputError, match=r"1 not in the model \(ema_rate\)"):
        load_model(cfg, saved(tmp_path / "ema.pth", old))


def test_an_old_file_can_be_published_and_loaded(swin, tmp_path):
    cfg, state_dict, truth = swin
    meta = SEGMENTOR | dict(PALETTE=np.full((5, 3), 9))
    path = saved(tmp_path / "old.pth", in_swins_form(state_dict), meta, optimizer=OPTIMIZER)
    for name in ("new.pth", "new.safetensors"):
        model = load_model(cfg, publish(path, tmp_path / name))
        assert torch.equal(logits(model), truth)
        assert model.dataset_meta["palette"] == [(9, 9, 9)] * 5


SOME = "backbone.layers.2.blocks.1.mlp.fc2.bias"
NEW = "backbone.stages.2.blocks.1.ffn.layers.1.bias"
MERGING = "backbone.layers.0.downsample.reduction.weight"


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({SOME: None}, rf"1 of \d+ tensors missing \({re.escape(NEW)}\)"),
        ({"backbone.layers.1.downsample.norm.bias": None},
         r"missing \(backbone.stages.1.downsample.norm.bias\)"),
        ({"backbone.layers.1.blocks.0.attn.extra": torch.ones(2)},
         r"1 not in the model \(backbone.layers\)"),
        ({"backbone.layers.0.blocks.1.attn_mask": torch.ones(2)},
         r"1 not in the model \(backbone.layers\)"),
        ({NEW: torch.ones(32)}, r"1 not in the model \(backbone.layers\)"),
        ({"decode_head.layers.2.blocks.1.mlp.fc2.bias": torch.ones(32)},
         r"1 not in the model \(decode_head.layers\)"),
        ({MERGING: torch.ones(16, 31)}, r"1 of another shape.*file \(16, 31\), model \(16, 32\)"),
        ({MERGING: torch.ones(32, 32)}, r"1 of another shape.*file \(32, 32\), model \(16, 32\)"),
        ({MERGING: torch.tensor(1.0)}, r"1 of another shape"),
    ],
)  # fmt: skip
def test_every_tensor_of_an_old_file_is_accounted_for(swin, tmp_path, change, sentence):
    cfg, state_dict, _ = swin
    old = {**in_swins_form(state_dict), **change}
    old = {name: tensor for name, tensor in old.items() if tensor is not None}
    with pytest.raises(InputError, match=sentence) as e:
        load_model(cfg, saved(tmp_path / "old.pth", old))
    assert "\n" not in str(e.value)


def test_names_change_for_the_model_that_expects_the_new_ones_alone(swin):
    _, state_dict, _ = swin
    old = in_swins_form(state_dict)
    before = list(old)
    for expected in ((), before, ["backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"]):
        found, *others = in_new_form(old, expected)
        assert list(found) == before == list(old) and others == [(), ()]


def test_versions_of_modules_stay_with_the_tensors(swin):
    cfg, _, _ = swin
    old = in_swins_form(load_model(cfg, None).state_dict())
    old._metadata = OrderedDict({"": {"version": 1}, "decode_head.conv_seg": {"version": 1}})
    found, *_ = in_new_form(old, load_model(cfg, None).state_dict())
    assert found._metadata == old._metadata


@pytest.mark.parametrize(
    "palette, found",
    [
        ([[1, 2, 3]] * 5, [[1, 2, 3]] * 5),
        (np.full((5, 3), 7), [[7, 7, 7]] * 5),
        (None, None),
        ([[1, 2, 3]] * 4, "dropped"),
        ([[1, 2]] * 5, "dropped"),
        ([[0.1, 0.2, 0.3]] * 5, "dropped"),
        (np.full((5, 3), 256), "dropped"),
        ("random", "dropped"),
        (3, "dropped"),
    ],
)
def test_palettes_of_old_files_are_colors_or_left_out(tmp_path, palette, found):
    content = {"state_dict": {"a.weight": torch.ones(2)}}
    weights = find_weights({**content, "meta": META | dict(CLASSES=CLASSES, PALETTE=palette)}, "x")
    assert weights.meta["dataset_meta"]["classes"] == CLASSES
    is_dropped = any("palette is not used" in note for note in weights.notes)
    assert is_dropped == (found == "dropped")
    if not is_dropped:
        assert weights.meta["dataset_meta"]["palette"] == found


@pytest.mark.parametrize("classes", [list(CLASSES), np.array(CLASSES)])
def test_classes_of_old_files_may_be_a_list_or_an_array(classes):
    content = {"state_dict": {"a.weight": torch.ones(2)}, "meta": META | dict(CLASSES=classes)}
    assert find_weights(content, "x").meta["dataset_meta"]["classes"] == list(CLASSES)


def test_palettes_of_old_files_are_read_from_files(swin, tmp_path):
    cfg, state_dict, _ = swin
    colors = np.arange(15).reshape(5, 3)
    meta = META | dict(mmseg_version="0.30.0", CLASSES=list(CLASSES), PALETTE=colors)
    model = load_model(cfg, saved(tmp_path / "old.pth", state_dict, meta))
    assert model.dataset_meta["palette"] == [tuple(color) for color in colors.tolist()]


def detector(name, backbone=None):
    """Return the config of a detector for two classes, with mmdet's Swin if ``backbone``."""
    cfg = read_config(ROOT / "configs" / f"{name}.py")
    shrink(cfg)
    if backbone:
        cfg.model.backbone = ConfigDict(backbone)
        cfg.model.neck.in_channels = DIMS
    return cfg


@needs_operators
@pytest.mark.parametrize("name", ["mask-rcnn", "cascade-mask-rcnn", "retinanet", "atss"])
def test_a_detector_of_swins_code_gives_the_same_output(name, tmp_path):
    cfg = detector(f"{name}_gfnet-h-ti_coco", SWIN)
    if name in ("retinanet", "atss"):
        cfg.model.neck.start_level = 0
    model = load_model(cfg, None)
    state_dict = weights_of(model)
    path = saved(tmp_path / "det.pth", in_swins_form(state_dict), DETECTOR, optimizer=OPTIMIZER)
    with Messages() as messages:
        loaded = load_model(cfg, path)
    found = loaded.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in state_dict.items())
    model.load_state_dict(state_dict)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        outputs = [each.extract_feat(images) for each in (model, loaded)]
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    assert any("written by mmdetection 2.24;" in message for message in messages)
    assert loaded.dataset_meta["classes"] == ("circle", "square")


@needs_operators
@pytest.mark.parametrize("version", ["1.2.0+abcdef", "0.6.00123456"])
def test_detectors_of_mmdetection_1_are_refused_but_not_their_backbones(version, tmp_path):
    cfg = detector("retinanet_gfnet-h-ti_coco")
    state_dict = weights_of(load_model(cfg, None))
    meta = META | dict(mmdet_version=version, CLASSES=("circle", "square"))
    path = saved(tmp_path / "one.pth", state_dict, meta)
    with pytest.raises(InputError, match=r"detector of mmdetection (1\.2|0\.6), which numbered"):
        load_model(cfg, path)
    with pytest.raises(InputError, match="detector of mmdetection"):
        publish(path, tmp_path / "published.pth")
    backbone = [name.removeprefix("backbone.") for name in state_dict if "backbone." in name]
    content = {"state_dict": state_dict, "meta": meta}
    assert set(find_weights(content, path, backbone).state_dict) == set(backbone)


@needs_operators
@pytest.mark.parametrize("classes", [("circle", "square"), ("cat", "dog")])
def test_a_detector_without_a_palette_gets_one(classes, tmp_path):
    """mmdetection 2.x saved none: it is that of the config for the same classes."""
    from mmdet.visualization import get_palette

    cfg = detector("retinanet_gfnet-h-ti_coco")
    dataset = cfg.test_dataloader.dataset
    dataset.metainfo = dict(classes=("circle", "square"), palette=[(1, 2, 3), (4, 5, 6)])
    meta = DETECTOR | dict(CLASSES=classes)
    path = saved(tmp_path / "det.pth", load_model(cfg, None).state_dict(), meta)
    palette = load_model(cfg, path).dataset_meta["palette"]
    is_same = classes == ("circle", "square")
    assert palette == ([(1, 2, 3), (4, 5, 6)] if is_same else get_palette("random", 2))


def in_mask2formers_form(state_dict):
    """Return the weights of a Mask2Former as mmdetection 2.x names them."""
    order = {"cross_attn": 0, "self_attn": 1}  # operation_order of its decoder's config
    old = {}
    for name, tensor in state_dict.items():
        parts = name.split(".")
        if "layers" in parts and ("transformer_decoder" in parts or "pixel_decoder" in parts):
            i = parts.index("layers") + 2  # behind the number of the layer
            if parts[i] in order:
                is_encoder = "pixel_decoder" in parts
                parts[i : i + 1] = ["attentions", "0" if is_encoder else str(order[parts[i]])]
            elif parts[i] == "ffn":
                parts[i : i + 1] = ["ffns", "0"]
        old[".".join(parts)] = tensor
    return old


@needs_operators
def test_mask2former_gives_the_same_logits(tmp_path):
    cfg = detector("mask2former_gfnet-h-ti_ade20k")
    model = load_model(cfg, None)
    state_dict = weights_of(model)
    model.load_state_dict(state_dict)
    old = in_mask2formers_form(state_dict)
    assert "decode_head.transformer_decoder.layers.0.attentions.1.attn.in_proj_weight" in old
    changed = len(set(old) - set(state_dict))
    number = model.decode_head.num_classes
    meta = SEGMENTOR | dict(CLASSES=[f"class {i}" for i in range(number)])
    with Messages() as messages:
        loaded = load_model(cfg, saved(tmp_path / "m2f.pth", old, meta))
    assert any(f"{changed} names of Mask2Former in mmdetection 2.x" in m for m in messages)
    found = loaded.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state_dict.items())
    lost = "decode_head.transformer_decoder.layers.1.attentions.0.attn.out_proj.bias"
    del old[lost]
    with pytest.raises(InputError, match=r"missing .*layers.1.cross_attn.attn.out_proj.bias"):
        load_model(cfg, saved(tmp_path / "m2f.pth", old, meta))


@needs_operators
@pytest.mark.parametrize("part", ["transformer_decoder", "pixel_decoder.encoder"])
def test_layers_of_mask2former_compute_what_mmdetection_2_computed(part):
    """mmcv still has the layer of which mmdetection 2.x built Mask2Former."""
    pytest.importorskip("mmdet.models")
    from mmcv.cnn.bricks.transformer import BaseTransformerLayer
    from mmdet.models.layers.transformer.deformable_detr_layers import (
        DeformableDetrTransformerEncoderLayer,
    )
    from mmdet.models.layers.transformer.mask2former_layers import (
        Mask2FormerTransformerDecoderLayer,
    )

    is_decoder = part == "transformer_decoder"
    attention = dict(embed_dims=16, num_heads=2, batch_first=True)
    if not is_decoder:
        attention.update(num_levels=1, num_points=2)
    kind = "MultiheadAttention" if is_decoder else "MultiScaleDeformableAttention"
    ffn = dict(embed_dims=16, feedforward_channels=32, num_fcs=2)
    encoder_order = ("self_attn", "norm", "ffn", "norm")
    old = BaseTransformerLayer(
        attn_cfgs=dict(type=kind, **attention), ffn_cfgs=dict(type="FFN", **ffn),
        operation_order=("cross_attn", "norm", *encoder_order) if is_decoder else encoder_order,
        batch_first=True,
    ).eval()  # fmt: skip
    for parameter in old.parameters():
        nn.init.normal_(parameter, std=0.3)
    if is_decoder:
        new = Mask2FormerTransformerDecoderLayer(attention, dict(attention), ffn)
        inputs = dict(zip(("query", "key", "value"), torch.randn(3, 1, 5, 16), strict=True))
        inputs |= dict(query_pos=torch.randn(1, 5, 16), key_pos=torch.randn(1, 5, 16))
    else:
        new = DeformableDetrTransformerEncoderLayer(attention, ffn)
        inputs = dict(
            query=torch.randn(1, 6, 16), query_pos=torch.randn(1, 6, 16), key_padding_mask=None,
            reference_points=torch.rand(1, 6, 1, 2), spatial_shapes=torch.tensor([[2, 3]]),
            level_start_index=torch.tensor([0]),
        )  # fmt: skip
    start = f"decode_head.{part}.layers.0."
    expected = [*added(start)(new.state_dict()), "decode_head.query_feat.weight"]
    found, *_ = in_new_form(added(start)(old.state_dict()), expected)
    new.load_state_dict({name.removeprefix(start): tensor for name, tensor in found.items()})
    with torch.no_grad():
        assert torch.equal(new.eval()(**inputs), old(**inputs))


def test_attentions_of_other_heads_keep_their_names():
    """In MaskFormer and DETR the first attention is self-attention: no name tells which."""
    new = ["panoptic_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_bias"]
    old = {
        "panoptic_head.transformer_decoder.layers.0.attentions.0.attn.in_proj_bias": torch.ones(3)
    }
    assert in_new_form(old, new) == (old, (), ())


def test_our_heads_have_the_names_of_the_stock_ones():
    """So that heads of mmsegmentation 0.x, whose names are those of 1.x, fit ours."""
    model = load_model(swin_upernet(), None)
    for part in ("decode_head", "auxiliary_head"):
        settings = swin_upernet().model[part]
        stock = MODELS.build({**settings, "type": settings.type.replace("gfnet_dense.", "mmseg.")})
        assert list(stock.state_dict()) == list(getattr(model, part).state_dict())
