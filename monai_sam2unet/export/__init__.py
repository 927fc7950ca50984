# SPDX-License-Identifier: Apache-2.0
"""Files of a trained network for other programs, and such files as networks; optional packages load when used."""

from monai_sam2unet.export.export_check import SizeCheck, check_export
from monai_sam2unet.export.network_facts import network_facts
from monai_sam2unet.export.onnx_export import export_onnx
from monai_sam2unet.export.onnx_network import OnnxNetwork
from monai_sam2unet.export.open_exported import open_exported
from monai_sam2unet.export.openvino_export import export_openvino
from monai_sam2unet.export.openvino_network import OpenVINONetwork
from monai_sam2unet.export.program_export import export_program, export_torchscript
from monai_sam2unet.export.program_network import ProgramNetwork

__all__ = [
    "OnnxNetwork",
    "OpenVINONetwork",
    "ProgramNetwork",
    "SizeCheck",
    "check_export",
    "export_onnx",
    "export_openvino",
    "export_program",
    "export_torchscript",
    "network_facts",
    "open_exported",
]
