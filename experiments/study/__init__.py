"""Which methods beat random questions on CamVid, over seeds: the plan, its runs and its tables."""
