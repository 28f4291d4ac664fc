"""Specs that must be refused: what is wrong, and the line and words of the message.

Each is the good spec below with one mistake made. `SCHEMA_BLIND` are those that no JSON Schema can see.
"""

GOOD = """\
apiVersion: llm-slo/v1
service: chat
slos:
  - name: ttft
    objective: 95%
    sli:
      latency: {metric: ttft, threshold: 250ms}
"""
_SLO = GOOD[GOOD.index("  - name") :]
_HEAD = GOOD[: GOOD.index("slos:")]
_LATENCY = "latency: {metric: ttft, threshold: 250ms}"


def _sli(text: str) -> str:
    return GOOD.replace(_LATENCY, text)


def _top(line: str) -> str:
    return f"{line}\n{GOOD}"


def _own(good: str, total: str = "rate(x[{{window}}])") -> str:
    return _sli(f"promql:\n        good: '{good}'\n        total: '{total}'")


BAD = {
    # --- keys
    "missing key": (GOOD.replace("objective:", "objektive:"), "4: 'objective' is missing; is 'objektive'"),
    "unknown key": (GOOD + "    treshold: 3\n", "8: unknown key 'treshold'; known here"),
    "close key": (_top("ownr: me"), "1: unknown key 'ownr'; did you mean 'owner'?"),
    "key of another SLI": (_sli("stall: {threshold: 1s}"), "7: unknown key 'threshold'; known here: within"),
    "merge key": (_top("<<: {owner: me}"), "1: unknown key '<<'"),
    "same key twice": (GOOD + "service: again\n", "8: 'service' is given twice"),
    "same key twice within": (
        _sli("latency: {metric: ttft, metric: tpot, threshold: 1s}"),
        "7: 'metric' is given twice",
    ),
    "a list as key": (_top("[a, b]: c"), "1: expected a single value here"),
    "null as key": (_top("~: c"), "1: expected a single value here"),
    "no apiVersion": (GOOD.replace("apiVersion: llm-slo/v1\n", ""), "1: 'apiVersion' is missing"),
    "no service": (GOOD.replace("service: chat\n", ""), "1: 'service' is missing"),
    "no slos": (_HEAD, "1: 'slos' is missing"),
    "no sli": (GOOD[: GOOD.index("    sli:")], "4: 'sli' is missing"),
    "no threshold": (_sli("latency: {metric: ttft}"), "7: 'threshold' is missing"),
    "no metric": (_sli("latency: {threshold: 1s}"), "7: 'metric' is missing"),
    "no total": (_sli("promql: {good: 'rate(x[{{window}}])'}"), "7: 'total' is missing"),
    # --- shapes
    "list for mapping": ("- a\n", "1: expected a mapping"),
    "text for everything": ("hello\n", "1: expected a mapping"),
    "text for list": (_HEAD + "slos: none\n", "3: expected a list here"),
    "mapping for list": (_HEAD + "slos: {ttft: 1}\n", "3: expected a list here"),
    "text in list": (_HEAD + "slos: [ttft]\n", "3: expected a mapping"),
    "list for text": (_top("owner: [me]"), "1: expected a single value here"),
    "null for text": (GOOD.replace("name: ttft", "name:"), "4: expected a single value here"),
    "null for a mapping": (_sli("stall:"), "7: expected a mapping"),
    "list for labels": (_top("labels: [a]"), "1: expected a mapping"),
    "no SLOs": (_HEAD + "slos: []\n", "3: 'slos' is empty"),
    "two SLIs": (GOOD + "      availability: {}\n", "7: expected exactly one key here, found 2"),
    "no SLI": (_sli("{}"), "7: expected exactly one key here, found 0"),
    # --- names
    "wrong version": (GOOD.replace("v1", "v9"), "1: apiVersion 'llm-slo/v9' is not known"),
    "bad name": (GOOD.replace("name: ttft", "name: 'T T'"), "4: 'T T' is no name"),
    "name of 64": (GOOD.replace("name: ttft", "name: " + "a" * 64), "4: 'aaaa"),
    "path in a name": (GOOD.replace("chat", "../../etc/passwd"), "2: '../../etc/passwd' is no name"),
    "PromQL in a name": (GOOD.replace("name: ttft", "name: 'a\"} or vector(1)'"), "4: "),
    "line break in a name": (GOOD.replace("name: ttft", 'name: "a\\nb"'), "4: 'a\\nb' is no name"),
    "same name twice": (GOOD + _SLO, "8: a second SLO called 'ttft'"),
    "unknown engine": (_top("engine: bing"), "1: unknown engine 'bing'; known: vllm"),
    # --- labels
    "bad group label": (_top("group_by: ['a-b']"), "1: 'a-b' is no Prometheus label"),
    "PromQL in a group label": (_top("group_by: ['a) (vector(1)']"), "1: 'a) (vector(1)' is no Prometheus label"),
    "group label twice": (_top("group_by: [a, b, a]"), "1: 'a' is given twice"),
    "group by slo": (_top("group_by: [slo]"), "1: the label 'slo' is taken"),
    "group by le": (_top("group_by: [model_name, le]"), "1: the label 'le' is taken"),
    "reserved group label": (_top("group_by: [__name__]"), "1: the label '__name__' is taken"),
    "label that rules set": (_top("labels: {severity: low}"), "1: the label 'severity' is taken"),
    "label that groups": (_top("labels: {model_name: x}"), "1: the label 'model_name' is taken"),
    "bad label": (_top("labels: {'a b': x}"), "1: 'a b' is no Prometheus label"),
    "label value of two lines": (_top('labels: {team: "a\\nb"}'), "1: expected one line"),
    "label value of a megabyte": (_top(f"labels: {{team: {'a' * 1001}}}"), "1: expected one line"),
    "label value that is a list": (_top("labels: {team: [a]}"), "1: expected a single value"),
    "selector on buckets": (_top("selector: {le: '1'}"), "1: the label 'le' is taken"),
    "selector that is PromQL": (_top("selector: {'a=\"b\",c': d}"), "1: 'a=\"b\",c' is no Prometheus label"),
    "runbook that is no URL": (_top("runbook: wiki/page"), "1: 'wiki/page' is no URL"),
    "runbook that is a script": (_top("runbook: 'javascript:alert(1)'"), "1: 'javascript:alert(1)' is no URL"),
    "runbook that is a template": (_top("runbook: 'https://x/{{ $value }}'"), "1: 'https://x/{{ $value }}' is no URL"),
    # --- numbers
    "objective 100%": (GOOD.replace("95%", "100%"), "5: '100%' must lie between 0 and 1"),
    "objective 95": (GOOD.replace("95%", "95"), "5: '95' must lie between 0 and 1"),
    "objective 0": (GOOD.replace("95%", "0"), "5: '0' must lie between 0 and 1"),
    "objective below 0": (GOOD.replace("95%", "-5%"), "5: '-5%' must lie between 0 and 1"),
    "objective nan": (GOOD.replace("95%", ".nan"), "5: '.nan' is not a number"),
    "objective nan in Python": (GOOD.replace("95%", "nan"), "5: 'nan' is not a number"),
    "objective with two signs": (GOOD.replace("95%", "95%%"), "5: '95%%' is not a number"),
    "objective in other digits": (GOOD.replace("95%", "٩٥%"), "5: '٩٥%' is not a number"),
    "objective too low": (GOOD.replace("95%", "30%"), "5: objective 30% is too low to alert on"),
    "objective too high to be one": (GOOD.replace("95%", "99.99999999999999%"), "5: '99.99999999999999%' must lie"),
    "period of 31 days": (_top("period: 31d"), "1: period '31d' is not supported"),
    "period of an SLO": (GOOD + "    period: 1h\n", "8: period '1h' is not supported"),
    "exact maybe": (GOOD + "    exact: maybe\n", "8: 'maybe' is neither true nor false"),
    "no tokens": (_sli("throughput: {tokens_per_second: 0}"), "7: '0' must be greater than 0"),
    "infinite tokens": (_sli("throughput: {tokens_per_second: 1e999}"), "7: '1e999' is not a finite number"),
    "half a request": (_sli("throughput: {tokens_per_second: 9, demand: 1.5}"), "7: '1.5' must be a whole number"),
    "full cache": (_sli("kv_cache: {limit: 1}"), "7: '1' must lie between 0 and 1"),
    # --- durations and thresholds
    "no unit": (GOOD.replace("250ms", "250"), "7: '250' is no duration"),
    "unknown unit": (GOOD.replace("250ms", "1 day"), "7: '1 day' is no duration"),
    "two points": (GOOD.replace("250ms", "1.2.3s"), "7: '1.2.3s' is not a number"),
    "no time at all": (GOOD.replace("250ms", "0s"), "7: '0s' must be longer than 0"),
    "off the edges": (GOOD.replace("250ms", "300ms"), "7: threshold 300ms: 0.3 is no bucket edge"),
    "beyond the edges": (GOOD.replace("250ms", "60m"), "7: threshold 60m: 3600 is no bucket edge"),
    "off another engine's edges": (_top("engine: sglang"), "8: threshold 250ms: 0.25 is no bucket edge"),
    "itl off the edges": (_sli("latency: {metric: itl, threshold: 60ms}"), "7: threshold 60ms: 0.06 is no bucket edge"),
    "stall sooner than a scrape": (_sli("stall: {within: 10s}"), "7: '10s' must be whole seconds, from 1m"),
    "stall after a day": (_sli("stall: {within: 24h}"), "7: '24h' must be whole seconds, from 1m"),
    # --- SLIs
    "unknown SLI": (GOOD.replace("latency:", "latenzy:"), "7: unknown SLI 'latenzy'; known: latency"),
    "unknown metric": (GOOD.replace("metric: ttft", "metric: ttfb"), "7: unknown latency 'ttfb'"),
    "no conditions": (_sli("goodput: {conditions: []}"), "7: goodput needs at least one"),
    "contradictory conditions": (
        _sli("goodput: {conditions: [{metric: ttft, threshold: 1s}, {metric: ttft, threshold: 2.5s}]}"),
        "7: a second condition on the same latency",
    ),
    "goodput of gaps": (
        _sli("goodput: {conditions: [{metric: itl, threshold: 100ms}]}"),
        "7: goodput judges requests",
    ),
    "availability of an engine that counts nothing": (
        _sli("availability: {}").replace("service:", "engine: triton\nservice:"),
        "8: triton does not count failures: the backend times no requests",
    ),
    "routes of an engine that counts none": (
        _sli("availability: {handlers: /generate}").replace("service:", "engine: tgi\nservice:"),
        "8: tgi counts requests, not routes; take 'handlers' out",
    ),
    "exact availability": (_sli("availability: {}") + "    exact: true\n", "4: 'exact' counts requests"),
    "exact gaps": (
        _sli("latency: {metric: itl, threshold: 100ms}") + "    exact: true\n",
        "4: 'exact' counts requests",
    ),
    "broken regex": (_sli("availability: {handlers: '/v1/('}"), "7: '/v1/(' is no regular expression"),
    "regex that RE2 lacks": (_sli("availability: {handlers: '(?=a)b'}"), "7: '(?=a)b' is no regular expression"),
    "back-reference": (_sli(r"availability: {handlers: '(a)\1'}"), "7: '(a)\\\\1' is no regular expression"),
    "regex that Python lacks": (_sli(r"availability: {handlers: '\pL+'}"), "7: '\\\\pL+' is too special"),
    # --- PromQL
    "no window": (_own("rate(x[5m])"), "8: the range must be {{window}}"),
    "unknown placeholder": (_own("rate(x[{{windw}}])"), "8: unknown placeholder {{windw}}"),
    "broken PromQL": (_own("rate(x[{{window}}]"), "8: not valid PromQL: "),
    "a range": (_own("x[{{window}}]"), "8: not valid PromQL: expected type vector"),
    "a number": (_own("1 # {{window}}"), "8: not valid PromQL: expected type vector"),
    "PromQL that closes our bracket": (_own("rate(x[{{window}}])) or (vector(1)"), "8: not valid PromQL: "),
    "PromQL of brackets": (_own("(" * 5000 + "rate(x[{{window}}])" + ")" * 5000), "8: not valid PromQL: longer than"),
    "good is total": (_own("rate(x[{{window}}])"), "8: 'good' and 'total' are the same"),
    "selector left out": (_top("selector: {namespace: prod}").replace(_LATENCY, _own("rate(y[{{window}}])")[
        _own("rate(y[{{window}}])").index("promql:"):].rstrip()), "9: the spec has a 'selector' that this expression"),
    # --- YAML
    "empty file": ("", "1: the file is empty"),
    "only a comment": ("# nothing\n", "1: the file is empty"),
    "null": ("~\n", "1: expected a mapping"),
    "no YAML": ("a: [1\nb: {", "2: not valid YAML"),
    "tab": ("a:\n\t- b\n", "2: not valid YAML"),
    "two documents": (GOOD + "---\n" + GOOD, "8: a second document starts here"),
    "control character": (GOOD.replace("chat", "ch\x07at"), "1: not valid YAML"),
    "unknown alias": (_top("owner: *me"), "1: "),
    "list that holds itself": (_HEAD + "slos: &a [*a]\n", "3: "),
    "billion laughs": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "1: 'apiVersion' is missing",
    ),
    "lists in lists": ("[" * 100_000, "1: more than 20 levels deep"),
    "dashes": ("- " * 100_000 + "a", "1: more than 20 levels deep"),
    "mappings in mappings": ("{a: " * 100_000, "1: more than 20 levels deep"),
}  # fmt: skip

# The YAML is not even read to its end, or the mistake is in what a value means.
SCHEMA_BLIND = {
    "merge key", "same key twice", "same key twice within", "a list as key", "same name twice", "label that groups",
    "objective 100%", "objective too low", "objective too high to be one", "infinite tokens",
    "no time at all", "off the edges", "beyond the edges", "off another engine's edges",
    "itl off the edges", "stall sooner than a scrape", "stall after a day", "contradictory conditions", "broken regex",
    "regex that RE2 lacks", "back-reference", "broken PromQL", "a range", "a number", "PromQL that closes our bracket",
    "PromQL of brackets", "good is total", "selector left out", "objective nan",
    "regex that Python lacks", "no YAML", "tab", "two documents", "control character", "unknown alias",
    "availability of an engine that counts nothing", "routes of an engine that counts none",
    "lists in lists", "dashes", "mappings in mappings",
}  # fmt: skip
