"""configs/README.md and model-index.yml are up to date with .dev/zoo_page.py and the configs."""

import re
import shutil

import pytest
import yaml
from mmengine.config import Config

import zoo
import zoo_page
from gfnet_dense.benchmark.complexity import Complexity
from gfnet_dense.checkpoint.official import TRAINED
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT
from tests.markdown import read_table

CONFIGS = sorted((ROOT / "configs").glob("*.py"))
PAGE, INDEX = ROOT / "configs" / "README.md", ROOT / "model-index.yml"
RUN = "run python .dev/zoo_page.py"


def load(path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)  # Mask2Former's config needs mmdet


@pytest.fixture(scope="module")
def committed():
    """The settings of the configs as they are, with the costs that the index states."""
    costs = {}
    for model in yaml.safe_load(INDEX.read_text())["Models"]:
        data = model["Metadata"]
        costs[model["Name"]] = zoo.Cost(
            data["Parameters"],
            Complexity(data["FLOPs"], data["FLOPs of Global Filters"]),
            Complexity(data["FLOPs at 1024x1024"], data["FLOPs of Global Filters at 1024x1024"]),
        )
    assert sorted(costs) == sorted(path.stem for path in CONFIGS), RUN
    return [(zoo.read_settings(path.stem, load(path)), costs[path.stem]) for path in CONFIGS]


def test_committed_pages_are_those_of_the_configs(committed):
    assert zoo.format_page(committed) == PAGE.read_text(), RUN
    assert zoo.format_index(committed) == INDEX.read_text(), RUN


def test_pages_do_not_depend_on_the_order_of_the_configs(committed):
    assert zoo.format_page(committed[::-1]) == zoo.format_page(committed)
    assert zoo.format_index(committed[::-1]) == zoo.format_index(committed)


def test_committed_cost_of_a_config_equals_the_measured_one(committed):
    costs = {settings.name: cost for settings, cost in committed}
    name = "fpn_gfnet-h-ti_cityscapes"
    assert zoo.measure_cost(load(ROOT / "configs" / f"{name}.py")) == costs[name], RUN


def test_row_of_a_config_states_its_settings_and_cost():
    row = next(line for line in PAGE.read_text().splitlines() if "[fpn_gfnet-h-ti_city" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "[fpn_gfnet-h-ti_cityscapes](fpn_gfnet-h-ti_cityscapes.py)"
    assert cells[1:6] == ["Semantic FPN", "GFNet-H-Ti", "512x1024", "80k iterations", "8 x 1"]
    # 14.6 M for the backbone (15.1 M with its classifier), 4.2 M for pyramid and head
    assert cells[6] == "18.8 M"
    assert cells[9] == ""  # no weights
    assert cells[10] == "`python tools/train.py configs/fpn_gfnet-h-ti_cityscapes.py`"
    crop, large = (float(re.match(r"([\d.]+) G \(0\.\d%\)", cell)[1]) for cell in cells[7:9])
    assert large / crop == pytest.approx(2, rel=0.01)


def test_links_of_the_page_lead_to_configs():
    targets = set(re.findall(r"\]\((\S+?\.py)\)", PAGE.read_text()))
    assert targets == {path.name for path in CONFIGS}


def test_pages_claim_no_results_that_were_not_measured():
    text = PAGE.read_text()
    assert "trained none of these full-size models" in text
    tables = text.partition("## Published figures")[0]
    assert "mIoU" not in tables and " AP" not in tables
    for model in yaml.safe_load(INDEX.read_text())["Models"]:
        assert {"Results", "Weights", "Source"} & set(model) == (
            {"Results", "Weights", "Source"} if model["Name"] in TRAINED else set()
        )
        assert (ROOT / model["Config"]).is_file()
    assert INDEX.read_text().startswith(
        "# Written by .dev/zoo_page.py. Nothing here was trained by this project"
    )


def test_models_of_their_authors_have_their_figures_and_files():
    models = {model["Name"]: model for model in yaml.safe_load(INDEX.read_text())["Models"]}
    segmentor = models["upernet_hornet-large-gf_ade20k"]
    assert segmentor["In Collection"] == "HorNet"
    assert segmentor["Metadata"]["Architecture"] == ["HorNet-L-GF", "UPerNet"]
    assert segmentor["Results"] == [
        {"Task": "Semantic Segmentation", "Dataset": "ADE20K", "Metrics": {"mIoU": 55.0}}
    ]
    assert segmentor["Weights"] == "https://cloud.tsinghua.edu.cn/f/3dbb38bae1694653a666/?dl=1"
    assert segmentor["Source"] == (
        "https://github.com/raoyongming/HorNet/tree/master/semantic_segmentation"
    )
    detector = models["cascade-mask-rcnn_hornet-tiny-gf_coco-3x"]
    assert [(each["Task"], each["Metrics"]) for each in detector["Results"]] == [
        ("Object Detection", {"box AP": 52.4}),
        ("Instance Segmentation", {"mask AP": 45.6}),
    ]
    marked = re.findall(r"^\| \[(\S+)\]\(\S+\.py\).*\| authors' +\|", PAGE.read_text(), re.M)
    assert sorted(marked) == sorted(TRAINED)


def test_published_figures_have_a_table_for_each_set_of_metrics():
    section = PAGE.read_text().partition("## Published figures")[2]
    tables = [read_table(block) for block in section.split("\n\n") if block.startswith("|")]
    assert [table[0][3:-1] for table in tables] == [["mIoU"], ["box AP", "mask AP"]]
    assert ["ADE20K", "UPerNet", "HorNet-S-GF", "50.0"] in [row[:4] for row in tables[0]]
    row = ["COCO 2017", "Cascade Mask R-CNN", "HorNet-B-GF", "54.0", "46.9"]
    assert row in [row[:5] for row in tables[1]]


def test_each_model_is_in_the_collection_of_its_backbone():
    index = yaml.safe_load(INDEX.read_text())
    collections = {each["Name"]: each for each in index["Collections"]}
    assert collections["HorNet"]["Metadata"]["Training Data"] == ["ADE20K", "COCO 2017"]
    for each in collections.values():
        assert (ROOT / each["Code"]).is_file()
    for model in index["Models"]:
        family = "HorNet" if "_hornet" in model["Name"] else "GFNet"
        assert model["In Collection"] == family


def test_unknown_heads_and_datasets_are_listed_by_their_type():
    cfg = load(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    cfg.model.decode_head.type = "NewHead"
    cfg.train_dataloader.dataset.type = "NewDataset"
    settings = zoo.read_settings("new", cfg)
    assert (settings.method, settings.dataset) == ("NewHead", "NewDataset")


def test_tool_writes_both_pages_and_shows_progress(tmp_path, capsys):
    name = "segformer_gfnet-h-ti_ade20k"
    shutil.copytree(ROOT / "configs" / "_base_", tmp_path / "configs" / "_base_")
    shutil.copy(ROOT / "configs" / f"{name}.py", tmp_path / "configs")
    zoo_page.write_pages(tmp_path)
    assert re.search(rf"^{name}: 15\.\d M, 13\.\d G$", capsys.readouterr().out, re.MULTILINE)
    assert name in (tmp_path / "configs" / "README.md").read_text()
    (model,) = yaml.safe_load((tmp_path / "model-index.yml").read_text())["Models"]
    assert model["Metadata"]["Architecture"] == ["GFNet-H-Ti", "SegFormer's head"]


def test_tool_names_a_broken_config_and_writes_nothing(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "broken_gfnet.py").write_text("model = dict(")
    with pytest.raises(InputError, match="broken_gfnet.py cannot be read as a config"):
        zoo_page.write_pages(tmp_path)
    assert not (tmp_path / "model-index.yml").exists()
