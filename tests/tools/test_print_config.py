import os
import re
import subprocess
import sys

from tests.commands import CONFIG, error_of, run, tool
from tests.conftest import ROOT


def test_output_is_a_config_with_comments_on_changed_values(tmp_path):
    arguments = ("--demo", "--cfg-options", "optim_wrapper.optimizer.lr=0.5")
    result = run(tool("print_config", CONFIG, *arguments), tmp_path)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "data").exists()  # printing writes no demo data
    assert "# model.decode_head.num_classes: 150 -> 11\n" in result.stdout
    assert "# optim_wrapper.optimizer.lr: 6e-05 -> 0.5\n" in result.stdout
    assert "# model.backbone.init_cfg: {" in result.stdout
    (tmp_path / "again.py").write_text(result.stdout)
    again = run(tool("print_config", tmp_path / "again.py"), tmp_path)
    assert "# " not in again.stdout.replace("# Changed", "")
    assert "num_classes=11" in again.stdout and "num_classes=150" not in again.stdout


def test_param_groups_prints_the_rate_of_each_layer(tmp_path):
    options = ("optim_wrapper.paramwise_cfg.decay_rate=0.5",)
    result = run(
        tool("print_config", CONFIG, "--param-groups", "--cfg-options", *options), tmp_path
    )
    assert result.returncode == 0, result.stderr
    rates = dict(re.findall(r"^(layer_\d+)\s+(\S+)", result.stdout, re.MULTILINE))
    assert len(rates) == 21  # stem, 19 blocks, heads
    assert float(rates["layer_20"]) == 6e-5
    assert float(rates["layer_19"]) == 3e-5
    assert float(rates["layer_0"]) == float(f"{6e-5 / 2**20:.4g}")


def test_missing_config_and_unknown_options_give_a_one_line_error(tmp_path):
    line = error_of(run(tool("print_config", tmp_path / "none.py"), tmp_path))
    assert "does not exist" in line
    options = ("--param-groups", "--cfg-options", "optim_wrapper.paramwise_cfg.decay=0.5")
    line = error_of(run(tool("print_config", CONFIG, *options), tmp_path))
    assert "decay_rate" in line and re.search(r"\bdecay\b", line)


def test_a_reader_that_ends_early_causes_no_traceback(tmp_path):
    command = [sys.executable, "-u", ROOT / "tools" / "print_config.py", CONFIG]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        result = subprocess.run(command, cwd=tmp_path, stdout=output, stderr=subprocess.PIPE)
    assert result.returncode == 1 and not result.stderr
