"""Intel's xpumd 2 (GPUs of the Arc Pro and Data Center lines), whose names follow OpenTelemetry's `hw.*`."""

from slo.gpus.table import named

NAMES = {
    "llm_gpu_utilization_ratio": named("hw_gpu_utilization_ratio", hw_gpu_task="all")
    + named("hw_gpu_utilization_ratio"),
    "llm_gpu_memory_utilization_ratio": named("hw_memory_bandwidth_utilization_ratio"),
    "llm_gpu_memory_used_bytes": named("hw_memory_usage_bytes", hw_memory_location="device")
    + named("hw_memory_usage_bytes"),
    "llm_gpu_memory_free_bytes": named("hw_memory_free_bytes", hw_memory_location="device")
    + named("hw_memory_free_bytes"),
    "llm_gpu_power_watts": named("hw_power_watts", hw_sensor_location="card") + named("hw_power_watts"),
    "llm_gpu_energy_joules_total": named("hw_energy_joules_total", hw_sensor_location="card")
    + named("hw_energy_joules_total"),
    "llm_gpu_temperature_celsius": named("hw_temperature_celsius", hw_sensor_location="gpu"),
    "llm_gpu_memory_temperature_celsius": named("hw_temperature_celsius", hw_sensor_location="memory"),
    "llm_gpu_sm_clock_hertz": named("hw_frequency_hertz", hw_frequency_domain="gpu", aggregation="avg"),
    "llm_gpu_pcie_bytes_total": named("hw_gpu_io_bytes_total", label="transmit", network_io_direction="transmit")
    + named("hw_gpu_io_bytes_total", label="receive", network_io_direction="receive"),
    "llm_gpu_info": named("hw_gpu_info"),
}
