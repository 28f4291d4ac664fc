"""The header of a made-up run."""

from loadgen.results.record import Client, Fingerprint, Header
from loadgen.traffic.arrivals import Load
from loadgen.traffic.workload import Workload


def header(load: Load, timeout: float = 5.0, **workload: object) -> Header:
    """The header of a run with this load."""
    return Header(
        started_unix_ns=0,
        target="http://test",
        timeout=timeout,
        workload=Workload(**{"prompt_tokens": 16, "output_tokens": 4, **workload}),  # type: ignore[arg-type]
        load=load,
        fingerprint=Fingerprint(model="tiny"),
        client=Client(version="0", python="3", event_loop="asyncio", cores=1),
    )
