# SPDX-License-Identifier: Apache-2.0
"""Programs of torch.export and TorchScript hold the network, and need nothing of this package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from monai.data import load_net_with_metadata

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.export import export_program, export_torchscript, network_facts

from .conftest import SIZES, random_images, relative_difference


@pytest.fixture(scope="module")
def loaded(program_file):
    """The program and what is noted of it; loading it takes seconds."""
    extra_files = {"metadata.json": ""}
    program = torch.export.load(program_file, extra_files=extra_files)
    return program.module(), json.loads(extra_files["metadata.json"])


@pytest.fixture(scope="module")
def program(loaded):
    return loaded[0]


@pytest.fixture(scope="module")
def script(script_file):
    return torch.jit.load(script_file)


@pytest.mark.parametrize("kind", ["program", "script"])
@pytest.mark.parametrize("size", SIZES)
def test_they_compute_what_the_network_computes(request, network, kind, size) -> None:
    images = random_images(size)
    with torch.no_grad():
        logits = request.getfixturevalue(kind)(images)
    assert relative_difference(logits, network, images) < 1e-5


def test_they_say_what_they_hold(network, loaded, script_file) -> None:
    facts = {**network_facts(network), "class_names": "background, polyp"}
    assert loaded[1] == facts
    _, found, _ = load_net_with_metadata(str(script_file))
    assert facts.items() <= found.items()
    assert found["Pytorch"] == torch.__version__


CODE = """
import sys, torch
image = torch.zeros(1, 3, 40, 50)
net = torch.export.load(sys.argv[1]).module() if sys.argv[1].endswith("pt2") else torch.jit.load(sys.argv[1])
assert net(image).shape == (1, 2, 40, 50)
assert not [name for name in sys.modules if name.startswith(("monai", "monai_sam2unet"))]
"""


@pytest.mark.parametrize("kind", ["program_file", "script_file"])
def test_they_run_without_this_package(request, kind) -> None:
    words = [sys.executable, "-c", CODE, str(request.getfixturevalue(kind))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_fixed_program_refuses_other_sizes(network, tmp_path) -> None:
    path = export_program(network, tmp_path / "fixed.pt2", spatial_size=(64, 64), batch_size=1)
    module = torch.export.load(path).module()
    images = random_images((1, 64, 64))
    with torch.no_grad():
        assert relative_difference(module(images), network, images) < 1e-5
    with pytest.raises(Exception, match="64"):
        module(random_images((1, 64, 96)))


@pytest.mark.parametrize(("export", "suffix"), [(export_program, ".pt2"), (export_torchscript, ".ts")])
def test_wrong_names_are_refused(network, tmp_path, export, suffix) -> None:
    with pytest.raises(ConfigError, match=rf"must end in \{suffix}"):
        export(network, tmp_path / "model.pth")
