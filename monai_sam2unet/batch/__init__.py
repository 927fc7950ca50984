# SPDX-License-Identifier: Apache-2.0
"""Many DICOM series, one after the other, none lost."""
