#!/usr/bin/env bash
# The faults of faults.sh where the ranks of a node write into one file.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../fault/saves.sh
. "$top/tests/fault/saves.sh"
start_of_faults
if [ "$all" = 1 ]; then all_faults 1 0 1 all; else all_faults 1 all; fi
finish
