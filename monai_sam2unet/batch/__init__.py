# SPDX-License-Identifier: Apache-2.0
"""Runs over many DICOM series: none is lost, and what is finished is not done again."""
