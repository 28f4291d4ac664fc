"""Dashboards into a Grafana, through grafana-client: one folder, stable uids, so that pushing twice changes nothing."""

from collections.abc import Mapping
from typing import Any

from grafana_client import GrafanaApi, TokenAuth
from grafana_client.client import GrafanaException

FOLDER_UID, FOLDER_TITLE = "llm-slo", "LLM SLOs"


class PushError(Exception):
    """Grafana did not take the dashboards; the text says why and what to do."""


def push(url: str, token: str, dashboards: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Create or update the folder and each dashboard; returns their URLs. Raises PushError."""
    try:
        api = GrafanaApi.from_url(url, credential=TokenAuth(token))
        _ensure_folder(api)
        return [_push_one(api, url, model) for model in dashboards.values()]
    except GrafanaException as error:
        raise PushError(_explain(url, error)) from None
    except OSError as error:  # niquests' errors derive from it
        raise PushError(f"{url} cannot be reached: {error}") from None


def _ensure_folder(api: Any) -> None:
    if FOLDER_UID not in {folder["uid"] for folder in api.folder.get_all_folders()}:
        api.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID)


def _push_one(api: Any, url: str, model: Mapping[str, object]) -> str:
    answer = api.dashboard.update_dashboard({"dashboard": dict(model), "folderUid": FOLDER_UID, "overwrite": True})
    return url.rstrip("/") + str(answer["url"])


def _explain(url: str, error: GrafanaException) -> str:
    reasons = {
        401: "the token is not accepted; make a service-account token and give it with GRAFANA_TOKEN",
        403: "the token may not write dashboards; give its service account the Editor role",
        404: "no Grafana API there; give the root URL of Grafana",
        412: "a dashboard of that uid is provisioned from a file and cannot be changed over the API",
    }
    return f"{url} answered {error.status_code}: {reasons.get(error.status_code, error.message)}"
