"""Shared by the bench scripts: a server on one core, the load tool on another, and their results."""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "benches", "out")
BIN = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
START_SECONDS = 15
STOP_SECONDS = 15
# The folder for programs of other projects.
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "corecast")


GIVEN = set()


def free_port():
    """A free port. Never returns the same port twice, so that the ports of one server differ."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in GIVEN:
            GIVEN.add(port)
            return port


def prepare_child(cores):
    """In a server's process before it starts: its cores, and as many open files as there may be."""
    os.sched_setaffinity(0, set(cores))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    """A server under load: the command that starts it, and the port that accepts connections once it runs."""

    def __init__(self, name, command, port, admin=None, env=None):
        self.name, self.command, self.port, self.admin = name, command, port, admin
        self.env = {**os.environ, **(env or {})}
        self.address = f"127.0.0.1:{port}"

    def start(self, cores):
        os.makedirs(OUT, exist_ok=True)
        self.log = open(os.path.join(OUT, f"{self.name.split()[0]}.log"), "w+")
        self.process = subprocess.Popen(
            self.command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=self.env,
            preexec_fn=lambda: prepare_child(cores),
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        self.log.seek(0)
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read()[-2000:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def watched(self):
        """The load tool's arguments for observing it."""
        words = ["--server-pid", str(self.process.pid)]
        return words + (["--server-metrics", f"http://127.0.0.1:{self.admin}/metrics"] if self.admin else [])


def load(arguments, core, tool=None, env=None):
    """Runs the load tool on a core, or with a worker on each of several cores; returns its result."""
    tool = tool or os.path.join(BIN, "corecast-load")
    own = [core] if isinstance(core, int) else list(core)
    more = ["--threads", str(len(own))] if len(own) > 1 else []
    command = [tool, *arguments, *more, "--cores", ",".join(map(str, own)), "--json", "--quiet"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: os.sched_setaffinity(0, set(own)),
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def build(packages):
    command = ["cargo", "build", "--release"] + [word for name in packages for word in ("-p", name)]
    subprocess.run(command, cwd=ROOT, check=True)


def go_install(module):
    """The path of a Go program, which is built if it does not exist yet."""
    folder = os.path.join(CACHE, "bin")
    program = os.path.join(folder, re.sub(r"/v\d+$", "", module).rsplit("/", 1)[-1])
    if not os.path.exists(program):
        if not shutil.which("go"):
            raise RuntimeError("`go` is not on the PATH")
        os.makedirs(folder, exist_ok=True)
        command = ["go", "install", f"{module}@latest"]
        if subprocess.run(command, env={**os.environ, "GOBIN": folder}).returncode != 0:
            raise RuntimeError(f"`{' '.join(command)}` failed")
    return program


def go_version(program, module):
    """The version of a Go program, from its build information."""
    done = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True) if shutil.which("go") else None
    for line in done.stdout.splitlines() if done else []:
        words = line.split()
        if len(words) > 2 and words[:2] == ["mod", module]:
            return words[2]
    return "of unknown version"


def commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def look(found, path):
    """A number in a result, by keys."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def median(runs, *path):
    values = [value for value in (look(run, path) for run in runs) if value is not None]
    return statistics.median(values) if values else None


def figure(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def cores(text):
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError("two cores, such as 0,1: the server's and the generator's")
    return int(match[1]), int(match[2])


def save(name, what):
    os.makedirs(OUT, exist_ok=True)
    path = os.path.join(OUT, time.strftime(f"{name}-%Y%m%d-%H%M%S.json"))
    with open(path, "w") as file:
        json.dump(what, file, indent=1, default=str)
    return os.path.relpath(path)


def descriptors():
    """The hard limit of open files, which server and load tool raise theirs to."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def host():
    """The facts about this machine that a reader of figures needs."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    model = names[0] if names else model
    with open("/proc/meminfo") as file:
        gib = int(file.readline().split()[1]) / (1 << 20)
    busy = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} cores, {gib:.0f} GiB; Linux {platform.release()}; "
        f"{descriptors()} open files; load average at the start {busy}"
    )


def main(run):
    """Runs a script; an error is printed in one line. If the script is terminated, its servers end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    try:
        sys.exit(run())
    except RuntimeError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
