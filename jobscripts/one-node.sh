# shellcheck shell=bash
# Settings of Open MPI for runs on a single machine, as on a laptop or in a container; sourced by quickstart.sh and the tests.
# More ranks than cores are allowed and share them fairly; UCX, which needs 0.2 s to start, is left out; on a cluster none of this is wanted.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp
# A rank copies a message straight out of the memory of its sender, where the system lets it: containers often do not.
if ! grep -qs '^Seccomp:[[:space:]]*0$' /proc/self/status || [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 0 ]; then
    export OMPI_MCA_btl_vader_single_copy_mechanism=none
fi
