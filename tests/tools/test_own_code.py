"""Errors in a user's own code: the console shows file and line, the log file the traceback."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from tests.commands import error_of, run, tool
from tests.tools.own_code import MISTAKES

OWN = Path(__file__).with_name("own_code.py")
CONFIG = """
import os, sys
os.environ.update(FAULT="{place}", MISTAKE="{mistake}")
sys.path.insert(0, "{folder}")
custom_imports = dict(imports=["own_code"])
default_scope = "mmseg"
model = dict(
    type="OwnModel",
    backbone=dict(type="OwnBackbone", width=3),
    data_preprocessor=dict(type="OwnPreprocessor"),
)
# Without copies for the workers, which take half of the time of this training
dataset = dict(type="OwnDataset", serialize_data=False, pipeline=[dict(type="OwnTransform")])
train_dataloader = dict(
    batch_size=2, num_workers=1, dataset=dataset, collate_fn=dict(type="own_collate"),
    sampler=dict(type="InfiniteSampler"),
)
val_dataloader = dict(
    batch_size=2, dataset=dataset, collate_fn=dict(type="own_collate"),
    sampler=dict(type="OwnSampler", shuffle=False),
)
test_dataloader = val_dataloader
train_cfg = dict(type="OwnTrainLoop", max_iters=2, val_interval=2)
val_cfg = dict(type="OwnValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = test_evaluator = dict(type="OwnMetric")
optim_wrapper = dict(
    type="OwnOptimWrapper", constructor="OwnConstructor",
    optimizer=dict(type="OwnOptimizer", lr=0.1),
)
param_scheduler = dict(type="OwnLR", by_epoch=False, begin=0, end=2)
default_hooks = dict(
    checkpoint=dict(type="gfnet_dense.CheckpointHook", interval=1, by_epoch=False),
    logger=dict(type="LoggerHook", interval=1),
)
custom_hooks = [dict(type="OwnHook")]
visualizer = dict(type="OwnVisualizer", vis_backends=[dict(type="OwnVisBackend")])
"""
PLACES = re.findall(r'fault\("(.+)"\)', OWN.read_text())
WHILE_RESUMING = {"OwnHook.after_load_checkpoint", "OwnOptimizer.load_state_dict"}
IN_WORKER = "OwnTransform.__call__"
PLAIN = [name for name in MISTAKES if name != "InputError"]
# Each place with one of the mistakes, and the worker of a DataLoader with those that it raises anew
# in other forms.
TRACED = [*zip(PLACES, cycle(PLAIN))]
TRACED += [(IN_WORKER, name) for name in ("KeyError", "UnicodeDecodeError", "ModuleNotFoundError")]
# A disk that is full is one sentence, a file that the user's own hook does not find is none.
TRACED += [("OwnHook.before_save_checkpoint", "FileNotFoundError")]
SENTENCES = [(place, "InputError") for place in ("module", "OwnHook.__init__", IN_WORKER)]
SENTENCES += [("OwnMetric.process", "InputError")]

# Rows of the table by class of the user's project
KINDS = {
    "module": "module of `custom_imports`, while it is imported",
    "OwnHook": "hook",
    "OwnDataset": "dataset",
    "OwnTransform": "transform",
    "OwnSampler": "sampler",
    "own_collate": "collate function",
    "OwnPreprocessor": "data preprocessor",
    "OwnModel": "model",
    "OwnBackbone": "part of a model",
    "OwnOptimizer": "optimizer",
    "OwnOptimWrapper": "optimizer wrapper",
    "OwnConstructor": "optimizer constructor",
    "OwnLR": "scheduler",
    "OwnTrainLoop": "training loop",
    "OwnValLoop": "validation loop",
    "OwnMetric": "metric",
    "OwnVisBackend": "visualization backend",
    "OwnVisualizer": "visualizer",
}
# Values of the config that do not fit, by their name in the table: what is replaced by what, and a
# part of the sentence.
VALUES = {
    "unknown `type`": ('type="OwnHook"', 'type="OwnHok"', "KeyError: .OwnHok is not in the"),
    "unknown `type`, built in the user's class": (
        'type="OwnBackbone"', 'type="OwnBackbon"', "KeyError: .OwnBackbon is not in the",
    ),
    "unknown module in `type`": ('type="OwnHook"', 'type="no.OwnHook"', "no.OwnHook is not in the"),
    "unknown argument": ('type="OwnHook"', 'type="OwnHook", a=1', "unexpected keyword argument"),
    "missing argument": (", width=3", "", "missing 1 required positional argument: .width."),
    "value that a library refuses": (
        'type="OwnLR"', 'type="LinearLR", start_factor=-1', "ValueError: .* start_factor|between 0",
    ),
}  # fmt: skip
# Defects of the config file itself, by their name in the table: the whole file, and the sentence
# after the name of the file.
FILES = {
    "error at a line": (
        '_base_ = "config.py"\n\nlength = 3 * size\n',
        "cannot be read as a config: line 3: NameError: name 'size' is not defined",
    ),
    "error in a function that it calls": (
        '_base_ = "config.py"\ndef f(a):\n    return a["b"]\nx = f({{}})\n',
        "cannot be read as a config: line 3: KeyError: 'b'",
    ),
    "error in a module that it imports": (
        '_base_ = "config.py"\nimport sys\nsys.path.insert(0, ".")\nfrom broken import helper\n',
        "cannot be read as a config: {folder}/broken.py, line 2: ModuleNotFoundError: No module "
        "named 'nothing'",
    ),
    "syntax error": (
        '_base_ = "config.py"\nmodel = dict(\n    a=1\n',
        "cannot be read as a config: line 2: SyntaxError: '(' was never closed",
    ),
    "syntax error in its base": (
        '_base_ = "syntax.py"\n',
        "cannot be read as a config: {folder}/syntax.py, line 1: SyntaxError: invalid syntax",
    ),
    "missing base": (
        '_base_ = "no.py"\n',
        "cannot be read as a config: {folder}/no.py: FileNotFoundError: [Errno 2] No such file or "
        "directory: '{folder}/no.py'",
    ),
    "unknown base variable": (
        '_base_ = "config.py"\nwidth = {{{{_base_.width}}}}\n',
        "cannot be read as a config: KeyError: 'width'",
    ),
    "lazy config: error at a line": (
        "from mmengine.config import read_base\nwith read_base():\n    from .lazy import *\n",
        "cannot be read as a config: lazy.py, line 2: NameError: name 'size' is not defined",
    ),
    "`custom_imports` of another form": (
        '_base_ = "config.py"\ncustom_imports = ["own_code"]\n',
        "custom_imports of defect.py is ['own_code']: write dict(imports=['MODULE'])",
    ),
    "module of `custom_imports` that is not found": (
        '_base_ = "config.py"\ncustom_imports = dict(imports=["no_such"])\n',
        "custom_imports of defect.py names the module no_such, which is neither installed nor in a "
        "folder of PYTHONPATH",
    ),
}


def write_project(folder, place="", mistake="", config=CONFIG):
    """Write a user's module, and a config that names all of its classes."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(OWN, folder)
    text = config.format(folder=folder, place=place, mistake=mistake)
    (folder / "config.py").write_text(text)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Train the project once for each place and mistake, and return the results and folders."""
    trained = tmp_path_factory.mktemp("trained")
    write_project(trained)
    result = run(tool("train", "config.py"), trained)
    assert result.returncode == 0, result.stderr

    def outcome(case):
        folder = trained.parent / "-".join(case)
        if case[0] in WHILE_RESUMING:
            shutil.copytree(trained, folder)
            for log in folder.rglob("*.log"):
                log.unlink()
        write_project(folder, *case)
        return case, (run(tool("train", "config.py", "--resume"), folder), folder)

    with ThreadPoolExecutor(2) as threads:
        return dict(threads.map(outcome, dict.fromkeys(TRACED + SENTENCES)))


def trace_of(place, folder):
    """Return the two lines of a traceback with the fault of a place."""
    function = "<module>" if place == "module" else place.rpartition(".")[2]
    lines = OWN.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if f'fault("{place}")' in line)
    return f'File "{folder}/own_code.py", line {number}, in {function}\n'


@pytest.mark.parametrize("place, mistake", dict.fromkeys(TRACED))
def test_console_and_log_show_file_and_line_of_a_mistake(outcomes, place, mistake):
    result, folder = outcomes[place, mistake]
    assert result.returncode == 1
    assert trace_of(place, folder) in result.stderr, result.stderr
    assert re.search(rf"^(\w+\.)*{mistake}\b", result.stderr, re.M), result.stderr
    assert "error: " not in result.stderr
    logs = list(folder.rglob("*.log"))
    assert all(trace_of(place, folder) in log.read_text() for log in logs)
    # There is a log as soon as there is a runner
    assert len(logs) == (place != "module")


@pytest.mark.parametrize("place, mistake", SENTENCES)
def test_an_input_error_of_the_user_is_one_sentence(outcomes, place, mistake):
    result, folder = outcomes[place, mistake]
    assert error_of(result) == "error: the sentence of an InputError"
    for log in folder.rglob("*.log"):
        assert trace_of(place, folder) in log.read_text()


def wrong_value(folder, name):
    old, new, _ = VALUES[name]
    write_project(folder, config=CONFIG.replace(old, new))
    return run(tool("train", "config.py"), folder)


def defect_of_file(folder, name):
    write_project(folder)
    (folder / "broken.py").write_text("\nimport nothing\n")
    (folder / "lazy.py").write_text("a = 1\nb = size\n")
    (folder / "syntax.py").write_text("a = = 1\n")
    (folder / "defect.py").write_text(FILES[name][0].format())
    return run(tool("print_config", "defect.py"), folder)


def console(result):
    """Return what a table says about the output of a failed command."""
    assert result.returncode == 1
    if "error: " not in result.stderr:
        assert "Traceback (most recent call last)" in result.stderr
        return "traceback with file and line"
    line = error_of(result)
    return "one sentence" + (", with the line" if re.search(r"\bline \d+: ", line) else "")


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_does_not_fit_is_one_sentence(tmp_path, name):
    line = error_of(wrong_value(tmp_path, name))
    assert " of the config cannot be built: " in line or "the config cannot be built: " in line
    assert re.search(VALUES[name][2], line), line


@pytest.mark.parametrize("name", FILES)
def test_a_defect_of_the_config_file_is_one_sentence_with_its_line(tmp_path, name):
    line = error_of(defect_of_file(tmp_path, name))
    assert FILES[name][1].format(folder=tmp_path) in line


def test_an_error_in_a_module_that_the_registry_imports_keeps_its_traceback(tmp_path):
    write_project(tmp_path, config=CONFIG.replace('type="OwnHook"', 'type="broken.OwnHook"'))
    (tmp_path / "broken.py").write_text("\nimport nothing\n")
    result = run(tool("train", "config.py"), tmp_path)
    assert result.returncode == 1
    assert f'File "{tmp_path}/broken.py", line 2, in <module>' in result.stderr


def test_traceback_is_shown_above_the_sentence(tmp_path):
    write_project(tmp_path, config=CONFIG.replace('type="OwnLR"', 'type="LinearLR", a=1'))
    command = tool("train", "config.py", "--traceback")
    result = run(command, tmp_path)
    assert result.returncode == 1
    *trace, line = result.stderr.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert error_of(run(command[:-1], tmp_path)) == line


def test_table_of_errors_in_own_code(outcomes, tmp_path, check_table):
    """Where an error can be, and what the console shows: all rows are results of commands."""
    rows = [["place", "error", "console"]]
    for name in FILES:
        rows.append(["config file", name, console(defect_of_file(tmp_path / name, name))])
    for name in VALUES:
        rows.append(["value in the config", name, console(wrong_value(tmp_path / name, name))])
    for kind, title in KINDS.items():
        methods = {p: p.partition(".")[2] for p in PLACES if p.partition(".")[0] == kind}
        shown = {console(outcomes[case][0]) for case in TRACED if case[0] in methods}
        names = ", ".join(f"`{method}`" for method in methods.values() if method)
        rows.append([title, names or "any", ", ".join(shown)])
    shown = {console(outcomes[case][0]) for case in SENTENCES}
    rows.append(["any of them", "`InputError` of this package", ", ".join(shown)])
    check_table("errors in your own code", rows)
