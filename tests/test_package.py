"""The package as its users see it: public names, effects of importing it, and the wheel."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import import_module

import pytest
from mmengine.registry import Registry
from PIL import Image

import gfnet_dense
from gfnet_dense import registry
from tests.conftest import ROOT


def python(code, folder="/", **environment):
    """Return the words that a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **environment}
    output = subprocess.check_output(command, env=environment, text=True, cwd=folder)
    return output.split()


@pytest.mark.parametrize("name", gfnet_dense.__all__)
def test_docstrings_of_public_names_describe_arguments_results_and_errors(name):
    documented = getattr(gfnet_dense, name)
    text = inspect.getdoc(documented)
    first_line = text.partition("\n")[0]
    assert first_line.endswith((".", ":")) and len(first_line) > 20
    if documented is gfnet_dense.InputError:
        return
    for parameter in inspect.signature(documented).parameters:
        assert re.search(rf"^    (\w+, )*{parameter}(, \w+)*( \(.*\))?:", text, re.MULTILINE)
    if inspect.isfunction(documented):
        assert "Returns:" in text or "Yields:" in text
        assert "Raises:" in text or documented is gfnet_dense.list_models  # takes every pattern


def test_public_names_are_imported_on_first_use():
    code = "import sys, gfnet_dense; print('torch' in sys.modules); "
    code += "gfnet_dense.GFNet; print('torch' in sys.modules)"
    assert python(code) == ["False", "True"]


def test_importing_the_models_loads_neither_the_runner_nor_opencv_nor_mmcv():
    code = "import sys, gfnet_dense.models; print(*sys.modules)"
    loaded = set(python(code))
    assert "mmengine.model" in loaded
    heavy = {"mmengine.runner", "mmengine.hooks", "mmengine.visualization", "cv2", "matplotlib"}
    assert not loaded & {*heavy, "mmcv", "mmseg", "mmdet", "PIL", "pycocotools", "scipy"}


def test_the_library_changes_no_environment_variable():
    """Variables that OpenCV, mmcv and mmsegmentation set themselves do not count."""
    code = "import os; before = dict(os.environ); {}; import cv2, mmcv, mmseg.apis; "
    code += "print('changed', *(set(os.environ.items()) ^ set(before.items())))"
    use = "import gfnet_dense; gfnet_dense.load_model('fpn_gfnet-h-ti_ade20k', None); "
    use += "import gfnet_dense.engine.runner, gfnet_dense.export, gfnet_dense.benchmark.transfer"
    theirs, with_ours = (python(code.format(each)) for each in ("pass", use))
    assert sorted(with_ours) == sorted(theirs)


def test_segmentation_works_where_mmdetection_is_not_installed():
    code = "import sys; sys.modules['mmdet'] = None; import gfnet_dense; "
    code += "print(type(gfnet_dense.load_model('upernet_gfnet_ade20k', None)).__name__)"
    assert python(code)[-1] == "EncoderDecoder"


@pytest.mark.parametrize(
    "library, config, extra",
    [("mmseg", "fpn_gfnet-h-ti_ade20k", "seg"), ("mmdet", "mask-rcnn_gfnet-h-ti_coco", "det")],
)
def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it(library, config, extra):
    code = f"""
import sys
class Missing:
    def find_spec(self, name, *_):
        if name == {library!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
import gfnet_dense
try:
    gfnet_dense.load_model({config!r}, None)
except gfnet_dense.InputError as e:
    print(e)
"""
    sentence = " ".join(python(code))
    assert f"{config}.py needs {library}, which is not installed: pip install" in sentence
    assert f"'gfnet-dense[{extra}]'" in sentence


def test_a_backbone_is_loaded_without_mmcv_and_opencv(tmp_path):
    code = "import sys, torch; sys.modules.update(dict.fromkeys(['cv2', 'mmcv', 'mmseg'])); "
    code += "from gfnet_dense import GFNet, load_backbone; "
    code += "arch = dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1)); "
    code += "torch.save(GFNet(arch, img_size=64).state_dict(), 'a.pth'); "
    code += "print(load_backbone('a.pth').dims)"
    assert " ".join(python(code, folder=tmp_path)).endswith("(8, 8, 8, 8)")


REGISTRIES = {
    name: value
    for name, value in vars(registry).items()
    if isinstance(value, Registry) and value.scope == "gfnet_dense"
}


@pytest.mark.parametrize("name", REGISTRIES)
def test_each_registry_imports_its_locations_and_is_not_empty(name):
    child = REGISTRIES[name]
    for location in child._locations:
        import_module(location)
    assert len(child.module_dict) > 0


def test_names_that_configs_use_are_registered():
    found = set()
    for child in REGISTRIES.values():
        child.import_from_location()
        found |= set(child.module_dict)
    assert found >= {
        *("GFNet", "IsotropicGFNet", "CheckDataHook", "CheckpointHook", "ContactSheetHook"),
        *("AutocastHook", "Bfloat16OptimWrapper"),
        *("CufftPlanCacheHook", "CurvesHook", "FiniteLossHook", "LayerDecayConstructor"),
        *("SeededDataset", "SeededSampler", "NumberedSampler"),
    }


def test_former_import_paths_lead_to_the_same_objects():
    from gfnet_dense.api import load_backbone, load_model, predict
    from gfnet_dense.models import GFNet, GlobalFilter, IsotropicGFNet

    names = (load_backbone, load_model, predict, GFNet, GlobalFilter, IsotropicGFNet)
    assert all(getattr(gfnet_dense, each.__name__) is each for each in names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # Build a copy, because a build writes into its source folder.
    source = folder / "source"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    for name in files:
        if not name.startswith(("docs/", "tests/")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                (source / name).symlink_to(os.readlink(ROOT / name))
            else:
                shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.check_call([*command, "-w", str(folder), str(source)])
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_the_configs_and_the_tools_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        (programs,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert "gfnet-dense = gfnet_dense.__main__:main" in archive.read(programs).decode()
        required = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    linked = {name for name in names if name.startswith("gfnet_dense/.mim/")}
    expected = [*(ROOT / "configs").rglob("*.py"), *(ROOT / "tools").glob("*.[ps][yh]")]
    assert {name.removeprefix("gfnet_dense/.mim/") for name in linked} == {
        "model-index.yml", *(path.relative_to(ROOT).as_posix() for path in expected)
    }  # fmt: skip
    assert {"gfnet_dense/py.typed", "gfnet_dense/__init__.pyi"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert all(top == "gfnet_dense" or top.endswith(".dist-info") for top in tops)
    without_extra = {re.match(r"[\w-]+", line)[0] for line in required if "extra ==" not in line}
    assert without_extra == {
        *("torch", "onedl-mmengine", "numpy", "rich", "safetensors", "lazy-loader")
    }


def test_configs_of_the_wheel_are_found_by_name_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import gfnet_dense; from gfnet_dense.utils.config import read_config; "
    code += "cfg = read_config('upernet_gfnet_ade20k'); "
    code += "print(gfnet_dense.__file__, cfg.filename, cfg.model.decode_head.type)"
    module, config, head = python(code, PYTHONPATH=str(tmp_path))[-3:]
    assert module == str(tmp_path / "gfnet_dense" / "__init__.py")
    assert head == "gfnet_dense.UPerHead"
    assert config == str(tmp_path / "gfnet_dense/.mim/configs/upernet_gfnet_ade20k.py")


def test_models_and_commands_of_the_wheel_are_used_by_name_from_an_empty_folder(wheel, tmp_path):
    """As after ``pip install``, with the libraries of these tests and without the clone."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.check_call([*pip, str(tmp_path / "site"), str(wheel)])
    (tmp_path / "empty").mkdir()
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 48)).save(photo)
    program = str(tmp_path / "site" / "bin" / "gfnet-dense")
    scripts = tmp_path / "site" / "gfnet_dense" / ".mim" / "tools"
    assert os.access(scripts / "dist_test.sh", os.X_OK)
    name, url = "upernet_hornet-tiny-gf_ade20k", "https://cloud.tsinghua.edu.cn/f/"
    code = f"""
import gfnet_dense
print(gfnet_dense.__file__, *gfnet_dense.list_models(pretrained=True))
print(gfnet_dense.load_model({name!r}).backbone.__module__)
try:
    gfnet_dense.load_model({name!r}, pretrained=True)
except gfnet_dense.InputError as e:
    print(e)
"""
    no_network = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "hub")}
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), **no_network}

    def output(*command):
        result = subprocess.run(
            command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
        )
        assert "Traceback" not in result.stderr and str(ROOT) not in result.stdout
        return result.stdout + "".join(result.stderr.splitlines(keepends=True)[-1:])

    printed = output(sys.executable, "-c", code)
    assert str(tmp_path / "site" / "gfnet_dense" / "__init__.py") in printed and name in printed
    assert "gfnet_dense.models.backbones.hornet\n" in printed
    assert f"could not download {url}" in printed and f"save it as {tmp_path}/hub" in printed
    assert "  export_onnx " in output(sys.executable, "-m", "gfnet_dense", "--help")
    printed = output(sys.executable, program, "infer", name, str(photo))
    assert f"error: could not download {url}" in printed
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
def test_wheel_works_with_nothing_but_its_requirements_installed(wheel, tmp_path):
    """Downloads torch: only what pip installs with the wheel is available."""
    subprocess.check_call([sys.executable, "-m", "venv", str(tmp_path / "venv")])
    pip = [str(tmp_path / "venv/bin/python"), "-m", "pip", "install", "-q"]
    constraints = str(ROOT / "requirements" / "constraints.txt")
    subprocess.check_call([*pip, "-c", constraints, str(wheel)])
    code = "import torch; from gfnet_dense import GFNet, load_backbone; from pathlib import Path; "
    code += "from gfnet_dense.utils.config import find_config; find_config('upernet_gfnet_ade20k');"
    code += "print(*(tuple(y.shape) for y in GFNet('h-tiny')(torch.randn(1, 3, 64, 96))))"
    command = [str(tmp_path / "venv/bin/python"), "-c", code]
    output = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert output.startswith("(1, 64, 16, 24) (1, 128, 8, 12)")
