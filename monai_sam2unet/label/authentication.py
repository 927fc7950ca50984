# SPDX-License-Identifier: Apache-2.0
"""Whether MONAI Label's settings for its users' tokens are complete, and the server that signs them answers."""

from __future__ import annotations

from typing import Any

import jwt
import requests
from monailabel.endpoints.user import auth

from monai_sam2unet.errors import ConfigError

__all__ = ["check_authentication"]

PREFIX = "MONAI_LABEL_AUTH_"
ENABLE, REALM = f"{PREFIX}ENABLE", f"{PREFIX}REALM_URI"


def check_authentication(settings: Any) -> None:
    """Refuse settings that would leave the server open, or shut everybody out.

    Args:
        settings: MONAI Label's.

    Raises:
        ConfigError: When settings of authentication are given, but it is not turned on; the realm is not named; or it
            does not tell the key that it signs with, and where tokens are had.
    """
    given = sorted(name for name in settings.model_fields_set if name.startswith(PREFIX) and name != ENABLE)
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        if given:
            raise ConfigError(
                f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} set, but nobody would be asked for a token: "
                "give --auth, or take them out of the environment."
            )
        return
    realm = settings.MONAI_LABEL_AUTH_REALM_URI
    if REALM not in given or not realm.startswith(("http://", "https://")):
        raise ConfigError(
            f"With --auth, {REALM} in the environment names the realm whose tokens are taken, as "
            f"https://keycloak.example/realms/monailabel; got {realm if REALM in given else 'none'}."
        )
    try:
        key = auth.get_public_key(realm)
        jwt.get_algorithm_by_name("RS256").prepare_key(key)
        endpoint = auth.open_id_configuration(realm)["token_endpoint"]
    except (requests.RequestException, KeyError, TypeError, ValueError, jwt.PyJWTError) as error:
        raise ConfigError(
            f"{REALM}: {realm} is no realm as Keycloak has them, with public_key and, at /.well-known/openid-"
            f"configuration, token_endpoint: {type(error).__name__}: {error}"
        ) from error
    if not str(endpoint).startswith(("http://", "https://")):
        raise ConfigError(f"{REALM}: the token_endpoint of {realm} is no address: {endpoint!r}.")
