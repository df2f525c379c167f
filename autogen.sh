#!/bin/sh
# Makes configure and the Makefile templates from configure.ac and the Makefile.am files of a fresh clone.
set -e
cd "$(dirname "$0")"
for tool in autoreconf automake pkg-config; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "autogen.sh: $tool is not installed (Debian: apt-get install autoconf automake pkg-config)" >&2
        exit 1
    fi
done
exec autoreconf --install "$@"
