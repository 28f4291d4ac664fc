"""Dashboards into a Grafana, through grafana-client: one folder, stable uids, and a new version only for a change."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from grafana_client import GrafanaApi, TokenAuth
from grafana_client.client import GrafanaException

from slo import render
from slo.dashboards import FOLDER, FOLDER_UID

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
    """The Grafana at `url`. Every method raises PushError."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        if not re.match(r"https?://[^/]", self.url):
            raise PushError(f"{url!r} is no URL; write it like http://host:3000")
        with self._explained():
            self._api = GrafanaApi.from_url(self.url, credential=TokenAuth(token))

    def present(self, uids: Sequence[str]) -> dict[str, Model]:
        """The dashboards of these uids, by uid; one that is not in our folder counts as missing."""
        with self._explained():
            folders = {folder["uid"] for folder in self._api.folder.get_all_folders()}
            found = {uid: self._dashboard(uid) for uid in uids} if FOLDER_UID in folders else {}
        return {uid: answer["dashboard"] for uid, answer in found.items() if answer["meta"]["folderUid"] == FOLDER_UID}

    def store(self, changes: Sequence[Change]) -> list[str]:
        """Put the changed dashboards into our folder; returns their URLs."""
        with self._explained():
            if FOLDER_UID not in {folder["uid"] for folder in self._api.folder.get_all_folders()}:
                self._api.folder.create_folder(FOLDER, uid=FOLDER_UID)
            return [self._store(change.model) for change in changes]

    def _dashboard(self, uid: str) -> dict[str, Any]:
        try:
            return dict(self._api.dashboard.get_dashboard(uid))
        except GrafanaException as error:
            if error.status_code != 404:
                raise
            return {"dashboard": {}, "meta": {"folderUid": FOLDER_UID}}

    def _store(self, model: Model) -> str:
        body = {"dashboard": dict(model), "folderUid": FOLDER_UID, "overwrite": True}
        return self.url + str(self._api.dashboard.update_dashboard(body)["url"])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except GrafanaException as error:
            raise PushError(f"{self.url} answered {error.status_code}: {_reason(error)}") from None
        except (KeyError, TypeError, ValueError):  # no JSON, or not Grafana's
            raise PushError(f"{self.url} answers, but not as Grafana does; give the root URL of Grafana") from None
        except OSError as error:  # what niquests raises derives from it
            raise PushError(f"{self.url} cannot be reached: {_cause(error)}") from None


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
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _reason(error: GrafanaException) -> str:
    reasons = {
        401: "the token is not accepted; make a service-account token and give it with GRAFANA_TOKEN or --token-file",
        403: "the token may not write dashboards; give its service account the Editor role",
        404: "no Grafana API there; give the root URL of Grafana",
        412: "a dashboard of that uid is provisioned from a file and cannot be changed over the API",
    }
    return reasons.get(error.status_code, str(error.message))
