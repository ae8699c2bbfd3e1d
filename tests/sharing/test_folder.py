"""Folders of trained models, written and read, and those that are refused."""

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gfnet_dense import from_pretrained, load_model, predict, save_pretrained
from gfnet_dense.sharing import card
from gfnet_dense.sharing import folder as folders
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY, needs_operators
from tests.sharing.local_hub import local_hub
from tests.sharing.processes import python
from tests.sharing.small_models import DETECTOR, shrink_images, small_config, small_model

pytest.importorskip("mmseg")
CLASSES = ["background", "field", "störung"]
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with a segmentor of classes of one's own."""
    return save_pretrained(small_model(classes=CLASSES), tmp_path_factory.mktemp("shared") / "own")


@pytest.fixture
def copied(shared, tmp_path):
    return shutil.copytree(shared, tmp_path / "copy")


def outputs(model, x):
    """Return all tensors that a model computes of normalized images."""
    with torch.no_grad():
        found = model(x, mode="tensor") if "decode_head" in model.cfg.model else model._forward(x)
    flat = []

    def collect(node):
        for each in node if isinstance(node, (list, tuple)) else [node]:
            flat.append(each) if isinstance(each, torch.Tensor) else collect(each)

    collect(found)
    return flat


def assert_same_model(first, second):
    x = torch.randn(2, 3, 64, 96)
    ours, theirs = outputs(first, x), outputs(second, x)
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert list(second.dataset_meta["classes"]) == list(first.dataset_meta["classes"])
    assert second.dataset_meta["palette"] == first.dataset_meta["palette"]
    assert not second.training


def test_a_published_architecture_gives_the_same_outputs_bit_for_bit(tmp_path):
    cfg = read_config("upernet_gfnet_ade20k")
    shrink_images(cfg)
    model = load_model(cfg, None)
    loaded = from_pretrained(save_pretrained(model, tmp_path / "upernet"))
    assert_same_model(model, loaded)
    (ours,), (theirs,) = predict(model, [IMAGE]), predict(loaded, [IMAGE])
    assert torch.equal(ours.pred_sem_seg.data, theirs.pred_sem_seg.data)


@needs_operators
def test_a_detector_gives_the_same_outputs_and_boxes(tmp_path):
    model = small_model(DETECTOR)
    model.test_cfg.score_thr = 0.0
    model.cfg.model.test_cfg.score_thr = 0.0
    loaded = from_pretrained(save_pretrained(model, tmp_path / "detector"))
    assert_same_model(model, loaded)
    (ours,), (theirs,) = predict(model, [IMAGE]), predict(loaded, [IMAGE])
    assert len(ours.pred_instances) > 0
    for name in ("bboxes", "scores", "labels"):
        assert torch.equal(ours.pred_instances[name], theirs.pred_instances[name])


def test_a_model_of_own_classes_has_them_and_its_whole_config(shared):
    model = small_model(classes=CLASSES)
    loaded = from_pretrained(shared)
    assert_same_model(model, loaded)
    assert loaded.dataset_meta["classes"] == CLASSES
    expected = model.cfg.to_dict()
    for name in ("work_dir", "load_from", "resume"):
        expected.pop(name, None)
    expected["model"]["backbone"].pop("init_cfg", None)
    assert loaded.cfg.to_dict() == expected  # tuples are tuples, lists are lists
    assert sorted(os.listdir(shared)) == ["README.md", "config.json", "model.safetensors"]


def test_a_config_with_lazy_imports_is_shared_by_registered_names(tmp_path):
    from stock_configs import lazy_text  # of .dev/

    (tmp_path / "lazy.py").write_text(lazy_text(small_config(classes=CLASSES)))
    model = load_model(tmp_path / "lazy.py", None)
    assert isinstance(model.cfg.model.type, type)
    loaded = from_pretrained(save_pretrained(model, tmp_path / "shared"))
    assert_same_model(model, loaded)
    assert loaded.cfg.model.type == "mmseg.EncoderDecoder"


def test_a_segmentor_is_loaded_in_a_fresh_interpreter_without_mmdetection(shared):
    code = "import sys; sys.modules['mmdet'] = sys.modules['huggingface_hub'] = None; "
    code += f"import gfnet_dense; model = gfnet_dense.from_pretrained({str(shared)!r}); "
    code += "print(*model.dataset_meta['classes'])"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=shared)
    assert output.splitlines()[-1] == " ".join(CLASSES)


def test_a_picture_of_a_prediction_is_added(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    folder = save_pretrained(
        small_model(classes=CLASSES), tmp_path / "out", image=tmp_path / "photo.png"
    )
    picture = Image.open(folder / "prediction.jpg")
    assert picture.width == 90 and picture.height > 60  # a legend below
    assert "![Prediction](prediction.jpg)" in (folder / "README.md").read_text()


def test_nothing_of_the_authors_machine_is_in_the_folder(tmp_path, caplog):
    model = small_model(classes=CLASSES)
    home = "/home/somebody/secret"
    model.cfg.work_dir = model.cfg.load_from = f"{home}/run"
    model.cfg.resume = True
    model.cfg.test_dataloader.dataset.data_root = f"{home}/ade"
    model.cfg.train_dataloader.dataset.data_root = r"C:\Users\somebody\ade"
    model.cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=f"{home}/gfnet.pth")
    folder = save_pretrained(model, tmp_path / "out")
    for path in folder.iterdir():
        assert b"somebody" not in path.read_bytes()
    cfg = from_pretrained(folder).cfg
    assert cfg.test_dataloader.dataset.data_root == "ade"
    assert cfg.train_dataloader.dataset.data_root == "ade"
    assert not {"work_dir", "load_from", "resume"} & set(cfg)
    assert model.cfg.work_dir == f"{home}/run"  # the model in memory stays as it was
    page = (folder / "README.md").read_text()
    for words in ("work_dir, load_from, resume", "init_cfg", "test_dataloader.dataset.data_root"):
        assert words in page


def test_a_folder_of_ours_is_replaced_and_any_other_kept(copied, tmp_path):
    model = small_model(classes=["a", "b"])
    (tmp_path / "link").symlink_to(copied)
    for target in (copied, tmp_path / "link"):
        assert save_pretrained(model, target, license="mit") == target
        assert from_pretrained(target).dataset_meta["classes"] == ["a", "b"]
    assert (tmp_path / "link").is_symlink()
    (copied / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    save_pretrained(model, tmp_path / "empty")
    foreign = tmp_path / "foreign"  # of another library, with the same names of files
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    (foreign / "model.safetensors").write_bytes(b"")
    for target, words in [
        (copied, "holds notes.txt"),
        (foreign, "holds config.json"),
        (tmp_path, "holds copy"),
        (foreign / "config.json", "is a file"),
    ]:
        with pytest.raises(InputError, match=words):
            save_pretrained(model, target)
    assert (foreign / "config.json").read_text() == '{"model_type": "bert"}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "empty", "foreign", "link"]


def test_a_folder_from_the_hub_is_replaced(copied):
    """The download of `hf download --local-dir` adds two names."""
    (copied / ".cache" / "huggingface").mkdir(parents=True)
    (copied / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    save_pretrained(small_model(classes=["a", "b"]), copied)
    assert from_pretrained(copied).dataset_meta["classes"] == ["a", "b"]
    assert {".cache", ".gitattributes"} < set(os.listdir(copied))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_second_saving_does_not_disturb_the_first(is_new, copied, tmp_path, monkeypatch):
    """The second one begins and, if it does not wait, ends while the first one writes its card."""
    target = tmp_path / "new" if is_new else copied
    models = {name: small_model(classes=[name, "b"]) for name in ("first", "second")}
    text, errors = folders.text, []
    first, second = (threading.Thread(target=lambda name=name: save(name)) for name in models)

    def save(name):
        try:
            save_pretrained(models[name], target)
        except BaseException as e:
            errors.append(e)

    def wait_for_the_second(facts):
        if threading.current_thread() is first:
            second.start()
            second.join(60 if is_new else 1)
        return text(facts)

    monkeypatch.setattr(folders, "text", wait_for_the_second)
    first.start()
    for thread in (first, second):
        thread.join(60)
    assert errors == []
    # The one that ended last: of a new folder the first, which had no lock to hold.
    assert from_pretrained(target).dataset_meta["classes"][0] == ("first" if is_new else "second")
    assert sorted(os.listdir(target)) == ["README.md", "config.json", "model.safetensors"]
    assert not list(tmp_path.glob(".*"))


def test_many_savings_of_processes_at_once_all_succeed(tmp_path):
    code = """
model = small_model(classes=["a", "b"])
for _ in range(4):
    save_pretrained(model, "out")
"""
    with local_hub() as hub, ThreadPoolExecutor() as pool:
        places = [tmp_path / name for name in ("1", "2")]
        for place in places:
            place.mkdir()
            (place / "out").symlink_to(tmp_path / "out")
        list(pool.map(lambda place: python(code, place, hub), places))
    assert from_pretrained(tmp_path / "out").dataset_meta["classes"] == ["a", "b"]
    assert not list((tmp_path / "out").glob(".*"))


def modes(model):
    return [(name, module.training) for name, module in model.named_modules()]


@pytest.mark.parametrize("name", ["upernet_gfnet_ade20k", "fpn_gfnet-h-ti_ade20k"])
def test_a_model_in_training_is_shared_as_it_is_and_stays_so(name, tmp_path):
    cfg = read_config(name)
    cfg.model.backbone.arch = TINY
    cfg.model.backbone.update(border="zeros", test_border="circular", frozen_stages=1)
    key = "decode_head" if "upernet" in name else "neck"
    cfg.model[key].in_channels = list(TINY["dims"])
    if "upernet" in name:
        cfg.model.auxiliary_head = None
    shrink_images(cfg)
    model = load_model(cfg, None)
    assert any(hasattr(module, "running_mean") for module in model.modules())
    model.train()
    model.decode_head.conv_seg.eval()  # in part
    before = {name: value.clone() for name, value in model.state_dict().items()}
    were, borders = modes(model), [getattr(m, "border", None) for m in model.modules()]
    folder = save_pretrained(model, tmp_path / "out")
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(saved[key], value) and torch.equal(model.state_dict()[key], value)
    assert modes(model) == were and {training for _, training in were} == {True, False}
    assert [getattr(m, "border", None) for m in model.modules()] == borders
    with pytest.raises(InputError, match="nothing.jpg"):
        save_pretrained(model, tmp_path / "other", image="nothing.jpg")
    assert modes(model) == were


def test_colors_that_lack_are_added(tmp_path):
    model = small_model(classes=CLASSES)
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    for given, count in ([(1, 2, 3)], 1), ([], 0), ([(i, 0, 0) for i in range(5)], 3):
        model.dataset_meta["palette"] = given
        folder = save_pretrained(model, tmp_path / "out", image=tmp_path / "photo.png")
        assert model.dataset_meta["palette"] is given
        palette = from_pretrained(folder).dataset_meta["palette"]
        assert len(palette) == 3 and palette[:count] == given[:count]


def test_the_working_directory_stays_one(copied, tmp_path, monkeypatch):
    model = small_model(classes=["a", "b"])
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", copied):
        monkeypatch.chdir(folder)
        inode = os.stat(".").st_ino
        for _ in range(2):
            save_pretrained(model, ".")
            assert os.stat(".").st_ino == os.stat(folder).st_ino == inode
            assert sorted(os.listdir(".")) == ["README.md", "config.json", "model.safetensors"]
        assert from_pretrained(".").dataset_meta["classes"] == ["a", "b"]


def test_an_older_picture_does_not_stay(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    model = small_model(classes=CLASSES)
    folder = save_pretrained(model, tmp_path / "out", image=tmp_path / "photo.png")
    assert (folder / "prediction.jpg").is_file()
    save_pretrained(model, folder)
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize("count", range(6))  # three files go, three come
def test_an_exchange_that_stops_leaves_the_old_model_or_none(
    count, is_killed, copied, tmp_path, monkeypatch
):
    part = shutil.copytree(copied, copied / ".gfnet-dense-part-1")
    for path in part.iterdir():
        path.write_bytes(path.read_bytes() + b"\n")
    before = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    replace, calls = os.replace, []

    def stop_once(source, target):
        calls.append(source)
        if len(calls) == count + 1:
            raise OSError("no more")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop_once)
    if is_killed:
        monkeypatch.setattr(folders, "ExitStack", Nothing)
    with pytest.raises(OSError, match="no more"):
        folders._exchange(part, copied)
    monkeypatch.undo()
    left = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    assert left == before if not is_killed or count == 0 else "model.safetensors" not in left
    folders._check_target(copied)  # it can be written again
    again = shutil.copytree(part.parent, tmp_path / "again", ignore=lambda *_: [part.name])
    (again / "README.md").write_text("third")
    folders._exchange(shutil.move(again, copied / ".gfnet-dense-part-2"), copied)
    assert (copied / "README.md").read_text() == "third"
    assert not list(copied.glob(".*"))


class Nothing:
    """An ExitStack that does not undo, as after a power failure."""

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return False

    def callback(self, *args):
        pass

    def pop_all(self):
        pass


@pytest.mark.parametrize("step", ["save", "text", "_put"])
def test_an_interrupted_writing_leaves_what_was_there(step, copied, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    before = (copied / "config.json").read_bytes()
    monkeypatch.setattr(folders, step, interrupt)
    for target in (copied, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            save_pretrained(small_model(classes=CLASSES), target)
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]
    assert (copied / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(license="Apache 2.0"), "apache-2.0, mit or other, got 'Apache 2.0'"),
        (dict(metrics={"mIoU": float("nan")}), "finite number, got mIoU"),
        (dict(metrics={"mIoU": "49"}), "finite number, got mIoU"),
        (dict(metrics={"mIoU": True}), "finite number, got mIoU = True"),
        (dict(metrics=[1]), r"numbers by name, such as {'mIoU': 49.2}, got \[1\]"),
        (dict(license=3), "apache-2.0, mit or other, got 3"),
        (dict(image="nothing.jpg"), "nothing.jpg"),
        (dict(image=IMAGE), "image is the path of a file, got a ndarray"),
        (dict(image=__file__), "test_folder.py"),
        (dict(name="a/b/c"), "USER/NAME.* got 'a/b/c'"),
    ],
)
def test_wrong_facts_are_refused_before_anything_is_predicted(change, words, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "predict", pytest.fail)
    with pytest.raises(InputError, match=words):
        save_pretrained(small_model(classes=CLASSES), tmp_path / "out", **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["file/below/it", "a" * 256, "new/" + "a" * 256, "/proc/x/y"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_predicted(
    target, tmp_path, monkeypatch
):
    monkeypatch.setattr(card, "predict", pytest.fail)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the folder .* cannot be written"):
        save_pretrained(small_model(classes=CLASSES), tmp_path / target)
    assert os.listdir(tmp_path) == ["file"]


def test_new_folders_below_new_ones_are_made(tmp_path):
    save_pretrained(small_model(classes=CLASSES), tmp_path / "a" / "b" / "my-model-v1.0")
    assert from_pretrained(tmp_path / "a/b/my-model-v1.0").dataset_meta["classes"] == CLASSES


@pytest.mark.parametrize("change", ["half", "double", "bfloat16"])
def test_a_model_of_another_precision_is_refused(change, tmp_path):
    with pytest.raises(InputError, match=r"call model.float\(\) before"):
        save_pretrained(getattr(small_model(classes=CLASSES), change)(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["gpu", "hpu", "cuda:99", "", 3.5])
def test_a_device_that_is_not_here_is_told(device, shared):
    with pytest.raises(InputError, match=r"cannot be used here \(.+\): give cpu"):
        from_pretrained(shared, device)


def test_a_model_that_cannot_be_shared_is_refused(tmp_path):
    model = small_model(classes=CLASSES)
    own = small_model(classes=CLASSES)
    own.cfg.custom_imports = dict(imports=["my_heads"])
    bare = small_model(classes=CLASSES)
    bare.dataset_meta = {}
    lines = small_model(classes=CLASSES)
    lines.dataset_meta = dict(classes=["field\n0 1 x", "road", "\u2028"])
    function = small_model(classes=CLASSES)
    function.cfg.extra = {1: 2}
    for each, words in [
        (torch.nn.Linear(1, 1), "no names of classes"),
        (own, "custom_imports"),
        (bare, "no names of classes"),
        (lines, r"the class 'field\\n0 1 x': a name is one line"),
        (function, "takes names as keys, and config.extra has 1"),
    ]:
        with pytest.raises(InputError, match=words):
            save_pretrained(each, tmp_path / "out")
    del model.cfg
    with pytest.raises(InputError, match="no config"):
        save_pretrained(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_broken_files_are_told(copied, tmp_path):
    with pytest.raises(InputError, match="no revisions"):
        from_pretrained(copied, revision="main")
    for content, words in [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "no config of gfnet-dense"),
        ('{"library_name": "gfnet-dense", "config": 3}', "no whole config"),
        ('{"library_name": "gfnet-dense", "config": {"model": 1}}', "no whole config"),
    ]:
        (copied / "config.json").write_text(content)
        with pytest.raises(InputError, match=words):
            from_pretrained(copied)
    (copied / "config.json").unlink()
    with pytest.raises(InputError, match="holds no config.json"):
        from_pretrained(copied)


@pytest.mark.parametrize(
    "meta, words",
    [
        (None, "no safetensors file with the classes"),
        ("{", "no safetensors file with the classes"),
        ('{"dataset_meta": {"classes": []}}', "no names of classes"),
        ('{"dataset_meta": {"classes": "abc"}}', "no names of classes"),
        ('{"dataset_meta": {"classes": ["a\\nb"]}}', r"has the class 'a\\nb': a name is one line"),
        ('{"dataset_meta": {"classes": ["\\u001b[31ma"]}}', r"'\\x1b\[31ma': a name is one line"),
        ('{"dataset_meta": {"classes": ["\\ud800"]}}', r"'\\ud800': a name is one line"),
        ('{"dataset_meta": {"classes": ["a"], "palette": [[1, 2]]}}', "palette"),
        ('{"dataset_meta": {"classes": ["a"], "palette": ["abc"]}}', "palette"),
        ('{"dataset_meta": {"classes": ["a"], "palette": [[1, 2, 256]]}}', "palette"),
        ('{"dataset_meta": {"classes": ["a"], "palette": [[1, 2, true]]}}', "palette"),
        ('{"dataset_meta": {"classes": ["a"]}}', "has 1 classes and 0 colors"),
        ('{"dataset_meta": {"classes": ["a"], "palette": []}}', "has 1 classes and 0 colors"),
        ('{"dataset_meta": {"classes": ["a", "b"], "palette": [[1, 2, 3]]}}', "and 1 colors"),
    ],
)
def test_classes_of_another_form_are_refused(meta, words, copied):
    path = copied / "model.safetensors"
    save_file(load_file(path), path, None if meta is None else {"meta": meta})
    with pytest.raises(InputError, match=words):
        from_pretrained(copied)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_under_the_name_of_the_weights_is_never_unpickled(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("GFNET_DENSE_TRUST_CHECKPOINT", "1")
    torch.save({"state_dict": Evil(tmp_path / "trace")}, copied / "model.safetensors")
    with pytest.raises(InputError, match="no safetensors file"):
        from_pretrained(copied)
    assert not (tmp_path / "trace").exists()


def test_weights_of_another_config_are_refused(copied):
    content = json.loads((copied / "config.json").read_text())
    content["config"]["model"]["decode_head"]["num_classes"] = 5
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not fit the model"):
        from_pretrained(copied)
