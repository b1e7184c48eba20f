#!/bin/sh
# clang-tidy with .clang-tidy's checks over every C and CUDA file that the build compiles, as clang
# compiles it: CUDA as the C++ of the emulated device. A process for each file: clang 14 forgets
# va_start() from the second file of a run on.
set -eu
cd "$(dirname "$0")/.."
tools/install-deps.sh clang clang-tidy

build=build-tidy
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ >"$build/configure.log" 2>&1 || { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --target gaggle_pb >/dev/null # its header

# Once each: the kernels are compiled for three instruction sets, some files for several tests.
mkdir -p "$build/once"
python3 - "$build" <<'LIST' >"$build/files"
import json, os, sys
here, build = os.getcwd() + "/", sys.argv[1]
entries = {entry["file"]: entry for entry in json.load(open(build + "/compile_commands.json"))
           if entry["file"].startswith(here) and not entry["file"].startswith(here + build)}
json.dump(list(entries.values()), open(build + "/once/compile_commands.json", "w"))
print("\n".join(sorted(entries)))
LIST
if xargs -a "$build/files" -P "$(nproc)" -n 1 clang-tidy -p "$build/once" --quiet \
    >"$build/remarks" 2>"$build/tidy.log"; then
    echo "clang-tidy: no remarks on $(wc -l <"$build/files") files"
    exit 0
fi
cat "$build/remarks"
exit 1
