# SPDX-License-Identifier: Apache-2.0
"""MONAI Label: annotators' viewers ask for masks of the bundles. Nothing else imports this; see docs/labelling.md."""

import importlib.util

if importlib.util.find_spec("monailabel") is not None:
    from monai_sam2unet.label import compat

    # Before anything of MONAI Label is imported: in its server, and in the processes that it starts for long work.
    compat.apply()
