"""gaggle on Modal: workers that dial a router of yours, or a whole server behind a web endpoint.

    ROUTERS=wss://gaggle.example.org/worker MODEL=ORG/NAME WORKERS=4 modal deploy deploy/modal/app.py
    MODEL=ORG/NAME WORKERS=1 modal deploy deploy/modal/app.py

The first makes four workers (`gaggle connect modal` prints that line), the second, without a router, a
server with one worker for each GPU.

WORKERS is the only number: deploy again with another one, and Modal adds containers, or ends
some, whose workers let their answers end or hand them over. Settings are read where `modal deploy`
runs, and travel with the image. docs/deploy/modal.md says what the secrets hold.
"""
import os
import pathlib
import subprocess
import threading

import modal

DEFAULTS = {
    "ROUTERS": "",  # several with spaces; "": a server of its own
    "MODEL": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "WORKERS": "1",
    "GPU": "L4,T4",  # what to take, the first that there is
    "WORKER_OPTIONS": "",  # as on a command line
}
SETTINGS = {name: os.environ.get(name, default) for name, default in DEFAULTS.items()}
ROUTERS = SETTINGS["ROUTERS"].split()
MODEL = SETTINGS["MODEL"]
WORKERS = int(SETTINGS["WORKERS"])
GPUS = SETTINGS["GPU"].split(",")

HOME = "/opt/gaggle"
LIFETIME_S = 24 * 3600  # the longest that Modal lets anything run
DRAIN_S = 25  # of the 30 s between Modal's signal and the end
WEB_PORT = 8000


def make_image():
    """The programs and nvcc's libraries, built from the source that this file is part of."""
    base = modal.Image.from_registry("nvidia/cuda:12.8.1-devel-ubuntu24.04", add_python="3.12")
    if modal.is_local():
        base = base.add_local_dir(
            pathlib.Path(__file__).resolve().parents[2], "/src", copy=True, ignore=["**/.*", "build*/**"]
        )
    return (
        base.entrypoint([])
        .run_commands(
            "/src/tools/archive.sh /tmp/build -DGAGGLE_CUDA=ON -DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc",
            f"rm /tmp/build/*.tar.xz && mv /tmp/build/gaggle-*/ {HOME} && rm -rf /tmp/build",
        )
        .env({**SETTINGS, "HF_HOME": "/cache"})
    )


class Program:
    """Keeps one program running until stop(): it is started again when it ends."""

    def __init__(self, command, environment):
        self.command, self.environment = command, environment
        self.stopping = threading.Event()
        self.process = self.start()
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()

    def start(self):
        return subprocess.Popen(self.command, env=self.environment)

    def keep(self):
        while True:
            code = self.process.wait()
            if self.stopping.is_set():
                return
            print(f"{self.command[0]} ended with status {code} and is started again")
            if self.stopping.wait(5):
                return
            self.process = self.start()

    def stop(self, seconds):
        """SIGTERM drains; what has not ended after so long is killed."""
        self.stopping.set()
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def environment():
    """A worker's: the token is in it already, from the secret; a private CA becomes a file."""
    ca = os.environ.get("GAGGLE_CA")
    file = "/etc/ssl/certs/ca-certificates.crt"
    if ca:
        file = "/tmp/gaggle-ca.pem"
        pathlib.Path(file).write_text(ca)
    return {**os.environ, "GAGGLE_TLS_CA": file}


def worker_command(routers, device="auto", home=HOME, drain_s=DRAIN_S):
    command = [f"{home}/bin/gaggle-worker", "-m", MODEL, "--device", device]
    for router in routers:
        command += ["--router", router]
    command += ["--lifetime", f"{LIFETIME_S}s", "--drain-ms", f"{drain_s}s"]
    return command + SETTINGS["WORKER_OPTIONS"].split()


def router_command(listen, worker_listen, home=HOME, drain_s=DRAIN_S):
    return [f"{home}/bin/gaggle-router", "--listen", listen, "--worker-listen", worker_listen,
            "--drain-ms", f"{drain_s}s"]


def pull():
    """Into the volume, which all containers share: only the first of them has to fetch anything."""
    if not os.path.isdir(MODEL):
        subprocess.run([f"{HOME}/bin/gaggle", "pull", MODEL], check=True)
        cache.commit()


app = modal.App("gaggle")
cache = modal.Volume.from_name("gaggle-cache", create_if_missing=True)
shared = {
    "image": make_image(),
    "volumes": {"/cache": cache},
    "timeout": LIFETIME_S,
    "startup_timeout": 3600,  # the first pull of a large model
}

if ROUTERS:

    @app.cls(
        gpu=GPUS,
        min_containers=WORKERS,
        max_containers=WORKERS,
        secrets=[modal.Secret.from_name("gaggle-worker", required_keys=["GAGGLE_JOIN_TOKEN"])],
        **shared,
    )
    class Worker:
        """One worker. Nobody calls it: that the container is kept is enough for it to serve."""

        @modal.enter()
        def start(self):
            pull()
            self.worker = Program(worker_command(ROUTERS), environment())

        @modal.method()
        def is_running(self):
            return self.worker.process.poll() is None

        @modal.exit()
        def stop(self):
            self.worker.stop(DRAIN_S + 3)

else:

    @app.cls(
        gpu=[f"{gpu}:{WORKERS}" for gpu in GPUS],
        max_containers=1,  # a second one would be another router
        secrets=[modal.Secret.from_name("gaggle-server", required_keys=["GAGGLE_API_TOKEN"])],
        **shared,
    )
    @modal.concurrent(max_inputs=1000)  # each client's WebSocket is one
    class Server:
        """Router and workers. Clients dial wss://...modal.run/client."""

        @modal.enter()
        def start(self):
            pull()
            workers = "ipc:///tmp/gaggle-workers.sock"
            command = router_command(f"ws://0.0.0.0:{WEB_PORT}/client", workers)
            self.programs = [Program(command, dict(os.environ))]
            for i in range(WORKERS):
                self.programs.append(
                    Program(worker_command([workers], f"cuda:{i}") + ["--name", f"gpu-{i}"], environment())
                )

        @modal.web_server(WEB_PORT, startup_timeout=600)
        def endpoint(self):
            pass  # start() opened the port

        @modal.exit()
        def stop(self):
            """The workers let their answers end; the router goes when they have."""
            stops = [threading.Thread(target=p.stop, args=[DRAIN_S]) for p in self.programs[1:]]
            for stop in stops:
                stop.start()
            for stop in stops:
                stop.join()
            self.programs[0].stop(3)
