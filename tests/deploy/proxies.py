"""Goal: with deploy/vps's nginx.conf and Caddyfile a worker and a client reach a router over wss, links
that carry no answer for over a minute stay, and when the proxy is restarted an answer that runs
goes on, without a token lost. Method: the real proxies with the files as they lie there, but for
names and ports; certificates of `gaggle certs init`; the router's and the worker's own logs say
whether a link was made anew.

usage: proxies.py BUILD [SECONDS OF IDLENESS]     a proxy that is not installed is skipped
"""
import atexit
import contextlib
import json
import os
import pathlib
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
WAIT_S = 60
GOODBYE = "the client was closed"


class Program:
    """A process whose lines can be waited for."""

    def __init__(self, *command, **more):
        self.name = os.path.basename(command[0])
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1, **more)
        atexit.register(self.process.terminate)
        self.lines, self.said = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.said.append(line)
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, words, seconds=WAIT_S):
        """The line that holds `words`, or None when none came in time."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                sys.exit(f"FAILED: {self.name} ended:\n{''.join(self.said)}")
            if words in line:
                return line

    def expect(self, words):
        line = self.wait_for(words)
        if line is None:
            sys.exit(f"FAILED: {self.name} never said {words!r}:\n{''.join(self.said)}")
        return line

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=WAIT_S)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port):
    """Until somebody listens; a refused connection is the event that is waited out."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    sys.exit(f"FAILED: nothing listens at port {port}")


def edited(path, *changes):
    text = (TREE / path).read_text()
    for old, new in changes:
        if old not in text:
            sys.exit(f"FAILED: {path} has no {old!r}")
        text = text.replace(old, new)
    return text


class Site:
    def __init__(self, build, folder):
        self.bin, self.folder = pathlib.Path(build).resolve() / "bin", folder
        self.client_port, self.worker_port, self.http_port, self.port = (free_port() for _ in range(4))
        self.pki = folder / "pki"
        self.run("certs", "init", self.pki)
        self.keys = folder / "keys.ini"
        self.tokens = {role: self.run("token", "new", "--role", role, "--keys", self.keys).stdout.strip()
                       for role in ("client", "worker")}
        self.router = Program(
            self.bin / "gaggle-router", "--keys", self.keys,
            "--listen", f"ws://127.0.0.1:{self.client_port}/client",
            "--worker-listen", f"ws://127.0.0.1:{self.worker_port}/worker",
            "--http-listen", f"http://127.0.0.1:{self.http_port}")
        wait_port(self.http_port)

    def run(self, *command, ok=True):
        result = subprocess.run([self.bin / "gaggle", *map(str, command)], capture_output=True, text=True,
                                timeout=WAIT_S)
        if ok and result.returncode != 0:
            sys.exit(f"FAILED: gaggle {command[0]}: {result.stderr}")
        return result

    def dial(self, role):
        return ["--router", f"wss://localhost:{self.port}/{role}", "--tls-ca", str(self.pki / "ca.pem"),
                "--token" if role == "client" else "--join-token", self.tokens[role]]

    def complete(self, *more):
        return json.loads(self.run("complete", "--json", "--temperature", "0", *self.dial("client"), *more,
                                   "Geese fly in a V because").stdout)

    def ports(self):
        return [("127.0.0.1:7400", f"127.0.0.1:{self.client_port}"),
                ("127.0.0.1:7410", f"127.0.0.1:{self.worker_port}")]

    def nginx(self):
        conf = edited("deploy/vps/nginx.conf", *self.ports(),
                      ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
                      ("    listen [::]:443 ssl;\n", ""),
                      ("gaggle.example.org", "localhost"),
                      ("/etc/gaggle", str(self.pki)))
        folder = self.folder / "nginx"
        folder.mkdir(exist_ok=True)
        temps = "".join(f"{kind}_temp_path {folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log info;\nevents {{}}\n"
            f"http {{\naccess_log {folder}/access.log;\n{temps}{conf}}}\n")
        return Program("nginx", "-p", folder, "-c", folder / "nginx.conf")

    def caddy(self):
        conf = edited("deploy/vps/Caddyfile", *self.ports(),
                      ("gaggle.example.org {", f"localhost:{self.port} {{\n"
                       f"\ttls {self.pki}/router.pem {self.pki}/router.key"),
                      ("{\n\tservers {", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {"))
        file = self.folder / "Caddyfile"
        file.write_text(conf)
        home = str(self.folder)
        return Program("caddy", "run", "--adapter", "caddyfile", "--config", file,
                       env={**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home})


def check(what, good):
    if not good:
        sys.exit(f"FAILED: {what}")


def try_proxy(site, name, idle_s):
    start = getattr(site, name)
    proxy = start()
    wait_port(site.port)
    worker = Program(site.bin / "gaggle-worker", "-m", TREE / "models/gosling", "--device", "cpu",
                     "--name", name, *site.dial("worker"))
    worker.expect('"ready"')

    answer = site.complete("--max-tokens", "40")
    site.router.expect(GOODBYE)
    check(f"an answer through {name}: {answer}", len(answer["ids"]) > 0 and "error" not in answer)
    stranger = site.run("complete", "--json", "--router", f"wss://localhost:{site.port}/client", "--tls-ca",
                        site.pki / "worker-ca.pem", "--token", site.tokens["client"], "--offline-ms", "1s", "Hello",
                        ok=False)
    check("a certificate of another CA is refused", stranger.returncode != 0)

    # The worker's link, and a client's that asks for nothing: neither is made anew.
    client = Program(site.bin / "gaggle", "chat", "--temperature", "0", "--max-tokens", "8", *site.dial("client"))
    for question in ("Hello\n", "And now?\n"):
        client.process.stdin.write(question)
        client.process.stdin.flush()
        line = site.router.expect("finished")
        check(f"the client is answered: {line}", "reason=length" in line)
        if question == "Hello\n":
            began = time.monotonic()
            line = site.router.wait_for("connected", idle_s)
            check(f"{name} keeps both links for {idle_s} s: {line}", line is None)
            print(f"{name}: {time.monotonic() - began:.0f} s without an answer, and both links are the same")
    client.process.stdin.close()
    client.process.wait(timeout=WAIT_S)
    site.router.expect(GOODBYE)

    # The proxy goes and comes back under a running answer.
    long = ("--max-tokens", "600", "--ignore-eos")
    whole = site.complete(*long)
    site.router.expect(GOODBYE)
    results = []
    asking = threading.Thread(target=lambda: results.append(site.complete(*long)))
    asking.start()
    site.router.expect("placed")
    proxy.stop()
    check("the answer was still running", asking.is_alive())
    site.router.expect("disconnected")
    proxy = start()
    asking.join()
    site.router.expect(GOODBYE)
    check(f"an answer goes on over a restart of {name}: {results[0].get('error')}", results[0]["ids"] == whole["ids"])
    worker.stop()
    site.router.expect(f"peer={name} disconnected")
    proxy.stop()
    print(f"{name}: passed")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    idle_s = int(sys.argv[2]) if len(sys.argv) > 2 else 70
    os.environ["PATH"] += ":/usr/sbin"
    with tempfile.TemporaryDirectory(dir=os.environ.get("GAGGLE_TEST_TMP")) as folder:
        site = Site(sys.argv[1], pathlib.Path(folder))
        for name in ("nginx", "caddy"):
            if shutil.which(name):
                try_proxy(site, name, idle_s)
            else:
                print(f"skipped: there is no {name}")
        site.router.stop()


main()
