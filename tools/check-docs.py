#!/usr/bin/env python3
"""Checks README.md and docs/ against the programs: that each command, flag and metric that they name
exists, as do the flags that gaggle doctor advises; that each link leads somewhere, and that each sentence
which docs/troubleshooting.md quotes is one that the source can print.

usage: check-docs.py BIN        the folder of gaggle, gaggle-router and gaggle-worker
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.abspath(sys.argv[1])

# Before a program's name in a command line.
PRELUDE = {"$", "sudo", "exec", "env", "nohup", "time"}
# Flags of other programs that our pages name by themselves; those of docs/deploy are not looked at.
FOREIGN_FLAGS = {"--gpus"}
# What looks like a metric's name and is none.
NO_METRICS = {"gaggle_cuda", "gaggle_client", "gaggle_data", "gaggle_net"}

problems = []


def problem(path, line, text):
    problems.append(f"{os.path.relpath(path, ROOT)}:{line}: {text}")


def output_of(*args):
    return subprocess.run([os.path.join(BIN, args[0]), *args[1:]], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL).stdout


# -- what the programs know -----------------------------------------------------------------------


def flags_of(*words):
    flags = set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", output_of(*words, "--help-all"), re.M))
    # A flag that is on by default is switched off.
    return flags | {"--no-" + flag[2:] for flag in flags} | {"--man", "--help", "--help-all"}


def commands_of(*words):
    """Every command behind these words, with its flags."""
    found = {words: flags_of(*words)}
    text = output_of(*words, "--help")
    if "COMMAND" in text.split("\n", 1)[0]:
        for name in re.findall(r"^  ([a-z][a-z-]*) +\S", text, re.M):
            found.update(commands_of(*words, name))
    return found


def known_commands():
    known = commands_of("gaggle")
    for words in ("gaggle-router",), ("gaggle-worker",):
        known[words] = flags_of(*words)
    for name in "generate", "bench":
        known["gaggle-worker", name] = flags_of("gaggle-worker", name)
    known["gaggle-worker", "devices"] = set()
    return known


def known_metrics():
    args = [os.path.join(BIN, "gaggle-router"), "--listen", "tcp://127.0.0.1:0", "--worker-listen",
            "tcp://127.0.0.1:0", "--http-listen", "http://127.0.0.1:0", "--log-level", "error"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAGGLE_")}
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=environment) as router:
        try:
            url = json.loads(router.stdout.readline())["http_listen"][0]
            # Not through a proxy that the environment names.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url + "/metrics", timeout=20) as answer:
                page = answer.read().decode()
        finally:
            router.terminate()
    names = set(re.findall(r"^# TYPE (\S+)", page, re.M))
    for name in re.findall(r"^# TYPE (\S+) histogram", page, re.M):
        names |= {name + "_bucket", name + "_sum", name + "_count"}
    return names


def source_texts(*folders):
    """The string literals of the source, those that stand together joined."""
    texts = []
    for folder in folders:
        for path in glob.glob(f"{ROOT}/{folder}/**/*.[ch]", recursive=True):
            with open(path, encoding="utf-8") as file:
                source = file.read()
            for group in re.findall(r'"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*', source):
                parts = re.findall(r'"((?:[^"\\\n]|\\.)*)"', group)
                texts.append("".join(parts).replace('\\"', '"'))
    return "\n".join(texts)


# -- what the pages say -----------------------------------------------------------------------------


def pieces(path):
    """(line, text, kind) of a page: kind is "code" for a line of code, "span" for `...`, "heading",
    "text" for all of a line."""
    fenced, language, held, held_at = False, "", "", 0
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            language = line.strip()[3:]
            continue
        yield number, line, "text"
        if (fenced and language not in ("yaml", "ini", "json")) or \
                (not fenced and line.startswith("    ")):
            if not held:
                held_at = number
            held += line.strip()
            if held.endswith("\\"):
                held = held[:-1] + " "
                continue
            yield held_at, held, "code"
            held = ""
        elif not fenced:
            if line.startswith("#"):
                yield number, line, "heading"
            for span in re.findall(r"`([^`]+)`", line):
                yield number, span, "span"


def check_command(path, line, words, known):
    at = 0
    while at < len(words) and (words[at] in PRELUDE or re.match(r"[A-Z_]+=", words[at])):
        at += 1
    if at >= len(words):
        return
    name = os.path.basename(words[at])
    if (name,) not in known:
        return
    command = (name,)
    rest = words[at + 1:]
    while rest and command + (rest[0],) in known:
        command += (rest.pop(0),)
    is_group = any(len(other) > len(command) and other[:len(command)] == command for other in known)
    if is_group and rest and name == "gaggle" and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        problem(path, line, f"there is no command `{' '.join(command)} {rest[0]}`")
        return
    for word in rest:
        flag = re.match(r"--[a-z][a-z0-9-]*", word)
        if flag and flag.group() not in known[command]:
            problem(path, line, f"`{' '.join(command)}` has no {flag.group()}")


def check_commands(path, known):
    all_flags = set().union(*known.values())
    for line, text, kind in pieces(path):
        if kind not in ("code", "span"):
            continue
        text = re.sub(r"(^|\s)#.*", "", text)
        is_command = kind == "code" or re.match(r"(\S*/)?gaggle(-router|-worker)? ", text)
        for segment in re.split(r"\||;|&&|\$\(|\)|<|>", text if is_command else ""):
            check_command(path, line, segment.replace('"', " ").split(), known)
        if kind == "span" and text.startswith("--") and "/deploy/" not in path:
            for flag in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)(?=[\s=,]|$)", text):
                if flag not in all_flags | FOREIGN_FLAGS:
                    problem(path, line, f"no program has {flag}")


def check_advice(texts, known):
    """What gaggle doctor advises."""
    all_flags = set().union(*known.values()) | FOREIGN_FLAGS
    for flag in set(re.findall(r"(?:^|[\s(])(--[a-z][a-z0-9-]*)", texts)) - all_flags:
        problem(f"{ROOT}/client/doctor", 0, f"no program has {flag}")


def check_metrics(path, names, identifiers):
    for line, text, kind in pieces(path):
        if kind != "text":
            continue
        for name in re.findall(r"(?<![\w/-])(?:gaggle_[a-z0-9_]*|vllm:[a-z0-9_]+)", text):
            if name not in names | identifiers | NO_METRICS and not name.endswith("_"):
                problem(path, line, f"/metrics has no {name}")


def check_links(path):
    for line, text, kind in pieces(path):
        if kind != "text":
            continue
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                problem(path, line, f"{target} is not there")
        for target in re.findall(r"(?<![\w/.])docs/[\w/-]+\.md", text):
            if not os.path.exists(os.path.join(ROOT, target)):
                problem(path, line, f"{target} is not there")


def check_rules(path, page, metrics):
    """The alerts are those that the page explains, of metrics that there are, and, where its promtool
    is installed, Prometheus takes them."""
    with open(path, encoding="utf-8") as file:
        rules = file.read()
    with open(page, encoding="utf-8") as file:
        explained = re.findall(r"^\| (Gaggle\w+) \|", file.read(), re.M)
    if explained != re.findall(r"alert: (\w+)", rules):
        problem(path, 0, f"the alerts are not those of {page}, in their order")
    for name in set(re.findall(r"\bgaggle_\w+", rules)) - metrics:
        problem(path, 0, f"/metrics has no {name}")
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True,
                                 text=True, timeout=60)
        if checked.returncode != 0:
            problem(path, 0, f"promtool: {checked.stderr.strip()}")


def check_quotes(path, texts):
    """Headings of troubleshooting.md quote what is printed; `...` stands for what differs."""
    for line, text, kind in pieces(path):
        if kind != "heading":
            continue
        for quote in re.findall(r"`([^`]+)`", text):
            for part in quote.split("..."):
                if len(part.strip()) > 3 and part.strip() not in texts:
                    problem(path, line, f"nothing prints '{part.strip()}'")


def main():
    known, metrics = known_commands(), known_metrics()
    with open(f"{ROOT}/client/gaggle.h", encoding="utf-8") as header:
        identifiers = set(re.findall(r"gaggle_\w+", header.read()))
    pages = [f"{ROOT}/README.md", *sorted(glob.glob(f"{ROOT}/docs/**/*.md", recursive=True))]
    for page in pages:
        check_commands(page, known)
        check_metrics(page, metrics, identifiers)
        check_links(page)
    check_rules(f"{ROOT}/deploy/monitoring/alerts.yml", f"{ROOT}/docs/operating.md", metrics)
    check_quotes(f"{ROOT}/docs/troubleshooting.md",
                 source_texts("client", "common", "proto", "router", "worker"))
    check_advice(source_texts("client/doctor"), known)
    print("\n".join(problems))
    print(f"{len(pages)} pages, {len(known)} commands, {len(metrics)} metrics: "
          f"{len(problems)} problems")
    return 1 if problems else 0


sys.exit(main())
