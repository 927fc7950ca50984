# SPDX-License-Identifier: Apache-2.0
"""Where the series of a run come from."""
