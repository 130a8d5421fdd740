"""buildah, a base image made by debootstrap, and processes in the images: what `make images` works with.

The official base images can't be fetched everywhere. A Debian of the same release with its own Python stands in for
them, so what is shown here are the layers that the Dockerfiles add.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/tf-hqgnn-base:bookworm"
TOOLS = ("buildah", "debootstrap", "unshare", "setpriv")
# How this machine reaches its package registries; the images themselves get none of it.
_HOST_SETTINGS = ("/etc/pip.conf", "/etc/apt/apt.conf.d", "/etc/ssl/certs", "/usr/share/ca-certificates")


def missing() -> str:
    """Why images can't be built here; empty if they can."""
    if os.geteuid():
        return "building images with debootstrap and buildah needs root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


def run(*command: object, **options: object) -> str:
    """Standard output of a command that must succeed; its errors go to the terminal or the test's report."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))[:300]}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def make_private(folder: Path) -> None:
    """Gives files and folders the modes that they have under umask 077."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


class Buildah:
    """Images in a store of their own.

    Args:
      folder: gets the store and the base.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = ["--root", folder / "storage", "--runroot", folder / "run"]
        folder.mkdir(parents=True, exist_ok=True)

    def call(self, command: str, *arguments: object) -> str:
        """Runs `buildah COMMAND`."""
        return run("buildah", *self._store, command, *arguments).strip()

    def make_base(self) -> None:
        """Debian with Python 3.11 and pip, as the official image has them, unless it was made before."""
        if self.call("images", "--quiet", "--filter", f"reference={BASE}"):
            return
        tree = self._folder / "base"
        shutil.rmtree(tree, ignore_errors=True)
        packages = "python3,python3-dev,python3-pip,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", tree)
        next(tree.glob("usr/lib/python3.*/EXTERNALLY-MANAGED")).unlink()
        (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        container = self.call("from", "scratch")
        self.call("add", container, tree, "/")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.call("config", "--env", f"PATH={path}", container)
        self.call("commit", "--rm", container, BASE)
        shutil.rmtree(tree)

    def build(self, dockerfile: Path | str, tag: str, *options: object, context: Path = ROOT) -> str:
        """Builds an image; returns its name."""
        settings = [f"--volume={path}:{path}:ro" for path in _HOST_SETTINGS if Path(path).exists()]
        (self._folder / "uv").mkdir(exist_ok=True)
        (self._folder / "uv" / "uv.toml").write_text("system-certs = true\n")
        settings.append(f"--volume={self._folder / 'uv'}:/etc/uv:ro")
        self.call(
            *("build", "--format", "docker", "--layers", "--pull=never", "--isolation=chroot"),
            *(*settings, "--file", dockerfile, "--tag", tag, *options, context),
        )
        return tag

    def inspect(self, image: str) -> dict:
        """The image's configuration, as docker has it."""
        return json.loads(self.call("inspect", "--type", "image", image))["Docker"]

    def layers(self, image: str) -> dict[str, int]:
        """Bytes of each layer by its digest, in order."""
        digests = self.inspect(image)["rootfs"]["diff_ids"]
        stored = json.loads((self._folder / "storage" / "overlay-layers" / "layers.json").read_text())
        sizes = {layer["diff-digest"]: layer["diff-size"] for layer in stored if "diff-digest" in layer}
        return {digest: sizes[digest] for digest in digests}

    def clean(self) -> None:
        """Removes the containers of `mount`; images and layers stay."""
        self.call("rm", "--all")

    def mount(self, image: str) -> Path:
        """The files of an image, in a container that isn't changed by what runs in it read-only."""
        return Path(self.call("mount", self.call("from", "--pull=never", image)))


@dataclass
class Container:
    """How processes of an image are started: in namespaces of their own, without a network, on a read-only root.

    An OCI runtime would do more, and refuses machines whose control groups are of another kind than it expects.

    Args:
      root: the image's files, mounted.
      config: the image's configuration.
      user: uid and gid; the image's own if None.
      mounts: path in the container -> folder of this machine that it may write to.
      readonly: whether the image's files can't be written.
    """

    root: Path
    config: dict
    user: tuple[int, int] | None = None
    mounts: Mapping[str, Path] = field(default_factory=dict)
    readonly: bool = True

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        config = self.config["config"]
        uid, gid = self.user or map(int, config["User"].split(":"))
        given = [*config["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        inside = ["env", "-i", f"--chdir={cwd or config['WorkingDir'] or '/'}", *given, *command]
        start = ["setpriv", "--no-new-privs", "chroot", f"--userspec={uid}:{gid}", "--groups=", str(self.root), *inside]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net"]
        return subprocess.run(
            [*namespaces, "sh", "-ec", f"{self._mount()}\nexec {shlex.join(start)}"],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def _mount(self) -> str:
        root = shlex.quote(str(self.root))
        lines = [
            f"mount --bind {root} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs -o mode=1777,nosuid tmp {root}/tmp",
        ]
        for target, source in self.mounts.items():
            place = shlex.quote(f"{self.root}{target}")
            lines += [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(source))} {place}"]
        if self.readonly:
            lines.append(f"mount -o remount,bind,ro {root}")
        return "\n".join(lines)
