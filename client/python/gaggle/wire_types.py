"""The messages of gaggle.proto, as `pb`.

An installed package has them ready (setup.py). In the source tree they are made by protoc at the
first import and kept in the user's cache, under the hash of the .proto file.
"""

import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys


def _from_tree():
    proto = pathlib.Path(__file__).resolve().parents[3] / "proto" / "gaggle.proto"
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    digest = hashlib.sha256(proto.read_bytes()).hexdigest()[:16]
    folder = cache / "gaggle" / digest
    made = folder / "gaggle_pb2.py"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["protoc", f"--proto_path={proto.parent}", f"--python_out={folder}", proto.name],
                check=True,
            )
        except FileNotFoundError:
            raise ImportError("protoc is needed once (package protobuf-compiler)") from None
    spec = importlib.util.spec_from_file_location("gaggle.gaggle_pb2", made)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


try:
    from . import gaggle_pb2 as pb
except ImportError:
    pb = _from_tree()
