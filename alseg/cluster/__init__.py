"""Many runs: jobs that submitit executes, on this machine or by SLURM, and what has become of them.

A sweep is a folder of run folders. ``.sweep/<run>.json`` in it is the record of a run: what its job
last said of itself, touched while the job lives.
"""
