"""NVML, as nvidia-ml-py 13 names it: field ids (NVML_FI_), GPM metrics (NVML_GPM_), or a function with its argument and
the attribute of its answer."""

from slo.gpus.table import named

_NS = 1e-9
_MEMORY = "nvmlDeviceGetMemoryInfo(nvmlMemory_v2)"

NAMES = {
    "llm_gpu_utilization_ratio": named("nvmlDeviceGetUtilizationRates.gpu", scale=0.01),
    "llm_gpu_memory_utilization_ratio": named("nvmlDeviceGetUtilizationRates.memory", scale=0.01),
    "llm_gpu_memory_used_bytes": named(f"{_MEMORY}.used"),
    "llm_gpu_memory_free_bytes": named(f"{_MEMORY}.free"),
    "llm_gpu_memory_reserved_bytes": named(f"{_MEMORY}.reserved"),
    "llm_gpu_power_watts": named("nvmlDeviceGetPowerUsage", scale=1e-3),
    "llm_gpu_power_limit_watts": named("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
    "llm_gpu_energy_joules_total": named(
        "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "nvmlDeviceGetTotalEnergyConsumption", scale=1e-3
    ),
    "llm_gpu_temperature_celsius": named(
        "nvmlDeviceGetTemperatureV(NVML_TEMPERATURE_GPU)", "nvmlDeviceGetTemperature(NVML_TEMPERATURE_GPU)"
    ),
    "llm_gpu_memory_temperature_celsius": named("NVML_FI_DEV_MEMORY_TEMP"),
    "llm_gpu_sm_clock_hertz": named("nvmlDeviceGetClockInfo(NVML_CLOCK_SM)", scale=1e6),
    "llm_gpu_memory_clock_hertz": named("nvmlDeviceGetClockInfo(NVML_CLOCK_MEM)", scale=1e6),
    "llm_gpu_graphics_active_ratio": named("NVML_GPM_METRIC_GRAPHICS_UTIL", scale=0.01),
    "llm_gpu_sm_active_ratio": named("NVML_GPM_METRIC_SM_UTIL", scale=0.01),
    "llm_gpu_tensor_active_ratio": named("NVML_GPM_METRIC_ANY_TENSOR_UTIL", scale=0.01),
    "llm_gpu_dram_active_ratio": named("NVML_GPM_METRIC_DRAM_BW_UTIL", scale=0.01),
    "llm_gpu_throttled": named("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
    "llm_gpu_throttled_seconds_total": named("NVML_FI_DEV_PERF_POLICY_POWER", scale=_NS, label="power_cap")
    + named("NVML_FI_DEV_PERF_POLICY_THERMAL", scale=_NS, label="thermal")
    + named("NVML_FI_DEV_PERF_POLICY_SYNC_BOOST", scale=_NS, label="sync_boost")
    + named("NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT", scale=_NS, label="board_limit")
    + named("NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION", scale=_NS, label="low_utilization")
    + named("NVML_FI_DEV_PERF_POLICY_RELIABILITY", scale=_NS, label="reliability")
    + named("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", scale=_NS, label="sw_thermal")
    + named("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", scale=_NS, label="hw_thermal")
    + named("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", scale=_NS, label="hw_power_brake"),
    "llm_gpu_ecc_errors_total": named("NVML_FI_DEV_ECC_SBE_AGG_TOTAL", label="corrected")
    + named("NVML_FI_DEV_ECC_DBE_AGG_TOTAL", label="uncorrected"),
    "llm_gpu_remapped_rows_total": named("NVML_FI_DEV_REMAPPED_COR", label="corrected")
    + named("NVML_FI_DEV_REMAPPED_UNC", label="uncorrected"),
    "llm_gpu_row_remap_pending": named("NVML_FI_DEV_REMAPPED_PENDING"),
    "llm_gpu_row_remap_failure": named("NVML_FI_DEV_REMAPPED_FAILURE"),
    "llm_gpu_pcie_replays_total": named("NVML_FI_DEV_PCIE_REPLAY_COUNTER", "nvmlDeviceGetPcieReplayCounter"),
    "llm_gpu_pcie_bytes_total": named("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", label="transmit")
    + named("NVML_FI_DEV_PCIE_COUNT_RX_BYTES", label="receive"),
    # The older fields count KiB, the newer ones bytes.
    "llm_gpu_nvlink_bytes_total": named("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", scale=1024, label="transmit")
    + named("NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES", label="transmit")
    + named("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", scale=1024, label="receive")
    + named("NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES", label="receive"),
    "llm_gpu_last_xid": named("nvmlEventSetWait_v2"),
    "llm_gpu_xid_errors_total": named("nvmlEventSetWait_v2"),
    "llm_gpu_xid_last_seen_timestamp_seconds": named("nvmlEventSetWait_v2"),
    "llm_gpu_recovery_action": named("NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"),
    "llm_gpu_process_memory_bytes": named("nvmlDeviceGetComputeRunningProcesses_v3"),
}
