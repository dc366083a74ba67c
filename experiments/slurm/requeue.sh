# To be sourced by the scripts of this folder: runs its words with srun, passes SLURM's warning
# (USR1, see --signal) on to all processes, and puts the job back into the queue when the run says
# that it can be continued (status 75). The same command then goes on in the same folder.

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
# small files that processes share; on the node's own disk if there is one
export TMPDIR="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"

alseg_srun() {
    srun --kill-on-bad-exit=0 "$@" &
    local step=$! status
    trap 'echo "time is nearly up: stopping at the next batch"; kill -USR1 '"$step" USR1
    while true; do
        wait "$step"
        status=$?
        kill -0 "$step" 2>/dev/null || break # else it was the signal that ended the wait
    done
    trap - USR1
    if [ "$status" -eq 75 ]; then
        # in a container there may be no scontrol: then submit the same job again
        scontrol requeue "$SLURM_JOB_ID" || echo "cannot be requeued from here: submit it again"
    fi
    return "$status"
}
