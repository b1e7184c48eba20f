#!/bin/bash
# archive.sh BUILD [CMake flags]: gaggle in one folder that runs wherever it is unpacked, for machines
# without our packages: notebooks, clusters, a dataset. BUILD/gaggle-VERSION-MACHINE[-cudaN] has the
# programs, the libraries they need but for the C library and the C++ one, and their licences; the same
# lies beside it as .tar.xz. The last line printed is the folder.
#
# With nvcc and a GPU it holds the CUDA backend for the GPUs that are here (tools/cuda-flags.sh; or say
# -DGAGGLE_CUDA=ON -DGAGGLE_CUDA_ARCHS=75-real). cuBLAS is not in it: it is found in
# /usr/local/cuda/lib64 or by LD_LIBRARY_PATH.
#
# With CMAKE_PREFIX_PATH the libraries to build with are taken from there, and nothing is installed.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
[ -n "${CMAKE_PREFIX_PATH:-}" ] || tools/install-deps.sh

# DT_RPATH, not DT_RUNPATH, is also where the libraries' own libraries are looked for.
rpath='$ORIGIN/../lib:/usr/local/cuda/lib64'
mapfile -t flags < <(tools/cuda-flags.sh | sed 's/ -D/\n-D/g')
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGAGGLE_TESTS=OFF \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH="$rpath" \
    -DCMAKE_EXE_LINKER_FLAGS="-Wl,--disable-new-dtags ${LDFLAGS:-}" \
    -DCMAKE_MODULE_LINKER_FLAGS="-Wl,--disable-new-dtags ${LDFLAGS:-}" "${flags[@]}" "$@" >"$build/configure.log" 2>&1 ||
    { cat "$build/configure.log" >&2; exit 1; }
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
programs=(gaggle gaggle-router gaggle-worker)
targets=("${programs[@]}")
name=gaggle-$(cached CMAKE_PROJECT_VERSION)-$(uname -m)
case $(cached GAGGLE_CUDA) in
ON | TRUE | 1 | YES)
    targets+=(gaggle_cuda)
    programs+=(libgaggle_cuda.so)
    name+=-cuda$("$(cached CMAKE_CUDA_COMPILER)" --version | sed -n 's/.*release \([0-9]*\).*/\1/p')
    ;;
esac
cmake --build "$build" -j "${JOBS:-$(nproc)}" -t "${targets[@]}" >&2

folder=$build/$name
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/lib" "$folder/licences"
(cd "$build/bin" && cp "${programs[@]}" "$folder/bin")
strip "$folder"/bin/*
# Where CMAKE_PREFIX_PATH led the linker, for ldd.
for prefix in $(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  '); do
    LD_LIBRARY_PATH=$prefix/lib:$prefix/lib/$(gcc -print-multiarch):${LD_LIBRARY_PATH:-}
    export LD_LIBRARY_PATH
done
cp LICENSE "$folder/licences/gaggle"
# What belongs to the C and C++ libraries, the driver and cuBLAS is the machine's.
ldd "$folder"/bin/gaggle{,-router,-worker} | awk '$3 ~ "^/" { print $3 }' | sort -u |
    grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so' |
    while read -r library; do
        cp -L "$library" "$folder/lib/"
        # Packages are known by the files' paths, which may lead through /lib -> /usr/lib.
        for path in "$library" "/usr$library"; do
            package=$(dpkg-query -S "$path" 2>/dev/null | sed 's/:.*//;q') || true
            [ -n "$package" ] && [ -r "/usr/share/doc/$package/copyright" ] || continue
            cp "/usr/share/doc/$package/copyright" "$folder/licences/$package"
            break
        done
    done
missing=$(ldd "$folder"/bin/gaggle{,-router,-worker} | grep 'not found' || true)
[ -z "$missing" ] || { echo "not found: $missing" >&2; exit 1; }

glibc=$(objdump -T "$folder"/bin/* "$folder"/lib/* | grep -o 'GLIBC_2[0-9.]*' | sort -Vu | tail -1)
cat >"$folder/README" <<TEXT
gaggle $(cached CMAKE_PROJECT_VERSION), built from $(git describe --always --dirty 2>/dev/null || echo "a source folder").
Unpack it anywhere and start bin/gaggle --help. It needs glibc ${glibc#GLIBC_} or newer$(
    [[ $name != *cuda* ]] || echo ", and for GPUs
a driver and cuBLAS of the CUDA toolkit. It has kernels for: $(cached GAGGLE_CUDA_ARCHS)").
TEXT
tar -C "$build" -cf - "$name" | xz -T0 -6 >"$build/$name.tar.xz.part"
mv "$build/$name.tar.xz.part" "$build/$name.tar.xz"
echo "$name.tar.xz: $(($(stat -c %s "$build/$name.tar.xz") / 1024)) KiB, needs ${glibc/_/ }" >&2
echo "$folder"
