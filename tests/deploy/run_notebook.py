#!/usr/bin/env python3
"""Runs a notebook of deploy/ on this machine, as its place would.

    run_notebook.py NOTEBOOK OUTPUT [NAME=VALUE...]

Runs all cells, with names that the first two assign set to other values (text, or a number), and
writes the notebook with its outputs to OUTPUT. The modules that only the place has come from fakes/.
A real kernel runs it (nbclient, ipykernel); where OUTPUT is "-" the cells run in this process, one after the
other.
"""
import json
import os
import pathlib
import re
import sys

FAKES = pathlib.Path(__file__).with_name("fakes")


def set_value(source, name, value):
    literal = value if value.isdigit() else json.dumps(value)
    line = re.compile(rf"^{name} = \"(?:[^\"\\]|\\.)*\"", re.M)
    if line.search(source):
        return line.sub(lambda _: f"{name} = {literal}", source), True
    several = re.compile(rf"^((?:\w+, )*{name}(?:, \w+)*) = .*$", re.M)  # A, B = 1, 2
    found = several.search(source)
    return (source + f"\n{name} = {literal}", True) if found else (source, False)


def fill(book, values):
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for name, value in values.items():
        for cell in cells[:2]:
            cell["source"], done = set_value("".join(cell["source"]), name, value)
            if done:
                break
        else:
            sys.exit(f"the notebook sets no {name}")
    for cell in cells:
        cell["source"] = "".join(cell["source"])


def run_in_kernel(book, output):
    import nbclient
    import nbformat

    node = nbformat.from_dict(book)
    try:
        nbclient.NotebookClient(node, timeout=1200, kernel_name="python3").execute()
    finally:
        nbformat.write(node, output)


def run_here(book):
    class Place:
        def update(self, data, raw):
            print(data["text/plain"], flush=True)

    def display(data, raw, display_id):
        return Place()

    try:
        import IPython.display as module
    except ImportError:
        import types

        module = types.ModuleType("IPython.display")
        sys.modules.update({"IPython": types.ModuleType("IPython"), "IPython.display": module})
    module.display = display
    names = {"__name__": "__main__"}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), names)


def main():
    notebook, output, *values = sys.argv[1:]
    with open(notebook, encoding="utf-8") as file:
        book = json.load(file)
    fill(book, dict(value.split("=", 1) for value in values))
    os.environ["PYTHONPATH"] = str(FAKES)
    sys.path.insert(0, str(FAKES))
    if output == "-":
        run_here(book)
    else:
        run_in_kernel(book, output)


main()
