"""Names of the recorded series: what the rules write and alerts, dashboards and `slo-gen status` read.

Only good and total events per second are recorded per SLO, never ratios: a ratio of sums over any window is then
exact, idle time weighs nothing and is never NaN. Everything else follows from them by rules shared by all SLOs.
"""

from slo.catalog import Metric
from slo.promql import duration, equals
from slo.windows import DETECTION_SHARE, LOWEST_CAP, BurnAlert

ERROR_BUDGET = "slo:error_budget:ratio"
# Minutes open at the moment, of the SLIs that count good minutes.
GOOD_SLICES, TOTAL_SLICES = "slo:good:slices", "slo:total:slices"
GOOD_5M, TOTAL_5M = "slo:good:rate5m", "slo:total:rate5m"
GOOD_1H, TOTAL_1H = "slo:good:rate1h", "slo:total:rate1h"
# Events per five minutes, written every five minutes: read it with range selectors only, since an instant query
# may look in the gap between two samples.
GOOD_INCREASE, TOTAL_INCREASE = "slo:good:increase5m", "slo:total:increase5m"
PERIOD_ERROR = "slo:error_ratio:period"
BUDGET_LEFT = "slo:budget_remaining:ratio"

# What an alert names as likely causes: one series per cause that is seen now, labelled `cause`.
CAUSE = "llm:cause:active"
PREFILL_5M, ITL_5M = "llm:request_prefill_seconds:mean5m", "llm:inter_token_latency_seconds:mean5m"
PROMPT_5M, REQUESTS_5M = "llm:request_prompt_tokens:mean5m", "llm:requests:rate5m"

ENERGY_PER_OUTPUT = "llm:energy_per_output_token:joules"
GPU_SECONDS_PER_REQUEST = "llm:gpu_seconds_per_request:seconds"
COST_PER_OUTPUT = "llm:cost_per_million_output_tokens:currency"


def of(name: str, slo: str = "", **labels: str) -> str:
    """The series `name` of one SLO, or of all, with these labels."""
    matchers = ",".join(map(str, equals(({"slo": slo} if slo else {}) | labels)))
    return f"{name}{{{matchers}}}" if matchers else name


def burn_rate(window: str) -> str:
    """The series of burn rates over `window`, such as `5m` or `3d`."""
    return f"slo:burn_rate:{window}"


def events(window: str) -> str:
    """The series of all events in a `window` of hours or days."""
    return f"slo:total:increase{window}"


def buckets(metric: Metric) -> str:
    """The series of a histogram's observations per second, by bucket, over all replicas."""
    return f"llm:{metric.name.removeprefix('llm_')}_bucket:rate2m"


def burn_factor(alert: BurnAlert, period: int, slo: str = "") -> str:
    """PromQL: the factor of `alert` per SLO of this `period` (seconds), as `BurnAlert.factor` computes it."""
    budget = of(ERROR_BUDGET, slo, period=duration(period))
    cap = f"clamp_min({DETECTION_SHARE:.6f} / {budget}, {LOWEST_CAP:g})"
    return f"clamp_max({cap}, {alert.share_factor(period):g})"
