#!/bin/sh
# man-pages.sh BIN OUT: every program and command prints its own man page (--man); all of them go
# into the folder OUT, compressed as they are installed.
set -eu
bin=$1
out=$2
mkdir -p "$out"
rm -f "$out"/*.1.gz

page() { # the words of a command
    name=$(echo "$*" | tr ' ' -)
    program=$1
    shift
    "$bin/$program" "$@" --man >"$out/$name.1"
    grep -q '^\.TH ' "$out/$name.1" || { echo "$name --man prints no man page" >&2; exit 1; }
}

pages() { # the same, with those of the commands that its --help lists
    page "$@"
    program=$1
    shift
    help=$("$bin/$program" "$@" --help)
    case $help in
    *COMMAND*)
        for command in $(echo "$help" | sed -n 's/^  \([a-z][a-z-]*\)  *[^ ].*/\1/p'); do
            pages_of_command "$program" "$@" "$command"
        done
        ;;
    esac
}

# In a shell of its own, because a function has no variables of its own.
pages_of_command() (pages "$@")

pages gaggle
page gaggle-router
page gaggle-worker
page gaggle-worker generate
page gaggle-worker bench
gzip -9nf "$out"/*.1
