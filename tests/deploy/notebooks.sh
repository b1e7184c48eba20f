#!/bin/bash
# notebooks.sh BUILD: the notebooks of deploy/, run end to end on the CPU.
#
# Goal: what Kaggle and Colab run joins a router over the internet, and no answer is ever wrong,
# lost or doubled, whatever the line does.
# Method: the router stands in one network namespace, behind nginx, which terminates TLS; Kaggle's
# notebook and Colab's run in another one, in real kernels. Every packet between them is 50 ms late
# (gaggle-lossy-link), and for 15 s in the middle none passes at all. Clients ask all the time; each
# answer must have the ids that the model gives without any network. Then Kaggle's session ends while
# clients wait, and Colab's worker takes over what it leaves. A third notebook has no network, a dataset
# whose files have lost their modes, and a router of its own.
#
# Kaggle's takes the programs from an archive, Colab's builds them from source, the third one finds an
# unpacked folder. BUILD holds gaggle, gaggle-router, gaggle-worker, gaggle-lossy-link; what was run
# stays in BUILD/notebooks. Wants root, nginx with its stream module, and Python with nbclient,
# ipykernel (PYTHON, default python3): without them it says what is missing, and passes.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2; }
build=$(cd "$1" && pwd)
bin=$build/bin
cd "$(dirname "$0")/../.."
tree=$PWD
python=${PYTHON:-python3}

skip() { echo "skipped: $*"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip "only root may make network namespaces"
[ -c /dev/net/tun ] || skip "no /dev/net/tun for the late line"
stream_module=/usr/lib/nginx/modules/ngx_stream_module.so
[ -x "$(command -v nginx)" ] && [ -e $stream_module ] || skip "no nginx (nginx-light, libnginx-mod-stream)"
"$python" -c 'import nbclient, ipykernel' 2>/dev/null || skip "no nbclient and ipykernel for $python"
router_space=gaggle-router-$$ notebook_space=gaggle-notebook-$$
refused=$(ip netns add $router_space 2>&1) || skip "no network namespaces ($refused)"

out=$build/notebooks
rm -rf "$out"
mkdir -p "$out"
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    ip netns del $router_space
    ip netns del $notebook_space 2>/dev/null || true
    rm -rf /etc/netns/$notebook_space
}
trap cleanup EXIT
fail() { echo "FAILED: $*"; exit 1; }
router_side=(ip netns exec $router_space) notebook_side=(ip netns exec $notebook_space)
background() { # LOG COMMAND...: a program, not a function, so that it is what gets killed
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    started+=($!)
}
# Until `log` has such a line for the n-th time. Follows the file; does not ask again and again.
await() { # LOG PATTERN SECONDS [COUNT]
    local lines follower seen
    exec {lines}< <(exec timeout "$3" tail -n +1 -F "$1" 2>/dev/null)
    follower=$!
    seen=$(grep -m "${4:-1}" -cE "$2" <&$lines) || true
    exec {lines}<&-
    kill $follower 2>/dev/null || true
    [ "$seen" -eq "${4:-1}" ] || { tail -5 "$1" >&2; fail "no '$2' in $1 within $3 s"; }
}

# -- the line: notebook -- veth -- nginx -- 50 ms -- nginx, TLS -- router --------------------------

ip netns add $notebook_space
ip -n $router_space link set lo up
ip -n $notebook_space link set lo up
ip -n $router_space link add outside type veth peer name eth0 netns $notebook_space
ip -n $router_space addr add 10.78.0.1/24 dev outside
ip -n $router_space link set outside up
ip -n $notebook_space addr add 10.78.0.2/24 dev eth0
ip -n $notebook_space link set eth0 up
mkdir -p /etc/netns/$notebook_space
echo "10.78.0.1 gaggle.test" >/etc/netns/$notebook_space/hosts
background "$out/line.log" "${router_side[@]}" "$bin/gaggle-lossy-link" --delay-ms 50 --loss 0
await "$out/line.log" ready 10

"$bin/gaggle" certs init "$out/pki" --host gaggle.test 2>/dev/null
cat >"$out/nginx.conf" <<NGINX
load_module $stream_module;
daemon off;
pid $out/nginx.pid;
error_log $out/nginx.log;
events {}
stream {
    server { listen 10.78.0.1:443; proxy_pass 10.77.0.2:443; }
}
http {
    access_log off;
    server {
        listen 10.77.0.1:443 ssl;
        ssl_certificate $out/pki/router.pem;
        ssl_certificate_key $out/pki/router.key;
        location = /worker {
            proxy_pass http://127.0.0.1:7410;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 1h;
        }
    }
}
NGINX
background "$out/nginx.out" "${router_side[@]}" nginx -c "$out/nginx.conf"

# -- the router, and one notebook of each kind ----------------------------------------------------

connect() { # PLACE OPTIONS...: writes PLACE.ipynb, and its token to PLACE.token
    local place=$1
    shift
    "$bin/gaggle" connect "$place" --notebook --keys "$out/keys.ini" --expires 1h \
        --router-url wss://gaggle.test/worker --model "$tree/models/gosling" \
        --tls-ca "$out/pki/ca.pem" "$@" >"$out/$place.ipynb" 2>"$out/$place.said"
    tail -1 "$out/$place.said" >"$out/$place.token"
}
connect kaggle
connect colab
client_token=$("$bin/gaggle" token new --keys "$out/keys.ini" --role client --expires 1h 2>/dev/null)
background "$out/router.log" "${router_side[@]}" "$bin/gaggle-router" --keys "$out/keys.ini" \
    --listen tcp://127.0.0.1:7400 --worker-listen ws://127.0.0.1:7410/worker

# Where each finds the programs.
inputs() { mkdir -p "$out/$1/input" "$out/$1/work" "$out/$1/keep"; }
inputs kaggle; inputs colab; inputs offline
archive=$(JOBS=2 tools/archive.sh "$build/archive" 2>"$out/archive.log")
cp "$archive.tar.xz" "$out/kaggle/input/"
mkdir "$out/colab/input/source"
tar -C "$tree" -c --exclude='./build*' --exclude='./.*' . | tar -C "$out/colab/input/source" -x
cp -r "$archive" "$out/offline/input/gaggle"
find "$out/offline/input" -type f -exec chmod 444 {} +

# Sets `notebook`: the command that runs one.
set_notebook() { # NAME NOTEBOOK SETTINGS...
    local name=$1 file=$2 token=
    shift 2
    [ ! -e "$out/$name.token" ] || token=$(cat "$out/$name.token")
    notebook=("${notebook_side[@]}" env HF_HUB_OFFLINE=1 SECRET_GAGGLE_JOIN_TOKEN="$token"
        "$python" tests/deploy/run_notebook.py "$file" "$out/$name.done.ipynb"
        INPUTS="$out/$name/input" WORK="$out/$name/work" KEEP="$out/$name/keep" "$@")
}
# Of a session the notebook keeps 300 s in reserve.
set_notebook colab "$out/colab.ipynb" WORKER_OPTIONS="--threads 1" SESSION_S=7200
background "$out/colab.log" "${notebook[@]}"
await "$out/router.log" 'worker=colab-.* registered' 300
set_notebook kaggle "$out/kaggle.ipynb" WORKER_OPTIONS="--threads 1" SESSION_S=390
background "$out/kaggle.log" "${notebook[@]}"
kaggle=$!
await "$out/router.log" 'worker=kaggle-.* registered' 60
echo "both notebooks serve"

# -- questions, all the time ---------------------------------------------------------------------

cat >"$out/prompts.jsonl" <<'PROMPTS'
{"prompt": "Geese fly in a V because", "max_tokens": 400, "temperature": 0, "ignore_eos": true}
{"prompt": "The capital of France", "max_tokens": 300, "temperature": 0, "ignore_eos": true}
{"prompt": "A router", "max_tokens": 500, "temperature": 1, "seed": 7, "ignore_eos": true}
{"prompt": "Once upon a time", "max_tokens": 350, "temperature": 0.8, "seed": 3, "ignore_eos": true}
PROMPTS
"$bin/gaggle-worker" generate -m models/gosling --prompts "$out/prompts.jsonl" --max-num-seqs 4 \
    >"$out/expected.jsonl" 2>"$out/generate.log"
"$python" - "$out" <<'ARGUMENTS'
import json, shlex, sys

for number, line in enumerate(open(f"{sys.argv[1]}/prompts.jsonl")):
    prompt = json.loads(line)
    words = [f"--max-tokens={prompt['max_tokens']}", f"--temperature={prompt['temperature']}",
             f"--seed={prompt.get('seed', 0)}", prompt["prompt"]]
    open(f"{sys.argv[1]}/arguments.{number}", "w").write(shlex.join(words))
ARGUMENTS
cat >"$out/ask.sh" <<ASK
# ask.sh NUMBER: the answer to prompt NUMBER mod 4, on one line with its number.
number=\$((\$1 % 4))
answer=\$(eval '"$bin/gaggle" complete --json --router tcp://127.0.0.1:7400 --token $client_token \
    --window 32 --ignore-eos' "\$(cat "$out/arguments.\$number")" 2>>"$out/ask.log") || answer=null
printf '{"prompt": %d, "answer": %s}\n' \$number "\$answer" >>"$out/answers.jsonl"
ASK
ask() { # COUNT AT_ONCE
    seq "$1" | "${router_side[@]}" timeout 300 xargs -P "$2" -I{} bash "$out/ask.sh" {}
}
# As soon as answers are on their way the line breaks.
(
    trap - EXIT
    await "$out/router.log" 'request=.* placed' 60 8
    ip -n $router_space link set outside down
    sleep 15
    ip -n $router_space link set outside up
    echo "15 s without the line are over"
) >"$out/outage.log" 2>&1 &
ask 60 8
await "$out/outage.log" 'are over' 60
await "$out/router.log" 'worker=.* registered' 60 4 # both, and both again

# Kaggle's session ends, and clients go on asking.
for _ in $(seq 60); do
    ask 40 8
    ! grep -qE 'worker=kaggle-.*drain' "$out/router.log" || break
done
ask 16 8
timeout 60 tail --pid=$kaggle -f /dev/null || fail "the Kaggle notebook does not end with its session"

"$python" - "$out" <<'CHECK' || fail "answers differ"
import json, sys

out = sys.argv[1]
expected = [json.loads(line) for line in open(f"{out}/expected.jsonl")]
answers = [json.loads(line) for line in open(f"{out}/answers.jsonl")]
wrong = [a for a in answers if a["answer"] is None or a["answer"]["ids"] != expected[a["prompt"]]["ids"]]
print(f"{len(answers)} answers, {sum(len(expected[a['prompt']]['ids']) for a in answers)} tokens, {len(wrong)} wrong")
for a in wrong[:3]:
    print(a)
sys.exit(bool(wrong))
CHECK

# -- a notebook without a network -------------------------------------------------------------------

ip -n $notebook_space link del eth0
set_notebook offline deploy/kaggle/gaggle.ipynb MODEL="$tree/models/gosling"
"${notebook[@]}" >"$out/offline.log" 2>&1 ||
    { tail -5 "$out/offline.log"; fail "the notebook without a network"; }
"$python" - "$out" <<'CHECK' || fail "the notebook without a network has another answer"
import json, sys

out = sys.argv[1]
expected = json.loads(open(f"{out}/expected.jsonl").readline())["text"]
cell = json.load(open(f"{out}/offline.done.ipynb"))["cells"][-1]
text = "".join("".join(o.get("text", "")) for o in cell["outputs"])
print("without a network:", text[:60].strip(), "...")
sys.exit(not expected.startswith(text.rstrip("\n")))
CHECK
for name in kaggle offline; do
    "$python" - "$out/$name.done.ipynb" <<'LINE'
import json, sys

book = json.load(open(sys.argv[1]))
for output in next(c for c in book["cells"] if c["id"] == "workers")["outputs"]:
    print("last line of its status:", "".join(output.get("data", {}).get("text/plain", "")))
LINE
done
echo "ok"
