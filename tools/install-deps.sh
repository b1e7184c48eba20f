#!/bin/sh
# Installs what is missing from the distribution's packages (Debian 12, Ubuntu 22.04 and 24.04).
# Does nothing, and needs no rights, when everything is there.
#
# usage: install-deps.sh [PACKAGE...]    these, too
set -eu

packages="gcc g++ cmake ninja-build pkg-config protobuf-c-compiler protobuf-compiler
  libuv1-dev libnng-dev libprotobuf-c-dev libpcre2-dev libutf8proc-dev libjansson-dev libxxhash-dev
  libssl-dev libcurl4-openssl-dev libcmocka-dev openssl xz-utils python3 python3-venv $*"

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "These packages are missing; install them as root:" >&2
        echo "  apt-get install$missing" >&2
        exit 1
    fi
    root="sudo"
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $root apt-get update -qq && $root apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"
