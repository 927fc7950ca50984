# SPDX-License-Identifier: Apache-2.0
"""Sends files to a DICOM node by C-STORE, and reads the status of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.status import code_to_category

from monai_sam2unet.batch.sending.outcome import Outcome, SentFile
from monai_sam2unet.batch.transfer import TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError

__all__ = ["StoreSender", "check_ae_title"]

#: Presentation contexts that an association can have (PS3.8 7.1.1.13).
CONTEXTS = 128
#: Seconds to connect, for an association, for an answer to a file, and until a silent connection is given up.
CONNECT, ASSOCIATE, ANSWER, SILENCE = 10, 30, 120, 120
#: A rejection that may be otherwise later, and reasons of the other ones with what to do (PS3.8 Table 9-21).
TRANSIENT = 2
CALLING_UNKNOWN, CALLED_UNKNOWN = (1, 3), (1, 7)


def check_ae_title(title: str) -> str:
    """An application entity's title, if it can be one (PS3.5 Table 6.2-1).

    Args:
        title: 1 to 16 characters, without backslashes and control characters.

    Raises:
        ConfigError: When it cannot be one.
    """
    if not title.strip() or len(title.strip()) > 16 or not re.fullmatch(r"[ -\[\]-~]+", title):
        raise ConfigError(
            f"An AE title has 1 to 16 letters, digits or signs of ASCII, and no backslash; {title!r} is none."
        )
    return title.strip()


@dataclass(frozen=True)
class StoreSender:
    """Sends files to a DICOM node.

    Args:
        host: name or address of the node.
        port: its port, 1 to 65535.
        ae_title: its AE title.
        calling_ae_title: ours, which the node must know.

    Raises:
        ConfigError: When the port or a title cannot be one.
    """

    host: str
    port: int
    ae_title: str
    calling_ae_title: str = "SAM2UNET"

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ConfigError(f"A DICOM node has a host and a port from 1 to 65535, not {self.host}:{self.port}.")
        check_ae_title(self.ae_title)
        check_ae_title(self.calling_ae_title)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"dicom:{host}:{self.port}:{self.ae_title}"

    def send(self, files: Sequence[SentFile]) -> Iterator[Outcome]:
        """Send files, all over one association, or over several where they are of many kinds.

        Args:
            files: what to send.

        Raises:
            TransferError: When the node refuses an association, or there is no connection.
        """
        kinds = list(dict.fromkeys((file.sop_class, file.transfer_syntax) for file in files))
        for start in range(0, len(kinds), CONTEXTS):
            some = kinds[start : start + CONTEXTS]
            # A node takes one transfer syntax of a context, so each has a context of its own.
            contexts = [build_context(UID(kind), UID(syntax)) for kind, syntax in some]
            yield from self._send(
                [file for file in files if (file.sop_class, file.transfer_syntax) in some],
                contexts,
            )

    def _send(self, files: Sequence[SentFile], contexts: list[PresentationContext]) -> Iterator[Outcome]:
        association = self._associate(contexts)
        try:
            taken = {(context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts}
            for file in files:
                if (file.sop_class, file.transfer_syntax) not in taken:
                    kind, syntax = UID(file.sop_class).name, UID(file.transfer_syntax).name
                    yield Outcome(file, f"the node takes no {kind} in {syntax}")
                    continue
                dataset = dcmread(file.path)
                try:
                    answer = association.send_c_store(dataset)
                except ValueError as error:
                    yield Outcome(file, f"it cannot be encoded: {error}")
                    continue
                except RuntimeError as error:
                    raise TemporaryError(f"{self} broke the association off.") from error
                yield _outcome(file, answer)
        finally:
            if association.is_established:
                association.release()

    def _associate(self, contexts: list[PresentationContext]) -> Association:
        node = AE(ae_title=self.calling_ae_title)
        node.connection_timeout, node.acse_timeout, node.dimse_timeout, node.network_timeout = (
            CONNECT,
            ASSOCIATE,
            ANSWER,
            SILENCE,
        )
        association = node.associate(self.host, self.port, contexts=contexts, ae_title=self.ae_title)
        if association.is_established:
            return association
        if association.is_rejected:
            raise self._rejected(association.acceptor.primitive)
        if association.acceptor.primitive is not None:
            # Accepted, but no context of it, which pynetdicom answers with an abort.
            kinds = ", ".join(sorted({UID(str(context.abstract_syntax)).name for context in contexts}))
            raise TransferError(f"{self} takes none of what is sent: {kinds}.")
        raise TemporaryError(f"There is no connection to {self}, or it broke off before an association was made.")

    def _rejected(self, answer: A_ASSOCIATE | None) -> TransferError:
        if answer is None:
            return TransferError(f"{self} refuses an association.")
        told = f"{self} refuses an association: {answer.reason_str}."
        if answer.result == TRANSIENT:
            return TemporaryError(told)
        reason = (answer.result_source, answer.diagnostic)
        if reason == CALLED_UNKNOWN:
            told += f" Its AE title is not {self.ae_title}."
        elif reason == CALLING_UNKNOWN:
            told += f" It must know our AE title, {self.calling_ae_title}."
        return TransferError(told)


def _outcome(file: SentFile, answer: Dataset) -> Outcome:
    if "Status" not in answer:
        return Outcome(file, "no answer came for it", passing=True)
    # With a warning, as that values were changed, it is stored.
    stored = code_to_category(answer.Status) in ("Success", "Warning")
    return Outcome(file) if stored else Outcome.of(file, answer.Status)
