#!/bin/bash
# Goal: the images and docker-compose.yml do what docs/deploy/docker.md says: small, without a shell, as an
# ordinary user on a read-only file system, well by their own health check, and a fleet of three workers
# loses no token when one is killed, when others are added, and when most are taken away.
# Method: one router and its workers by Compose; the same greedy answers undisturbed and disturbed, whose
# ids must be equal; the workers have a tenth of a CPU, so that an answer takes seconds.
#
# usage: images.sh       ENGINE=docker|podman, COMPOSE="docker compose"|docker-compose|...; IMAGES=no takes
#                        the images that are here instead of building them; TARGETS adds worker-cuda
#
# Where there is no engine it says "skipped: why". Waits on what the engine and the programs say.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "FAILED: $*" >&2; exit 1; }
say() { printf -- '-- %s\n' "$*"; }

ENGINE=${ENGINE:-$(command -v docker >/dev/null && echo docker || echo podman)}
COMPOSE=${COMPOSE:-docker-compose}
TARGETS=${TARGETS:-}
tmp=$(mktemp -d "${GAGGLE_TEST_TMP:-/tmp}/gaggle-images.XXXXXX")
project=gaggletest$$
service=""
export GAGGLE_REGISTRY=${REGISTRY:-localhost} GAGGLE_TAG=${TAG:-latest} GAGGLE_SECRETS=$tmp/secrets
export GAGGLE_PORT=${GAGGLE_PORT:-17400} GAGGLE_HTTP_PORT=${GAGGLE_HTTP_PORT:-17480} GAGGLE_THREADS=1 COMPOSE_PROFILES=

# Compose speaks Docker's protocol, podman answers it on a socket of its own.
if [ "$ENGINE" = podman ]; then
    export DOCKER_HOST=unix://$tmp/podman.sock
    podman system service --time=0 "$DOCKER_HOST" >"$tmp/podman.log" 2>&1 &
    service=$!
    for _ in $(seq 1000); do [ -S "$tmp/podman.sock" ] && break; podman info >/dev/null 2>&1 || true; done
fi
"$ENGINE" info >/dev/null 2>&1 || { echo "skipped: no container engine ($ENGINE) answers"; exit 0; }
$COMPOSE version >/dev/null 2>&1 || { echo "skipped: no Compose ($COMPOSE)"; exit 0; }

cat >"$tmp/slow.yml" <<'END'
services:
  worker:
    cpus: 0.1
END
compose() { $COMPOSE -p "$project" -f docker-compose.yml -f "$tmp/slow.yml" --project-directory . "$@"; }
clean_up() {
    compose down -v -t 5 >"$tmp/down.log" 2>&1 || true
    [ -z "$service" ] || kill "$service" 2>/dev/null || true
    rm -rf "$tmp"
}
trap clean_up EXIT

# -- the images --------------------------------------------------------------------------------

[ "${IMAGES:-}" = no ] || make -s -f Makefile.docker cpu ENGINE="$ENGINE" >"$tmp/build.log" 2>&1 ||
    { tail -n 40 "$tmp/build.log"; fail "the images do not build"; }
deploy/docker/make-secrets.sh "$GAGGLE_SECRETS"

check_image() { # NAME PROGRAM MEGABYTES
    local image=$GAGGLE_REGISTRY/$1:$GAGGLE_TAG size facts
    size=$("$ENGINE" save "$image" | gzip -6 | wc -c)
    [ "$size" -lt $(($3 * 1000000)) ] || fail "$1 has $size bytes compressed, more than $3 MB"
    facts=$("$ENGINE" image inspect "$image")
    for fact in '"65532:65532"' SIGTERM '"/usr/bin/gaggle",' '"health"' org.opencontainers.image.licenses; do
        grep -q -- "$fact" <<<"$facts" || fail "$1 says nothing of $fact"
    done
    "$ENGINE" run --rm --read-only --cap-drop ALL --entrypoint "$2" "$image" --version >"$tmp/version" 2>>"$tmp/engine.log" ||
        fail "$1 does not run on a read-only file system"
    if "$ENGINE" run --rm --entrypoint /bin/sh "$image" -c true 2>>"$tmp/engine.log"; then fail "$1 has a shell"; fi
    id=$("$ENGINE" create "$image" 2>>"$tmp/engine.log")
    "$ENGINE" cp "$id:/cache" - | tar --numeric-owner -tv | grep -q 65532/65532 || fail "$1: the cache is not its user's"
    "$ENGINE" cp "$id:/usr/share/sbom/$1.spdx.json" "$tmp/sbom.json"
    "$ENGINE" rm "$id" >/dev/null
    python3 - "$tmp/sbom.json" <<'END' || fail "the SBOM of $1 is incomplete"
import json, sys
names = {p["name"]: p["versionInfo"] for p in json.load(open(sys.argv[1]))["packages"] if "versionInfo" in p}
sys.exit(not {"libc6", "libuv1", "ca-certificates"} <= names.keys())
END
    say "$1: $(cat "$tmp/version"), $((size / 1000)) kB compressed"
}
check_image gaggle-router /usr/bin/gaggle-router 60
check_image gaggle-worker-cpu /usr/bin/gaggle-worker 60
for target in $TARGETS; do check_image "gaggle-$target" /usr/bin/gaggle-worker 1000; done

# -- the fleet ---------------------------------------------------------------------------------

for profile in gpu gpu1 gpu7 monitoring tools; do
    compose --profile "$profile" config >/dev/null || fail "Compose refuses the profile $profile"
done
compose -f deploy/docker/compose.tls.yml config >/dev/null || fail "Compose refuses compose.tls.yml"
say "$($COMPOSE version | head -n 1): every profile is accepted"

container() { compose ps -q "$1" | sed -n "${2:-1}p"; }
# Until its log has a line; the log is followed, not asked again and again.
wait_for_line() { # CONTAINER WORDS TIMES
    local said
    said=$(timeout 60 grep -m "$3" -c -- "$2" < <("$ENGINE" logs -f "$1" 2>&1)) || true
    [ "$said" = "$3" ] || fail "'$2' was said $said times of $3 within 60 s"
}
gaggle() { "$ENGINE" exec "$router" gaggle "$@"; }

compose up -d --scale worker=3 >"$tmp/up.log" 2>&1 || { cat "$tmp/up.log"; fail "the fleet does not start"; }
router=$(container router)
wait_for_line "$router" " registered device" 3
gaggle health --ready
"$ENGINE" exec "$(container worker)" gaggle health --ready
answer=$(echo "What is the capital of France?" | "$ENGINE" exec -i "$router" gaggle chat)
grep -q Paris <<<"$answer" || fail "gaggle chat says: $answer"
say "gaggle chat: $answer"

# A worker that stands still is not well, and is well again.
worker=$(container worker 3)
"$ENGINE" kill --signal STOP "$worker" >/dev/null
if "$ENGINE" exec "$worker" gaggle health --timeout-ms 500; then fail "a worker that stands still is called well"; fi
"$ENGINE" kill --signal CONT "$worker" >/dev/null
"$ENGINE" exec "$worker" gaggle health

prompts=("Geese fly" "The sea is" "Once upon a time" "A router" "In winter" "My name is" "Two and two" "The sun")
ask() { # FOLDER
    mkdir -p "$tmp/$1"
    for i in "${!prompts[@]}"; do
        timeout 120 "$ENGINE" exec "$router" gaggle complete --json --temperature 0 --ignore-eos --max-tokens 900 \
            "${prompts[$i]}" >"$tmp/$1/$i.json" 2>"$tmp/$1/$i.err" &
        asked+=($!)
    done
}
finish() { for pid in "${asked[@]}"; do wait "$pid" || fail "an answer failed: $(cat "$tmp"/*/*.err)"; done; asked=(); }
# Tokens that the router has relayed; the metrics are asked until there are so many.
wait_for_tokens() {
    timeout 60 python3 - "$GAGGLE_HTTP_PORT" "$1" <<'END' || fail "no answers under way"
import sys, urllib.request
while True:
    page = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read().decode()
    if sum(float(l.rsplit(" ", 1)[1]) for l in page.splitlines() if l.startswith("gaggle_output_tokens_total{")) >= float(sys.argv[2]):
        break
END
}
tokens() { python3 -c "
import sys, urllib.request
page = urllib.request.urlopen('http://127.0.0.1:$GAGGLE_HTTP_PORT/metrics').read().decode()
print(int(sum(float(l.rsplit(' ', 1)[1]) for l in page.splitlines() if l.startswith('gaggle_output_tokens_total{'))))"; }
compare() { # FOLDER MOVED: at least so many answers went on at another worker
    python3 - "$tmp/undisturbed" "$tmp/$1" "$2" "${#prompts[@]}" <<'END' || fail "answers differ: $1"
import json, sys
undisturbed, disturbed, wanted, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
moved = 0
for i in range(count):
    a, b = (json.load(open(f"{folder}/{i}.json")) for folder in (undisturbed, disturbed))
    if a["ids"] != b["ids"] or len(a["ids"]) != 900:
        sys.exit(f"prompt {i}: {len(a['ids'])} and {len(b['ids'])} ids, not the same")
    moved += "continued" in b
if moved < wanted:
    sys.exit(f"only {moved} answers went on elsewhere: nothing was disturbed")
print(f"   {count} answers of 900 tokens, ids equal; {moved} went on at another worker")
END
}
# The container of the worker with the most answers: its name begins with its container's.
busiest() { gaggle ps --json | python3 -c "
import json, sys
busiest = max(json.load(sys.stdin)['workers'], key=lambda w: w['streams'])
print(busiest['worker_id'].rsplit('-', 1)[0])"; }
asked=()

ask undisturbed; finish

# What Grafana's board and the alerts ask for is there. Only workers on lent machines have a lease.
python3 - "$GAGGLE_HTTP_PORT" deploy/monitoring/alerts.yml deploy/monitoring/grafana/dashboards/*.json <<'END' || fail "a board asks for what is not there"
import re, sys, urllib.request
page = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read().decode()
there = set(re.findall(r"^(gaggle_\w+|process_\w+)[{ ]", page, re.M)) | {"gaggle_worker_lease_left_seconds"}
asked = {name for path in sys.argv[2:] for name in re.findall(r"\b(?:gaggle|process)_\w+", open(path).read())}
print(f"   board and alerts ask for {len(asked)} series")
sys.exit(f"not in /metrics: {sorted(asked - there)}" if asked - there else 0)
END

say "one of three workers is killed in mid-answer"
before=$(tokens); ask killed; wait_for_tokens $((before + 500))
"$ENGINE" kill "$(busiest)" >/dev/null
finish; compare killed 1

say "from two workers to five, then to one, under load"
before=$(tokens); ask scaled; wait_for_tokens $((before + 200))
compose up -d --no-recreate --scale worker=5 >"$tmp/scale.log" 2>&1 || { cat "$tmp/scale.log"; fail "no scaling up"; }
ask scaled2
wait_for_tokens $((before + 2000))
compose up -d --no-recreate --scale worker=1 >"$tmp/scale.log" 2>&1 || { cat "$tmp/scale.log"; fail "no scaling down"; }
finish; compare scaled 0; compare scaled2 0

# SIGTERM: the exit status is the program's own, not a kill's.
worker=$(container worker)
"$ENGINE" stop -t 40 "$worker" >/dev/null
status=$("$ENGINE" inspect --format '{{.State.ExitCode}}' "$worker")
[ "$status" = 0 ] || fail "SIGTERM ended the worker with status $status"
say "passed"
