"""Files in the form of HorNet's release: a classifier, a segmentor and a detector.

The backbone's part is made by the published model restated, the other parts by the stock modules of
mmsegmentation and mmdetection, with the settings of Swin's UPerNet and of ConvNeXt's Cascade Mask
R-CNN, as published.
"""

from collections import OrderedDict
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import gfnet_dense
from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.models import GFNet, HorNet
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.scope import default_scope
from tests.conftest import TINY, needs_operators
from tests.published import official_state_dict
from tests.published_hornet import (
    DEPTHS,
    dense_hornet_state_dict,
    dims_of,
    hornet_outputs,
    hornet_stages,
    official_hornet_state_dict,
    random_weight,
)

WIDTHS = dims_of(64)
SMALL = dict(dims=dims_of(16), depths=(1, 2, 2, 1), filters=True)


@MODELS.register_module()
class RestatedHorNet(nn.Module):
    """The restated backbone inside of a stock segmentor or detector."""

    state: dict[str, torch.Tensor]

    def forward(self, x):
        # mmcv's RoIAlign on a CPU takes all memory for contiguous.
        return [y.contiguous() for y in hornet_outputs(self.state, x)]


def build_stock(library, config, img_size, change):
    """Build a model of a stock config around the restated backbone, with random weights."""
    path = Path(find_spec(library).origin).parent / ".mim" / "configs" / config
    settings = Config.fromfile(path, import_custom_modules=False).model
    settings.backbone = dict(type="RestatedHorNet")
    change(settings)
    with default_scope(library):
        model = MODELS.build(settings).eval()
    model.load_state_dict({n: head_weight(n, w) for n, w in model.state_dict().items()})
    model.backbone.state = dense_hornet_state_dict(WIDTHS, DEPTHS, img_size=img_size)
    return model


def head_weight(name, tensor):
    """Return random weights with which scores differ and boxes are neither empty nor the image."""
    if name.endswith("running_mean"):
        return 0.1 * torch.randn(tensor.shape)
    if tensor.ndim == 0:  # the number of batches that a norm has seen
        return tensor
    w = random_weight(name, tensor.shape)
    return w if w.ndim == 1 else w * (0.2 if "_reg." in name or "rpn_cls" in name else 1.6)


def weights_of(model):
    """Return the weights of a stock model, as a file of the release has them."""
    heads = model.state_dict()
    state = OrderedDict({f"backbone.{name}": w for name, w in model.backbone.state.items()} | heads)
    state._metadata = heads._metadata  # the versions of modules, which mmcv kept as well
    return state


def save_old(path, state_dict, **meta):
    """Write a file as mmcv's runner of mmsegmentation 0.x and mmdetection 2.x did."""
    meta = dict(
        env_info="sys.platform: linux\nPython: 3.8", config="norm_cfg = dict(\n    type='BN')\n",
        seed=0, exp_name="config.py", hook_msgs=dict(last_ckpt="iter_160000.pth"),
        mmcv_version="1.3.0", time="Sun Oct  9 10:11:12 2022", epoch=36, iter=160000, **meta,
    )  # fmt: skip
    group = dict(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, params=[0], initial_lr=1e-4)
    state = dict(step=160000, exp_avg=torch.zeros(2), exp_avg_sq=torch.zeros(2))
    optimizer = dict(state={0: state}, param_groups=[group])
    torch.save(dict(meta=meta, state_dict=state_dict, optimizer=optimizer), path)


class Case:
    """A stock model, its file, the config that loads it, and the classes and palette in the file.

    The classes are those of no dataset, so that they can come from the file alone.
    """

    def __init__(self, folder, config, stock, num_classes, version):
        self.config, self.stock, self.path = config, stock, folder / "release.pth"
        self.classes = tuple(f"class {i}" for i in range(num_classes))
        self.palette = [[i, 255 - i, 7] for i in range(num_classes)]
        self.meta = dict(version, CLASSES=self.classes, PALETTE=self.palette)
        save_old(self.path, weights_of(stock), **self.meta)

    @cached_property
    def model(self):
        return gfnet_dense.load_model(self.config, self.path)

    def save_changed(self, path, change):
        state = weights_of(self.stock)
        change(state)
        save_old(path, state, **self.meta)


@pytest.fixture(scope="module")
def upernet(tmp_path_factory):
    def change(settings):
        settings.decode_head.update(in_channels=list(WIDTHS), num_classes=150)
        settings.auxiliary_head.update(in_channels=WIDTHS[2], num_classes=150)

    torch.manual_seed(0)
    stock = build_stock("mmseg", "_base_/models/upernet_swin.py", 384, change)
    folder = tmp_path_factory.mktemp("upernet")
    version = dict(mmseg_version="0.20.2+1234567")
    return Case(folder, "upernet_hornet-tiny-gf_ade20k", stock, 150, version)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    name = "convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py"
    torch.manual_seed(0)
    stock = build_stock(
        "mmdet", name, 224, lambda settings: settings.neck.update(in_channels=list(WIDTHS))
    )
    folder = tmp_path_factory.mktemp("cascade")
    version = dict(mmdet_version="2.25.0+1234567")
    return Case(folder, "cascade-mask-rcnn_hornet-tiny-gf_coco-3x", stock, 80, version)


@pytest.fixture(params=["upernet", pytest.param("cascade", marks=needs_operators)])
def case(request):
    return request.getfixturevalue(request.param)


def assert_close(found, expected):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_classifier_loads_into_the_backbone(tmp_path):
    """The final norm of a classifier is of the pooled map, the norms of outputs are new."""
    state = official_hornet_state_dict(WIDTHS, DEPTHS)
    path = tmp_path / "hornet_tiny_gf.pth"
    torch.save({"model": state}, path)
    model = HorNet("tiny-gf", init_cfg=dict(type="Pretrained", checkpoint=str(path))).eval()
    model.init_weights()
    own = model.state_dict()
    for name in own.keys() & state.keys():
        assert torch.equal(own[name], state[name])
    x = torch.randn(1, 3, 224, 224)
    for y, z in zip(model(x), hornet_stages(state, x), strict=True):
        normed = nn.functional.layer_norm(z.permute(0, 2, 3, 1), z.shape[1:2], eps=1e-6)
        assert_close(y, normed.permute(0, 3, 1, 2))


def test_whole_model_loads_every_tensor_and_takes_the_classes_of_the_file(case):
    model = case.model
    own, given = model.state_dict(), weights_of(case.stock)
    assert own.keys() == given.keys()
    for name, tensor in own.items():
        assert torch.equal(tensor, given[name]), name
    assert tuple(model.dataset_meta["classes"]) == case.classes
    assert model.dataset_meta["palette"] == list(map(tuple, case.palette))


@torch.no_grad()
def test_segmentor_gives_the_logits_of_the_stock_model(upernet):
    x = torch.randn(1, 3, 96, 128)
    assert_close(upernet.model(x, mode="tensor"), upernet.stock(x, mode="tensor"))


@needs_operators
@torch.no_grad()
def test_detector_gives_the_maps_boxes_and_masks_of_the_stock_model(cascade):
    from mmdet.structures import DetDataSample

    models, x = (cascade.model, cascade.stock), torch.randn(1, 3, 96, 128)
    for y, z in zip(*(model.extract_feat(x) for model in models), strict=True):
        assert_close(y, z)
    image = torch.randint(256, (3, 96, 128), dtype=torch.uint8)
    meta = dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0))
    results = []
    for model in models:
        model.rpn_head.test_cfg.max_per_img = 30  # proposals, of 1000
        model.roi_head.test_cfg.max_per_img = 20
        batch = dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta)])
        results.append(model.test_step(batch)[0].pred_instances)
    found, expected = results
    assert len(expected) == 20
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=0, atol=1e-2)  # pixels
    assert (found.masks == expected.masks).float().mean() > 0.9999


def test_backbone_of_a_whole_model_loads_with_its_norms(case):
    """A detector's filters are of the grids for 224, a segmentor's of those for 384."""
    img_size = 384 if case.config.startswith("upernet") else 224
    model = HorNet("tiny-gf", img_size=img_size, filter_resize="bilinear").eval()
    report = load_pretrained(model, case.path)
    total = len(model.state_dict())
    assert f"release.pth: loaded {total} of {total} tensors; resized 0; new: nothing" in report
    x = torch.randn(1, 3, 96, 128)
    for y, z in zip(model(x), case.stock.backbone(x), strict=True):
        assert_close(y, z)


def test_backbone_is_built_from_a_file_alone(case):
    model = gfnet_dense.load_backbone(case.path)
    assert isinstance(model, HorNet)
    x = torch.randn(1, 3, *([384, 384] if case.config.startswith("upernet") else [224, 224]))
    for y, z in zip(model(x), case.stock.backbone(x), strict=True):
        assert_close(y, z)


@pytest.mark.parametrize(
    "case, name",
    [
        ("upernet", "backbone.stages.2.17.gnconv.dwconv.complex_weight"),
        ("upernet", "decode_head.psp_modules.2.1.bn.running_var"),
        pytest.param("cascade", "backbone.norm1.bias", marks=needs_operators),
        pytest.param("cascade", "roi_head.bbox_head.1.fc_reg.weight", marks=needs_operators),
    ],
    indirect=["case"],
)
def test_one_missing_tensor_of_a_whole_model_is_named(case, name, tmp_path):
    case.save_changed(tmp_path / "lost.pth", lambda state: state.pop(name))
    with pytest.raises(InputError) as error:
        gfnet_dense.load_model(case.config, tmp_path / "lost.pth")
    assert "lost.pth does not fit" in str(error.value) and "1 of" in str(error.value)
    assert name in str(error.value)


def test_one_tensor_too_many_is_named(upernet, tmp_path):
    extra = "backbone.stages.2.18.gamma1"
    path = tmp_path / "more.pth"
    upernet.save_changed(path, lambda state: state.update({extra: torch.ones(256)}))
    with pytest.raises(InputError, match="more.pth .*1 not in the model.*2.18"):
        gfnet_dense.load_model(upernet.config, path)


def test_every_missing_tensor_of_a_classifier_is_named(tmp_path):
    """Its final norm and head are of no use for dense prediction."""
    state, model = official_hornet_state_dict(**SMALL), HorNet(SMALL)
    names = [name for name in state if not name.startswith(("norm.", "head."))]
    unnamed = []
    for name in names:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        torch.save({"model": rest}, tmp_path / "lost.pth")
        with pytest.raises(InputError) as error:
            load_pretrained(model, tmp_path / "lost.pth")
        if f"missing, first {name!r}" not in str(error.value):
            unnamed.append((name, str(error.value)))
    assert not unnamed


def test_filters_of_another_grid_are_resized_and_told(tmp_path):
    torch.save({"model": official_hornet_state_dict(**SMALL, img_size=384)}, tmp_path / "384.pth")
    model = HorNet(SMALL, img_size=224)
    report = load_pretrained(model, tmp_path / "384.pth")
    assert "resized 3 (filters" in report and "position embedding" not in report
    shapes = {w.shape[1:3] for n, w in model.state_dict().items() if n.endswith("complex_weight")}
    assert shapes == {(14, 8), (7, 4)}


OTHERS = {
    "wider": lambda: official_hornet_state_dict(dims_of(24), SMALL["depths"]),
    "deeper": lambda: official_hornet_state_dict(SMALL["dims"], (1, 2, 3, 1)),
    "without filters": lambda: official_hornet_state_dict(SMALL["dims"], SMALL["depths"], False),
    "GFNet": lambda: official_state_dict(TINY["dims"], TINY["depths"], img_size=64),
}


@pytest.mark.parametrize("other", OTHERS)
def test_file_of_another_arch_is_refused(other, tmp_path):
    torch.save({"model": OTHERS[other]()}, tmp_path / "other.pth")
    model = HorNet(SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match="other.pth is a checkpoint of another arch"):
        load_pretrained(model, tmp_path / "other.pth")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_gfnet_refuses_a_file_of_hornet(tmp_path):
    torch.save({"model": official_hornet_state_dict(**SMALL)}, tmp_path / "hornet.pth")
    with pytest.raises(InputError, match="hornet.pth is a checkpoint of another arch"):
        load_pretrained(GFNet(TINY, img_size=64), tmp_path / "hornet.pth")
