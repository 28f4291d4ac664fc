"""The stages of a run apart: which requests were due in each."""

from collections.abc import Iterator
from dataclasses import replace

from loadgen.results.record import Recording
from loadgen.traffic.arrivals import NS, Stage, parse_stages


def levels(recording: Recording) -> Iterator[tuple[Stage, Recording]]:
    """Each stage of the load with the requests that were due in it; none for a load of one rate."""
    begin = 0.0
    for stage in parse_stages(recording.header.load.stages) if recording.header.load.stages else ():
        end = begin + stage.seconds
        due = tuple(record for record in recording.records if begin * NS <= record.scheduled_ns < end * NS)
        yield stage, replace(recording, records=due)
        begin = end
