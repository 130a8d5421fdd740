"""Builds the clients in other languages, each by the tools that its users have."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool
from java_parts import FOLDER, HERE

from tf_hqgnn.serving.descriptors import declare_services

_SERVICE = "tensorflow_serving/apis/prediction_service.proto"
# protoc and the runtimes have these.
_OF_PROTOBUF = "google/protobuf/"
_GO_MODULE = "tf_hqgnn/client"


def run(command: Iterable[object], **options) -> str:
    """Runs a program; returns what it printed, and fails with what it said on standard error."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{done.args[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def build_c(source: Path, folder: Path) -> Path:
    """Compiles a program in C against the libraries in TensorFlow's wheel; returns it."""
    wheel, program = Path(tf.__file__).parent, folder / source.stem
    libraries = [next(wheel.glob(f"libtensorflow_{name}.so.*")) for name in ("cc", "framework")]
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{wheel}/include", f"-Wl,-rpath,{wheel}"]
    run(["gcc", *options, source, "-o", program, *libraries])
    return program


def jars(part: str) -> str:
    """The class path of a part of .java."""
    return str(FOLDER / part / "*")


def java_sources(program: str) -> list[Path]:
    """The sources of a program of java/."""
    return [HERE / "java" / f"{name}.java" for name in (program, "Exchange")]


def build_java(sources: Iterable[Path], part: str, folder: Path) -> list[str]:
    """Compiles a program, whose first source has its name; returns the command that runs it, but for its arguments."""
    sources, classes = list(sources), folder / "classes"
    run(["javac", "-proc:none", "-nowarn", "--release", "17", "-cp", jars(part), "-d", classes, *sources])
    # JavaCPP unpacks TensorFlow's libraries, 600 MB, where they stay for the next run.
    unpacked = f"-Dorg.bytedeco.javacpp.cachedir={FOLDER / 'unpacked'}"
    return ["java", unpacked, "-cp", f"{classes}:{jars(part)}", sources[0].stem]


def write_protos(folder: Path) -> tuple[Path, list[str]]:
    """Writes the protos of TF Serving's PredictionService as protoc reads them: `(file, names of those to compile)`."""
    declare_services()
    files = descriptor_pb2.FileDescriptorSet()
    done: set[str] = set()

    def add(name: str) -> None:
        if name not in done:
            done.add(name)
            proto = descriptor_pb2.FileDescriptorProto()
            descriptor_pool.Default().FindFileByName(name).CopyToProto(proto)
            for needed in proto.dependency:
                add(needed)
            files.file.append(proto)

    add(_SERVICE)
    path = folder / "protos.bin"
    path.write_bytes(files.SerializeToString())
    return path, sorted(name for name in done if not name.startswith(_OF_PROTOBUF))


def build_java_grpc(folder: Path) -> list[str]:
    """Makes Java's stubs and compiles the client; returns the command that runs it, but for its arguments."""
    protos, names = write_protos(folder)
    stubs = folder / "stubs"
    stubs.mkdir()
    plugin = _program("protoc-gen-grpc-java", folder)
    out = [f"--java_out={stubs}", f"--grpc-java_out=@generated=omit:{stubs}", f"--plugin=protoc-gen-grpc-java={plugin}"]
    run([_program("protoc", folder), f"--descriptor_set_in={protos}", *out, *names])
    return build_java([*java_sources("GrpcClient"), *sorted(stubs.rglob("*.java"))], "grpc", folder)


def why_no_go() -> str | None:
    """Says why the Go client can't be built; None if it can."""
    if shutil.which("go") is None:
        return "the Go client needs Go 1.24"
    done = subprocess.run(["go", "mod", "download"], cwd=HERE / "go", env=_go(), capture_output=True, check=False)
    return "the modules of the Go client can't be fetched" if done.returncode else None


def _go() -> dict[str, str]:
    return {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}


def make_go_module(folder: Path) -> Path:
    """Copies the Go client and makes its stubs, with modules that go.sum pins; returns the folder of the module."""
    protos, names = write_protos(folder)
    module = folder / "module"
    shutil.copytree(HERE / "go", module)
    plugins = []
    for name in ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"):
        plugin = folder / Path(name).name
        run(["go", "build", "-o", plugin, name], cwd=module, env=_go())
        plugins.append(f"--plugin={plugin.name}={plugin}")
    # One package for each folder of protos.
    folders = {name: Path(name).parent for name in names}
    places = [f"M{name}={_GO_MODULE}/stubs/{place.as_posix()};{place.name}" for name, place in folders.items()]
    options = ",".join([f"module={_GO_MODULE}", *places])
    out = [f"--go_out={options}:{module}", f"--go-grpc_out={options}:{module}"]
    run([_program("protoc", folder), f"--descriptor_set_in={protos}", *plugins, *out, *names])
    return module


def build_go(module: Path, package: str = ".") -> Path:
    """Compiles a package of the module; returns the program."""
    program = module / "bin" / (Path(package).name or "client")
    run(["go", "build", "-o", program, package], cwd=module, env=_go())
    return program


def _program(name: str, folder: Path) -> Path:
    """A program among the files that Maven fetched, made executable."""
    (found,) = (FOLDER / "grpc").glob(f"{name}-[0-9]*.exe")
    program = folder / name
    shutil.copy(found, program)
    program.chmod(0o755)
    return program
