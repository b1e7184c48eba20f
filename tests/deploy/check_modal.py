#!/usr/bin/env python3
"""check_modal.py BUILD: deploy/modal/app.py, as far as it can be run without an account.

Goal: what would be deployed is what the page says, and a worker that Modal ends leaves no answer
unfinished.
Method: the file is imported with the modal package, which checks its own arguments, and what it is given is
looked at. Then the app's own code starts its worker command on this machine, against a real router, is told to
stop in the middle of answers with 10 s to drain, and is killed, too. Answers are compared with those of the
engine alone.

Without the modal package (PyPI) it says so, and passes. BUILD holds gaggle, gaggle-router, gaggle-worker.
"""
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

try:
    import modal
except ImportError:
    print("skipped: no modal package for", sys.executable)
    sys.exit(0)

TREE = pathlib.Path(__file__).resolve().parents[2]
GOSLING = str(TREE / "models/gosling")
BIN = pathlib.Path(sys.argv[1]).resolve() / "bin"
PROMPT, TOKENS, AT_ONCE, DRAIN_S = "Geese fly in a V because", 900, 24, 10
sys.dont_write_bytecode = True


def load(**settings):
    """The app with these settings, and the arguments of its classes by their names."""
    given = []
    real = modal.App.cls

    def spy(self, **arguments):
        decorate = real(self, **arguments)

        def record(cls):
            given.append((decorate(cls), arguments))
            return given[-1][0]

        return record

    for name in ("ROUTERS", "MODEL", "WORKERS", "GPU", "WORKER_OPTIONS"):
        os.environ.pop(name, None)
    os.environ.update(settings)
    modal.App.cls = spy
    try:
        spec = importlib.util.spec_from_file_location("app", TREE / "deploy/modal/app.py")
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
    finally:
        modal.App.cls = real
    return app, {name: arguments for made, arguments in given for name in vars(app) if getattr(app, name) is made}


def check(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED: {what} is {found!r}, not {expected!r}")


def check_definitions():
    app, given = load(ROUTERS="wss://a.example/worker wss://b.example/worker", MODEL="ORG/NAME",
                      WORKERS="4", GPU="L4,T4", WORKER_OPTIONS="--max-num-seqs 8")
    check("classes with a router", list(given), ["Worker"])
    worker = given["Worker"]
    check("gpu", worker["gpu"], ["L4", "T4"])
    check("containers", (worker["min_containers"], worker["max_containers"]), (4, 4))
    check("timeout", worker["timeout"], 24 * 3600)
    check("volumes", list(worker["volumes"]), ["/cache"])
    check("secrets", len(worker["secrets"]), 1)
    check("the command", app.worker_command(app.ROUTERS),
          "/opt/gaggle/bin/gaggle-worker -m ORG/NAME --device auto --router wss://a.example/worker "
          "--router wss://b.example/worker --lifetime 86400s --drain-ms 25s --max-num-seqs 8".split())

    app, given = load(MODEL="ORG/NAME", WORKERS="2", GPU="A100-80GB")
    check("classes without a router", list(given), ["Server"])
    server = given["Server"]
    check("gpu", server["gpu"], ["A100-80GB:2"])
    check("containers", server["max_containers"], 1)
    print("definitions: Worker and Server are as they should be, modal", modal.__version__)


class Cluster:
    """A router, and workers as the app starts them."""

    def __init__(self, folder, app):
        self.app, self.folder = app, folder
        self.clients, self.workers = f"ipc://{folder}/clients", f"ipc://{folder}/workers"
        (folder / "home").mkdir()
        (folder / "home/bin").symlink_to(BIN)
        self.log = open(folder / "router.log", "w+")
        router = self.app.router_command(self.clients, self.workers, home=str(folder / "home"))
        self.router = subprocess.Popen(router, stdout=subprocess.DEVNULL, stderr=self.log)
        self.follow = subprocess.Popen(["tail", "-n", "+1", "-F", folder / "router.log"], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)

    def await_line(self, *words):
        for line in self.follow.stdout:
            if all(word in line for word in words):
                return
        sys.exit(f"FAILED: the router never said {words}")

    def start(self, name):
        command = self.app.worker_command([self.workers], "cpu", str(self.folder / "home"), DRAIN_S)
        worker = self.app.Program(command + ["--name", name, "--threads", "1", "--log-level", "warn"],
                                  self.app.environment())
        self.await_line(f"worker={name} registered")
        return worker

    def ask(self):
        command = [BIN / "gaggle", "complete", "--json", "--router", self.clients, "--ignore-eos", "--max-tokens",
                   str(TOKENS), "--temperature", "0", PROMPT]
        return [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(AT_ONCE)]

    def close(self):
        self.follow.kill()
        self.router.terminate()
        self.router.wait(20)


def expected_ids():
    line = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    command = [BIN / "gaggle-worker", "generate", "-m", GOSLING, "--prompts", "-"]
    answer = subprocess.run(command, input=json.dumps(line).encode(), stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=True)
    return json.loads(answer.stdout)["ids"]


def check_answers(what, clients, expected):
    wrong = [c for c in clients if json.loads(c.communicate(timeout=60)[0] or "null").get("ids") != expected]
    check(f"wrong answers of {len(clients)} when {what}", len(wrong), 0)


def check_ends(folder):
    app, _ = load(MODEL=GOSLING)
    expected = expected_ids()
    cluster = Cluster(folder, app)
    first, second = cluster.start("first"), cluster.start("second")

    clients = cluster.ask()
    cluster.await_line("placed", "worker=first")
    begin = time.monotonic()
    check("status of a worker that is told to stop", first.stop(DRAIN_S + 3), 0)
    took = time.monotonic() - begin
    check_answers("a worker is told to stop", clients, expected)
    check("a stop within its 10 s", took <= DRAIN_S, True)
    print(f"SIGTERM in the middle of {AT_ONCE} answers: ended with status 0 after {took:.1f} s, all exact")

    clients = cluster.ask()
    cluster.await_line("placed", "worker=second")
    second.process.send_signal(signal.SIGKILL)
    cluster.await_line("worker=second registered")  # 5 s later, by itself
    check_answers("a worker is killed", clients, expected)
    print(f"kill -9 in the middle of {AT_ONCE} answers: started again, all exact")
    check("status at the end", second.stop(DRAIN_S + 3), 0)
    cluster.close()


for name in list(os.environ):
    if name.startswith("GAGGLE_"):
        del os.environ[name]
check_definitions()
with tempfile.TemporaryDirectory() as name:
    check_ends(pathlib.Path(name))
print("ok")
