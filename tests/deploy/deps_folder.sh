#!/bin/bash
# deps_folder.sh FOLDER: what gaggle is built with, as one folder for a machine that has a compiler, CMake,
# Ninja and no packages of ours, nor rights or a network to get them. There:
#
#   . FOLDER/env
#   tools/archive.sh build-archive
#
# It holds the headers, libraries and pkg-config files of this machine's packages, protoc-c and
# pkg-config, and fits where the C library is as new as here.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
rm -rf "$1"
mkdir -p "$1/bin" "$1/libexec" "$1/programs-lib"
to=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
arch=$(gcc -print-multiarch)

packages=(libuv1-dev libnng-dev libprotobuf-c-dev libpcre2-dev libutf8proc-dev libjansson-dev
    libxxhash-dev libssl-dev libcurl4-openssl-dev)
dpkg -L "${packages[@]}" | grep -E "^/usr/(include/|lib/$arch/([^/]*\.so|pkgconfig/))" | sort -u |
    while read -r file; do
        [ -d "$file" ] || { [ -e "$file" ] && (cd / && cp -a --parents ".$file" "$to"); }
    done
libraries() { # FILE...: what they need, but for the C and C++ libraries
    ldd "$@" 2>/dev/null | awk '$3 ~ "^/" { print $3 }' | sort -u |
        grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so'
}
# What the links name, and the libraries that those need.
mapfile -t links < <(find "$to/usr/lib/$arch" -maxdepth 1 -name '*.so' -printf "/usr/lib/$arch/%f\n")
libraries "${links[@]}" | xargs -I{} cp -L {} "$to/usr/lib/$arch/"
find "$to/usr/lib/$arch" -maxdepth 1 -type l -printf '%f\n' | while read -r link; do
    target=$(readlink -f "/usr/lib/$arch/$link")
    rm "$to/usr/lib/$arch/$link"
    cp -L "$target" "$to/usr/lib/$arch/$link"
    soname=$(objdump -p "$target" | awk '$1 == "SONAME" { print $2 }')
    [ -z "$soname" ] || cp -L "$target" "$to/usr/lib/$arch/$soname"
done

# Programs bring their own libraries, and nobody else gets to see those.
for program in protoc-c pkg-config; do
    path=$(readlink -f "$(command -v $program)")
    cp "$path" "$to/libexec/$program"
    libraries "$path" | xargs -I{} cp -L {} "$to/programs-lib/"
    cat >"$to/bin/$program" <<PROGRAM
#!/bin/sh
here=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
LD_LIBRARY_PATH=\$here/programs-lib exec "\$here/libexec/$program" "\$@"
PROGRAM
    chmod +x "$to/bin/$program"
done
cat >"$to/env" <<ENV
# To be sourced by a shell in the folder that this folder lies in, or with its path in DEPS.
DEPS=\$(cd "\${DEPS:-$(basename "$to")}" && pwd)
export PATH=\$DEPS/bin:\$PATH CMAKE_PREFIX_PATH=\$DEPS:\$DEPS/usr
export PKG_CONFIG_SYSROOT_DIR=\$DEPS PKG_CONFIG_LIBDIR=\$DEPS/usr/lib/$arch/pkgconfig
export C_INCLUDE_PATH=\$DEPS/usr/include/$arch\${C_INCLUDE_PATH:+:\$C_INCLUDE_PATH}
export LDFLAGS="-Wl,-rpath-link,\$DEPS/usr/lib/$arch \${LDFLAGS:-}"
ENV
du -sh "$to" | cut -f1
