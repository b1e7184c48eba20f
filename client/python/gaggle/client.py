"""The client: one connection, one background thread, many streams.

The thread receives, answers pings, dials again after trouble and resumes what was under way. The
reader's own thread only takes tokens from its stream's queue and acknowledges them, so a reader
that stops reading stops the source.
"""

import asyncio
import os
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import AsyncIterator, Iterable, Iterator, Optional, Sequence, Tuple

import pynng

from .delivery import Delivery
from .wire_types import pb

MESSAGE_BYTES_MAX = 8 << 20
LOOK_EVERY_MS = 100
PING_MS = 5000
DEAD_MS = 30000
ACK_EVERY_S = 0.1
REDIAL_S = (0.05, 2.0)
LOSSES_MAX = 3

CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED "
    "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
MAY_PASS = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "ABORTED")
FINAL = ("UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION")


class Error(Exception):
    """A refusal: `code` is gRPC's name, `retry_after_s` 0 when waiting does not help."""

    def __init__(self, code: str, text: str, retry_after_s: float = 0.0):
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Token:
    index: int
    id: int
    text: str  # what it adds to the answer; may be empty
    logprob: Optional[float] = None
    top: Tuple[Tuple[int, float], ...] = ()  # (id, logprob) of the likeliest


@dataclass(frozen=True)
class Finish:
    reason: str  # "stop", "length", "cancelled", "deadline", "slow_consumer"
    total_tokens: int
    prompt_tokens: int
    cached_tokens: int
    stop_text: Optional[str]
    stop_id: Optional[int]


@dataclass
class _Query:
    event: threading.Event = field(default_factory=threading.Event)
    report: object = None


def _error_from(message) -> Error:
    code = CODES[message.code] if message.code < len(CODES) else "UNKNOWN"
    return Error(code, message.text, message.retry_after_ms / 1000)


class Stream:
    """One answer: iterate over its tokens. Ends normally with `finish` set, or raises Error."""

    def __init__(self, client: "Client", number: int, submit):
        self._client = client
        self._number = number
        self._submit = submit
        self._delivery = Delivery(submit.window)
        self._queue: "queue.SimpleQueue" = queue.SimpleQueue()
        self._started = time.monotonic()
        self._retry_at: Optional[float] = None
        self._pause_s = REDIAL_S[0]
        self.finish: Optional[Finish] = None
        self.seed: int = submit.sampling.seed

    @property
    def request_id(self) -> str:
        return self._submit.request_id.hex()

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        if self.finish is not None:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, Token):
            self._client._consumed(self)
            return item
        if isinstance(item, Finish):
            self.finish = item
            raise StopIteration
        self._queue.put(item)  # raised again, should anybody ask again
        raise item

    def text(self) -> str:
        """The rest of the answer."""
        return "".join(token.text for token in self)

    def cancel(self) -> None:
        """Stop it: tokens that were made still come, then finish.reason is "cancelled"."""
        self._client._cancel(self)


class Client:
    """A connection to a router, dialled again for as long as the client is open.

    url            tcp://, tls+tcp://, ws://, wss:// or ipc://
    token          bearer token
    tls            a pynng.TLSConfig for tls+tcp and wss
    offline_s      streams fail with UNAVAILABLE after so long without a router
    """

    def __init__(
        self,
        url: str = "tcp://127.0.0.1:7400",
        *,
        token: str = "",
        tls: Optional["pynng.TLSConfig"] = None,
        name: str = "gaggle python",
        offline_s: float = 30.0,
    ):
        self._url = url
        self._token = token
        self._tls = tls
        self._name = name
        self._offline_s = offline_s
        self._instance = os.urandom(16)
        self._lock = threading.RLock()
        self._streams = {}
        self._queries = {}
        self._numbers = 0
        self._socket = None  # while the link is up
        self._link = 0
        self._sent = 0
        self._offline_since = time.monotonic()
        self._closing = threading.Event()
        self._refused: Optional[Error] = None
        self._thread = threading.Thread(target=self._run, name="gaggle", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs and say goodbye."""
        with self._lock:
            for stream in list(self._streams.values()):
                self._send(cancel=pb.Cancel(stream=[stream._number], reason="the client closes"))
                self._end(stream, Error("CANCELLED", "the client was closed"))
            self._send(bye=pb.Bye(reason="the client closes"))
        self._closing.set()
        self._thread.join()

    # -- asking ------------------------------------------------------------------------------

    def generate(
        self,
        prompt: Optional[str] = None,
        *,
        messages: Optional[Iterable[dict]] = None,
        ids: Optional[Sequence[int]] = None,
        model: str = "",
        max_tokens: Optional[int] = None,
        min_tokens: int = 0,
        temperature: Optional[float] = None,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repetition_penalty: Optional[float] = None,
        presence_penalty: Optional[float] = None,
        frequency_penalty: Optional[float] = None,
        logit_bias: Optional[dict] = None,
        seed: Optional[int] = None,
        stop: Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        logprobs: Optional[int] = None,
        deadline_s: Optional[float] = None,
        priority: int = 0,
        window: int = 256,
        raw: bool = False,
        cache_salt: Optional[bytes] = None,
    ) -> Stream:
        """Ask for an answer to `prompt`, to chat `messages` or to token `ids` (exactly one of them).

        What is None takes the model's own default. The seed is fixed here when none is given, so
        that an answer that must move to another worker goes on as it began. Prompts that are cached
        at a worker are reused only for requests of the same tenant and `cache_salt`.
        """
        if (prompt is not None) + (messages is not None) + (ids is not None) != 1:
            raise ValueError("give exactly one of prompt, messages and ids")
        given = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
        }
        sampling = pb.Sampling(
            seed=random.getrandbits(64) if seed is None else seed,
            bias_ids=list(logit_bias or {}),
            bias=list((logit_bias or {}).values()),
            **{name: value for name, value in given.items() if value is not None},
        )
        submit = pb.Submit(
            request_id=os.urandom(16),
            model=model,
            sampling=sampling,
            stop=stop,
            stop_ids=stop_token_ids,
            min_tokens=min_tokens,
            ignore_eos=ignore_eos,
            priority=priority,
            window=window,
            raw=raw,
        )
        if prompt is not None:
            submit.text = prompt
        for message in messages or ():
            submit.messages.add(role=message["role"], content=message["content"])
        submit.ids.extend(ids or ())
        if max_tokens is not None:
            submit.max_tokens = max_tokens
        if logprobs is not None:
            submit.logprobs = logprobs
        if deadline_s is not None:
            submit.deadline_ms = max(1, int(deadline_s * 1000))
        if cache_salt is not None:
            submit.cache_salt = cache_salt
        if submit.ByteSize() > MESSAGE_BYTES_MAX - 64:
            raise Error("RESOURCE_EXHAUSTED", f"a request may have {MESSAGE_BYTES_MAX} bytes")
        with self._lock:
            if self._closing.is_set():
                raise Error("FAILED_PRECONDITION", "the client is closed")
            self._numbers += 1
            submit.stream = self._numbers
            stream = Stream(self, self._numbers, submit)
            self._streams[stream._number] = stream
            if self._refused is not None:
                self._end(stream, self._refused)
            else:
                self._act(stream, stream._delivery.connected())
        return stream

    async def agenerate(self, *args, **kwargs) -> AsyncIterator[Token]:
        """generate() for async code: the waiting is done on a thread."""
        stream = self.generate(*args, **kwargs)
        try:
            while True:
                token = await asyncio.to_thread(next, stream, None)
                if token is None:
                    return
                yield token
        finally:
            if stream.finish is None:
                stream.cancel()

    def query(self, timeout_s: float = 5.0):
        """The router's Report (see gaggle.proto)."""
        with self._lock:
            self._numbers += 1
            number, asked = self._numbers, _Query()
            self._queries[number] = asked
            self._send(query=pb.Query(id=number))
        answered = asked.event.wait(timeout_s)
        with self._lock:
            self._queries.pop(number, None)
        if not answered:
            raise Error("UNAVAILABLE", "the router did not answer in time")
        return asked.report

    # -- what streams do; with the lock ------------------------------------------------------

    def _send(self, **kind) -> None:
        if self._socket is None:
            return
        self._sent += 1
        try:
            self._socket.send(
                pb.Envelope(link=self._link, n=self._sent, **kind).SerializeToString()
            )
        except pynng.NNGException:
            self._lost = True

    def _act(self, stream: Stream, action: Optional[str]) -> None:
        if action == "submit":
            submit = pb.Submit()
            submit.CopyFrom(stream._submit)
            submit.prior_ids.extend(stream._delivery.ids)
            if submit.HasField("deadline_ms"):
                spent_ms = int((time.monotonic() - stream._started) * 1000)
                submit.deadline_ms = max(1, submit.deadline_ms - spent_ms)
            self._send(submit=submit)
        elif action == "resume":
            self._send(
                resume=pb.Resume(
                    request_id=[stream._submit.request_id],
                    stream=[stream._number],
                    next_wanted=[stream._delivery.next],
                )
            )

    def _end(self, stream: Stream, last) -> None:
        self._streams.pop(stream._number, None)
        stream._queue.put(last)

    def _ack(self, stream: Stream, lazily: bool) -> None:
        next_wanted = stream._delivery.ack(lazily)
        if next_wanted is not None:
            self._send(ack=pb.Ack(stream=[stream._number], next_wanted=[next_wanted]))

    def _consumed(self, stream: Stream) -> None:
        with self._lock:
            action = stream._delivery.on_consumed(1)
            if stream._number in self._streams:
                self._act(stream, action)
                self._ack(stream, lazily=True)

    def _cancel(self, stream: Stream) -> None:
        with self._lock:
            if stream._number not in self._streams:
                return
            if self._socket is None or stream._retry_at is not None:
                self._end(stream, self._finish_here(stream, "cancelled"))
            else:
                self._send(cancel=pb.Cancel(stream=[stream._number], reason="the client asked"))

    @staticmethod
    def _finish_here(stream: Stream, reason: str) -> Finish:
        return Finish(reason, stream._delivery.next, 0, 0, None, None)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set() and self._refused is None:
            try:
                if self._converse():
                    failures = 0
            except pynng.NNGException:
                pass
            self._tick_offline()
            bound = min(REDIAL_S[1], REDIAL_S[0] * 2**failures)
            failures = min(failures + 1, 10)
            self._closing.wait(random.uniform(0, bound))
        with self._lock:
            error = self._refused or Error("CANCELLED", "the client was closed")
            for stream in list(self._streams.values()):
                self._end(stream, error)

    def _converse(self) -> bool:
        """One connection, from dial to loss. True when it came up. A fresh socket each time, so
        that nothing old is ever sent on a new link."""
        came_up = False
        self._lost = False
        with pynng.Pair0(
            recv_max_size=MESSAGE_BYTES_MAX,
            recv_timeout=LOOK_EVERY_MS,
            send_timeout=DEAD_MS,
            reconnect_time_min=600000,
            tls_config=self._tls,
        ) as socket:
            socket.add_post_pipe_remove_cb(lambda pipe: setattr(self, "_lost", True))
            socket.dial(self._url, block=True)
            link, received, heard, acked = random.getrandbits(32) or 1, 0, time.monotonic(), 0.0
            hello = pb.Hello(
                version=1,
                role=pb.CLIENT,
                instance=self._instance,
                token=self._token,
                ping_ms=PING_MS,
                dead_ms=DEAD_MS,
                build="gaggle python",
                name=self._name,
            )
            socket.send(pb.Envelope(link=link, n=1, hello=hello).SerializeToString())
            try:
                while not self._lost and not self._closing.is_set():
                    now = time.monotonic()
                    if now - heard > DEAD_MS / 1000:
                        break
                    if came_up and now - acked >= ACK_EVERY_S:
                        acked = now
                        self._tick()
                    try:
                        frame = socket.recv()
                    except pynng.Timeout:
                        continue
                    heard = time.monotonic()
                    envelope = pb.Envelope.FromString(frame)
                    received += 1
                    if envelope.link != link or envelope.n != received:
                        break  # a message was lost or is from another connection
                    kind = envelope.WhichOneof("kind")
                    if kind == "welcome":
                        came_up = True
                        self._up(socket, link)
                    elif not self._on_message(kind, envelope):
                        break
            finally:
                with self._lock:
                    if self._socket is not None:
                        self._offline_since = time.monotonic()
                    self._socket = None
        return came_up

    def _up(self, socket, link: int) -> None:
        with self._lock:
            self._socket, self._link, self._sent = socket, link, 1
            for stream in self._streams.values():
                stream._retry_at = None
                self._act(stream, stream._delivery.connected())
            for number in self._queries:
                self._send(query=pb.Query(id=number))

    def _tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            for stream in self._streams.values():
                self._ack(stream, lazily=False)
                if stream._retry_at is not None and now >= stream._retry_at:
                    stream._retry_at = None
                    self._act(stream, stream._delivery.submit())

    def _tick_offline(self) -> None:
        now = time.monotonic()
        with self._lock:
            for stream in list(self._streams.values()):
                if now - max(self._offline_since, stream._started) >= self._offline_s:
                    self._end(
                        stream, Error("UNAVAILABLE", f"no router for {self._offline_s:g} s")
                    )

    def _on_message(self, kind: str, envelope) -> bool:
        """False: the link is of no more use."""
        with self._lock:
            if kind == "ping":
                self._send(pong=pb.Pong(t=envelope.ping.t))
            elif kind == "tokens":
                self._on_tokens(envelope.tokens)
            elif kind == "finish":
                self._on_finish(envelope.finish)
            elif kind == "accepted":
                stream = self._streams.get(envelope.accepted.stream)
                if stream is not None:
                    stream._delivery.on_accepted()
                    stream._pause_s = REDIAL_S[0]
            elif kind == "error":
                return self._on_error(envelope.error)
            elif kind == "report":
                asked = self._queries.get(envelope.report.id)
                if asked is not None:
                    asked.report = envelope.report
                    asked.event.set()
            elif kind == "bye":
                return False
        return True

    def _on_tokens(self, m) -> None:
        token = text = top = 0
        for number, first, count in zip(m.stream, m.first_index, m.count):
            ids = list(m.token[token : token + count])
            stream = self._streams.get(number)
            skip, take = 0, 0
            if stream is not None and stream._retry_at is None:
                skip, take, action = stream._delivery.on_tokens(first, ids)
                self._act(stream, action)
            for i in range(count):
                size = m.text_len[token + i]
                tops = m.top_count[token + i] if m.top_count else 0
                if skip <= i < skip + take:
                    logprob = m.logprob[token + i] if m.logprob else None
                    stream._queue.put(
                        Token(
                            first + i,
                            ids[i],
                            m.text[text : text + size].decode("utf-8", "replace"),
                            logprob,
                            tuple(zip(m.top_id[top : top + tops], m.top_logprob[top : top + tops])),
                        )
                    )
                text += size
                top += tops
            token += count

    def _on_finish(self, m) -> None:
        stream = self._streams.get(m.stream)
        if stream is None or stream._retry_at is not None:
            return
        action = stream._delivery.on_finish(m.total, m.crc)
        if action == "corrupt":
            self._end(stream, Error("DATA_LOSS", "the answer does not match its end"))
        elif action != "finish":
            self._act(stream, action)
        else:
            self._send(ack=pb.Ack(stream=[m.stream], next_wanted=[m.total]))
            if m.reason == pb.FAILED:
                self._end(stream, _error_from(m.error))
                return
            self._end(
                stream,
                Finish(
                    pb.FinishReason.Name(m.reason).lower(),
                    m.total,
                    m.prompt_tokens,
                    m.cached_tokens,
                    m.stop_text or None,
                    m.stop_id if m.HasField("stop_id") else None,
                ),
            )

    def _on_error(self, m) -> bool:
        error = _error_from(m)
        if m.stream == 0:
            if error.code in FINAL:
                self._refused = error
            return not m.fatal
        stream = self._streams.get(m.stream)
        if stream is None:
            return True
        delivery = stream._delivery
        if delivery.resuming and error.code == "NOT_FOUND":
            self._act(stream, delivery.submit())
            return True
        if not delivery.accepted or error.code not in MAY_PASS:
            self._end(stream, error)
            return True
        # An answer under way is worth patience, but not for ever.
        delivery.losses += 1
        if delivery.losses > LOSSES_MAX:
            self._end(stream, error)
            return True
        stream._retry_at = time.monotonic() + max(error.retry_after_s, stream._pause_s)
        stream._pause_s = min(2 * stream._pause_s, REDIAL_S[1])
        return True
