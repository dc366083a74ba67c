// The page: asks for questions, takes keys, clicks and touches, and sends answers.

import { OPEN, Painter, VOID } from "/paint.js";
import { View, outlineOutside, pathOf } from "/view.js";

const IDLE = 20000; // ms after which nobody is thought to look
const LETTERS = "acdeijklmnoqtuvwxyz"; // those without a meaning of their own
const RESERVED = new Set(["enter", " ", "backspace", "0", "?", "/", "+", "=", "-", "f", "g", "h", "b", "p", "r", "s", "[", "]", "escape", "tab"]);
const MARKS = ["", "/", "\\", "x", "|", "-", "o", "+"]; // patterns, where colours repeat

const $ = (id) => document.getElementById(id);
const view = new View($("canvas"), $("overview"), $("magnifier"));

let about = null; // what does not change in a round
let state = null; // what stands
let current = null; // the question that is shown
let busy = false; // a request is under way: nothing may be answered twice
let chosen = new Set(); // of a set
let steps = []; // of a set, to be taken back
let paintClass = 0;
let painter = null;
let tool = "cells";
let brush = 12; // its width in loaded pixels
let last; // the last answer, null for void
let warned = false; // open pixels were pointed out
let clicks = 0;
let grid = null;
let safe = localStorage.getItem("alseg-colors") !== "own";
let keys = [];
const loaded = new Map(); // address -> promise of an image

// ------------------------------------------------------------------ time

const clock = {
  spent: 0,
  tickedAt: performance.now(),
  movedAt: performance.now(),
  tick() {
    const now = performance.now();
    const until = Math.min(now, this.movedAt + IDLE);
    if (!document.hidden && until > this.tickedAt) this.spent += until - this.tickedAt;
    this.tickedAt = now;
  },
  moved() {
    this.tick();
    this.movedAt = performance.now();
  },
  reset() {
    this.tick();
    this.spent = 0;
  },
  seconds() {
    this.tick();
    return this.spent / 1000;
  },
};
document.addEventListener("visibilitychange", () => {
  // what lay before the change counts by what the page was then
  const now = performance.now();
  if (document.hidden) {
    const until = Math.min(now, clock.movedAt + IDLE);
    if (until > clock.tickedAt) clock.spent += until - clock.tickedAt;
  } else {
    clock.movedAt = now;
  }
  clock.tickedAt = now;
});
for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) {
  document.addEventListener(kind, () => clock.moved(), { capture: true, passive: true });
}

// ------------------------------------------------------------------ talking to the server

function nonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The reply as an object. A lost connection is tried again with the same mark, so nothing is done twice.
async function talk(path, body) {
  const request = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  for (;;) {
    let reply;
    try {
      reply = await fetch(path, request);
    } catch {
      note("The server does not answer; trying again. What was confirmed is safe.");
      await pause(700);
      continue;
    }
    const content = await reply.json().catch(() => ({}));
    if (reply.ok) return content;
    if (reply.status === 401) note("The server was started anew: open the last link that it printed.");
    else note(content.error || `The server refused (${reply.status}).`);
    throw Object.assign(new Error(content.error), { status: reply.status });
  }
}

let writes = Promise.resolve(); // steps of unfinished answers go out one after the other

function sendDraft(part) {
  const body = { round: about.round, row: current.row, nonce: nonce(), ...part };
  writes = writes.then(() => talk("/api/draft", body)).catch(() => {});
  return writes;
}

// One exchange at a time: an older reply never replaces the question of a newer one.
async function alone(exchange) {
  if (busy) return;
  busy = true;
  document.body.dataset.busy = "1";
  try {
    await exchange();
  } finally {
    busy = false;
    delete document.body.dataset.busy;
  }
}

function send(path, part) {
  return alone(async () => {
    try {
      await writes;
      await apply(await talk(path, { round: about.round, nonce: nonce(), ...part }));
    } catch (error) {
      if (error.status === 404 || error.status === 409) await fetchState();
      else if (error.status === undefined) throw error;
    }
  });
}

async function fetchState() {
  await apply(await talk("/api/state"));
}

function refresh() {
  return alone(fetchState);
}

// Look again later: the run, or somebody else, may have gone on.
function lookAgain() {
  pause(1500).then(refresh).catch(() => {});
}

function picture(address) {
  if (!loaded.has(address)) {
    const image = new Image();
    image.src = address;
    const decoded = image.decode().then(() => image);
    decoded.catch(() => loaded.delete(address)); // to be tried again
    loaded.set(address, decoded);
  }
  return loaded.get(address);
}

function cells(address) {
  if (!loaded.has(address)) {
    loaded.set(address, fetch(address).then((reply) => (reply.ok ? reply.arrayBuffer() : null))
      .then((bytes) => bytes && new Uint16Array(bytes)));
  }
  return loaded.get(address);
}

// ------------------------------------------------------------------ what is shown

async function apply(fresh) {
  state = fresh;
  $("who").textContent = `as ${state.annotator}`;
  if (state.round === null) {
    current = null;
    about = null;
    view.clear();
    end("At work", state.message || "The run is at work.", []);
    lookAgain();
    return;
  }
  if (!about || about.round !== state.round) {
    about = await talk("/api/about");
    loaded.clear();
    setUp();
  }
  showState();
  const wanted = new Set(state.questions.flatMap((q) => [q.crop, q.overview, q.superpixels]));
  for (const address of loaded.keys()) if (!wanted.has(address)) loaded.delete(address);
  const [next] = state.questions;
  if (!next) {
    finished();
    return;
  }
  $("end").hidden = true;
  const fetching = [picture(next.crop), picture(next.overview)];
  for (const question of state.questions.slice(1)) {
    picture(question.crop).catch(() => {});
    picture(question.overview).catch(() => {});
    if (question.superpixels) cells(question.superpixels).catch(() => {});
  }
  try {
    const [image, small] = await Promise.all(fetching);
    ask(next, image, small);
  } catch {
    note(`The picture of ${next.name} cannot be shown; see what the program printed.`);
  }
}

function ask(question, image, small) {
  current = question;
  chosen = new Set();
  steps = [];
  painter = null;
  warned = false;
  view.show(question, image, small, about.kind === "pixel" && !painted());
  const again = question.second ? ", asked a second time" : "";
  $("ask").replaceChildren(about.ask, small_(`${question.name} · question ${question.row + 1}${again}`));
  suggest(question);
  if (toggled()) {
    chosen = new Set(question.draft || question.suggestion || []);
  }
  if (painted()) {
    painter = new Painter(question, colors(), question.draft || question.suggestion);
    if (!question.draft && question.suggestion) {
      painter.begin();
      const runs = new Map();
      let at = 0;
      for (let i = 0; i < question.suggestion.length; i += 2) {
        const [label, length] = question.suggestion.slice(i, i + 2);
        if (!runs.has(label)) runs.set(label, []);
        runs.get(label).push(at, length);
        at += length;
      }
      sendDraft({ paint: [...runs] });
    }
    view.painter = painter;
    view.brush = tool === "brush" ? brush / 2 : 0;
    const mine = painter;
    cells(question.superpixels).then((ids) => { mine.superpixels = ids; });
    view.draw();
  }
  marks();
  $("note").textContent = "";
  clicks = 0;
  clock.reset();
  requestAnimationFrame(() => {
    document.body.dataset.row = question.row;
    document.dispatchEvent(new CustomEvent("shown", { detail: { row: question.row, at: performance.now() } }));
  });
}

function suggest(question) {
  const hint = $("hint");
  hint.hidden = !question.suggests;
  if (hint.hidden) return;
  if (single()) {
    const name = question.suggestion === null ? "void" : about.names[question.suggestion];
    const strong = document.createElement("strong");
    strong.textContent = name;
    hint.replaceChildren("Suggested: ");
    if (question.suggestion !== null) hint.append(swatch(question.suggestion), " ");
    hint.append(strong, " — confirm to keep it, or choose another class.");
  } else {
    hint.textContent = "A suggestion is filled in — mend it, then confirm.";
  }
}

// How a question is answered: by one of the names, by a set of them, or by painting.
const single = () => about.takes === "label";
const toggled = () => about.takes === "sets";
const painted = () => about.takes === "masks";

function small_(text) {
  const element = document.createElement("small");
  element.textContent = text;
  return element;
}

function number(value) {
  return Number.isInteger(value) ? value.toLocaleString("en") : value.toLocaleString("en", { maximumFractionDigits: 1 });
}

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function further() {
  if (!state.hour || state.answered < 3) return "";
  return `a further hour buys about ${number(state.hour)} ${about.kinds}`;
}

function showState() {
  const all = about.certain || about.amount === null;
  $("round").textContent = `Round ${about.round}`;
  $("count").textContent = all ? `${number(state.answered)} of ${number(about.rows)} ${about.kinds}` : `${number(state.answered)} ${about.kinds}`;
  const whole = all ? about.rows : about.amount;
  const part = all ? state.answered : state.spent;
  $("fill").style.width = `${Math.min(100, (100 * part) / whole)}%`;
  $("bar").setAttribute("aria-valuemax", whole);
  $("bar").setAttribute("aria-valuenow", part);
  const budget = about.amount === null ? "" : ` of ${number(about.amount)}`;
  $("spent").textContent = `${number(state.spent)}${budget} ${about.axis} · ${duration(state.seconds)}`;
  const pace = state.pace ? ` · ${number(state.pace)} s each` : "";
  const hour = further();
  $("pace").textContent = pace + (hour ? ` · ${hour}` : "");
}

function finished() {
  current = null;
  grid = null;
  $("grid").hidden = true;
  document.body.dataset.row = "";
  view.clear();
  const sum = `${number(state.answered)} ${about.kinds}, ${number(state.spent)} ${about.axis}, ${duration(state.seconds)} of your time.`;
  const more = further() ? `\nAt this pace ${further()}.` : "";
  if (state.finished) {
    end("The round is finished", `${sum}\nThe answers are written. Give the run's command again, unless the run is waiting for them.`, []);
    lookAgain();
  } else if (state.done) {
    end("All is answered", `${sum}${more}\nHand the answers in, or take the last one back.`, [
      ["Hand in", "Enter", "main", finish],
      ["Undo", "⌫", "", undo],
    ]);
  } else {
    end("Nothing is left for you", `${sum}\nOthers are answering the rest.`, [["Look again", "Enter", "main", refresh]]);
  }
  document.dispatchEvent(new CustomEvent("shown", { detail: { row: null, at: performance.now() } }));
}

let endActions = [];

function end(title, text, actions) {
  endActions = actions;
  $("end-title").textContent = title;
  $("end-text").textContent = text;
  $("end-actions").replaceChildren(...actions.map(([words, key, style, act]) => {
    const button = document.createElement("button");
    button.className = style;
    const cap = document.createElement("kbd");
    cap.textContent = key;
    button.append(cap, ` ${words}`);
    button.addEventListener("click", act);
    return button;
  }));
  $("end").hidden = false;
}

function note(text) {
  $("note").textContent = text;
}

// ------------------------------------------------------------------ legend

function colors() {
  return safe ? about.safe_colors : about.colors;
}

function storage() {
  return `alseg-keys:${about.names.join("\n")}`;
}

function defaultKeys() {
  const caps = [..."123456789", ...LETTERS, ...LETTERS.toUpperCase()];
  return about.names.map((_, i) => caps[i] || "");
}

function setUp() {
  keys = defaultKeys();
  try {
    const kept = JSON.parse(localStorage.getItem(storage()));
    if (Array.isArray(kept) && kept.length === keys.length) keys = kept;
  } catch { /* the default */ }
  if (about.names.length > 22) safe = localStorage.getItem("alseg-colors") === "safe";
  paintClass = 0;
  legend();
  const mask = painted();
  $("tools").hidden = !mask;
  const shown = {
    confirm: !single() || about.suggestions,
    same: !mask,
    grid: about.grid,
    early: about.accept_partial,
  };
  for (const [name, on] of Object.entries(shown)) {
    for (const button of document.querySelectorAll(`[data-do="${name}"]`)) button.hidden = !on;
  }
}

function legend() {
  const table = $("legend");
  table.classList.toggle("many", about.names.length > 12);
  table.replaceChildren(...about.names.map((name, i) => {
    const button = document.createElement("button");
    button.className = "class";
    button.dataset.class = i;
    button.title = name;
    const cap = document.createElement("kbd");
    cap.textContent = keys[i];
    const label = document.createElement("span");
    label.className = "name";
    label.textContent = name;
    button.append(cap, swatch(i), label);
    return button;
  }));
  document.querySelector('[data-do="colors"]').setAttribute("aria-pressed", safe);
}

function swatch(i) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 22;
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${colors()[i].join(",")})`;
  context.fillRect(0, 0, 22, 22);
  const mark = MARKS[Math.floor(i / 22) % MARKS.length];
  if (safe && mark) {
    context.fillStyle = "#fff";
    context.font = "bold 20px monospace";
    context.textAlign = "center";
    context.fillText(mark, 11, 18);
  }
  return canvas;
}

function marks() {
  for (const button of document.querySelectorAll(".class")) {
    const i = Number(button.dataset.class);
    if (toggled()) button.setAttribute("aria-pressed", chosen.has(i));
    else if (painted()) button.setAttribute("aria-pressed", i === paintClass);
    else if (current && current.suggests && current.suggestion === i) button.setAttribute("aria-pressed", true);
    else button.removeAttribute("aria-pressed");
  }
  const voids = document.querySelector('[data-do="void"]');
  if (toggled()) voids.setAttribute("aria-pressed", chosen.has(about.names.length));
  else if (painted()) voids.setAttribute("aria-pressed", paintClass === VOID);
  else if (current && current.suggests && current.suggestion === null) voids.setAttribute("aria-pressed", true);
  else voids.removeAttribute("aria-pressed");
}

// ------------------------------------------------------------------ answering

async function submit(value, unsure = false) {
  if (!current || busy) return;
  if (!unsure && !painted()) last = value;
  await send("/api/answer", {
    rows: [current.row],
    value,
    unsure,
    seconds: clock.seconds(),
    clicks: Math.max(1, clicks),
    suggested: current.suggests,
  });
}

function choose(i) {
  if (!current || busy) return;
  if (toggled()) {
    steps.push([...chosen]);
    if (!chosen.delete(i)) chosen.add(i);
    sendDraft({ value: [...chosen] });
  } else if (painted()) {
    paintClass = i;
  } else {
    submit(i);
    return;
  }
  marks();
}

function chooseVoid() {
  if (!current) return;
  if (toggled()) choose(about.names.length);
  else if (painted()) choose(VOID);
  else submit(null);
}

function confirmAnswer() {
  if (!current) return;
  if (toggled()) {
    if (chosen.size) submit([...chosen]);
    else note("Choose at least one class, or void (0).");
  } else if (painted()) {
    if (view.polygon.length > 2) {
      closePolygon();
    } else if (painter.open && !warned) {
      warned = true;
      note(`${number(painter.open)} pixels have no class. Enter again leaves them void; R fills them.`);
    } else {
      submit(painter.value());
    }
  } else if (current.suggests) {
    submit(current.suggestion);
  }
}

function same() {
  if (painted()) return;
  if (last === undefined) note("There is no last answer yet.");
  else submit(last);
}

async function undo() {
  if (busy) return;
  if (current && view.polygon.length) {
    view.polygon.pop();
    view.draw();
  } else if (current && steps.length) {
    chosen = new Set(steps.pop());
    sendDraft({ value: [...chosen] });
    marks();
  } else if (painter && painter.history.length) {
    sendDraft({ paint: painter.undo() });
    view.draw();
  } else if (state && state.can_undo) {
    await send("/api/undo", {});
  } else {
    note("There is nothing to take back.");
  }
}

function finish() {
  return send("/api/finish", {});
}

async function early() {
  if (confirm(`End the round with the first ${state.prefix} ${about.kinds} of the query? Answers behind the first open question are not used.`)) {
    await send("/api/finish", { partial: true });
  }
}

// ------------------------------------------------------------------ painting

function setTool(name) {
  if (name === "rest") {
    if (painter) paint(painter.rest(paintClass));
    return;
  }
  tool = name;
  view.polygon = [];
  view.brush = tool === "brush" ? brush / 2 : 0;
  for (const button of document.querySelectorAll("[data-tool]")) {
    if (button.dataset.tool !== "rest") button.setAttribute("aria-pressed", button.dataset.tool === tool);
  }
  $("size").hidden = tool !== "brush";
  view.draw();
}

function setBrush(width) {
  brush = Math.min(120, Math.max(1, width));
  $("size").querySelector("input").value = brush;
  view.brush = tool === "brush" ? brush / 2 : 0;
  view.draw();
}

function paint(changes) {
  warned = false;
  if (changes) sendDraft({ paint: changes });
  view.draw();
}

function closePolygon() {
  const points = view.polygon;
  view.polygon = [];
  paint(painter.polygon(points, paintClass));
}

// ------------------------------------------------------------------ pointers

const pointers = new Map();
let drag = null;
let pinch = null;

$("canvas").addEventListener("pointerdown", (event) => {
  $("canvas").focus({ preventScroll: true });
  if (!current) return;
  try {
    $("canvas").setPointerCapture(event.pointerId);
  } catch { /* a pointer that is gone */ }
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pointers.size === 2) {
    if (painter && painter.stroke) paint(painter.end());
    drag = null;
    pinch = spread();
    return;
  }
  clicks++;
  const paints = painter && event.button === 0 && !event.shiftKey;
  drag = { paints, x: event.clientX, y: event.clientY };
  if (!paints) return;
  const at = view.toGrid(event.clientX, event.clientY);
  drag.at = at;
  if (tool === "polygon") {
    const first = view.polygon[0];
    const near = first && Math.hypot(first[0] - at[0], first[1] - at[1]) * view.scale * current.view.scale[0] < 9 * view.ratio;
    if (near && view.polygon.length > 2) closePolygon();
    else view.polygon.push(at);
    drag = null;
    view.draw();
    return;
  }
  painter.begin();
  if (tool === "brush") painter.disk(at[0], at[1], brush / 2, paintClass);
  else painter.superpixel(at[0], at[1], paintClass);
  view.draw();
});

$("canvas").addEventListener("pointermove", (event) => {
  if (!current) return;
  if (painter) {
    view.cursor = view.toGrid(event.clientX, event.clientY);
    if (!drag && (view.polygon.length || tool === "brush")) view.draw();
  }
  if (!pointers.has(event.pointerId)) return;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pinch) {
    const now = spread();
    view.pan(now.x - pinch.x, now.y - pinch.y);
    view.zoom(now.far / pinch.far, now.x, now.y);
    pinch = now;
  } else if (drag && drag.paints) {
    const at = view.toGrid(event.clientX, event.clientY);
    if (tool === "brush") painter.line(drag.at, at, brush / 2, paintClass);
    else painter.superpixel(at[0], at[1], paintClass);
    drag.at = at;
    view.draw();
  } else if (drag) {
    view.pan(event.clientX - drag.x, event.clientY - drag.y);
    drag.x = event.clientX;
    drag.y = event.clientY;
  }
});

function lift(event) {
  pointers.delete(event.pointerId);
  if (pointers.size < 2) pinch = null;
  if (drag && drag.paints && painter && painter.stroke) paint(painter.end());
  drag = null;
}
$("canvas").addEventListener("pointerup", lift);
$("canvas").addEventListener("pointercancel", lift);
$("canvas").addEventListener("dblclick", () => {
  if (painter && tool === "polygon" && view.polygon.length > 2) closePolygon();
});
$("canvas").addEventListener("contextmenu", (event) => event.preventDefault());
$("canvas").addEventListener("wheel", (event) => {
  event.preventDefault();
  view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX, event.clientY);
}, { passive: false });

function spread() {
  const [a, b] = [...pointers.values()];
  return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, far: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
}

// ------------------------------------------------------------------ grid

function openGrid() {
  return about.grid ? alone(fetchGrid) : undefined;
}

async function fetchGrid() {
  let found;
  try {
    found = await talk("/api/grid");
  } catch {
    return;
  }
  if (!found.questions.length) {
    note("No open question is left for the grid.");
    closeGrid();
    await fetchState();
    return;
  }
  grid = { ...found, out: new Set() };
  const heading = document.createElement("h2");
  const words = document.createElement("span");
  words.append(swatch(found.label), ` ${about.names[found.label]}? Take out those that are not, then accept the rest.`);
  heading.append(words);
  heading.append(bar("Accept the rest", "Enter", "main", acceptGrid), bar("One by one", "Esc", "", leaveGrid));
  const tiles = await Promise.all(found.questions.map(tile));
  $("grid").replaceChildren(heading, ...tiles);
  $("grid").hidden = false;
  tiles[0].focus();
  document.body.dataset.grid = found.questions.length;
  clicks = 0;
  clock.reset();
}

function bar(words, key, style, act) {
  const button = document.createElement("button");
  button.className = style;
  const cap = document.createElement("kbd");
  cap.textContent = key;
  button.append(cap, ` ${words}`);
  button.addEventListener("click", act);
  return button;
}

async function tile(question) {
  const button = document.createElement("button");
  button.className = "tile";
  button.dataset.row = question.row;
  button.setAttribute("aria-pressed", false);
  button.setAttribute("aria-label", `${question.name}, question ${question.row + 1}`);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 260;
  button.append(canvas);
  const image = await picture(question.crop);
  const { unit, size, loops } = question.view;
  const pixel = about.kind === "pixel";
  const side = Math.max(pixel ? 96 : 48, 2 * (unit[2] - unit[0]), 2 * (unit[3] - unit[1]));
  const context = canvas.getContext("2d");
  const scale = 260 / side;
  context.setTransform(scale, 0, 0, scale, 130 - (scale * (unit[1] + unit[3])) / 2, 130 - (scale * (unit[0] + unit[2])) / 2);
  context.drawImage(image, 0, 0, size[1], size[0]);
  if (pixel) {
    const ring = new Path2D();
    ring.arc((unit[1] + unit[3]) / 2, (unit[0] + unit[2]) / 2, 16 / scale + (unit[2] - unit[0]) / 2, 0, 7);
    context.lineWidth = 6 / scale;
    context.strokeStyle = "#000c";
    context.stroke(ring);
    context.lineWidth = 3 / scale;
    context.strokeStyle = "#f0e442";
    context.stroke(ring);
  } else {
    outlineOutside(context, pathOf(loops), size, scale);
  }
  button.addEventListener("click", () => {
    clicks++;
    const out = !grid.out.has(question.row);
    if (out) grid.out.add(question.row);
    else grid.out.delete(question.row);
    button.setAttribute("aria-pressed", out);
  });
  return button;
}

async function acceptGrid() {
  if (!grid || busy) return;
  const rows = grid.questions.map((question) => question.row);
  await send("/api/answer", {
    rows: rows.filter((row) => !grid.out.has(row)),
    rejected: [...grid.out],
    value: grid.label,
    seconds: clock.seconds(),
    clicks: clicks + 1,
    suggested: true,
  });
  if (grid) await openGrid();
}

function closeGrid() {
  grid = null;
  $("grid").hidden = true;
  delete document.body.dataset.grid;
}

function leaveGrid() {
  if (busy) return; // the reply under way would open it again
  closeGrid();
  refresh();
  $("canvas").focus();
}

function gridKey(event) {
  const tiles = [...document.querySelectorAll(".tile")];
  const at = tiles.indexOf(document.activeElement);
  const across = tiles.filter((t) => t.offsetTop === tiles[0].offsetTop).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
  if (step) tiles[Math.min(Math.max(at + step, 0), tiles.length - 1)].focus();
  else if (event.key === " ") tiles[at]?.click();
  else if (event.key === "Enter") acceptGrid();
  else if (event.key === "Escape") leaveGrid();
  else if (event.key === "Backspace") send("/api/undo", {}).then(openGrid);
  else return;
  event.preventDefault();
}

// ------------------------------------------------------------------ keys and buttons

const commands = {
  confirm: confirmAnswer,
  same,
  undo,
  void: chooseVoid,
  unsure: () => submit(null, true),
  grid: openGrid,
  in: () => view.zoom(1.4),
  out: () => view.zoom(1 / 1.4),
  fit: () => current && view.fit(),
  colors: () => {
    safe = !safe;
    localStorage.setItem("alseg-colors", safe ? "safe" : "own");
    legend();
    marks();
    if (painter) painter.recolor(colors());
    view.draw();
  },
  keys: () => openKeys(),
  "keys-reset": () => { keys = defaultKeys(); keepKeys(); },
  "keys-close": () => $("keys").close(),
  early,
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const pressed = event.detail > 0; // by a pointer; a key on a focused button has 0
  if (button.dataset.class !== undefined) {
    clicks += pressed ? 1 : 0;
    choose(Number(button.dataset.class));
  } else if (button.dataset.tool) {
    clicks += pressed ? 1 : 0;
    setTool(button.dataset.tool);
  } else if (button.dataset.do) {
    clicks += pressed ? 1 : 0;
    commands[button.dataset.do]?.();
  }
  if (pressed && !button.closest("dialog, #grid")) $("canvas").focus({ preventScroll: true });
});

for (const button of document.querySelectorAll('[data-do="hide"]')) {
  button.addEventListener("pointerdown", () => hide(true));
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(kind, () => hide(false));
}

function hide(on) {
  if (view.hidden === on) return;
  view.hidden = on;
  $("overview").style.visibility = $("magnifier").style.visibility = on ? "hidden" : "";
  view.draw();
}

$("size").querySelector("input").addEventListener("input", (event) => setBrush(Number(event.target.value)));
$("size").hidden = true;

const byKey = {
  enter: "confirm", " ": "same", backspace: "undo", 0: "void", "?": "unsure", "/": "unsure", g: "grid",
  "+": "in", "=": "in", "-": "out", f: "fit",
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("keys").open) {
    learn(event);
    return;
  }
  const low = event.key.toLowerCase();
  const focused = document.activeElement;
  const onButton = focused && focused.tagName === "BUTTON" && focused.matches(":focus-visible");
  if (grid) {
    if (!(onButton && !focused.classList.contains("tile") && (low === "enter" || low === " "))) gridKey(event);
    return;
  }
  if (onButton && (low === "enter" || low === " ")) return; // the button's own
  if (!$("end").hidden) {
    const act = endActions.find(([, key]) => (key === "Enter" ? low === "enter" : low === "backspace"));
    if (act && !event.repeat) {
      event.preventDefault();
      act[3]();
    }
    return;
  }
  if (!about) return;
  if (low === "h") {
    hide(true);
    return;
  }
  if (painted()) {
    const painting = { s: "cells", b: "brush", p: "polygon", r: "rest" }[low];
    if (painting) {
      clicks++;
      setTool(painting);
      return;
    }
    if (low === "[" || low === "]") {
      setBrush(brush + (low === "]" ? 2 : -2));
      return;
    }
    if (low === "escape" && view.polygon.length) {
      view.polygon = [];
      view.draw();
      return;
    }
  }
  const command = byKey[low];
  if (command) {
    event.preventDefault();
    if (event.repeat && !["in", "out"].includes(command)) return;
    clicks++;
    commands[command]();
    return;
  }
  let i = keys.indexOf(event.key);
  if (i < 0) i = keys.indexOf(low);
  if (i >= 0 && !event.repeat) {
    event.preventDefault();
    clicks++;
    choose(i);
  }
});
document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h") hide(false);
});
window.addEventListener("blur", () => hide(false));

let learning = null;

function openKeys() {
  learning = null;
  keyList();
  $("keys").showModal();
}

function keyList() {
  $("key-list").replaceChildren(...about.names.map((name, i) => {
    const button = document.createElement("button");
    button.className = "class";
    button.setAttribute("aria-pressed", learning === i);
    const cap = document.createElement("kbd");
    cap.textContent = learning === i ? "…" : keys[i];
    button.append(cap, ` ${name}`);
    button.addEventListener("click", () => {
      learning = i;
      keyList();
    });
    return button;
  }));
}

function learn(event) {
  if (learning === null || event.key.length !== 1) return;
  event.preventDefault();
  if (RESERVED.has(event.key.toLowerCase())) {
    note(`${event.key} has a meaning of its own.`);
    return;
  }
  const other = keys.indexOf(event.key);
  if (other >= 0) keys[other] = keys[learning];
  keys[learning] = event.key;
  learning = null;
  keepKeys();
}

function keepKeys() {
  localStorage.setItem(storage(), JSON.stringify(keys));
  keyList();
  legend();
  marks();
}

setInterval(() => clock.tick(), 250);
refresh().catch(() => {});
