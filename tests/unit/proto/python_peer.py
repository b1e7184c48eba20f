"""A gaggle client in a page of Python, on an ordinary nng PAIR0 socket.

    python_peer.py BACKEND PROTO_DIR URL [CA CERT KEY SERVER_NAME]

BACKEND is ctypes (libnng, the calls that pynng makes) or pynng. Says Hello, submits a request, takes
tokens and acknowledges them, closes its socket in the middle, comes back with Resume, and checks
that every token came once and in order. Exit 0: all is well; 77: the backend is not installed.
"""

import ctypes
import ctypes.util
import os
import sys
import threading

TOTAL = 200
TIMEOUT_MS = 15000


class CtypesSocket:
    def __init__(self, url, tls):
        nng = self.nng = ctypes.CDLL(ctypes.util.find_library("nng") or "libnng.so.1")
        nng.nng_strerror.restype = ctypes.c_char_p
        nng.nng_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.socket = ctypes.c_uint32()
        self.check(nng.nng_pair0_open(ctypes.byref(self.socket)))
        self.check(nng.nng_socket_set_ms(self.socket, b"recv-timeout", TIMEOUT_MS))
        self.check(nng.nng_socket_set_size(self.socket, b"recv-size-max", ctypes.c_size_t(8 << 20)))
        dialer = ctypes.c_uint32()
        self.check(nng.nng_dialer_create(ctypes.byref(dialer), self.socket, url.encode()))
        if tls:
            ca, cert, key, name = tls
            config = ctypes.c_void_p()
            self.check(nng.nng_tls_config_alloc(ctypes.byref(config), 0))
            self.check(nng.nng_tls_config_ca_file(config, ca.encode()))
            with open(cert, "rb") as c, open(key, "rb") as k:
                self.check(nng.nng_tls_config_own_cert(config, c.read(), k.read(), None))
            self.check(nng.nng_tls_config_server_name(config, name.encode()))
            self.check(nng.nng_dialer_set_ptr(dialer, b"tls-config", config))
            nng.nng_tls_config_free(config)
        self.check(nng.nng_dialer_start(dialer, 0))

    def check(self, rv):
        if rv != 0:
            raise RuntimeError(self.nng.nng_strerror(rv).decode())

    def send(self, data):
        self.check(self.nng.nng_send(self.socket, data, ctypes.c_size_t(len(data)), 0))

    def recv(self):
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        alloc = 1  # NNG_FLAG_ALLOC
        self.check(self.nng.nng_recv(self.socket, ctypes.byref(data), ctypes.byref(size), alloc))
        text = ctypes.string_at(data, size.value)
        self.nng.nng_free(data, size)
        return text

    def close(self):
        # nng 1.5.2 can hang here when a message arrives at the same moment.
        threading.Thread(target=self.nng.nng_close, args=[self.socket], daemon=True).start()


def pynng_socket(url, tls):
    try:
        import pynng
    except ImportError:
        sys.exit(77)
    config = None
    if tls:
        ca, cert, key, name = tls
        with open(cert, encoding="ascii") as c, open(key, encoding="ascii") as k:
            config = pynng.TLSConfig(
                pynng.TLSConfig.MODE_CLIENT,
                server_name=name,
                ca_files=[ca],
                own_cert_string=c.read(),
                own_key_string=k.read(),
            )
    socket = pynng.Pair0(tls_config=config, recv_max_size=8 << 20, recv_timeout=TIMEOUT_MS)
    socket.dial(url, block=True)
    return socket


class Link:
    """One connection: a fresh socket each, so that nothing stale is replayed."""

    def __init__(self, connect):
        self.socket = connect()
        self.link = int.from_bytes(os.urandom(4), "little") or 1
        self.n = self.heard = 0
        self.send(
            hello=pb.Hello(
                version=1,
                role=pb.CLIENT,
                instance=os.urandom(16),
                token="secret",
                ping_ms=5000,
                dead_ms=30000,
                name="python",
            )
        )
        welcome = self.recv().welcome
        assert (welcome.version, welcome.ping_ms, welcome.dead_ms) == (1, 5000, 30000), welcome

    def send(self, **kind):
        self.n += 1
        self.socket.send(pb.Envelope(link=self.link, n=self.n, **kind).SerializeToString())

    def recv(self):
        while True:
            e = pb.Envelope.FromString(self.socket.recv())
            self.heard += 1
            assert e.link == self.link and e.n == self.heard, (e.link, e.n)
            if e.WhichOneof("kind") != "ping":
                return e
            self.send(pong=pb.Pong(t=e.ping.t))


def main():
    connect = lambda: (CtypesSocket if backend == "ctypes" else pynng_socket)(url, tls)
    request_id = os.urandom(16)
    wanted, resumed = 0, False
    link = Link(connect)
    link.send(
        submit=pb.Submit(stream=1, request_id=request_id, text="Grüße", max_tokens=TOTAL, window=32)
    )
    while True:
        e = link.recv()
        kind = e.WhichOneof("kind")
        if kind == "accepted":
            assert e.accepted.resumed == resumed
        elif kind == "tokens":
            t = e.tokens
            assert list(t.stream) == [1] and t.first_index[0] == wanted, (t.first_index, wanted)
            for token in t.token:
                assert token == wanted * 7 + 1, (token, wanted)
                wanted += 1
            if wanted >= TOTAL // 2 and not resumed:
                resumed = True
                link.socket.close()
                link = Link(connect)
                link.send(
                    resume=pb.Resume(request_id=[request_id], stream=[1], next_wanted=[wanted])
                )
            else:
                link.send(ack=pb.Ack(stream=[1], next_wanted=[wanted]))
        elif kind == "finish":
            assert e.finish.total == wanted == TOTAL and resumed, (e.finish, wanted)
            break
        else:
            raise RuntimeError(f"unexpected {e}")
    link.send(bye=pb.Bye(reason="python is content"))  # may be lost: closing drops what is queued


backend, proto_dir, url = sys.argv[1:4]
tls = sys.argv[4:8]
sys.path.insert(0, proto_dir)
import gaggle_pb2 as pb  # noqa: E402  (made by protoc for this run)

main()
os._exit(0)  # leave the socket to the kernel
