"""Rules of series over HTTP: who may set them, what is refused, and which pages follow them."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.gateway.access import hash_of
from tests.books import page_file
from tests.service.gateway.conftest import Open

KEYS = (*(f"{name}:{hash_of(name)}" for name in ("studio", "reader")), f"root:{hash_of('root')}:admin")


class Client:
    """A client of a gateway with several keys."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(
        self, method: str, series: str = "", key: str | None = "studio", body: Any = None, **query: str
    ) -> httpx.Response:
        path = f"/api/series/{quote(series, safe='')}" if series else "/api/series"
        headers = {} if key is None else {"X-API-Key": key}
        return self.client.request(method, path, headers=headers, json=body, params=query)

    def listed(self, key: str, **query: str) -> list[tuple[str | None, str, Any]]:
        rules = self.ask("GET", key=key, **query).json()["rules"]
        return [(rule["owner"], rule["series"], rule["treatment"]) for rule in rules]

    def enhance(self, key: str, comic_id: str, **options: str) -> tuple[float, dict[str, Any] | None]:
        """The scale of an enhanced page, and what the rule of its series stated."""
        files, form = {"file": ("page.png", page_file(1))}, {"comic_id": comic_id, **options}
        headers = {"X-API-Key": key}
        made = self.client.post("/api/pages", files={"image": files["file"]}, data=form, headers=headers)
        assert made.is_success, made.text
        answer = self.client.post("/api/enhancement/process", files=files, data=form, headers=headers)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        return result["scale"], result.get("series_rule")


@pytest.fixture
def api(gateway: Open) -> Client:
    """Prefect is unavailable."""
    return Client(gateway(api_keys=KEYS))


def test_a_key_manages_its_rules_and_an_admin_key_those_of_all(api: Client) -> None:
    answer = api.ask("PUT", "akira/1 ?*", body={"scale": 3, "gray": "on"})
    assert answer.status_code == 200, answer.text
    stored = answer.json()
    assert (stored["owner"], stored["set_by"], stored["treatment"]) == (
        "studio",
        "studio",
        {"scale": 3, "gray": "on"},
    )
    assert api.ask("PUT", "akira", "root", {"scale": 2}, owner="reader").is_success
    assert api.ask("PUT", "book", "root", {"levels": 0.5}, owner="").is_success
    assert api.ask("PUT", "own", "root", {"scale": 4}).is_success
    mine = ("studio", "akira/1 ?*", {"scale": 3, "gray": "on"})
    assert api.listed("studio") == [mine]
    assert api.listed("reader") == [("reader", "akira", {"scale": 2})]
    assert [(owner, series) for owner, series, _ in api.listed("root")] == [
        ("reader", "akira"), ("studio", "akira/1 ?*"), (None, "book"), ("root", "own"),
    ]  # fmt: skip
    assert api.listed("root", owner="studio") == [mine]
    assert api.listed("root", owner="") == [(None, "book", {"levels": 0.5})]
    assert api.ask("DELETE", "AKIRA/1 ?*").status_code == 204
    assert api.ask("DELETE", "book", "root", owner="").status_code == 204
    assert api.listed("studio") == []


@pytest.mark.parametrize(
    ("method", "key", "owner", "status", "code"),
    [
        ("PUT", "reader", "studio", 403, "admin_only"),
        ("PUT", "reader", "", 403, "admin_only"),
        ("GET", "reader", "studio", 403, "admin_only"),
        ("DELETE", "reader", "studio", 403, "admin_only"),
        ("DELETE", "reader", None, 404, "unknown_series"),
        ("DELETE", "root", None, 404, "unknown_series"),
        ("PUT", "nobody", None, 401, "unauthorized"),
        ("GET", None, None, 401, "unauthorized"),
    ],
)
def test_the_rules_of_others_are_not_reached(
    method: str, key: str | None, owner: str | None, status: int, code: str, api: Client
) -> None:
    assert api.ask("PUT", "akira", body={"scale": 3}).is_success
    query = {} if owner is None else {"owner": owner}
    body = {"scale": 2} if method == "PUT" else None
    answer = api.ask(method, "" if method == "GET" else "akira", key, body, **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert api.listed("root") == [("studio", "akira", {"scale": 3})]


@pytest.mark.parametrize(
    ("series", "body", "status", "code", "message"),
    [
        ("akira", {"scale": 9}, 422, "bad_request", "from 1 to 4"),
        ("akira", {"scale": 2, "longest_side": 900}, 422, "bad_request", "give one of them"),
        ("akira", {"review": "always"}, 422, "bad_request", "review"),
        ("akira", {}, 422, "bad_request", "states nothing"),
        ("akira", {"model": "auto"}, 422, "bad_request", "states nothing"),
        ("akira", {"preset": "poster"}, 422, "unknown_preset", "poster"),
        ("akira", {"model": "no-such-network"}, 403, "forbidden_model", "known networks"),
        ("akira", {"model": "/models/own.safetensors"}, 403, "forbidden_model", "known networks"),
        ("akira", {"model": "gfpgan-1.4"}, 422, "unknown_model", "gfpgan-1.4"),
        ("x" * 501, {"scale": 2}, 422, "bad_request", "500"),
        ("a\0b", {"scale": 2}, 422, "bad_json", "NUL"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(
    series: str, body: dict[str, Any], status: int, code: str, message: str, api: Client
) -> None:
    answer = api.ask("PUT", series, "root", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]
    assert api.listed("root") == []


def test_pages_of_the_key_follow_the_rule(api: Client) -> None:
    """A page whose result is known follows the rule as well: another treatment is another page."""
    assert api.enhance("studio", "akira") == (2.0, None)
    assert api.ask("PUT", "akira", body={"scale": 1.5, "model": "lanczos"}).is_success
    applied = (1.5, {"scale": 1.5, "model": "lanczos"})
    assert api.enhance("studio", "Akira") == applied
    assert api.enhance("reader", "akira") == (2.0, None)
    assert api.enhance("studio", "akira", scale="3") == (3.0, applied[1])
    assert api.enhance("studio", "akira", ignore_series_rule="true") == (2.0, None)
    assert api.ask("DELETE", "akira").status_code == 204
    assert api.enhance("studio", "akira") == (2.0, None)


def test_a_page_that_is_processed_again_follows_the_rule(api: Client) -> None:
    api.enhance("studio", "akira")
    headers = {"X-API-Key": "studio"}
    job_id = api.client.get("/api/results", headers=headers).json()["results"][0]["job_id"]
    api.enhance("studio", "other", scale="1.5", model="lanczos")  # there is no worker: the result is known
    assert api.ask("PUT", "akira", body={"scale": 1.5, "model": "lanczos"}).is_success
    again = api.client.post(f"/api/enhancement/{job_id}/re-enhance", headers=headers, json={})
    assert again.status_code == 200, again.text
    result = again.json()["result"]
    assert (result["scale"], result["model"]) == (1.5, "lanczos")
    again = api.client.post(
        f"/api/enhancement/{job_id}/re-enhance",
        headers=headers,
        json={"options": {"ignore_series_rule": True}},
    )
    assert again.json()["result"]["scale"] == 2.0


def test_without_keys_the_rules_are_those_of_pages_without_a_key(gateway: Open) -> None:
    api = Client(gateway())
    assert api.ask("PUT", "akira", None, {"scale": 3}).json()["owner"] is None
    assert api.listed("x") == [(None, "akira", {"scale": 3})]
