"""Questions to the tools people already have, and their answers back.

``python -m alseg.exchange export RUN_DIR --format NAME`` writes the open questions of the round
that waits; ``import`` reads what the tool saved into ``answers.csv`` of the round, from which the
run takes it as it takes answers written by hand. The number of the row is the only key; names of
pictures are looked up, never taken apart, and differ between rounds, so that answers to other
questions are refused.

What is where:

- `alseg.exchange.model`: what crosses the door: a task of sheets with questions out, and words and
  painted pixels back; what a format is.
- `alseg.exchange.place`, `alseg.exchange.sheets`: where a unit lies on a sheet, which is cut out of
  the original file at full resolution.
- `alseg.exchange.formats` and one module per format: pure functions of a task, or of files.
- `alseg.exchange.runs`: run lengths and polygons. `alseg.exchange.sources`: files of unknown
  origin, read with suspicion.
- `alseg.exchange.collect`: from words and pixels to answers, with all that is wrong at once.
- `alseg.exchange.store`: the round's folder.
"""
