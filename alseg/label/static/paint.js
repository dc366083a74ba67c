// The labels of a unit's pixels while they are painted: one class per pixel.

export const OPEN = -1;
export const VOID = 255;
const ALPHA = 150;

export class Painter {
  // question: with view.grid and view.runs; colors: [r, g, b] per class; draft: runs of labels, or null.
  constructor(question, colors, draft) {
    [this.height, this.width] = question.view.grid;
    this.colors = colors;
    this.index = new Int32Array(this.height * this.width).fill(-1); // box -> pixel of the unit
    let place = 0;
    let pixel = 0;
    question.view.runs.forEach((length, i) => {
      if (i % 2) for (let k = 0; k < length; k++) this.index[place + k] = pixel++;
      place += length;
    });
    this.cell = new Int32Array(pixel); // pixel of the unit -> box
    for (let i = 0; i < this.index.length; i++) if (this.index[i] >= 0) this.cell[this.index[i]] = i;
    this.labels = new Int16Array(pixel).fill(OPEN);
    this.open = pixel;
    this.history = [];
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.width;
    this.canvas.height = this.height;
    this.context = this.canvas.getContext("2d");
    this.overlay = new ImageData(this.width, this.height);
    this.superpixels = null;
    if (draft) {
      let at = 0;
      for (let i = 0; i < draft.length; i += 2) {
        this.labels.fill(draft[i], at, at + draft[i + 1]);
        at += draft[i + 1];
      }
      this.open = this.labels.reduce((n, label) => n + (label === OPEN), 0);
    }
    this.recolor(colors);
  }

  recolor(colors) {
    this.colors = colors;
    for (let pixel = 0; pixel < this.labels.length; pixel++) this.color(pixel);
    this.context.putImageData(this.overlay, 0, 0);
  }

  color(pixel) {
    const label = this.labels[pixel];
    const at = 4 * this.cell[pixel];
    const data = this.overlay.data;
    if (label === OPEN) {
      data[at + 3] = 0;
      return;
    }
    const color = label === VOID ? [150, 150, 150] : this.colors[label];
    data[at] = color[0];
    data[at + 1] = color[1];
    data[at + 2] = color[2];
    data[at + 3] = ALPHA;
  }

  begin() {
    this.stroke = new Map(); // pixel -> label before
  }

  set(pixel, label) {
    const before = this.labels[pixel];
    if (before === label) return;
    if (!this.stroke.has(pixel)) this.stroke.set(pixel, before);
    this.open += (label === OPEN) - (before === OPEN);
    this.labels[pixel] = label;
    this.color(pixel);
  }

  show(top = 0, left = 0, bottom = this.height, right = this.width) {
    this.context.putImageData(this.overlay, 0, 0, left, top, right - left, bottom - top);
  }

  disk(y, x, radius, label) {
    const top = Math.max(0, Math.floor(y - radius));
    const bottom = Math.min(this.height, Math.ceil(y + radius) + 1);
    const left = Math.max(0, Math.floor(x - radius));
    const right = Math.min(this.width, Math.ceil(x + radius) + 1);
    for (let i = top; i < bottom; i++) {
      for (let j = left; j < right; j++) {
        const inside = (i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2 <= radius * radius;
        const pixel = this.index[i * this.width + j];
        if (pixel >= 0 && (inside || (i === Math.floor(y) && j === Math.floor(x)))) this.set(pixel, label);
      }
    }
    if (bottom > top && right > left) this.show(top, left, bottom, right);
  }

  line(from, to, radius, label) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(1, radius / 2)));
    for (let k = 1; k <= steps; k++) {
      const t = k / steps;
      this.disk(from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1]), radius, label);
    }
  }

  // The superpixel under a point; nothing until they have arrived.
  superpixel(y, x, label) {
    const [row, column] = [Math.floor(y), Math.floor(x)];
    if (!this.superpixels || row < 0 || column < 0 || row >= this.height || column >= this.width) return;
    const id = this.superpixels[row * this.width + column];
    if (this.members === undefined) this.members = groups(this.superpixels);
    for (const place of this.members.get(id)) {
      const pixel = this.index[place];
      if (pixel >= 0) this.set(pixel, label);
    }
    this.show();
  }

  rest(label) {
    this.begin();
    for (let pixel = 0; pixel < this.labels.length; pixel++) if (this.labels[pixel] === OPEN) this.set(pixel, label);
    this.show();
    return this.end();
  }

  polygon(points, label) {
    this.begin();
    for (let i = 0; i < this.height; i++) { // where each row's middle crosses the edges, even-odd
      const y = i + 0.5;
      const crossings = [];
      points.forEach(([y0, x0], k) => {
        const [y1, x1] = points[(k + 1) % points.length];
        if (y0 <= y !== y1 <= y) crossings.push(x0 + ((y - y0) / (y1 - y0)) * (x1 - x0));
      });
      crossings.sort((a, b) => a - b);
      for (let k = 0; k + 1 < crossings.length; k += 2) {
        const last = Math.min(this.width, Math.ceil(crossings[k + 1] - 0.5));
        for (let j = Math.max(0, Math.ceil(crossings[k] - 0.5)); j < last; j++) {
          const pixel = this.index[i * this.width + j];
          if (pixel >= 0) this.set(pixel, label);
        }
      }
    }
    this.show();
    return this.end();
  }

  // The changes of a stroke, for the journal; null where nothing changed.
  end() {
    const { stroke } = this;
    this.stroke = null;
    if (!stroke || !stroke.size) return null;
    this.history.push(stroke);
    return this.changes(stroke);
  }

  undo() {
    const stroke = this.history.pop();
    if (!stroke) return null;
    for (const [pixel, label] of stroke) {
      this.open += (label === OPEN) - (this.labels[pixel] === OPEN);
      this.labels[pixel] = label;
      this.color(pixel);
    }
    this.show();
    return this.changes(stroke);
  }

  // Pairs of a label and runs (start, length, start, length, ...).
  changes(stroke) {
    const pixels = Int32Array.from(stroke.keys()).sort();
    const paint = new Map();
    for (const pixel of pixels) {
      const label = this.labels[pixel];
      if (!paint.has(label)) paint.set(label, []);
      const runs = paint.get(label);
      const n = runs.length;
      if (n && runs[n - 2] + runs[n - 1] === pixel) runs[n - 1]++;
      else runs.push(pixel, 1);
    }
    return [...paint];
  }

  // The answer: runs of labels, open pixels void.
  value() {
    const runs = [];
    for (const label of this.labels) {
      const said = label === OPEN ? VOID : label;
      const n = runs.length;
      if (n && runs[n - 2] === said) runs[n - 1]++;
      else runs.push(said, 1);
    }
    return runs;
  }
}

function groups(ids) {
  const members = new Map();
  ids.forEach((id, place) => {
    if (!members.has(id)) members.set(id, []);
    members.get(id).push(place);
  });
  return members;
}
