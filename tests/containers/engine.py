"""A container engine of its own for the tests, with stand-ins for the images of a registry.

Needs root and Debian's packages docker.io, docker-compose and debootstrap; `make containers` installs them. Images and
layers stay in `FOLDER` for the next run.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock

from tests.servers import ROOT, until

FOLDER: Final = Path(os.environ.get("PANELWORKS_CONTAINERS", "/var/tmp/panelworks-containers"))  # noqa: S108 - ours
STANDINS: Final = Path(__file__).parent / "standins"
IMAGE: Final = "panelworks:cpu"
_BASE: Final = "python:3.11-slim-bookworm"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_STANDINS: Final = {
    "postgres:16-bookworm": "postgres",
    "redis:7-bookworm": "redis",
    "pgsty/silo:RELEASE.2026-09-16T00-00-00Z": "objects",
}
"""Images of compose.yaml, and the targets of standins/Dockerfile that replace them."""
_PROGRAMS: Final = ("/usr/sbin/dockerd", "/usr/bin/docker", "docker-compose", "debootstrap")
"""With their folders where another program of the name may come first in PATH."""


def find_obstacle() -> str | None:
    """Why no engine can run here; None if one can."""
    if os.getuid() != 0:
        return "a container engine needs root"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class EngineUnavailable(Exception):
    """The daemon does not start on this machine."""


class Engine:
    """Docker's daemon on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = f"unix://{folder}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "1"}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the daemon for a block. It changes no firewall rule of the machine.

        Raises:
            EngineUnavailable: the kernel lacks something, or this process lacks rights.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = ["/usr/sbin/dockerd", "--iptables=false", "--ip6tables=false", "--host", self.socket]
        command += ["--data-root", f"{self._folder}/data", "--exec-root", f"{self._folder}/exec"]
        with (self._folder / "dockerd.log").open("wb") as log:
            daemon = subprocess.Popen([*command, "--pidfile", f"{self._folder}/pid"], stdout=log, stderr=log)
        try:
            until(lambda: self._answers() or daemon.poll() is not None, 60)
            if daemon.poll() is not None:
                raise EngineUnavailable((self._folder / "dockerd.log").read_text()[-2000:])
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)

    def docker(self, *arguments: str, timeout: float = 120) -> str:
        """Run `docker` and return what it printed on both streams."""
        done = subprocess.run(
            ["/usr/bin/docker", *arguments], env=self.environment, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-3000:]}"
        return done.stdout

    def build(self, context: Path, *arguments: str, tag: str, file: Path | None = None, target: str) -> None:
        """Build a target of a Dockerfile."""
        named = ("--file", str(file or context / "Dockerfile"), "--target", target, "--tag", tag)
        self.docker("build", "--network", "host", *named, *arguments, str(context), timeout=900)

    def make_bases(self) -> None:
        """Make the images that compose.yaml and the Dockerfile take from a registry, unless they exist."""
        if not self.has_image(_BASE):
            self._import_debian()
        moto = re.search(r"^moto==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
        assert moto
        for tag, target in _STANDINS.items():
            self.build(STANDINS, "--build-arg", f"MOTO={moto[1]}", tag=tag, target=target)

    def has_image(self, tag: str) -> bool:
        return bool(self.docker("images", "--quiet", tag).strip())

    def _import_debian(self) -> None:
        """Debian bookworm with its Python 3.11, and this machine's access to the package registries."""
        root = self._folder / "debian"
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:]
        if Path("/etc/apt/sources.list.d").is_dir():
            (root / "etc/apt/sources.list").unlink(missing_ok=True)
            shutil.copytree("/etc/apt/sources.list.d", root / "etc/apt/sources.list.d", dirs_exist_ok=True)
        certificates = "etc/ssl/certs/ca-certificates.crt"
        shutil.copy(Path("/") / certificates, root / certificates)
        (root / "etc/pip.conf").write_text(f"[global]\ncert = /{certificates}\n")
        packed = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            ["/usr/bin/docker", "import", "-", _BASE], env=self.environment, stdin=packed.stdout,
            check=True, capture_output=True,
        )  # fmt: skip
        assert packed.wait() == 0
        shutil.rmtree(root)

    def _answers(self) -> bool:
        asked = subprocess.run(["/usr/bin/docker", "info"], env=self.environment, capture_output=True)
        return asked.returncode == 0


class Compose:
    """The services of compose.yaml, as Debian's docker-compose 1.29 runs them: it knows no `name`, else nothing is changed."""

    def __init__(self, engine: Engine, folder: Path, variables: Mapping[str, str]) -> None:
        self._engine = engine
        file, values = folder / "compose.yaml", folder / "env"
        text = (ROOT / "deployments" / "compose.yaml").read_text()
        file.write_text(re.sub(r"^name: .*\n", "", text, flags=re.MULTILINE))
        values.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        self._command = ["docker-compose", "--project-name", "panelworks-tests", "--file", str(file)]
        self._command += ["--project-directory", str(ROOT / "deployments"), "--env-file", str(values)]
        self._command += ["--profile", "cpu"]

    def __call__(self, *arguments: str, timeout: float = 240) -> str:
        """Run a command of docker-compose and return what it printed on both streams."""
        done = subprocess.run(
            [*self._command, *arguments], env=self._engine.environment, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"docker-compose {' '.join(arguments)}: {done.stdout[-3000:]}"
        return done.stdout

    def run_in(self, service: str, *command: str) -> str:
        """Run a command in the container of a service and return what it printed."""
        return self("exec", "-T", service, *command)

    def container(self, service: str) -> str:
        """The id of a service's container, also if it has ended."""
        return self._engine.docker(
            "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=panelworks-tests",
            "--filter", f"label=com.docker.compose.service={service}",
        ).strip()  # fmt: skip

    def inspect(self, service: str, template: str) -> str:
        """Read a fact of a service's container by a template of `docker inspect`."""
        return self._engine.docker("inspect", "--format", template, self.container(service)).strip()

    def logs(self, service: str) -> str:
        return self._engine.docker("logs", self.container(service))

    def stop(self, *services: str) -> float:
        """Stop services with Compose's default time; returns the seconds it took."""
        begin = time.monotonic()
        self("stop", *services)
        return time.monotonic() - begin


@contextmanager
def locked_engine() -> Iterator[Engine]:
    """The engine, while no other test run uses its folder."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = Engine(FOLDER)
    with FileLock(FOLDER / "engine.lock"), engine.running():
        yield engine
