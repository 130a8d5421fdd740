"""What Beam's images have as `boot`: asks the engine where everything is, then is the Python worker."""

import argparse
import os
import warnings

warnings.filterwarnings("ignore")

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format, text_format


def main() -> None:
    """Runs the worker in this process: another one would import Beam again, which is half of the time to start."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("id", "provision_endpoint", "control_endpoint", "logging_endpoint"):
        parser.add_argument(f"--{name}")
    options, _ = parser.parse_known_args()
    # Prism puts quotes around it, which no shell takes away.
    options.id = options.id.strip("'")
    channel = grpc.intercept_channel(grpc.insecure_channel(options.provision_endpoint), WorkerIdInterceptor(options.id))
    provision = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
    request = beam_provision_api_pb2.GetProvisionInfoRequest()
    info = provision.GetProvisionInfo(request, timeout=60).info
    os.environ |= {
        "WORKER_ID": options.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint.url or options.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.logging_endpoint.url or options.logging_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    channel.close()
    sdk_worker_main.main([])


def _descriptor(url: str) -> str:
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))


if __name__ == "__main__":
    main()
