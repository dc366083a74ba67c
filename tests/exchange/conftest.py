from hypothesis import settings

# the same examples on every machine, also on a busy one; nothing is kept beside the sources
settings.register_profile("alseg", deadline=None, derandomize=True, database=None)
settings.load_profile("alseg")
