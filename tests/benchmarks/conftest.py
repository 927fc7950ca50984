# SPDX-License-Identifier: Apache-2.0
"""Makes the benchmarks importable, which are no part of the package, and what looks like the released code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

# What the released code looks like from outside, around this package's own blocks.
CLONE = {
    "sam2/__init__.py": """
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
if not GlobalHydra.instance().is_initialized():
    initialize_config_module("sam2_configs", version_base="1.2")
""",
    "sam2/modeling/__init__.py": "",
    "sam2/modeling/backbones/__init__.py": "",
    "sam2/modeling/backbones/hieradet.py": """
from iopath.common.file_io import g_pathmgr
from monai_sam2unet.networks import Hiera as Ours
class Hiera(Ours):
    def __init__(self, embed_dim, num_heads, stages, **kwargs):
        super().__init__({7: "tiny", 11: "small", 16: "base_plus", 36: "large"}[stages[2]])
        self.channel_list = [embed_dim * 2**i for i in (3, 2, 1, 0)]
""",
    "sam2/build_sam.py": "raise RuntimeError('hydra would be asked here')",
    "sam2_configs/sam2_hiera_t.yaml": """
model:
  image_encoder:
    trunk:
      _target_: sam2.modeling.backbones.hieradet.Hiera
      embed_dim: 96
      num_heads: 1
      stages: [1, 2, 7, 2]
      global_att_blocks: [5, 7, 9]
""",
    "SAM2UNet.py": """
from torch import nn
from torch.nn import functional as F
from monai_sam2unet.networks.blocks import RFB, Adapter, Up
from sam2.build_sam import build_sam2
class SAM2UNet(nn.Module):
    def __init__(self, checkpoint_path=None):
        super().__init__()
        model = build_sam2("sam2_hiera_l.yaml", checkpoint_path)
        del model.sam_mask_decoder
        del model.image_encoder.neck
        self.encoder = model.image_encoder.trunk.requires_grad_(False)
        for i, block in enumerate(self.encoder.blocks):
            self.encoder.blocks[i] = Adapter(block, block.attn.qkv.in_features, 32)
        self.rfb1, self.rfb2, self.rfb3, self.rfb4 = (RFB(c, 64) for c in (144, 288, 576, 1152))
        self.up1, self.up2, self.up3, self.up4 = (Up(128, 64) for _ in range(4))
        self.side1, self.side2, self.head = (nn.Conv2d(64, 1, 1) for _ in range(3))
    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        x = self.up1(self.rfb4(x4), self.rfb3(x3))
        out1 = F.interpolate(self.side1(x), scale_factor=16, mode="bilinear")
        x = self.up2(x, self.rfb2(x2))
        out2 = F.interpolate(self.side2(x), scale_factor=8, mode="bilinear")
        x = self.up3(x, self.rfb1(x1))
        return F.interpolate(self.head(x), scale_factor=4, mode="bilinear"), out1, out2
""",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like a clone of the released code, for the size Tiny."""
    for name, text in CLONE.items():
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "clone"
