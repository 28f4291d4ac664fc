"""What the tables of GPU names are made of."""

from slo.metric import Upstream

MIB = 1024.0 * 1024.0
# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h), named as dcgm-exporter names them. Bit 1, an idle GPU, is
# left out: nothing holds its clocks down. Bits that are not known show as `other`.
IDLE = 0x001
THROTTLE_REASONS = {
    "clocks_setting": 0x002,
    "power_cap": 0x004,
    "hw_slowdown": 0x008,
    "sync_boost": 0x010,
    "sw_thermal": 0x020,
    "hw_thermal": 0x040,
    "hw_power_brake": 0x080,
    "display_clocks": 0x100,
    "board_limit": 0x200,
    "reliability": 0x400,
}
_OTHER_REASONS = ~(IDLE | sum(THROTTLE_REASONS.values()))


def named(*names: str, scale: float = 1.0, label: str = "", **where: str) -> tuple[Upstream, ...]:
    """Names for the same thing, the first of which is used that is there; the rest as `Upstream` has it."""
    return tuple(Upstream(name, scale=scale, label=label, where=where) for name in names)


def throttle_reasons(bits: int) -> dict[str, bool]:
    """Which reasons hold the clocks down, by name, out of the driver's mask; NVML and DCGM give the same one."""
    known = {reason: bool(bits & bit) for reason, bit in THROTTLE_REASONS.items()}
    return known | ({"other": True} if bits & _OTHER_REASONS else {})
