"""Experiment trackers whose package is not installed."""

import json
import sys
from collections import defaultdict

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from gfnet_dense.engine.runner.trackers import PACKAGES, check_trackers
from gfnet_dense.utils.errors import InputError
from tests.commands import SHORT, error_of, run, tool
from tests.conftest import ROOT, needs_operators
from tests.tools.test_own_code import CONFIG, write_project

# By backend: the package that a user installs, and the modules that are then imported
EXPECTED = {
    "LocalVisBackend": None,
    "WandbVisBackend": ("wandb", ["wandb"]),
    "TensorboardVisBackend": ("tensorboard", ["tensorboard", "torch.utils.tensorboard"]),
    "MLflowVisBackend": ("mlflow", ["mlflow"]),
    "ClearMLVisBackend": ("clearml", ["clearml"]),
    "NeptuneVisBackend": ("neptune", ["neptune"]),
    "DVCLiveVisBackend": ("dvclive", ["dvclive", "pygit2"]),
    "AimVisBackend": ("aim", ["aim"]),
}


def sentence(name):
    package = EXPECTED[name][0]
    return (
        f"{name} needs the package {package}, which is not installed: pip install {package}, or "
        f"take {name} out of the visualizer's vis_backends"
    )


@pytest.fixture
def nothing_installed(monkeypatch):
    for _, modules in filter(None, EXPECTED.values()):
        for module in modules[::-1]:
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setitem(sys.modules, modules[0], None)  # importing it raises an ImportError


def check(vis_backends, visualizer="SegLocalVisualizer"):
    check_trackers(Config({"visualizer": dict(type=visualizer, vis_backends=vis_backends)}))


def test_table_of_all_backends_of_mmengine(nothing_installed, check_table):
    backends = {
        name: cls for name, cls in VISBACKENDS.module_dict.items() if "mmengine" in cls.__module__
    }
    assert set(backends) == set(EXPECTED) == {"LocalVisBackend", *PACKAGES}
    rows = [["backend", "package", "sentence without it"]]
    for name in EXPECTED:
        if EXPECTED[name] is None:
            check([dict(type=name)])
            rows.append([f"`{name}`", "none", "none"])
            continue
        with pytest.raises(InputError) as error:
            check([dict(type="LocalVisBackend"), dict(type=name)])
        assert str(error.value) == sentence(name)
        rows.append([f"`{name}`", EXPECTED[name][0], str(error.value)])
    check_table("trackers", rows)


@pytest.mark.parametrize(
    "vis_backends",
    [
        dict(type="WandbVisBackend"),
        [dict(type="mmengine.WandbVisBackend")],
        [dict(type="mmengine.visualization.WandbVisBackend")],
        (dict(type=VISBACKENDS.get("WandbVisBackend")),),  # a config with lazy imports
    ],
)
def test_all_forms_of_vis_backends_are_checked(nothing_installed, vis_backends):
    with pytest.raises(InputError) as error:
        check(vis_backends)
    assert str(error.value) == sentence("WandbVisBackend")


@pytest.mark.parametrize("vis_backends", [None, [], [dict(type="NoSuchBackend")], [dict()], "text"])
def test_all_else_is_left_to_mmengine(nothing_installed, vis_backends):
    check(vis_backends)
    check_trackers(Config({"visualizer": None}))
    check_trackers(Config({}))


def test_package_that_another_needs_is_named(nothing_installed, tmp_path, monkeypatch):
    (tmp_path / "dvclive.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dvclive")
    monkeypatch.setitem(sys.modules, "pygit2", None)
    with pytest.raises(
        InputError, match="DVCLiveVisBackend needs the package pygit2, which is not"
    ):
        check([dict(type="DVCLiveVisBackend")])


def test_package_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "aim.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "aim", raising=False)
    with pytest.raises(InputError, match=r"package aim, which cannot be imported \(No module"):
        check([dict(type="AimVisBackend")])


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name]])
def test_training_ends_with_the_sentence_before_it_begins(tmp_path, name):
    hidden = "".join(f"sys.modules[{module!r}] = None\n" for module in EXPECTED[name][1][:1])
    config = CONFIG.replace("custom_imports", hidden + "custom_imports")
    write_project(tmp_path, config=config.replace('type="OwnVisBackend"', f'type="{name}"'))
    line = error_of(run(tool("train", "config.py"), tmp_path))
    assert line == f"error: {sentence(name)}"
    assert not (tmp_path / "work_dirs").exists()


@pytest.mark.parametrize(
    "name",
    ["fpn_gfnet-h-ti_own-data", pytest.param("atss_gfnet-h-ti_own-data", marks=needs_operators)],
)
def test_tensorboard_gets_the_scalars_of_a_training(name, demo_data, tmp_path):
    """The line of docs/own_data.md; TensorBoard's own reader finds what scalars.json holds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    page = (ROOT / "docs" / "own_data.md").read_text()
    line = next(line for line in page.splitlines() if "TensorboardVisBackend" in line)
    (tmp_path / "data").symlink_to(demo_data)
    (tmp_path / "own.py").write_text(f'_base_ = ["{ROOT}/configs/{name}.py"]\n{line}\n')
    options = [*SHORT.split(), "model.test_cfg.score_thr=0"]  # an untrained detector is unsure
    result = run(tool("train", "own.py", "--demo", "--cfg-options", *options), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    (written,) = tmp_path.glob("work_dirs/demo/own/*/vis_data/scalars.json")
    (events,) = written.parent.glob("events.out.tfevents.*")
    read = EventAccumulator(str(events)).Reload()
    found = {tag: [(s.step, s.value) for s in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    expected = defaultdict(list)
    for each in map(json.loads, written.read_text().splitlines()):
        for key, value in each.items():
            expected[key].append((each["step"], value))
    assert len(expected["loss"]) == 4 and "lr" in expected
    assert expected["mIoU" if name.startswith("fpn") else "coco/bbox_mAP"]
    for tag, values in found.items():
        assert [step for step, _ in values] == [step for step, _ in expected[tag]], tag
        assert [v for _, v in values] == pytest.approx([v for _, v in expected[tag]], rel=1e-6)
    assert set(expected) - set(found) <= {"step", "iter", "epoch"}
