#!/bin/sh
# Goal: the Debian packages install on a bare system with what they depend on, serve an answer there,
# keep what people changed, and leave nothing of gaggle behind. Method: a fresh system of this
# machine's release by debootstrap, a chroot into it, and the programs as their packages bring them.
#
# usage: packages.sh DIR      the folder of the .deb files: build-package/packages (make deb)
#
# Wants root, debootstrap and a mirror (DEBIAN_MIRROR), and says "skipped: why" without. GAGGLE_TEST_TMP
# is where the system is built; the bare one is kept there for the next time.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -eq 1 ] || { sed -n '6,9s/^# \{0,1\}//p' "$0"; exit 2; }
debs=$(cd "$1" && pwd)
skip() { echo "skipped: $*"; exit 0; }
fail() { echo "FAILED: $*" >&2; exit 1; }
say() { echo "-- $*"; }

[ "$(id -u)" -eq 0 ] || skip "a chroot wants root"
command -v debootstrap >/dev/null || skip "no debootstrap"
ls "$debs"/*.deb >/dev/null 2>&1 || fail "no packages in $debs: make deb"
. /etc/os-release
tmp=${GAGGLE_TEST_TMP:-/var/tmp/gaggle-packages}
bare=$tmp/bare-$VERSION_CODENAME
system=$tmp/system
log=$tmp/packages.log
mkdir -p "$tmp"
exec 9>"$tmp/lock"
flock -n 9 || skip "another one builds its system in $tmp"

unmount() { ! mountpoint -q "$system/proc" || umount "$system/proc"; }
trap unmount EXIT
unmount

# -- a bare system ------------------------------------------------------------------------------

if [ ! -e "$bare/etc/os-release" ]; then
    say "$VERSION_CODENAME by debootstrap"
    rm -rf "$bare" "$bare.part"
    # systemd is here for systemd-analyze alone: nothing of it runs.
    debootstrap --variant=minbase --include=systemd,ca-certificates "$VERSION_CODENAME" "$bare.part" \
        ${DEBIAN_MIRROR:-} >"$log" 2>&1 || skip "debootstrap: $(tail -n 1 "$log")"
    mv "$bare.part" "$bare"
fi
rm -rf --one-file-system "$system"
cp -a "$bare" "$system"
printf '#!/bin/sh\nexit 101\n' >"$system/usr/sbin/policy-rc.d"
chmod +x "$system/usr/sbin/policy-rc.d"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$system/etc/"
mount -t proc proc "$system/proc" 2>/dev/null || skip "this machine mounts no /proc in a chroot"
mkdir "$system/debs"
cp "$debs"/*.deb "$system/debs"
cp -r "$tree/models/gosling" "$system/srv/gosling"

inside() { chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive HOME=/root "$@"; }
names=$(for deb in "$debs"/*.deb; do dpkg-deb -f "$deb" Package; done)

# NVIDIA's packages are not in a distribution: one that is empty stands for cuBLAS.
case $names in *gaggle-worker-cuda*)
    cublas=$(dpkg-deb -f "$debs"/gaggle-worker-cuda_*.deb Depends | grep -o 'libcublas-[0-9-]*' | head -n 1)
    stand_in=$tmp/stand-in
    rm -rf "$stand_in"
    mkdir -p "$stand_in/DEBIAN"
    printf 'Package: %s\nVersion: 0\nArchitecture: all\nMaintainer: tests <tests@example.org>\nDescription: stand-in\n' \
        "$cublas" >"$stand_in/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$stand_in" "$system/debs/stand-in.deb" >/dev/null
esac

# -- installed ----------------------------------------------------------------------------------

say "install:" $names
inside apt-get update -q >"$log" 2>&1 || skip "no mirror: $(tail -n 1 "$log")"
inside sh -c 'apt-get install -y --no-install-recommends /debs/*.deb' >"$log" 2>&1 ||
    { cat "$log"; fail "install"; }
inside dpkg --audit | grep . && fail "dpkg --audit"

say "programs start, libraries are found"
for program in $(cd "$system/usr/bin" && ls | grep '^gaggle'); do
    inside "$program" --version
done
if [ -e "$system/usr/lib/gaggle/libgaggle_cuda.so" ]; then
    missing=$(inside ldd /usr/lib/gaggle/libgaggle_cuda.so | grep 'not found' |
        grep -v -e libcublas -e libcuda || true)
    [ -z "$missing" ] || fail "libgaggle_cuda.so: $missing"
    # Without a driver, or without cuBLAS, the worker says so and goes on with the CPU.
    inside gaggle-worker devices | grep -qx cpu || fail "gaggle-worker devices"
fi

say "an answer, as somebody who is not root"
inside runuser -u nobody -- env HOME=/tmp gaggle up -m /srv/gosling --device cpu --oneshot --port $((20000 + $$ % 20000)) \
    >"$tmp/answer" 2>"$log" || { cat "$log"; fail "gaggle up"; }
[ -s "$tmp/answer" ] || fail "gaggle up answered nothing"
cat "$tmp/answer"

say "the settings of the services are right, and theirs alone to read"
inside runuser -u gaggle -- gaggle-router --config /etc/gaggle/router.ini --check-config ||
    fail "router.ini"
# Keys as docs/deploy/systemd.md makes them are for the router to read, also when they have changed.
inside install -o root -g gaggle -m 640 /dev/null /etc/gaggle/keys.ini
for role in client worker; do
    inside gaggle token new --role "$role" --keys /etc/gaggle/keys.ini >"$tmp/token" 2>&1 || { cat "$tmp/token"; fail "gaggle token"; }
    inside runuser -u gaggle -- gaggle-router --config /etc/gaggle/router.ini --keys /etc/gaggle/keys.ini \
        --listen tcp://0.0.0.0:7400 --check-config || fail "keys.ini"
done
inside rm /etc/gaggle/keys.ini
# Every line that is commented out is a setting, too.
inside sh -c "sed 's/^#\([a-z-]* = \)/\1/' /etc/gaggle/worker.ini >/tmp/worker.ini"
inside gaggle-worker --config /tmp/worker.ini --dry-run >"$log" 2>&1 || true
! grep -q 'has no setting' "$log" || { cat "$log"; fail "worker.ini names what is no setting"; }
for file in "$system"/etc/gaggle/*.ini; do
    [ "$(stat -c %a "$file")" = 640 ] || fail "$file has mode $(stat -c %a "$file")"
    inside runuser -u nobody -- test -r "/etc/gaggle/${file##*/}" && fail "$file is for everybody"
done

say "systemd-analyze verify"
units=$(cd "$system/lib/systemd/system" && ls | grep '^gaggle' | sed 's/@\./@0./')
for unit in $units; do
    inside systemd-analyze verify --man=no "/lib/systemd/system/$unit" >"$log" 2>&1 ||
        { cat "$log"; fail "$unit"; }
    # Anything said of our own units is too much; of others' in this bare system it is not ours.
    ! grep gaggle "$log" || fail "$unit"
done
echo $units

say "manual pages"
for program in gaggle-router gaggle-worker gaggle; do
    ls "$system/usr/share/man/man1/$program"*.gz >/dev/null || fail "no manual page of $program"
done

if command -v cc >/dev/null && [ -e "$system/usr/include/gaggle.h" ]; then
    say "a program of somebody else with libgaggle"
    lib=$(dirname "$(cd "$system" && ls usr/lib/*/libgaggle.so)")
    cat >"$tmp/ask.c" <<'C'
#include <gaggle.h>
#include <stdio.h>
int main(void)
{
    gaggle_client *client;
    gaggle_error err;
    if (gaggle_client_create(&client, &(gaggle_options){0}, &err) != GAGGLE_OK) return 1;
    gaggle_client_destroy(client);
    return puts("linked") < 0;
}
C
    cc -o "$system/tmp/ask" "$tmp/ask.c" -I"$system/usr/include" -L"$system/$lib" -lgaggle \
        -Wl,--allow-shlib-undefined || fail "linking with libgaggle"
    inside /tmp/ask || fail "a program with libgaggle"
    grep -q '^Version: ' "$system/$lib/pkgconfig/gaggle.pc" || fail "gaggle.pc"
fi

# -- kept and removed ---------------------------------------------------------------------------

say "installed again: changed settings stay"
echo '# mine' >>"$system/etc/gaggle/router.ini"
inside sh -c 'dpkg -i /debs/*.deb' >"$log" 2>&1 </dev/null || { cat "$log"; fail "again"; }
grep -qx '# mine' "$system/etc/gaggle/router.ini" || fail "a changed setting was lost"

say "removed: settings stay, programs go"
inside apt-get remove -y $names >"$log" 2>&1 || { cat "$log"; fail "remove"; }
[ -e "$system/etc/gaggle/router.ini" ] || fail "settings went with remove"
left=$(find "$system" -xdev \( -path "$system/proc" -o -path "$system/debs" -o -path "$system/srv" \
    -o -path "$system/var/log" -o -path "$system/var/cache" -o -path "$system/var/lib/dpkg" \) -prune \
    -o -name '*gaggle*' -print | grep -v -e "^$system/etc/gaggle$" || true)
[ -z "$left" ] || fail "left after remove: $left"

say "purged: nothing stays"
inside dpkg --purge $names >"$log" 2>&1 || { cat "$log"; fail "purge"; }
left=$(find "$system" -xdev \( -path "$system/proc" -o -path "$system/debs" -o -path "$system/srv" \
    -o -path "$system/var/log" -o -path "$system/var/cache" \) -prune -o -name '*gaggle*' -print)
[ -z "$left" ] || fail "left after purge: $left"
inside dpkg -l | grep gaggle && fail "dpkg still knows of gaggle"

if command -v lintian >/dev/null; then
    say "lintian"
    # Its errors are ours; its warnings are about a distribution's own ways.
    lintian --fail-on error "$debs"/*.deb 2>/dev/null || fail "lintian"
fi
unmount
rm -rf --one-file-system "$system"
say "passed"
