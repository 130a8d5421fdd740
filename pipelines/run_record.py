"""What a pipeline run left in ML Metadata: how each component ended and which artifacts it gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

# The generated module has no types.
mlmd: Any = metadata_store_pb2


def sqlite_config(path: Path) -> Any:
    """The connection to a SQLite file, made when it isn't there."""
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config


@dataclass(frozen=True)
class RunRecord:
    """The last run of a pipeline.

    Args:
      states: component -> `COMPLETE`, `CACHED`, `FAILED`, ...
      artifacts: (component, output) -> artifact; `uri` and `custom_properties` are what matters.
    """

    states: dict[str, str]
    artifacts: dict[tuple[str, str], Any]

    @staticmethod
    def latest(database: Path) -> RunRecord:
        """Reads the newest run.

        Raises:
          ValueError: Nothing has run yet.
        """
        store = metadata_store.MetadataStore(sqlite_config(database))
        runs = store.get_contexts_by_type("pipeline_run")
        if not runs:
            raise ValueError(f"{database} knows of no pipeline run")
        executions = store.get_executions_by_context(max(run.id for run in runs))
        # A type is named by the import path of the component's class.
        names = {kind.id: kind.name.rpartition(".")[2] for kind in store.get_execution_types()}
        component_of = {execution.id: names[execution.type_id] for execution in executions}
        states = {
            component_of[execution.id]: mlmd.Execution.State.Name(execution.last_known_state)
            for execution in executions
        }
        events = [
            event
            for event in store.get_events_by_execution_ids(list(component_of))
            if event.type == mlmd.Event.OUTPUT and event.path.steps
        ]
        by_id = {
            artifact.id: artifact for artifact in store.get_artifacts_by_id([event.artifact_id for event in events])
        }
        artifacts = {
            (component_of[event.execution_id], event.path.steps[0].key): by_id[event.artifact_id] for event in events
        }
        return RunRecord(states, artifacts)

    def uri(self, component: str, output: str) -> Path:
        """Folder of an artifact."""
        return Path(self.artifacts[component, output].uri)

    def property(self, component: str, output: str, name: str) -> str | int:
        """A custom property of an artifact."""
        stored = self.artifacts[component, output].custom_properties[name]
        value: str | int = stored.string_value if stored.HasField("string_value") else stored.int_value
        return value
