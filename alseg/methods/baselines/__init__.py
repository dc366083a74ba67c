"""The classic baselines, for any unit and any answer: what a paper of this field compares with."""
