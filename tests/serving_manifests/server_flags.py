"""The flags of tensorflow_model_server, from main.cc of TF Serving 2.16 and the commands in serving/."""

from __future__ import annotations

# Those of main.cc that a deployment may want; the real server ignores a mistyped one, but for a line in its log.
KNOWN = frozenset(
    [
        "port",
        "rest_api_port",
        "rest_api_num_threads",
        "rest_api_timeout_in_ms",
        "enable_batching",
        "batching_parameters_file",
        "enable_per_model_batching_parameters",
        "allow_version_labels_for_unavailable_models",
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "model_name",
        "model_base_path",
        "num_load_threads",
        "num_unload_threads",
        "max_num_load_retries",
        "load_retry_interval_micros",
        "file_system_poll_wait_seconds",
        "flush_filesystem_caches",
        "tensorflow_session_parallelism",
        "tensorflow_session_config_file",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "ssl_config_file",
        "per_process_gpu_memory_fraction",
        "grpc_channel_arguments",
        "grpc_max_threads",
        "enable_model_warmup",
        "num_request_iterations_for_warmup",
        "monitoring_config_file",
        "xla_cpu_compilation_enabled",
        "enable_grpc_healthcheck_service",
        "enable_profiler",
    ]
)


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Flags by name, and what is wrong with the command whoever runs it."""
    flags, problems = {}, []
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not value or name not in KNOWN:
            problems.append(f"unknown flag {argument}")
        flags[name] = value
    needed = ("xla_cpu_compilation_enabled", "enable_grpc_healthcheck_service")
    problems += [f"--{name}=true is missing" for name in needed if flags.get(name) != "true"]
    if "model_config_file" in flags and flags.get("allow_version_labels_for_unavailable_models") != "true":
        problems.append("labels can't be read at start without --allow_version_labels_for_unavailable_models=true")
    if "model_config_file_poll_wait_seconds" in flags:
        problems.append("polling the config file undoes what serving/label.py did")
    # TF Serving's batching session refuses scalars, such as `k` of `recommend`.
    if flags.get("enable_batching", "false") != "false":
        problems.append("--enable_batching makes every request with a scalar k fail")
    return flags, problems
