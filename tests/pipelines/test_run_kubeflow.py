"""The command line, and what it writes: a PipelineSpec that TFX's and Kubeflow's own readers take."""

from __future__ import annotations

import copy
import inspect
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import kfp
import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines import run_kubeflow
from pipelines.kubeflow_lint import lint
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.tfx.trainer import read_settings

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example:5000/team/tf-hqgnn:1.2"
STEPS = """
all:
  {cpu: 2, cpu_request: 1, memory_gb: 8, memory_request_gb: 6, retries: 1,
   kubernetes: {imagePullSecret: [{secretName: pull}]}}
Trainer:
  image: example/tf-hqgnn-gpu:1
  memory_gb: 64
  gpu: 1
  vertex_gpu_type: NVIDIA_L4
  retries: 0
  kubernetes:
    nodeSelector: {labels: {pool: gpu}}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    secretAsEnv: [{secretName: tracking, keyToEnv: [{secretKey: token, envVar: TOKEN}]}]
Pusher: {kubernetes: {pvcMount: [{constant: models, mountPath: /mnt/models}]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "steps.yaml").write_text(STEPS)
    return folder


def compile_to(folder: Path, name: str, *options: str) -> list[dict]:
    arguments = ["--image", IMAGE, "--out", str(folder / name), "--data", "/mnt/data/log.csv"]
    with redirect_stdout(io.StringIO()) as out:
        assert run_kubeflow.main([*arguments, *options]) == 0
    assert str(folder / name) in out.getvalue()
    return list(yaml.safe_load_all((folder / name).read_text()))


@pytest.fixture(scope="module")
def documents(folder):
    options = ["--platform", "both", "--pipeline-root", "gs://bucket/root", "--steps", str(folder / "steps.yaml")]
    return compile_to(folder, "pipeline.yaml", *options, "--min-lift", "1.5", "--items", "/mnt/data/items.csv")


@pytest.fixture(scope="module")
def spec(documents):
    return documents[0]


@pytest.fixture(scope="module")
def vertex(documents, folder):  # noqa: ARG001  Compiling writes it.
    return json.loads((folder / "pipeline.vertex.json").read_text())


def parse(spec: dict) -> tuple[pipeline_spec_pb2.PipelineSpec, pipeline_spec_pb2.PipelineDeploymentConfig]:
    """As strict as Kubeflow's backend: unknown fields are mistakes."""
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    return parsed, json_format.ParseDict(spec["deploymentSpec"], deployment)


def containers(spec: dict) -> dict[str, pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec]:
    executors = parse(spec)[1].executors
    return {label.removesuffix("_executor"): executor.container for label, executor in executors.items()}


def test_both_forms_are_pipeline_specs_of_schema_2_1(spec, vertex):
    for form in (spec, vertex["pipelineSpec"]):
        parsed, deployment = parse(form)
        assert parsed.schema_version == "2.1.0"
        assert parsed.pipeline_info.name == "tf-hqgnn"
        tasks = parsed.root.dag.tasks
        assert len(tasks) >= 10
        assert {task.component_ref.name for task in tasks.values()} == set(parsed.components)
        # Neither Resolver nor importer nor a custom job.
        assert {executor.WhichOneof("spec") for executor in deployment.executors.values()} == {"container"}
    assert json_format.ParseDict(vertex, pipeline_spec_pb2.PipelineJob()).runtime_config.gcs_output_directory == (
        "gs://bucket/root"
    )


@pytest.mark.usefixtures("documents")
def test_kfp_loads_it(folder):
    component = components.load_component_from_file(str(folder / "pipeline.yaml"))
    assert component.name == "tf-hqgnn"
    inputs = component.component_spec.inputs
    assert set(inputs) == {"data_path", "items_path", "max_epochs", "thresholds", "serving_dir", "model_store"}
    assert all(spec.optional for spec in inputs.values())
    assert (inputs["data_path"].default, inputs["max_epochs"].default) == ("/mnt/data/log.csv", 0)
    assert inputs["serving_dir"].default == "/mnt/models"
    # Thresholds in full, so that an operator sees what there is.
    assert json.loads(inputs["thresholds"].default) == Thresholds(min_lift=1.5).model_dump()
    assert set(component.platform_spec.platforms) == {"kubernetes"}


def test_images_and_resources_of_each_step(spec, vertex):
    found = containers(spec)
    assert {name: container.image for name, container in found.items() if container.image != IMAGE} == {
        "Trainer": "example/tf-hqgnn-gpu:1"
    }
    trainer = found.pop("Trainer").resources
    assert (trainer.cpu_limit, trainer.memory_limit) == (2, 64)
    assert (trainer.cpu_request, trainer.memory_request) == (1, 6)
    assert (trainer.accelerator.type, trainer.accelerator.count) == ("nvidia.com/gpu", 1)
    for container in found.values():
        assert (container.resources.cpu_limit, container.resources.memory_limit) == (2, 8)
        assert not container.resources.HasField("accelerator")
    on_vertex = containers(vertex["pipelineSpec"])["Trainer"].resources
    assert on_vertex.accelerator.type == "NVIDIA_L4"
    # Vertex knows limits alone.
    assert (on_vertex.cpu_limit, on_vertex.cpu_request, on_vertex.memory_request) == (2, 0, 0)


def test_every_container_runs_our_entry_point(spec):
    for container in containers(spec).values():
        assert list(container.command) == ["python", "-m", "tf_hqgnn.tfx.kubeflow_step"]
        assert container.args[0] == "--executor_class_path"


def test_what_only_kubernetes_knows_is_in_the_second_document_and_not_vertexs(documents, vertex):
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(documents[0]["deploymentSpec"]["executors"])
    pull = {"imagePullSecret": [{"secretName": "pull"}]}
    assert executors["Pusher_executor"] == pull | {"pvcMount": [{"constant": "models", "mountPath": "/mnt/models"}]}
    assert executors["Trainer_executor"] == pull | {
        "nodeSelector": {"labels": {"pool": "gpu"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "secretAsEnv": [{"secretName": "tracking", "keyToEnv": [{"secretKey": "token", "envVar": "TOKEN"}]}],
    }
    assert "kubernetes" not in json.dumps(vertex)


def test_run_time_parameters_reach_the_steps_that_use_them(spec):
    reached = {
        (task, parameter): source["componentInputParameter"]
        for task, definition in spec["root"]["dag"]["tasks"].items()
        for parameter, source in definition["inputs"].get("parameters", {}).items()
        if "componentInputParameter" in source
    }
    # A parameter keeps its name, wherever it goes.
    assert all(parameter == name for (_, parameter), name in reached.items())
    expected = {
        ("InteractionGen", "data_path"),
        ("InteractionGen", "items_path"),
        ("Trainer", "max_epochs"),
        ("RankingEvaluator", "thresholds"),
        ("RankingEvaluator", "model_store"),
        ("Pusher", "serving_dir"),
        ("Pusher", "model_store"),
    }
    assert expected <= set(reached)


@pytest.mark.parametrize(("given", "expected"), [(0, (30, 10)), (3, (3, 3))])
def test_an_operator_s_epochs_hold_for_warm_starts_too(given, expected):
    training = read_settings("training: {max_epochs: 30, warm_epochs: 10}", given).training
    assert (training.max_epochs, training.warm_epochs) == expected


def test_steps_are_retried_as_asked(spec):
    tasks = parse(spec)[0].root.dag.tasks
    assert {name: task.retry_policy.max_retry_count for name, task in tasks.items()} == {
        name: int(name != "Trainer") for name in tasks
    }


def test_nothing_is_taken_from_an_earlier_run(spec, vertex):
    """The log and the model store may have changed, and neither Kubeflow nor Vertex looks into them."""
    for form in (spec, vertex["pipelineSpec"]):
        assert not [name for name, task in parse(form)[0].root.dag.tasks.items() if task.caching_options.enable_cache]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--out", "/proc/p.yaml"],
            "--out /proc/p.yaml: No such file or directory; expected a file that can be written",
        ),
        (["--steps", "no.yaml"], "--steps no.yaml: No such file or directory; expected a YAML file that can be read"),
        (["--steps", "{gpu}"], "steps.yaml: Trainer has gpu: 1 and no vertex_gpu_type; give one: NVIDIA_L4, .."),
        (
            ["--steps", "{vertex_gpu}"],
            "Kubeflow would refuse the pipeline: Trainer: accelerator 'NVIDIA_L4' is no resource of Kubernetes",
        ),
        (["--steps", "{image}"], "steps.yaml: Pusher.image 'Image': expected an image as HOST/NAME:TAG"),
    ],
)
def test_mistakes_that_only_the_pipeline_shows_are_told_in_one_line(arguments, message, tmp_path, capsys):
    mistakes = {
        "gpu": "Trainer: {gpu: 1}",
        "vertex_gpu": "Trainer: {gpu: 1, gpu_type: NVIDIA_L4}",
        "image": "Pusher: {image: Image}",
    }
    for name, steps in mistakes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "steps.yaml").write_text(steps)
    places = {name: tmp_path / name / "steps.yaml" for name in mistakes}
    options = ["--image", IMAGE, "--out", str(tmp_path / "p.yaml"), "--data", "/gcs/bucket/log.csv"]
    options += ["--platform", "both", "--pipeline-root", "gs://bucket/root"]
    assert run_kubeflow.main([*options, *(argument.format(**places) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_the_root_is_told_to_kubeflow_s_form_and_the_operator(folder, capsys):
    """Kubeflow's API server doesn't read it from the file; the call that is printed passes it."""
    out = folder / "rooted.yaml"
    options = [
        "--image",
        IMAGE,
        "--out",
        str(out),
        "--data",
        "/mnt/data/log.csv",
        "--pipeline-root",
        "s3://bucket/root",
    ]
    assert run_kubeflow.main(options) == 0
    assert yaml.safe_load(out.read_text().split("\n---\n")[0])["defaultPipelineRoot"] == "s3://bucket/root"
    printed = capsys.readouterr().out
    assert "Only Kubeflow's web form reads the pipeline root from rooted.yaml." in printed
    (call,) = re.findall(r'kfp\.Client\("URL"\)\.(\w+)\((.*)\)', printed)
    assert call[1] == f'"{out}", pipeline_root="s3://bucket/root"'
    assert "pipeline_root" in inspect.signature(getattr(kfp.Client, call[0])).parameters


def test_a_run_with_kubeflow_s_own_root_is_told_nothing(folder, capsys):
    compile_to(folder, "plain.yaml")
    assert "pipeline root" not in capsys.readouterr().out


def test_the_installation_s_root_is_the_default(folder):
    assert "defaultPipelineRoot" not in compile_to(folder, "plain.yaml")[0]


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_setting_needs_more_of_the_specification(config, folder):
    if config.stem in ("smoke", "gowalla"):
        assert lint(compile_to(folder, "other.yaml", "--config", str(config), "--set", "data.format=csv")) == []


class TestLint:
    """What open-source Kubeflow refuses is found in what was compiled, once it is in there."""

    def test_finds_nothing_in_what_is_compiled(self, documents):
        assert lint(documents) == []
        assert lint(documents[:1]) == []

    @staticmethod
    def executor(spec: dict, name: str = "Trainer") -> dict:
        return spec["deploymentSpec"]["executors"][f"{name}_executor"]

    @staticmethod
    def task(spec: dict, name: str = "Trainer") -> dict:
        return spec["root"]["dag"]["tasks"][name]

    @pytest.mark.parametrize(
        ("mutate", "message"),
        [
            (lambda s, _t: s.update(schemaVersion="2.0.0"), "schemaVersion is 2.0.0, Kubeflow takes 2.1.0"),
            (lambda s, _t: s["pipelineInfo"].update(name="tf_hqgnn"), "pipelineInfo.name is 'tf_hqgnn'"),
            (lambda s, _t: s.update(defaultPipelineRoot="/mnt/root"), "launcher knows gs://, s3:// and minio:// only"),
            (
                lambda s, t: t.executor(s).update(resolver=t.executor(s).pop("container")),
                "Trainer: executor is resolver; Kubeflow runs containers and importers only",
            ),
            (
                lambda s, t: t.executor(s).update(customJob=t.executor(s).pop("container")),
                "Trainer: executor is customJob",
            ),
            (lambda s, t: t.executor(s)["container"].pop("image"), "Trainer: no image"),
            (lambda s, t: t.executor(s)["container"].pop("command"), "Trainer: no command"),
            (lambda s, t: t.executor(s)["container"]["args"].append(4), "Trainer: argument 4 is no string"),
            (
                lambda s, t: t.executor(s)["container"]["args"].append("{{$.pipeline.name}}"),
                "Trainer: placeholder {{$.pipeline.name}} is unknown",
            ),
            (
                lambda s, t: t.executor(s)["container"]["args"].append("{{$.inputs.parameters['epochs']}}"),
                "names nothing that the component has",
            ),
            (
                lambda s, t: t.executor(s)["container"].update(lifecycle={"preCacheCheck": {"command": ["driver"]}}),
                "the driver of a file-based ExampleGen) is never run",
            ),
            (
                lambda s, t: t.executor(s)["container"]["resources"]["accelerator"].update(type="NVIDIA_TESLA_T4"),
                "accelerator 'NVIDIA_TESLA_T4' is no resource of Kubernetes, such as nvidia.com/gpu",
            ),
            (
                lambda s, t: t.executor(s)["container"]["resources"]["accelerator"].pop("count"),
                "Trainer: an accelerator without a count",
            ),
            (
                lambda s, t: t.executor(s)["container"]["resources"].update(memoryLimit=-1.0),
                "memoryLimit is -1.0, expected a positive number",
            ),
            (
                lambda s, t: (
                    t.executor(s).update(
                        importer={"typeSchema": {"schemaTitle": "acme.Log"}},
                        **{"container": t.executor(s).pop("container")},
                    )
                    or t.executor(s).pop("container")
                ),
                "Trainer: importer: type acme.Log is unknown",
            ),
            (
                lambda s, _t: s["components"]["Trainer"]["outputDefinitions"]["artifacts"]["model"].update(
                    artifactType={"schemaUri": "example/schema.yaml"}
                ),
                "Trainer: artifact model: schemaUri isn't supported",
            ),
            (
                lambda s, _t: s["components"]["Trainer"]["outputDefinitions"]["artifacts"]["model"].update(
                    artifactType={"instanceSchema": "type: object\n"}
                ),
                "its type has no title",
            ),
            (
                lambda s, _t: s["components"]["Trainer"]["inputDefinitions"]["parameters"]["run_fn"].update(
                    parameterType="PARAMETER_TYPE_ENUM_UNSPECIFIED"
                ),
                "Trainer: parameter run_fn: parameterType is PARAMETER_TYPE_ENUM_UNSPECIFIED",
            ),
            (
                lambda s, _t: s["root"]["inputDefinitions"]["parameters"]["max_epochs"].update(defaultValue="10"),
                "root: parameter max_epochs: defaultValue '10' is no NUMBER_INTEGER",
            ),
            (
                lambda s, _t: s["root"]["inputDefinitions"]["parameters"]["max_epochs"].update(defaultValue=True),
                "defaultValue True is no NUMBER_INTEGER",
            ),
            (
                lambda s, _t: s["root"]["inputDefinitions"]["parameters"].pop("data_path"),
                "InteractionGen: parameter data_path: the pipeline has no parameter data_path",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["parameters"].update(
                    run_fn={"runtimeValue": {"constantValue": {"stringValue": "f"}}}
                ),
                "expected a constant (schema 2.1.0)",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["parameters"].update(run_fn={"taskFinalStatus": {}}),
                "Trainer: parameter run_fn: taskFinalStatus isn't supported",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["parameters"].pop("run_fn"),
                "Trainer: parameter run_fn has no value",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["artifacts"].pop("examples"),
                "Trainer: artifact examples has no source",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["artifacts"]["examples"]["taskOutputArtifact"].update(
                    producerTask="Resolver"
                ),
                "Trainer: artifact examples: no task is called Resolver",
            ),
            (
                lambda s, t: t.task(s)["inputs"]["artifacts"]["examples"]["taskOutputArtifact"].update(
                    outputArtifactKey="logs"
                ),
                "Trainer: artifact examples: Transform has no output logs",
            ),
            (
                lambda s, t: t.task(s)["dependentTasks"].remove("Transform"),
                "comes from Transform, for which the task doesn't wait",
            ),
            (lambda s, t: t.task(s)["dependentTasks"].append("Pusher"), "tasks wait for each other: "),
            (lambda s, t: t.task(s)["dependentTasks"].append("Nobody"), "Trainer: waits for Nobody, which isn't there"),
            (lambda s, t: t.task(s)["componentRef"].update(name="Tuner"), "Trainer: no component is called Tuner"),
            (lambda s, _t: s["components"]["Trainer"].update(executorLabel="x"), "Trainer: no executor is called x"),
            (lambda s, _t: s["components"].update(root=s["components"]["Trainer"]), "a component is called root"),
            (
                lambda s, t: s["root"]["dag"]["tasks"].update({"Train it": t.task(s)}),
                "task 'Train it': expected letters, digits and hyphens",
            ),
            (lambda s, _t: s["root"]["dag"]["tasks"].clear(), "root has no tasks"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_finds_what_is_broken_in_the_pipeline(self, documents, mutate, message):
        broken = copy.deepcopy(documents)
        mutate(broken[0], TestLint)
        # As a reader of the file finds it.
        assert message in "\n".join(lint(list(yaml.safe_load_all(yaml.safe_dump_all(broken)))))

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            ({"platforms": {"vertex": {}}}, "the second document isn't `platforms: {kubernetes: ..}`"),
            ({"Tuner_executor": {}}, "kubernetes: no executor is called Tuner_executor"),
            ({"Trainer_executor": {"nodeSelectors": {}}}, "kubernetes: Trainer_executor.nodeSelectors: no such field"),
            ({"Trainer_executor": {"nodeSelector": {"labels": {"gpu": True}}}}, "should be a valid string, got True"),
            (
                {"Trainer_executor": {"tolerations": [{"key": "gpu", "operator": "Like"}]}},
                "Trainer_executor.tolerations.0.operator: Input should be 'Equal' or 'Exists', got 'Like'",
            ),
        ],
    )
    def test_finds_what_is_broken_in_the_second_document(self, spec, second, message):
        if "platforms" not in second:
            second = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": second}}}}
        assert message in "\n".join(lint([spec, second]))

    def test_more_documents_are_refused(self, documents):
        assert lint([*documents, {}]) == ["3 documents, expected a PipelineSpec and at most one with `platforms`"]
