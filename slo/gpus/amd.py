"""AMD's device-metrics-exporter, MI2xx and MI3xx. Every family of it is a gauge; its MB are MiB."""

from slo.gpus.table import MIB, named

NAMES = {
    "llm_gpu_utilization_ratio": named("gpu_gfx_activity", "gpu_gfx_busy_instantaneous", scale=0.01),
    "llm_gpu_memory_utilization_ratio": named("gpu_umc_activity", scale=0.01),
    "llm_gpu_memory_used_bytes": named("gpu_used_vram", scale=MIB),
    "llm_gpu_memory_free_bytes": named("gpu_free_vram", scale=MIB),
    "llm_gpu_power_watts": named("gpu_package_power", "gpu_average_package_power", "gpu_power_usage"),
    "llm_gpu_energy_joules_total": named("gpu_energy_consumed", scale=1e-6),
    "llm_gpu_temperature_celsius": named("gpu_junction_temperature", "gpu_edge_temperature"),
    "llm_gpu_memory_temperature_celsius": named("gpu_memory_temperature"),
    "llm_gpu_sm_clock_hertz": named("gpu_clock", scale=1e6, clock_type="GPU_CLOCK_TYPE_SYSTEM"),
    "llm_gpu_memory_clock_hertz": named("gpu_clock", scale=1e6, clock_type="GPU_CLOCK_TYPE_MEMORY"),
    "llm_gpu_sm_active_ratio": named("gpu_prof_sm_active", scale=0.01),
    "llm_gpu_tensor_active_ratio": named("gpu_prof_tensor_active_percent", scale=0.01),
    "llm_gpu_ecc_errors_total": named("gpu_ecc_correct_total", label="corrected")
    + named("gpu_ecc_uncorrect_total", label="uncorrected"),
    "llm_gpu_pcie_replays_total": named("pcie_replay_count"),
}
