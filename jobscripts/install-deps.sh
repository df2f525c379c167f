#!/bin/bash
# Installs what building and running need on Debian 12 or Ubuntu: nothing is downloaded if all of it is there.
#   jobscripts/install-deps.sh [PACKAGE...]     further packages beside those of the build
# On other systems it does nothing: configure names what is missing.
set -eu

packages="autoconf automake make gcc libc6-dev pkg-config openmpi-bin libopenmpi-dev libhdf5-dev hdf5-tools
          libconfig-dev libdnnl-dev libjansson-dev libxxhash-dev check $*"

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "install-deps.sh: no apt-get here; configure will say what is missing" >&2
    exit 0
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=sudo
else
    echo "install-deps.sh: these packages are missing, and only root can install them; type as root:" >&2
    echo "    apt-get install$missing" >&2
    exit 1
fi

echo "Installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # lists of words
if ! { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "install-deps.sh: apt-get could not install$missing" >&2
    exit 1
fi
