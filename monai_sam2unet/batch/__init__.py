# SPDX-License-Identifier: Apache-2.0
"""Many DICOM series, one after another: found, read, predicted and written, none lost."""
