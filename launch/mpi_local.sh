# Open MPI on one machine that may have fewer cores than ranks; to be sourced. Not for real clusters: there, waiting
# ranks should spin.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
