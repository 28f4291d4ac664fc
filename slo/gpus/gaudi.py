"""Intel Gaudi's metric exporter. Its page names few units; those of HLML, the library below it, are taken."""

from slo.gpus.table import named

NAMES = {
    "llm_gpu_utilization_ratio": named("habanalabs_utilization", scale=0.01),
    "llm_gpu_memory_used_bytes": named("habanalabs_memory_used_bytes"),
    "llm_gpu_memory_free_bytes": named("habanalabs_memory_free_bytes"),
    "llm_gpu_power_watts": named("habanalabs_power_mW", scale=1e-3),
    "llm_gpu_power_limit_watts": named("habanalabs_power_default_limit_mW", scale=1e-3),
    "llm_gpu_energy_joules_total": named("habanalabs_energy", scale=1e-3),
    "llm_gpu_temperature_celsius": named("habanalabs_temperature_onchip"),
    "llm_gpu_sm_clock_hertz": named("habanalabs_clock_soc_mhz", scale=1e6),
    "llm_gpu_pcie_replays_total": named("habanalabs_pcie_replay_count"),
}
