# SPDX-License-Identifier: Apache-2.0
"""A DICOMweb server: the connection, who we are to it, and its errors in words."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import add_certs_to_session
from pydicom.errors import InvalidDicomError
from requests.adapters import HTTPAdapter

from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError

__all__ = ["DicomwebServer"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TOKEN, USER, PASSWORD, HEADER, CA_BUNDLE, CERTIFICATE = (
    f"SAM2UNET_DICOMWEB_{name}" for name in ("TOKEN", "USER", "PASSWORD", "HEADER", "CA_BUNDLE", "CERTIFICATE")
)
#: Seconds to connect, and between two pieces of an answer: servers may decode a whole series before they begin.
TIMEOUT = (10.0, 300.0)
#: Answers of 400 and above that may be others a little later (RFC 9110, RFC 6585). Of the other 5xx all may.
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
STAYING = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
#: What to do about an answer.
HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: f" Set {TOKEN}, {USER} and {PASSWORD}, or {HEADER} in the environment.",
    HTTPStatus.FORBIDDEN: " This account may not do that.",
    HTTPStatus.NOT_FOUND: " Check the address: it is the root of the DICOMweb service, as https://host/dicom-web.",
}


def _is_passing(status: int) -> bool:
    return status in PASSING or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in STAYING)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_parameters(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    # dicomweb-client knows the media type only without what may follow it, as "; charset=utf-8".
    kind = response.headers.get("Content-Type", "")
    if kind.startswith(("application/dicom+json", "application/json", "application/dicom+xml", "application/xml")):
        response.headers["Content-Type"] = kind.partition(";")[0].strip()
    return response


class _Adapter(HTTPAdapter):
    """Sends requests as they are meant.

    Wildcards go as they are, since Debian's Orthanc does not decode what dicomweb-client makes of them. The session's
    own authorities are taken, and not those that requests finds in REQUESTS_CA_BUNDLE.
    """

    def __init__(self, ca_bundle: str | None) -> None:
        super().__init__()
        self.ca_bundle = ca_bundle

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        address, question, query = (request.url or "").partition("?")
        for code, sign in (("%2A", "*"), ("%3F", "?"), ("%2C", ",")):
            query = query.replace(code, sign)
        request.url = address + question + query
        if self.ca_bundle is not None:
            options["verify"] = self.ca_bundle
        return super().send(request, **options)


def _identify(session: requests.Session, environment: Mapping[str, str]) -> bool:
    """Take who we are from the environment; False where it does not say."""
    token, user, password, header = (environment.get(name, "") for name in (TOKEN, USER, PASSWORD, HEADER))
    given = [name for name, value in ((TOKEN, token), (USER, user), (HEADER, header)) if value]
    if len(given) > 1:
        raise ConfigError(f"Only one of {', '.join(given)} may be set in the environment.")
    if password and not user:
        raise ConfigError(f"{PASSWORD} is set in the environment, but not {USER}.")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    if user:
        session.auth = (user, password)
    if header:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or not value.strip():
            raise ConfigError(f"{HEADER} must be a header's name and value, as `X-Api-Key: value`.")
        session.headers[name.strip()] = value.strip()
    return bool(given)


@dataclass(frozen=True)
class DicomwebServer:
    """A DICOMweb server.

    Who we are to it is read from the environment whenever a connection is made, so it is never stored, pickled or
    logged: ``SAM2UNET_DICOMWEB_TOKEN`` (a bearer token), ``SAM2UNET_DICOMWEB_USER`` with ``SAM2UNET_DICOMWEB_PASSWORD``
    (HTTP basic), or ``SAM2UNET_DICOMWEB_HEADER`` (any header, as ``X-Api-Key: value``). Certificates are verified;
    ``SAM2UNET_DICOMWEB_CA_BUNDLE`` names a file of authorities of your own, ``SAM2UNET_DICOMWEB_CERTIFICATE`` a file
    with our own certificate and key, for servers that ask for one (PEM).

    Args:
        url: root of the service, as ``https://host/dicom-web``.
        retries: how often what may pass is tried again.

    Raises:
        ConfigError: When the address is none of HTTP, or holds a password.
    """

    url: str
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"A DICOMweb server is given as https://host/dicom-web, not {self.url!r}.")
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                f"The address of {parts.hostname} holds a user or password, which would be logged. "
                f"Set {USER} and {PASSWORD} in the environment instead."
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def client(self) -> Iterator[DICOMwebClient]:
        """A connection of its own, as requests' sessions are not for several threads.

        Raises:
            ConfigError: When the environment names more than one way to say who we are, or a file that is not there.
        """
        session = requests.Session()
        identified = _identify(session, os.environ)
        parts = urlsplit(self.url)
        if identified and parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            logger.warning("%s is not encrypted: others on the network can read what tells it who we are", self.url)
        ca_bundle, certificate = (os.environ.get(name) or None for name in (CA_BUNDLE, CERTIFICATE))
        try:
            add_certs_to_session(session, ca_bundle, certificate)
        except OSError as error:
            raise ConfigError(f"{CA_BUNDLE if ca_bundle else CERTIFICATE} in the environment: {error}") from error
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(session.verify if isinstance(session.verify, str) else None))
        client = DICOMwebClient(
            self.url,
            session,
            headers={"Accept": "application/dicom+json"},
            callback=_without_parameters,
            permissive_uid=True,
            timeout=TIMEOUT,
        )
        # Its own retries send an empty body the second time, where the first was sent in chunks.
        client.set_http_retry_params(retry=False)
        with session:
            yield client

    def call(self, what: str, action: Callable[[DICOMwebClient], Result]) -> Result:
        """Ask the server for something, again where it fails for now.

        Args:
            what: what is asked for, for errors.
            action: asks for it.

        Raises:
            TemporaryError: When there was no answer, or one of 5xx, 408 or 429, each time.
            TransferError: When the server answers another error, or what is no DICOM; or its certificate is refused.
        """

        def once() -> Result:
            with self.errors(what), self.client() as client:
                return action(client)

        return self.retries.call(once)

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turns errors of requests into those of transfers.

        Args:
            what: what is asked for.

        Raises:
            TemporaryError: For what may pass.
            TransferError: For what stays.
        """
        # The errors' own texts hold addresses with UIDs, so they are not passed on.
        told = f"{self.url} could not {what}"
        try:
            yield
        except requests.HTTPError as error:
            status, reason = (0, "") if error.response is None else (error.response.status_code, error.response.reason)
            text = f"{told}: it answered {status} {reason}.{HINTS.get(status, '')}"
            raise (TemporaryError if _is_passing(status) else TransferError)(text) from error
        except requests.exceptions.SSLError as error:
            raise TransferError(
                f"{told}: the connection is not safe, or its certificate is from an authority not known here. "
                f"Name a file of authorities in {CA_BUNDLE}."
            ) from error
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise TransferError(f"{told}: {type(error).__name__}.") from error
        except requests.exceptions.JSONDecodeError as error:
            raise TransferError(f"{told}: its answer is no JSON. Check the address.") from error
        except requests.Timeout as error:
            raise TemporaryError(f"{told}: it did not answer in time.") from error
        except requests.RequestException as error:
            raise TemporaryError(f"{told}: there is no connection, or it broke.") from error
        except (InvalidDicomError, ValueError, KeyError) as error:
            raise TransferError(f"{told}: its answer is no DICOM ({type(error).__name__}).") from error
