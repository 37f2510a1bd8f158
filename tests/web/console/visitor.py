"""A visitor with a browser without JavaScript: keeps cookies, fills in forms, follows redirects on request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import httpx
from tests.web.client import Web

from refund_worker.engine.access.console_users import create_user

PASSWORD = "correct horse battery"


class Visitor:
    """One person's browser; `get` and `post` take paths below /console."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.cookies: dict[str, str] = {}
        self.client = ("203.0.113.7", 50000)

    def get(self, path: str, **query: object) -> httpx.Response:
        return self._call("GET", path + (f"?{urlencode(query)}" if query else ""))

    def call(self, method: str, path: str) -> httpx.Response:
        return self._call(method, path)

    def refresh(self, path: str) -> httpx.Response:
        """Fetch a page as an open page refreshes itself."""
        return self._call("GET", path, headers={"X-Refresh": "1"})

    def post(self, path: str, fields: Mapping[str, object], **headers: str) -> httpx.Response:
        return self._call("POST", path, urlencode(fields), headers)

    def _call(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} | dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        answer = self.web.call(
            method, "/console" + path, key=None, headers=sent, client=self.client, **({"content": body} if body else {})
        )
        for cookie in answer.headers.get_list("set-cookie"):
            name, _, rest = cookie.partition("=")
            value = rest.partition(";")[0].strip('"')
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        return answer

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        fields = form_on(self.get("/sign-in"), "/console/sign-in")
        return self.post("/sign-in", fields | {"name": name, "password": password})

    def submit(self, page: httpx.Response, action: str, **typed: object) -> httpx.Response:
        """Send the page's form for this action with the given input."""
        fields = form_on(page, "/console" + action)
        return self.post(action, fields | typed)

    def submit_last(self, page: httpx.Response, action: str, **typed: object) -> httpx.Response:
        """Send the last of the page's forms for this action, where another of them only previews."""
        fields = forms_on(page, "/console" + action)[-1]
        return self.post(action, fields | typed)

    def follow(self, answer: httpx.Response) -> httpx.Response:
        assert answer.status_code == 303, text_of(answer)
        parts = urlsplit(answer.headers["location"])
        path = parts.path.removeprefix("/console")
        return self._call("GET", path + (f"?{parts.query}" if parts.query else ""))


def visitor(web: Web, role: str, name: str | None = None) -> Visitor:
    """Create a user of this role and sign them in."""
    name = name or role
    create_user(web.context, name=name, role=role, password=PASSWORD)
    person = Visitor(web)
    assert person.sign_in(name).status_code == 303
    return person


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((given.get("action", ""), {}))
        counts = given.get("type") != "radio" or "checked" in given
        if tag == "input" and self.forms and "name" in given and counts:
            self.forms[-1][1][given["name"]] = given.get("value", "")


def form_on(page: httpx.Response, action: str) -> dict[str, str]:
    """Return the fields of the page's form for this action, as the page filled them in."""
    return forms_on(page, action)[0]


def forms_on(page: httpx.Response, action: str) -> list[dict[str, str]]:
    """Return the fields of each of the page's forms for this action. There is at least one."""
    parser = _Forms()
    parser.feed(page.text)
    found = [fields for where, fields in parser.forms if where == action]
    assert found, f"no form for {action} on {text_of(page)}"
    return found


def text_of(page: httpx.Response) -> str:
    """Return the text of the page's main part in one line."""
    main = page.text.partition("<main")[2] or page.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", "<" + main)).split())
