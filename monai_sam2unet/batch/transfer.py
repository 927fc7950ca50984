# SPDX-License-Identifier: Apache-2.0
"""What all talk with other machines needs: errors that pass, and errors that stay; another try, later."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from monai_sam2unet.errors import ConfigError, UserError

__all__ = ["Retries", "TemporaryError", "TransferError"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class TransferError(UserError, OSError):
    """Images could not be fetched from another machine, or results not sent to it."""


class TemporaryError(TransferError):
    """A transfer failed for a reason that may pass: no connection, a server that is busy or restarts."""


@dataclass(frozen=True)
class Retries:
    """How often, and after what time, something is tried again.

    The wait doubles from one to the next, and up to a quarter of it is added by chance, so that many
    machines do not come back at the same moment.

    Args:
        attempts: tries in all, 1 or more.
        first_wait: seconds between the first and the second.
        longest_wait: seconds between two of them at most.

    Raises:
        ConfigError: When there is no attempt, or a wait is negative.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise ConfigError(
                f"Retries need 1 attempt or more and waits of 0 s or more, not {self.attempts} attempts and waits from "
                f"{self.first_wait} to {self.longest_wait} s."
            )

    def call(self, action: Callable[[], Result]) -> Result:
        """Do something, again where it fails for now.

        Args:
            action: what to do. It raises :class:`TemporaryError` where another try may help.

        Raises:
            TemporaryError: When it failed each time; the last one. What else the action raises is raised at once.
        """
        for tried in range(1, self.attempts):
            try:
                return action()
            except TemporaryError as error:
                seconds = min(self.first_wait * 2 ** (tried - 1), self.longest_wait) * random.uniform(1, 1.25)
                logger.warning("Try %d of %d failed, the next is in %.1f s: %s", tried, self.attempts, seconds, error)
                time.sleep(seconds)
        return action()
