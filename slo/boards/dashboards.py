"""All dashboards for a set of specs."""

from collections.abc import Mapping, Sequence

from slo.boards import engine, fleet, gpu, load, slo
from slo.spec.model import Spec

# Where the boards are in Grafana, whichever way they got there.
FOLDER, FOLDER_UID = "LLM SLOs", "llm-slo"


def boards(specs: Sequence[Spec], datasource: str | None = None) -> Mapping[str, Mapping[str, object]]:
    """File name -> Grafana's JSON model; the same specs give the same models.

    The boards open on the data source of the uid `datasource`; without it on Grafana's default or first Prometheus.
    """
    dashboards = {
        "fleet.json": fleet.board(specs),
        "engine.json": engine.board(specs),
        "gpu.json": gpu.board(),
        "slo.json": slo.board(specs),
        "load.json": load.board(),
    }
    return {name: dashboard.model(datasource) for name, dashboard in dashboards.items()}
