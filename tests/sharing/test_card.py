"""Model cards: what they say, and their front matter as the hub's own client reads it."""

import re
import shlex

import numpy as np
import pytest
import yaml
from PIL import Image

from gfnet_dense import load_model, save_pretrained
from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.sharing.card import Facts, Speed, text
from tests.commands import run, tool
from tests.sharing.small_models import small_config, small_model

pytest.importorskip("mmseg")
SPEED = Speed((480, 640), (512, 683), None, 0, 1.25, "a processor, 2 threads", 44_500_000_000)
FACTS = Facts(
    name="somebody/fields",
    kind="image-segmentation",
    method="EncoderDecoder with GFNet h-tiny, UPerHead",
    has_filters=True,
    params=18_820_000,
    dataset="BaseSegDataset",
    hub_dataset=None,
    classes=("field: a\nfield", "ストリート"),
    metrics={"mIoU": 49.2},
    speed=SPEED,
    license="apache-2.0",
    notes=("paths are cut",),
    has_picture=True,
    versions={"gfnet-dense": "0.1.0"},
)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_hubs_client_reads_the_front_matter():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(text(FACTS)).data
    assert (data.license, data.library_name) == ("apache-2.0", "gfnet-dense")
    assert data.pipeline_tag == "image-segmentation"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("mIoU", 49.2)
    assert (result.dataset_type, result.task_type) == ("other", "image-segmentation")
    assert data.model_name == "fields"


def test_a_card_says_the_facts_and_no_more():
    card = text(FACTS)
    for words in [
        "# fields\n", "18.82 M parameters", "480 x 640 pixels", "tested at 512 x 683",
        "1.25 s (median of 3 predictions on a processor, 2 threads)",
        "44.5 G multiply-adds in one forward at 512 x 683\n",
        "A segmentor of 2 classes with global filters, written by",
        "own data, read as BaseSegDataset, 2 classes: field: a field, ストリート",
        "| mIoU   | 49.20 |", "License: apache-2.0", "In `config.json`, paths are cut",
        "![Prediction](prediction.jpg)", "hf download somebody/fields --local-dir ./fields\n",
        "gfnet-dense infer ./fields photo.jpg",
        "With GFNet-Dense installed (its README says how) and the extras `seg` and `hub`:",
        'from_pretrained("somebody/fields")',
    ]:  # fmt: skip
        assert words in card
    unknown = dict(
        metrics={}, license=None, has_picture=False, notes=(), name="fields",
        speed=Speed((480, 640), (512, 683), None, 0, 1.25, "a processor", None), has_filters=False,
    )  # fmt: skip
    bare = text(Facts(**{**vars(FACTS), **unknown}))
    for words in (
        "multiply-adds", "Results", "hf download", "![", "In `config.json`", "filter",
        "pip install",
    ):  # fmt: skip
        assert words not in bare
    assert "the extra `seg`:" in bare and 'from_pretrained("fields")  # the path of' in bare
    assert "License: none was given" in bare and "No accuracy was given" in bare
    assert set(front_matter(bare)) == {"library_name", "pipeline_tag", "tags"}


def test_the_snippet_of_a_card_is_python():
    for name in ("somebody/fields", "a folder", 'it\'s "odd" \\ \n ü'):
        card = text(Facts(**{**vars(FACTS), "name": name}))
        (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        loaded = []
        namespace = dict(from_pretrained=loaded.append, predict=lambda model, images: [])
        exec(snippet.partition("\n")[2], namespace)
        assert loaded == [name]


def test_facts_of_a_model_are_counted_and_measured(tmp_path):
    model = small_model()
    card = (save_pretrained(model, tmp_path / "small") / "README.md").read_text()
    params = sum(p.numel() for p in model.parameters())
    assert f"{params / 1e6:.2f} M parameters" in card
    # 480 x 640 at 64 pixels on the shorter side, padded to a multiple of 32
    (size,) = re.findall(r"is tested at (\d+ x \d+) and takes", card)
    height, width = map(int, size.split(" x "))
    assert (height, width) == (64, 96)
    flops = count_flops(model, (height, width)).total
    assert f"{flops / 1e9:.1f} G multiply-adds in one forward at {size}\n" in card
    (seconds,) = re.findall(r"takes ([\d.e-]+) s ", card)
    assert float(seconds) > 0
    front = front_matter(card)
    assert front["datasets"] == ["ade20k"] and "license" not in front
    assert "ADE20KDataset, 150 classes: wall, building" in card


def test_a_data_set_is_named_only_if_its_classes_are_the_models(tmp_path):
    model = small_model(classes=["a", "b", "c"])
    model.cfg.test_dataloader.dataset.type = "ADE20KDataset"
    card = (save_pretrained(model, tmp_path / "own", metrics={"mIoU": 5}) / "README.md").read_text()
    front = front_matter(card)
    assert "datasets" not in front
    dataset = front["model-index"][0]["results"][0]["dataset"]
    assert dataset == dict(name="own data, read as ADE20KDataset", type="other")


@pytest.mark.parametrize(
    "crop, words, window",
    [
        # 64 x 96: one row, and columns from 0, 32 (moved back from 40)
        ((64, 64), "in 2 windows of 64 x 64 and", (64, 64)),
        # rows from 0, 16 (moved back from 32), columns from 0, 40, 48
        ((48, 48), "in 6 windows of 48 x 48 and", (48, 48)),
        ((512, 512), "in 1 window of 64 x 96 and", (64, 96)),
    ],
)
def test_the_cost_of_a_sliding_test_is_that_of_a_window(crop, words, window, tmp_path):
    cfg = small_config(classes=["a", "b"])
    cfg.model.test_cfg = dict(mode="slide", crop_size=crop, stride=(32, 40))
    model = load_model(cfg, None)
    calls = []
    model.backbone.register_forward_pre_hook(lambda _, x: calls.append(tuple(x[0].shape[2:])))
    card = (save_pretrained(model, tmp_path / "out") / "README.md").read_text()
    assert words in card
    # Those that were run: by four predictions, and by the counter twice
    assert calls == [window] * (4 * int(re.search(r"in (\d+) window", card)[1]) + 2)
    flops = count_flops(model, window).total
    size = f"{window[0]} x {window[1]}"
    assert f"{flops / 1e9:.1f} G multiply-adds in one forward of a window of {size}\n" in card


def test_a_model_without_filters_is_not_said_to_have_them(tmp_path):
    cfg = small_config(classes=["a", "b"])
    cfg.model.backbone = dict(
        type="ResNet", depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3)
    )
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    card = (save_pretrained(load_model(cfg, None), tmp_path / "out") / "README.md").read_text()
    assert "A segmentor of 2 classes, written by" in card and "filter" not in card
    assert front_matter(card)["tags"] == ["image-segmentation", "gfnet-dense"]


def test_the_command_line_of_a_card_works(tmp_path):
    folder = save_pretrained(small_model(classes=["a", "b"]), tmp_path / "my model-v1.0")
    card = (folder / "README.md").read_text()
    (line,) = re.findall(r"^gfnet-dense infer (.*)$", card, re.MULTILINE)
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(tmp_path / "photo.jpg")
    result = run(tool("infer", *shlex.split(line)), tmp_path)
    assert result.returncode == 0, result.stderr
    assert any((tmp_path / "out").iterdir())
