# SPDX-License-Identifier: Apache-2.0
"""``--auth``: tokens of a realm as Keycloak has them, which a server on loopback plays, with keys made on the spot."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import requests

pytestmark = pytest.mark.label
Serve = Callable[..., AbstractContextManager[str]]
POLYP = "polyp_segmentation"


class Realm(ThreadingHTTPServer):
    """What MONAI Label asks of Keycloak: the public key, where tokens are had, and tokens for passwords."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages = {
                    "/realms/clinic": {"realm": "clinic", "public_key": realm.public_key},
                    "/realms/clinic/.well-known/openid-configuration": {"token_endpoint": f"{realm.root}/token"},
                    "/realms/keyless": {"realm": "keyless"},
                }
                self.reply(pages.get(self.path))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                known = (form["username"], form["password"], form["grant_type"]) == (["ann"], ["secret"], ["password"])
                token = {"access_token": realm.token("monailabel-user"), "token_type": "bearer"}
                refused = {"error": "invalid_grant", "error_description": "Invalid user credentials"}
                # As Keycloak says that the account, or the client, is not as it must be; and a realm that fails.
                other = {"unfinished": 400, "broken": 500}.get(form["username"][0], 401)
                self.reply(token if known else refused, 200 if known else other)

            def reply(self, page: object, status: int = 200) -> None:
                body = json.dumps(page).encode()
                self.send_response(status if page else max(status, 404))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        realm = self
        self.key, self.other_key = (generate_private_key(65537, 2048) for _ in range(2))
        super().__init__(("127.0.0.1", 0), Pages)
        self.root = f"http://127.0.0.1:{self.server_address[1]}"
        self.url = f"{self.root}/realms/clinic"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def public_key(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        written = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(written).decode()

    def token(self, *roles: str, key: object = None, algorithm: str = "RS256", expires: float = 60) -> str:
        import jwt

        claims = {
            "preferred_username": "ann", "email": "ann@clinic", "name": "Ann", "exp": time.time() + expires,
            "realm_access": {"roles": list(roles)},
        }  # fmt: skip
        return jwt.encode(claims, self.key if key is None else key, algorithm)


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with Realm() as realm:
        yield realm
        realm.shutdown()


@pytest.fixture(scope="module")
def server(
    serve: Serve, realm: Realm, small_bundles: Path, studies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    given = ["--studies", studies, "--bundles", small_bundles, "--app", tmp_path_factory.mktemp("app")]
    with serve("monai_sam2unet", "label", "--auth", *given, MONAI_LABEL_AUTH_REALM_URI=realm.url) as url:
        yield url


def ask(server: str, token: str | None, method: str = "POST", path: str = f"/infer/{POLYP}?image=frame1&output=json"):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.request(method, server + path, headers=headers, timeout=120)


def test_who_has_no_token_gets_nothing(server: str) -> None:
    for method, path in [
        ("POST", f"/infer/{POLYP}?image=frame1"),
        ("GET", "/info/"),
        ("GET", "/datastore/"),
        ("GET", "/datastore/image?image=frame1"),
        ("PUT", "/datastore/label?image=frame1"),
        ("POST", f"/batch/infer/{POLYP}"),
        ("GET", "/proxy/dicom/qido/studies"),
        ("GET", "/ohif/"),
    ]:
        assert ask(server, None, method, path).status_code == 401, path
    assert ask(server, None, path="/reload").status_code == 404
    assert ask(server, None, "GET", "/auth/").json()["enabled"] is True


def test_tokens_that_are_not_the_realm_s(server: str, realm: Realm) -> None:
    assert ask(server, realm.token("monailabel-user")).status_code == 200
    for token in (
        realm.token("monailabel-user", key=realm.other_key),
        realm.token("monailabel-user", expires=-60),
        realm.token("monailabel-user", key="x" * 64, algorithm="HS256"),
        realm.token("monailabel-user", key="", algorithm="none"),
        "nonsense",
    ):
        assert ask(server, token).status_code == 401
    assert ask(server, realm.token("another-role")).status_code == 403


def test_each_role_may_do_its_own(server: str, realm: Realm) -> None:
    user, annotator = realm.token("monailabel-user"), realm.token("monailabel-user", "monailabel-annotator")
    path = "/datastore/image/info?image=frame1"
    assert ask(server, user, "GET", path).status_code == 200
    assert ask(server, user, "PUT", path).status_code == 403
    assert ask(server, annotator, "PUT", path).status_code == 200
    assert ask(server, annotator, "DELETE", "/datastore/label?id=frame1&tag=final").status_code == 403
    assert ask(server, annotator, "DELETE", f"/model/{POLYP}").status_code == 403
    admin = realm.token("monailabel-annotator", "monailabel-admin")
    assert ask(server, admin, "DELETE", "/model/liver").status_code == 404


def test_passwords_are_exchanged_for_tokens(server: str) -> None:
    def log_in(password: str, name: str = "ann") -> requests.Response:
        return requests.post(f"{server}/auth/token", data={"username": name, "password": password}, timeout=60)

    token = log_in("secret").json()["access_token"]
    assert ask(server, token, "GET", "/auth/token/valid").json()["username"] == "ann"
    assert ask(server, token, "GET", "/info/").status_code == 200
    for name in ("ann", "unfinished"):
        refused = log_in("wrong", name)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert refused.json()["detail"] == (
            "The realm gives no token for this name and password; check both. It says: Invalid user credentials."
        )
    assert log_in("secret", "broken").status_code == 502


def test_settings_by_halves_are_refused(realm: Realm) -> None:
    from monai_sam2unet.errors import ConfigError
    from monai_sam2unet.label.authentication import check_authentication

    def check(enable: bool, **given: str) -> None:
        from monailabel.config import Settings

        named = {f"MONAI_LABEL_AUTH_{name}": value for name, value in given.items()}
        check_authentication(Settings(MONAI_LABEL_AUTH_ENABLE=enable, **named))

    check(False)
    check(True, REALM_URI=realm.url)
    with pytest.raises(ConfigError, match="MONAI_LABEL_AUTH_REALM_URI is set, but nobody would be asked for a token"):
        check(False, REALM_URI=realm.url)
    with pytest.raises(ConfigError, match=r"names the realm whose tokens are taken.*got none"):
        check(True)
    for wrong in (f"{realm.root}/realms/keyless", f"{realm.root}/nowhere", "http://127.0.0.1:9/realms/clinic"):
        with pytest.raises(ConfigError, match="is no realm as Keycloak has them"):
            check(True, REALM_URI=wrong)


def test_the_command_refuses_before_it_serves(
    monkeypatch: pytest.MonkeyPatch, small_bundles: Path, studies: Path
) -> None:
    from monai_sam2unet.cli.label import label
    from monai_sam2unet.errors import ConfigError
    from monai_sam2unet.label import compat

    compat.apply()
    import monailabel.config

    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "false")
    for turned_on in (True, False):
        wrong = {} if turned_on else {"MONAI_LABEL_AUTH_REALM_URI": "https://clinic/realms/clinic"}
        settings = monailabel.config.Settings(MONAI_LABEL_AUTH_ENABLE=turned_on, **wrong)
        monkeypatch.setattr(monailabel.config, "settings", settings)
        with pytest.raises(ConfigError, match="MONAI_LABEL_AUTH_REALM_URI"):
            label(studies=str(studies), bundles=small_bundles, auth=turned_on)
        assert os.environ["MONAI_LABEL_AUTH_ENABLE"] == str(turned_on).lower()
        monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "false")
