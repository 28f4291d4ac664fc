"""The arguments that say what to send where, and the plan they make."""

import argparse
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadgen.arguments import api_key, count, positive, target_url
from loadgen.running.measure import Plan, RunError
from loadgen.traffic import dataset, lengths, trace
from loadgen.traffic.arrivals import NS, Arrivals, Load, mean_rate, parse_stages
from loadgen.traffic.conversation import Files
from loadgen.traffic.prompts import HEAD
from loadgen.traffic.workload import Workload
from loadgen.wire import proxies

# Gaps with a coefficient of variation of 2: clearly burstier than independent users.
_BURSTY = 0.25
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = re.compile(rf"({_HEADER_NAME}):[ \t]*([\x20-\x7e]*)")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Where to send, as whom, and how to get there."""
    add = parser.add_argument
    add("--target", type=target_url, required=True, metavar="URL", help="the server, such as http://host:8000")
    add("--model", type=_weighted, action="append", metavar="NAME[=W]", help="needed when the server has several; "
        "repeated with weights it is a mix, of models or LoRA adapters")  # fmt: skip
    add("--tenant", type=_tenant, action="append", metavar="NAME[=W]", help="put this name into the tenant header; "
        "repeated with weights it is a mix")  # fmt: skip
    add("--tenant-header", type=_header_name, default="X-Tenant", metavar="NAME",
        help="the header it goes into (default: %(default)s)")  # fmt: skip
    add("--header", type=_header, action="append", metavar="'NAME: VALUE'", help="send this header with every request")
    add("--api-key-env", metavar="VAR", help="environment variable that holds the API key")
    add("--cacert", metavar="FILE", help="certificates of the authorities to trust instead of the system's")
    add("--proxy", type=_proxy, metavar="URL", help="the proxy that leads there, such as http://user:pw@host:3128 "
        "(default: what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say; this machine is reached directly)")  # fmt: skip
    add("--timeout", type=positive, default=120.0, metavar="S", help="per request (default: %(default)g s)")
    add("--metrics", action="append", metavar="URL", help="/metrics of sidecar, engine or GPU exporter: tells cache "
        "settings and GPU names (default: the target's); KV cache, queue and GPUs are sampled each second")  # fmt: skip


def add_load(parser: argparse.ArgumentParser) -> None:
    """How much to send and when."""
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--rate", type=positive, metavar="R", help="open loop: requests per second, sent on schedule")
    kinds.add_argument("--stages", type=_stages, metavar="STAGES", help="open loop of changing rate: 10:60 is 10/s "
                       "for 60 s, 1..10:60 a ramp, 1..10/4:60 a sweep of 4 levels; comma-joined")  # fmt: skip
    kinds.add_argument("--trace", type=Path, metavar="FILE", help="replay recorded arrivals and lengths: Azure's or "
                       "BurstGPT's CSV, Mooncake's or an own JSONL, or the records of a run")  # fmt: skip
    kinds.add_argument("--concurrency", type=count, metavar="N", help="closed loop: requests in flight")
    add = parser.add_argument
    add("--arrivals", choices=("poisson", "constant", "gamma"), help="gaps of the open loop (default: poisson)")
    add("--burstiness", type=positive, metavar="B", help=f"of gamma: CV of the gaps = 1/sqrt(B) (default: {_BURSTY})")
    add("--speed", type=positive, metavar="X", help="replay the trace X times as fast (default: 1)")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--requests", type=count, metavar="N", help="stop after N requests (conversations, with --turns)")
    end.add_argument("--duration", type=positive, metavar="S", help="stop sending after S seconds")
    add("--workers", type=count, metavar="N", help="processes that share the load (default: as many as it needs)")
    add("--ray", metavar="ADDRESS", help="run the workers as tasks of this Ray cluster ('auto': the one here)")


def add_workload(parser: argparse.ArgumentParser) -> None:
    """What to send."""
    add = parser.add_argument
    add("--prompt-tokens", default="128", metavar="LENGTHS", help=f"prompt lengths: {lengths.HELP} (default: 128)")
    add("--output-tokens", default="128", metavar="LENGTHS", help="answer lengths, likewise (default: 128)")
    add("--prefix-tokens", type=count, metavar="N", help="so many of a prompt's tokens are shared with others")
    add("--prefix-groups", type=count, metavar="N", help="different shared beginnings (default: 1)")
    add("--turns", type=count, metavar="N", help="requests per conversation, each with all that was said before")
    add("--think-time", type=positive, metavar="S", help="from an answer to the conversation's next request")
    add("--prompts", type=Path, metavar="FILE", help='ShareGPT\'s JSON, or lines of {"prompt"} or {"messages"}')
    add(
        "--token-ids", action="store_true", help="send prompts as token ids, for exact lengths (--endpoint completions)"
    )
    add(
        "--tokenizer",
        metavar="NAME",
        help="size prompts and count answers by this tokenizer.json (a file, a folder, a name on the Hugging Face Hub) "
        "instead of by the server's word",
    )
    add("--endpoint", choices=("chat", "completions", "responses"), default="chat",
        help="which API (default: %(default)s)")  # fmt: skip
    add(
        "--body", type=_object, default={}, metavar="JSON", help="fields to put into every request; null leaves one out"
    )
    add("--seed", type=int, default=0, metavar="N", help="of schedule and prompts (default: %(default)s)")


def plan(args: argparse.Namespace) -> Plan:
    """The plan that the arguments make. Raises RunError for files and combinations that cannot be used."""
    rows = _parsed(args.trace, trace.parse, trace.TraceError) if args.trace else None
    dialogues = _parsed(args.prompts, lambda lines: dataset.parse("".join(lines)), dataset.DatasetError)
    models = dict(args.model or ())
    return Plan(
        target=args.target,
        model=next(iter(models)) if len(models) == 1 else None,
        timeout=args.timeout,
        api_key=api_key(args.api_key_env),
        metrics=args.metrics or (),
        headers=dict(args.header or ()),
        cafile=args.cacert,
        proxies=args.proxy or _proxies(),
        workers=args.workers,
        ray=args.ray,
        tokenizer=args.tokenizer,
        files=Files(dialogues=dialogues or (), rows=rows or ()),
        load=_load(args, rows or ()),
        workload=_workload(args, models if len(models) > 1 else {}, rows or ()),
    )


def _load(args: argparse.Namespace, rows: Sequence[trace.Row]) -> Load:
    if args.concurrency and (args.arrivals or args.burstiness):
        raise RunError("--arrivals and --burstiness shape an open loop; give --rate, not --concurrency")
    if rows and (args.arrivals or args.burstiness):
        raise RunError("--arrivals and --burstiness shape a schedule; a --trace has its own")
    if args.burstiness and args.arrivals != "gamma":
        raise RunError("--burstiness belongs to --arrivals gamma")
    if args.speed and not rows:
        raise RunError("--speed belongs to --trace")
    if (args.rate or args.concurrency) and not (args.requests or args.duration):
        raise RunError("when to stop? give --requests or --duration")
    stages = parse_stages(args.stages) if args.stages else ()
    rate = mean_rate(stages) if stages else _rate(rows, args.speed or 1.0) if rows else args.rate
    arrivals: Arrivals | None = "trace" if rows else (args.arrivals or "poisson") if rate else None
    return Load(
        rate=rate,
        arrivals=arrivals,
        burstiness=(args.burstiness or _BURSTY) if arrivals == "gamma" else None,
        concurrency=args.concurrency,
        requests=args.requests,
        duration=args.duration or (sum(stage.seconds for stage in stages) if stages and not args.requests else None),
        stages=args.stages,
        trace=_identity(args.trace) if rows else None,
        speed=args.speed,
    )


def _workload(args: argparse.Namespace, models: Mapping[str, float], rows: Sequence[trace.Row]) -> Workload:
    if args.token_ids and (args.endpoint != "completions" or args.turns or args.prompts):
        raise RunError("--token-ids needs --endpoint completions and synthetic prompts of one turn")
    if args.prefix_groups and not args.prefix_tokens:
        raise RunError("--prefix-groups belongs to --prefix-tokens")
    if args.think_time and not args.turns:
        raise RunError("--think-time belongs to --turns")
    if args.trace and (args.prompts or args.turns):
        raise RunError("--trace has its own prompts; it goes with neither --prompts nor --turns")
    prompt, output = _lengths("--prompt-tokens", args.prompt_tokens), _lengths("--output-tokens", args.output_tokens)
    if args.prefix_tokens and args.prefix_tokens + HEAD > prompt.mean:
        raise RunError(f"--prefix-tokens {args.prefix_tokens} leaves no {HEAD} tokens of --prompt-tokens for the rest")
    told = [[row.prompt_tokens for row in rows], [row.output_tokens for row in rows]]
    means = [round(sum(column) / len(column)) for column in told] if rows else [round(prompt.mean), round(output.mean)]
    return Workload(
        endpoint=args.endpoint,
        prompt_tokens=means[0],
        output_tokens=means[1],
        seed=args.seed,
        salt=secrets.token_hex(4),
        prompt_lengths=_told(args.prompt_tokens, prompt),
        output_lengths=_told(args.output_tokens, output),
        prefix_tokens=args.prefix_tokens,
        prefix_groups=args.prefix_groups,
        turns=args.turns,
        think_time=args.think_time,
        prompts=_identity(args.prompts) if args.prompts else None,
        models=models,
        tenants=dict(args.tenant or ()),
        tenant_header=args.tenant_header if args.tenant else None,
        body=args.body,
        token_ids=args.token_ids or None,
    )


def _rate(rows: Sequence[trace.Row], speed: float) -> float:
    """Mean arrivals per second of a replay."""
    seconds = rows[-1].offset_ns / NS / speed
    return (len(rows) - 1) / seconds if seconds else float(len(rows))


def _told(text: str, found: lengths.Lengths) -> str | None:
    """A distribution as the header of a record tells it: in full, also when it came from a file."""
    if text.isdigit():
        return None
    return lengths.to_text(found) if text.startswith("@") else text


def _lengths(option: str, text: str) -> lengths.Lengths:
    try:
        if text.startswith("@"):
            return lengths.histogram(_lines(Path(text[1:])))
        return lengths.parse(text)
    except ValueError as error:
        raise RunError(f"{option}: {error}") from None


def _proxies() -> proxies.Proxies:
    try:
        return proxies.from_environment(os.environ)
    except ValueError as error:
        raise RunError(str(error)) from None


def _parsed(path: Path | None, parse: Any, problem: type[ValueError]) -> Any:
    if path is None:
        return None
    try:
        return parse(_lines(path))
    except problem as error:
        raise RunError(f"{path}: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RunError(f"{path}: not a text file") from None


def _identity(path: Path) -> str:
    """A file's name and what was in it."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


# --- types of arguments -----------------------------------------------------------------------------------------------


def _stages(text: str) -> str:
    try:
        parse_stages(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _weighted(text: str) -> tuple[str, float]:
    """A name and its weight; a name may hold `=` when no number follows it."""
    name, _, weight = text.rpartition("=")
    try:
        return (name, positive(weight)) if name else (text, 1.0)
    except argparse.ArgumentTypeError:
        return text, 1.0


def _tenant(text: str) -> tuple[str, float]:
    name, weight = _weighted(text)
    if not (name.isascii() and name.isprintable()):
        raise argparse.ArgumentTypeError(f"{name!r} holds characters that no HTTP header can carry")
    return name, weight


def _header_name(text: str) -> str:
    if not re.fullmatch(_HEADER_NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a header")
    return text


def _proxy(text: str) -> proxies.Proxies:
    try:
        found = proxies.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return proxies.Proxies(http=found, https=found)


def _header(text: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'Name: value'")
    return match[1], match[2]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value
