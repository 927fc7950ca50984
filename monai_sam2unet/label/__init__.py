# SPDX-License-Identifier: Apache-2.0
"""MONAI Label: annotators' viewers ask for masks of the bundles. Nothing else imports this; see docs/labelling.md."""
