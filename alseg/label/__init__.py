"""The page on which a person answers the questions of a run, in a browser on the same machine.

``python -m alseg.label RUN_DIR`` serves the round that waits for answers. With ``oracle=browser``
the run serves the page itself and goes on when the round is answered. The extra ``alseg[label]``
brings what it needs: Starlette and uvicorn. The page is one file of HTML, one of CSS and a few of
plain JavaScript; nothing is built and nothing comes from the network.

What is where:

- `alseg.label.session`: everything the page needs to know of a round, written into
  ``round_NNN/label/`` by the run when it begins to wait. The page needs neither the data set nor
  the configuration, so it works in round 0, too. Pixels are shown from the original files, also
  where the run loads them at another size or in windows; images that lie in no file are written
  as PNGs.
- `alseg.label.journal`: ``round_NNN/answers.jsonl``, one line per answer, undo, or step of an
  unfinished answer. A line is on the disk before the browser is told so. What is known is a replay
  of the lines. A torn last line was never acknowledged and is set aside; damage anywhere else is an
  error. By its name the journal counts as answers: once there is one, the run folder belongs to its
  run, and no other configuration can take it over.
- `alseg.label.board`: who is asked what next, what is answered and what it cost. A pure replay of
  lines, without files and without a clock. Rows are dealt out in blocks, which are leased to
  annotators; a share of the rows can be asked twice.
- `alseg.label.desk`: the board and the journal of one round together: checks what comes from the
  page, writes it down, answers with the next questions, and in the end makes the `Answers`.
- `alseg.label.pictures`: crops, overviews and superpixels of the questions.
- `alseg.label.suggestions`: what the model of the round before would answer, if it is wanted.
- `alseg.label.server`: the Starlette application: who may come in, and what a request may do.
- `alseg.label.oracle`: ``oracle=browser``.
- `alseg.cli.label`: the command.

Answers to the query are a prefix of it, as the budget asks for: where every price is known before
the answer, all rows are asked, image by image; where it is not (class sets, or a budget of measured
seconds), rows are asked in blocks in the order of the query until what lies in front of the first
open row reaches the budget. The finished round goes the way of every oracle's answers: as
``answers.npz``, written once.

The server lets in who holds a link: a token that is good for one visit, exchanged for a cookie that
scripts cannot read and other sites cannot use. It listens on the loopback address unless told
otherwise, refuses requests under other names than its own, takes writes only as JSON from its own
page, and knows pictures by numbers only: no text of a request becomes part of a path.
"""
