#!/bin/sh
# Goal: the Helm chart renders what Kubernetes takes, from the values it ships and from each example,
# and says nothing to the programs that they do not know. Method: the names of settings and metrics in
# its templates are looked up in the programs' own help and in docs/metrics.md; with helm (or HELM, a
# program that renders as helm does) every set of values is rendered, with kubernetes-validate (PyPI)
# checked against Kubernetes' schemas, and the router reads the settings that it would be given.
#
# usage: chart.sh BUILD
set -eu
[ $# -eq 1 ] || { sed -n '7,9s/^# \{0,1\}//p' "$0"; exit 2; }
build=$(cd "$1" && pwd)
tree=$(cd "$(dirname "$0")/../.." && pwd)
chart=$tree/deploy/helm/gaggle
tmp=${GAGGLE_TEST_TMP:-$build/chart}
mkdir -p "$tmp"
fail() { echo "FAILED: $*" >&2; exit 1; }

# -- names ----------------------------------------------------------------------------------------

knows() { # PROGRAM SETTING
    "$build/bin/$1" --help-all | grep -q -e "--$2 " || fail "$1 has no setting $2, which the chart gives it"
}
for setting in $(sed -n 's/^    \([a-z-]*\) = .*/\1/p' "$chart/templates/router-config.yaml" | sort -u); do
    knows gaggle-router "$setting"
done
variables() { grep -oh 'GAGGLE_[A-Z_]*' "$chart/templates/$1" | grep -v '_$' | sort -u |
    sed 's/^GAGGLE_//' | tr 'A-Z_' 'a-z-'; }
for setting in $(variables router.yaml); do
    knows gaggle-router "$setting"
done
for setting in $(variables workers.yaml); do
    knows gaggle-worker "$setting"
done
"$build/bin/gaggle" health --help | grep -q -e --ready || fail "gaggle health has no --ready"
for metric in $(grep -oh 'gaggle_[a-z_]*' "$chart"/templates/*.yaml | sort -u); do
    grep -q "\`$metric\`" "$tree/docs/metrics.md" || fail "docs/metrics.md has no $metric, which the chart asks for"
done
python3 -c '
import json, re, sys
schema = set(json.load(open(sys.argv[1]))["properties"]) - {"global"}
values = set(re.findall(r"^(\w+):", open(sys.argv[2]).read(), re.M))
sys.exit(f"values.yaml and values.schema.json differ: {schema ^ values}" if schema != values else 0)
' "$chart/values.schema.json" "$chart/values.yaml" || fail "values.schema.json"
version=$(sed -n 's/^project(gaggle VERSION \([0-9.]*\).*/\1/p' "$tree/CMakeLists.txt")
grep -qx "appVersion: \"$version\"" "$chart/Chart.yaml" || fail "Chart.yaml's appVersion is not $version"
echo "the chart's names are the programs'"

# -- rendered -------------------------------------------------------------------------------------

helm=${HELM:-$(command -v helm || true)}
[ -n "$helm" ] || { echo "skipped: rendering, for there is no helm"; exit 0; }
validate=${KUBERNETES_VALIDATE:-$(command -v kubernetes-validate || true)}
[ -n "$validate" ] || echo "skipped: Kubernetes' schemas, for there is no kubernetes-validate"

render() { # NAME KUBERNETES [helm's options]
    to=$tmp/$1.yaml kubernetes=$2
    shift 2
    "$helm" template goose "$chart" --namespace pond --kube-version "$kubernetes" "$@" >"$to" || fail "rendering $to"
    [ -z "$validate" ] && return
    # Of what KEDA, cert-manager and Prometheus' operator define it knows nothing, and says so.
    "$validate" --strict --no-warn --quiet -k "${kubernetes%.0}" "$to" >"$to.log" 2>&1 || { cat "$to.log"; fail "$to"; }
    ! grep -q ERROR "$to.log" || { cat "$to.log"; fail "$to"; }
}
refused() { # WORDS [helm's options]
    words=$1
    shift
    if "$helm" template goose "$chart" "$@" >"$tmp/refused" 2>&1; then fail "not refused: $*"; fi
    grep -q "$words" "$tmp/refused" || { cat "$tmp/refused"; fail "'$words' is not said of $*"; }
}

"$helm" lint "$chart" >"$tmp/lint" || { cat "$tmp/lint"; fail "helm lint"; }
for kubernetes in 1.25.0 1.31.0; do
    render default "$kubernetes"
    for example in "$chart"/examples/*.yaml; do
        render "$(basename "$example" .yaml)" "$kubernetes" -f "$example"
    done
done
# What a pool says counts also where it says 0 or false; what it does not say is the defaults'.
cat >"$tmp/pools.values" <<'YAML'
poolDefaults:
  nodeSelector: {zone: a}
  autoscaling: {enabled: true}
pools:
  - {name: none, model: geese/gosling, replicas: 0, autoscaling: {enabled: false}, nodeSelector: {disk: ssd},
     settings: {kv-cache-memory: 8000000000, prefix-cache: false}}
  - {name: grows, device: cuda, model: /models/gosling}
YAML
render pools 1.31.0 -f "$tmp/pools.values"
has() { [ "$(grep -c -e "$1" "$tmp/pools.yaml")" -eq "$2" ] || fail "'$1' is not $2 times in $tmp/pools.yaml"; }
has '^  replicas: 0$' 1
has 'GAGGLE_KV_CACHE_MEMORY, value: "8000000000"' 1
has 'GAGGLE_PREFIX_CACHE, value: "false"' 1
has '^        zone: a$' 2
has '^        disk: ssd$' 1
has 'kind: ScaledObject' 1
has 'nvidia.com/gpu: 1$' 1
has 'name: pull$' 1
refused kubeVersion --kube-version 1.20.0
refused replica --set router.replica=3
refused replicas --set router.replicas=0
refused ingress.host --set ingress.enabled=true

# The settings as the router reads them, with files of this machine in the place of the Secrets'.
python3 - "$tmp" "$tree" <<'PY'
import os, re, sys
tmp, tree = sys.argv[1:]
for name in os.listdir(tmp):
    if not name.endswith(".yaml"):
        continue
    text = open(f"{tmp}/{name}").read()
    ini = re.search(r"  router\.ini: \|\n((?:    .*\n|\n)+)", text).group(1)
    variables = re.findall(r'\{name: GAGGLE_((?:WORKER_|HTTP_)?LISTEN), value: "(.*)"\}', text)
    assert len(variables) == 3, variables
    lines = re.sub("^    ", "", ini, flags=re.M).replace("/etc/gaggle", f"{tmp}/etc")
    for key, urls in variables:
        lines += "".join(f"{key.lower().replace('_', '-')} = {url}\n" for url in urls.split(","))
    open(f"{tmp}/{name[:-5]}.ini", "w").write(lines)
PY
mkdir -p "$tmp/etc/tokens" "$tmp/etc/keys"
echo 0123456789abcdefgh >"$tmp/etc/tokens/api-token"
echo 0123456789abcdefgh >"$tmp/etc/tokens/join-token"
rm -rf "$tmp/etc/tls" "$tmp/etc/keys/keys.ini"
"$build/bin/gaggle" token new --role client --keys "$tmp/etc/keys/keys.ini" >"$tmp/token" 2>&1
"$build/bin/gaggle" certs init "$tmp/etc/tls" --host router >"$tmp/certs" 2>&1
ln -s router.pem "$tmp/etc/tls/tls.crt"
ln -s router.key "$tmp/etc/tls/tls.key"
for ini in "$tmp"/*.ini; do
    env -i "$build/bin/gaggle-router" --config "$ini" --check-config >"$ini.log" 2>&1 || { cat "$ini.log"; fail "$ini"; }
done
echo "rendered and checked: $(cd "$tmp" && ls ./*.ini | tr '\n' ' ')"
