# SPDX-License-Identifier: Apache-2.0
"""Tests of what ``python -m monai.bundle run`` says to mistakes."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_sam2unet.bundle.command_line import check_arguments, explain_user_errors
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import Preset

PROGRAM = "/usr/lib/python3/site-packages/monai/bundle/__main__.py"


@pytest.fixture
def check(repository, monkeypatch):
    """Checks a command line with the polyp bundle's training config."""
    monkeypatch.chdir(repository / "bundles" / "polyp_segmentation")

    def run(*words, config="configs/train.yaml"):
        check_arguments([PROGRAM, "run", "training", "--config_file", config, *words])

    return run


# ---- names of arguments


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--max_epochs", "5", "--spatial_size", "[224,224]"],
        ["--max_epochs=5", "--dataset_dir=a=b"],
        ["--max-epochs", "5"],
        ["--network_def::dropout", "0.1"],  # a new argument of something that is there
        ["--network_def#dropout", "0.1"],
        ["--train::dataloader::shuffle", "False"],
        ["--train#handlers#0#seed=3"],
        ["--_meta_::version", "2"],
        ["--meta_file", "configs/metadata.json", "--logging_file", "configs/logging.conf"],
        ["--learning_rate", "-1"],
    ],
)
@pytest.mark.parametrize("config", ["configs/train.yaml", "['configs/train.yaml','configs/multi_gpu_train.yaml']"])
def test_known_names_pass(check, words, config):
    check(*words, config=config)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--max_epoch", "5"], "max_epoch"),
        (["--max_epoch=5"], "max_epoch"),
        (["--resume", "True", "--lr", "3"], "lr"),
        (["--network::nowhere::dropout", "1"], "network::nowhere::dropout"),
        (["--netwrk_def::dropout", "1"], "netwrk_def::dropout"),
        (["--netwrk_def#dropout=1"], "netwrk_def#dropout"),
        (["--train::handlers::99::seed", "3"], "train::handlers::99::seed"),
        (["--train::handlers::first::seed", "3"], "train::handlers::first::seed"),
        (["--train::num_workers", "4"], "train::num_workers"),  # nothing there would take it
        (["--meta", "1"], "meta"),
    ],
)
def test_unknown_names_are_refused(check, words, name):
    with pytest.raises(ConfigError, match=f"^The config has no key '{name}'"):
        check(*words)


@pytest.mark.parametrize(
    ("value", "message"), [("cuda:99", "There is no device 'cuda:99' here"), ("gpu", "A device is cpu")]
)
def test_devices_that_are_not_there_are_refused(check, value, message):
    check("--device", "cpu")
    check("--device", "$torch.device('cpu')")
    check("--device", "@other")
    with pytest.raises(ConfigError, match=message):
        check("--device", value)


def test_the_config_may_follow_an_equals_sign(repository):
    config = repository / "bundles" / "polyp_segmentation" / "configs" / "train.yaml"
    check_arguments([PROGRAM, "run", f"--config_file={config}", "--max_epochs=5"])
    with pytest.raises(ConfigError, match="max_epoch"):
        check_arguments([PROGRAM, "run", f"--config_file={config}", "--max_epoch=5"])


def test_the_nearest_names_and_all_names_are_told(check):
    with pytest.raises(ConfigError) as error:
        check("--max_epoch", "5")
    assert "Did you mean --max_epochs" in str(error.value)
    assert "batch_size, bce, blur_prob, bundle_root, cache_rate" in str(error.value)
    with pytest.raises(ConfigError) as error:
        check("--zzzzzz", "5")
    assert "Did you mean" not in str(error.value)


def test_names_of_any_of_several_configs_pass(check, tmp_path):
    (tmp_path / "more.yaml").write_text("own_key: 1\ntrain::sampler: {_target_: DistributedSampler}\n")
    words = ["--own_key", "2", "--train::sampler::seed", "3", "--max_epochs", "2"]
    check(*words, config=f"['configs/train.yaml','{tmp_path / 'more.yaml'}']")
    with pytest.raises(ConfigError, match="own_key"):
        check(*words)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["/usr/bin/pytest", "--config_file", "configs/train.yaml", "--nonsense", "1"],
        ["/somewhere/bundle/__main__.py", "run", "--config_file", "configs/train.yaml", "--nonsense", "1"],
        [PROGRAM, "ckpt_export", "--nonsense", "1"],
    ],
)
def test_other_programs_are_passed_over(argv):
    check_arguments(argv)


# ---- errors


@pytest.fixture
def hook(monkeypatch, capsys):
    """Hands an error to the hook, as the interpreter does; gives what was printed."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    explain_user_errors()

    def run(error):
        sys.excepthook(type(error), error, error.__traceback__)
        return capsys.readouterr().err

    return run


def failure(cause, link="__cause__"):
    """What MONAI raises when building something fails."""
    error = RuntimeError("Failed to instantiate.")
    setattr(error, link, cause)
    return error


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_user_error_anywhere_in_the_chain_is_said(hook, link):
    error = failure(failure(DataError("Bad [bold]image[/].\nMend it."), link), link)
    assert hook(error) == "error: Bad [bold]image[/].\nMend it.\n"


def test_a_broken_file_is_named_by_a_worker_without_its_traceback(hook, tmp_path):
    path = tmp_path / "ct7.nii"
    nib.save(nib.Nifti1Image(np.full((8, 8, 4), np.nan, np.float32), np.eye(4)), path)
    loader = DataLoader(Dataset([{"image": str(path)}], Preset("ct", 32).inference()), num_workers=2)
    with pytest.raises(DataError, match="in DataLoader worker process") as error:
        list(loader)
    expected = f"A CT window needs finite values; {path} holds NaN or infinite ones. Mend the file."
    assert hook(error.value) == hook(failure(error.value)) == f"error: {expected}\n"


def test_too_little_memory_is_explained(hook):
    assert hook(torch.OutOfMemoryError("CUDA out of memory.")).startswith("error: The GPU has too little memory.")


def test_other_errors_keep_their_traceback(hook):
    text = hook(failure(KeyError("odd")))
    assert "KeyError: 'odd'" in text
    assert "The above exception was the direct cause" in text
    assert "RuntimeError: Failed to instantiate." in text
    assert "error: " not in text


CODE = """
from monai_sam2unet.bundle.command_line import explain_user_errors
from monai_sam2unet.errors import DataError
explain_user_errors()
try:
    raise {cause}("the cause")
except Exception as error:
    raise RuntimeError("Failed to instantiate.") from error
"""


def run_python(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_process_ends_with_the_text_alone():
    assert run_python(CODE.format(cause="DataError")) == (1, "error: the cause\n")


def test_a_process_ends_with_the_traceback_of_other_errors():
    code, text = run_python(CODE.format(cause="KeyError"))
    assert code == 1
    assert "Traceback (most recent call last)" in text
    assert text.endswith("RuntimeError: Failed to instantiate.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "false"], "write --resume False"),
        (["--resume=true"], "write --resume True"),
        (["--max_cases", "null"], "set it in a config file"),
        (["--weights", "None"], "set it in a config file"),
    ],
)
def test_words_that_would_arrive_as_text_are_refused(check, words, message):
    with pytest.raises(ConfigError, match=message):
        check(*words)
