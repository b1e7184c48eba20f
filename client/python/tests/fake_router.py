"""A router for one client that knows every answer by heart and misbehaves on demand."""

import os
import random
import socket
import threading

import pynng

from gaggle.delivery import crc32c
from gaggle.wire_types import pb


def token_id(index):
    return index * 2654435761 % (1 << 20)


def token_text(index):
    return "" if index % 5 == 4 else ("é" if index % 3 == 0 else " ") + str(index)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class FakeRouter:
    """faults: how seldom something goes wrong (1 in `faults` messages; 0 = never)."""

    def __init__(self, tokens=200, faults=0, seed=1, refuse=None, refuse_hello=None):
        self.tokens, self.faults, self.refuse = tokens, faults, refuse
        self.refuse_hello = refuse_hello
        self.random = random.Random(seed)
        self.streams = {}  # request id -> state; survives links
        self.counts = dict.fromkeys(["hello", "submit", "prior", "resume", "cancel", "cut"], 0)
        self.stop = threading.Event()
        self.port = free_port()
        self.listening = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.listening.wait(10)

    @property
    def url(self):
        return f"tcp://127.0.0.1:{self.port}"

    def close(self):
        self.stop.set()
        self.thread.join()

    def run(self):
        while not self.stop.is_set():
            with pynng.Pair0(recv_timeout=5, recv_max_size=8 << 20) as self.socket:
                self.socket.listen(self.url)
                self.listening.set()
                self.lost = False
                self.socket.add_post_pipe_remove_cb(lambda pipe: setattr(self, "lost", True))
                self.link = None
                for state in self.streams.values():
                    state["number"] = None
                while not self.stop.is_set() and not self.lost:
                    try:
                        self.hear(pb.Envelope.FromString(self.socket.recv()))
                    except pynng.Timeout:
                        pass
                    if self.link is not None and not self.speak():
                        break

    def send(self, **kind):
        self.sent += 1
        self.socket.send(pb.Envelope(link=self.link, n=self.sent, **kind).SerializeToString())

    def hear(self, e):
        kind = e.WhichOneof("kind")
        if kind == "hello":
            self.counts["hello"] += 1
            self.link, self.sent, self.received = e.link, 0, 0
            if self.refuse_hello is not None:
                self.send(error=pb.Error(code=self.refuse_hello, text="go away", fatal=True))
                self.link = None
                return
            self.send(
                welcome=pb.Welcome(
                    version=1, router_instance=os.urandom(16), ping_ms=5000, dead_ms=30000
                )
            )
        if self.link is None:
            return
        self.received += 1
        assert e.link == self.link and e.n == self.received, (e, self.received)
        if kind == "submit":
            self.on_submit(e.submit)
        elif kind == "resume":
            self.on_resume(e.resume)
        elif kind == "ack":
            for number, wanted in zip(e.ack.stream, e.ack.next_wanted):
                for state in self.streams.values():
                    if state["number"] == number:
                        state["acked"] = max(state["acked"], wanted)
        elif kind == "cancel":
            self.counts["cancel"] += 1
            for state in self.streams.values():
                if state["number"] in e.cancel.stream:
                    state["cancelled"] = True
        elif kind == "query":
            self.send(report=pb.Report(id=e.query.id, build="fake"))

    def on_submit(self, m):
        self.counts["submit"] += 1
        self.counts["prior"] += len(m.prior_ids) > 0
        assert list(m.prior_ids) == [token_id(i) for i in range(len(m.prior_ids))]
        if self.refuse is not None:
            self.send(error=pb.Error(stream=m.stream, code=self.refuse, text="no", retry_after_ms=5))
            return
        self.streams[m.request_id] = {
            "number": m.stream,
            "position": len(m.prior_ids),
            "acked": len(m.prior_ids),
            "window": m.window,
            "cancelled": False,
            "finished": False,
        }
        self.send(accepted=pb.Accepted(stream=m.stream))

    def on_resume(self, m):
        for request_id, number, wanted in zip(m.request_id, m.stream, m.next_wanted):
            self.counts["resume"] += 1
            state = self.streams.get(request_id)
            if state is None:
                self.send(error=pb.Error(stream=number, code=5, text="never heard of it"))
                continue
            state.update(number=number, position=wanted, acked=wanted, finished=False)
            self.send(accepted=pb.Accepted(stream=number, resumed=True))

    def send_tokens(self, state, first, count):
        texts = [token_text(i).encode() for i in range(first, first + count)]
        self.send(
            tokens=pb.Tokens(
                stream=[state["number"]],
                first_index=[first],
                count=[count],
                token=[token_id(i) for i in range(first, first + count)],
                text_len=[len(t) for t in texts],
                text=b"".join(texts),
                logprob=[-float(i) for i in range(first, first + count)],
            )
        )

    def speak(self):
        """One group of each stream, or a fault. False: this connection is to be cut."""
        for state in list(self.streams.values()):
            if state["number"] is None or state["finished"]:
                continue
            end = min(self.tokens, state["acked"] + state["window"])
            if state["position"] < end and not state["cancelled"]:
                first = state["position"]
                count = min(end - first, self.random.randint(1, 7))
                state["position"] += count
                fault = self.random.randrange(self.faults) if self.faults else -1
                if fault == 0:
                    what = self.random.choice(["gap", "repeat", "swap", "cut", "restart", "lost"])
                    if what == "repeat":
                        self.send_tokens(state, first, count)
                        self.send_tokens(state, max(0, first - 3), count)
                    elif what == "swap" and count > 1:
                        self.send_tokens(state, first + 1, count - 1)
                        self.send_tokens(state, first, 1)
                    elif what == "lost":
                        self.send(error=pb.Error(stream=state["number"], code=14, text="lost"))
                        self.streams = {k: v for k, v in self.streams.items() if v is not state}
                    elif what in ("cut", "restart"):
                        self.counts["cut"] += 1
                        if what == "restart":
                            self.streams.clear()
                        return False
                else:
                    self.send_tokens(state, first, count)
            elif state["position"] == self.tokens or state["cancelled"]:
                ids = [token_id(i) for i in range(state["position"])]
                self.send(
                    finish=pb.Finish(
                        stream=state["number"],
                        total=state["position"],
                        reason=pb.CANCELLED if state["cancelled"] else pb.STOP,
                        crc=crc32c(0, ids),
                        prompt_tokens=4,
                    )
                )
                state["finished"] = True
        return True
