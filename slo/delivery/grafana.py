"""Dashboards into a Grafana, through grafana-client: one folder, stable uids, and a new version only for a change."""

import difflib
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from grafana_client import GrafanaApi, TokenAuth
from grafana_client.client import GrafanaException, GrafanaTimeoutError

from slo import render, urls
from slo.boards.dashboards import FOLDER, FOLDER_UID

Model = Mapping[str, Any]


class PushError(Exception):
    """Grafana did not take the dashboards; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a push does to one dashboard; `diff` shows it as lines of JSON, taken out (-) and put in (+)."""

    action: Literal["create", "update"]
    model: Model
    diff: Sequence[str]


def plan(wanted: Sequence[Model], present: Mapping[str, Model]) -> list[Change]:
    """What it takes for the `present` dashboards (by uid) to show what is `wanted`."""
    found = ((model, _of_ours(model, present.get(model["uid"], {}))) for model in wanted)
    return [
        Change("update" if there else "create", model, _diff(there, model)) for model, there in found if there != model
    ]


class Grafana:
    """The Grafana at `url`, which gets `timeout` seconds for an answer. Every method raises PushError."""

    def __init__(self, url: str, token: str, timeout: float = 15.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        if not re.match(r"https?://[^/]", self.url):
            raise PushError(f"{url!r} is no URL; write it like http://host:3000")
        with self._explained():
            # The client puts `api` right behind a path, so that path has to end in a slash.
            self._api = GrafanaApi.from_url(f"{self.url}/", credential=TokenAuth(token), timeout=timeout)

    def present(self, uids: Sequence[str]) -> dict[str, Model]:
        """The dashboards of these uids, by uid; one that is not in our folder counts as missing."""
        with self._explained():
            folder = self._folder()
            found = {uid: self._dashboard(uid) for uid in uids}
            return {uid: dict(one["dashboard"]) for uid, one in found.items() if one["meta"]["folderUid"] == folder}

    def store(self, changes: Sequence[Change]) -> list[str]:
        """Put the changed dashboards into our folder; returns their URLs."""
        with self._explained():
            folder = self._folder() or self._api.folder.create_folder(FOLDER, uid=FOLDER_UID)["uid"]
        return [self._store(change.model, folder) for change in changes]

    def _folder(self) -> str | None:
        """The uid of our folder: a chart or a person may have made one of its name."""
        folders = {folder["uid"]: folder["title"] for folder in self._api.folder.get_all_folders()}
        named = (uid for uid, title in folders.items() if title == FOLDER)
        return FOLDER_UID if FOLDER_UID in folders else next(named, None)

    def _dashboard(self, uid: str) -> dict[str, Any]:
        try:
            found = dict(self._api.dashboard.get_dashboard(uid))
        except GrafanaException as error:
            if error.status_code != 404:
                raise
            return {"dashboard": {}, "meta": {"folderUid": ""}}
        if found["meta"].get("provisioned"):
            origin = found["meta"].get("provisionedExternalId") or "a file"
            raise PushError(f"{self._name} has {uid} from {origin}, and cannot change it: change that, or take it away")
        return found

    def _store(self, model: Model, folder: str) -> str:
        body = {"dashboard": dict(model), "folderUid": folder, "overwrite": True}
        with self._explained(f", asked to store {model['title']!r},"):
            path = str(self._api.dashboard.update_dashboard(body)["url"])
        # Grafana's path includes the one below which it is served, as ours does.
        return self.url + path.removeprefix(urlsplit(self.url).path)

    @property
    def _name(self) -> str:
        return urls.shown(self.url)

    @contextmanager
    def _explained(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except GrafanaTimeoutError:
            raise PushError(f"{self._name}{what} has not answered within {self.timeout:g} s") from None
        except GrafanaException as error:
            raise PushError(f"{self._name}{what} answered {error.status_code}: {_reason(error)}") from None
        except (AttributeError, KeyError, TypeError, ValueError):  # no JSON, or not Grafana's
            raise PushError(f"{self._name} answers, but not as Grafana does; give the root URL of Grafana") from None
        except OSError as error:  # what niquests raises derives from it
            raise PushError(f"{self._name} cannot be reached: {_cause(error)}") from None


def _of_ours(wanted: Model, there: Model) -> Model:
    """What a stored dashboard says of the fields that we set; Grafana adds its own, such as id and version."""
    return {key: value for key, value in there.items() if key in wanted}


def _diff(before: Model, after: Model) -> list[str]:
    old, new = (render.dashboard(model).splitlines() if model else [] for model in (before, after))
    return list(difflib.unified_diff(old, new, "in Grafana", "wanted", n=1, lineterm=""))


def _cause(error: BaseException) -> str:
    """What the system said, below the layers of the HTTP library."""
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; have it trusted by REQUESTS_CA_BUNDLE=FILE, a file with its certificate"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_WAYS_OUT = {
    401: "the token is not accepted; make a service-account token and give it with GRAFANA_TOKEN or --token-file",
    403: "the token may not write dashboards; give its service account the Editor role",
    404: "no Grafana API there; give the root URL of Grafana",
    412: "a dashboard of that title has another uid there; rename or delete it",
    502: "the proxy does not reach Grafana",
    503: "Grafana is not ready; try again",
}


def _reason(error: GrafanaException) -> str:
    """A way out where there is one for the status, and what Grafana said; a proxy's page says nothing."""
    said = str(error.response.get("message", "")) if isinstance(error.response, dict) else ""
    told = " ".join(said.split())[:200]
    return "; ".join(filter(None, (_WAYS_OUT.get(error.status_code), told))) or "no reason given"
