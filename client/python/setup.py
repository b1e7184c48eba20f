"""Puts the code that protoc makes from ../../proto/gaggle.proto into what is built.

Nothing generated is kept in git. `pip install client/python` needs protoc (package
protobuf-compiler); so does a first import straight from the tree, see gaggle/wire_types.py.
"""

import pathlib
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = pathlib.Path(__file__).resolve().parent.parent.parent / "proto"


class BuildWithProto(build_py):
    def run(self):
        super().run()
        out = pathlib.Path(self.build_lib) / "gaggle"
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["protoc", f"--proto_path={PROTO}", f"--python_out={out}", "gaggle.proto"], check=True
        )


setup(cmdclass={"build_py": BuildWithProto})
