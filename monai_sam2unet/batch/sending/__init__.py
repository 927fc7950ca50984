# SPDX-License-Identifier: Apache-2.0
"""Results sent to where they are kept: a PACS or archive, by STOW-RS or C-STORE."""

from monai_sam2unet.batch.sending.destination import destination
from monai_sam2unet.batch.sending.outcome import Outcome, Sender
from monai_sam2unet.batch.sending.send_files import send_files

__all__ = ["Outcome", "Sender", "destination", "send_files"]
