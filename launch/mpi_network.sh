# Open MPI on several hosts; to be sourced before mpirun. Without keep-alives its daemons wait for ever for a host whose
# link is down. They alone do not always end mpirun: see the table in docs/stability.md.
export OMPI_MCA_oob_tcp_keepalive_time=30 OMPI_MCA_oob_tcp_keepalive_intvl=10 OMPI_MCA_oob_tcp_keepalive_probes=3
