"""NVIDIA's dcgm-exporter, old names first: DCGM 4.6 renamed hundreds of fields and kept the old names as aliases."""

from slo.gpus.table import MIB, named

_NS = 1e-9

NAMES = {
    # 0..100, whatever the newer name says.
    "llm_gpu_utilization_ratio": named("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO", scale=0.01),
    "llm_gpu_memory_utilization_ratio": named("DCGM_FI_DEV_MEM_COPY_UTIL", scale=0.01),
    "llm_gpu_memory_used_bytes": named("DCGM_FI_DEV_FB_USED", scale=MIB),
    "llm_gpu_memory_free_bytes": named("DCGM_FI_DEV_FB_FREE", scale=MIB),
    "llm_gpu_memory_reserved_bytes": named("DCGM_FI_DEV_FB_RESERVED", scale=MIB),
    "llm_gpu_power_watts": named("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_BOARD_POWER_WATTS"),
    "llm_gpu_power_limit_watts": named(
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS",
        "DCGM_FI_DEV_POWER_MGMT_LIMIT",
        "DCGM_FI_DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS",
    ),
    "llm_gpu_energy_joules_total": named("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", scale=1e-3),
    "llm_gpu_temperature_celsius": named("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_TEMP_CELSIUS"),
    "llm_gpu_memory_temperature_celsius": named("DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS"),
    "llm_gpu_sm_clock_hertz": named("DCGM_FI_DEV_SM_CLOCK", scale=1e6),
    "llm_gpu_memory_clock_hertz": named("DCGM_FI_DEV_MEM_CLOCK", scale=1e6),
    "llm_gpu_graphics_active_ratio": named("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO"),
    "llm_gpu_sm_active_ratio": named("DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_SM_UTIL_RATIO"),
    "llm_gpu_tensor_active_ratio": named("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_TENSOR_UTIL_RATIO"),
    "llm_gpu_dram_active_ratio": named("DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_DRAM_UTIL_RATIO"),
    "llm_gpu_throttled": named("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    "llm_gpu_throttled_seconds_total": named("DCGM_FI_DEV_POWER_VIOLATION", scale=_NS, label="power_cap")
    + named("DCGM_FI_DEV_THERMAL_VIOLATION", scale=_NS, label="thermal")
    + named("DCGM_FI_DEV_SYNC_BOOST_VIOLATION", scale=_NS, label="sync_boost")
    + named("DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", scale=_NS, label="board_limit")
    + named("DCGM_FI_DEV_LOW_UTIL_VIOLATION", scale=_NS, label="low_utilization")
    + named("DCGM_FI_DEV_RELIABILITY_VIOLATION", scale=_NS, label="reliability"),
    "llm_gpu_ecc_errors_total": named(
        "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", label="corrected"
    )
    + named("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", label="uncorrected"),
    "llm_gpu_remapped_rows_total": named(
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL", label="corrected"
    )
    + named(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL", label="uncorrected"
    ),
    "llm_gpu_row_remap_pending": named("DCGM_FI_DEV_ROW_REMAP_PENDING"),
    "llm_gpu_row_remap_failure": named("DCGM_FI_DEV_ROW_REMAP_FAILURE", "DCGM_FI_DEV_ROW_REMAP_FAILED"),
    "llm_gpu_pcie_replays_total": named("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "DCGM_FI_DEV_PCIE_REPLAY_TOTAL"),
    "llm_gpu_pcie_bytes_per_second": named("DCGM_FI_PROF_PCIE_TX_BYTES", label="transmit")
    + named("DCGM_FI_PROF_PCIE_RX_BYTES", label="receive"),
    # DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL is left out: its unit is not stated, and both directions are in it.
    "llm_gpu_nvlink_bytes_per_second": named("DCGM_FI_PROF_NVLINK_TX_BYTES", label="transmit")
    + named("DCGM_FI_PROF_NVLINK_RX_BYTES", label="receive"),
    "llm_gpu_last_xid": named("DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_XID_ERROR"),
}
