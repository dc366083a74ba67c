// The picture of a question on a canvas: zoom and pan, outline, ring, overview, magnifier.

const RING = 15; // radius in CSS pixels
const MARGIN = 0.96; // so that an outline along the frame of the picture is seen
const LEAST_SHOWN = 200; // smallest side that is shown at first, in pixels of the file

export class View {
  constructor(canvas, overview, magnifier) {
    this.canvas = canvas;
    this.overview = overview;
    this.magnifier = magnifier;
    this.context = canvas.getContext("2d", { alpha: false });
    this.hidden = false;
    this.question = null;
    this.polygon = [];
    this.cursor = null;
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  resized() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this.ratio = ratio;
    if (this.question) {
      this.fit();
    }
  }

  show(question, image, small, pixel) {
    this.question = question;
    this.image = image;
    this.small = small;
    this.pixel = pixel;
    this.painter = null;
    this.polygon = [];
    this.cursor = null;
    this.loops = pathOf(question.view.loops);
    if (!this.ratio) {
      this.resized();
    }
    this.fit();
    this.drawOverview();
    this.magnifier.hidden = !pixel;
    if (pixel) {
      this.drawMagnifier();
    }
  }

  clear() {
    this.question = null;
    this.magnifier.hidden = true;
    this.draw();
    this.overview.getContext("2d").clearRect(0, 0, this.overview.width, this.overview.height);
  }

  // What is shown at first: the unit and about as much again around it; of a pixel the whole crop.
  fit() {
    const [height, width] = this.question.view.size;
    let box = [0, 0, height, width];
    if (!this.pixel) {
      const [top, left, bottom, right] = this.question.view.unit;
      const high = Math.min(height, Math.max(LEAST_SHOWN, 2 * (bottom - top)));
      const wide = Math.min(width, Math.max(LEAST_SHOWN, 2 * (right - left)));
      const y = Math.min(Math.max((top + bottom - high) / 2, 0), height - high);
      const x = Math.min(Math.max((left + right - wide) / 2, 0), width - wide);
      box = [y, x, y + high, x + wide];
    }
    const { width: w, height: h } = this.canvas;
    this.scale = MARGIN * Math.min(h / (box[2] - box[0]), w / (box[3] - box[1]));
    this.x = w / 2 - (this.scale * (box[1] + box[3])) / 2;
    this.y = h / 2 - (this.scale * (box[0] + box[2])) / 2;
    this.draw();
  }

  zoom(factor, clientX, clientY) {
    if (!this.question) return;
    let x = this.canvas.width / 2;
    let y = this.canvas.height / 2;
    if (clientX !== undefined) {
      [x, y] = this.toCanvas(clientX, clientY);
    } else if (this.pixel) { // stay on what is asked
      const [top, left, bottom, right] = this.question.view.unit;
      x = this.x + (this.scale * (left + right)) / 2;
      y = this.y + (this.scale * (top + bottom)) / 2;
    }
    const scale = Math.min(Math.max(this.scale * factor, 0.05), 80 * this.ratio);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  pan(dx, dy) {
    this.x += dx * this.ratio;
    this.y += dy * this.ratio;
    this.draw();
  }

  toCanvas(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left) * this.ratio, (clientY - box.top) * this.ratio];
  }

  // Crop pixels under a pointer.
  toCrop(clientX, clientY) {
    const [x, y] = this.toCanvas(clientX, clientY);
    return [(y - this.y) / this.scale, (x - this.x) / this.scale];
  }

  // Loaded pixels of the unit's box under a pointer.
  toGrid(clientX, clientY) {
    const [y, x] = this.toCrop(clientX, clientY);
    const { unit, scale } = this.question.view;
    return [(y - unit[0]) / scale[0], (x - unit[1]) / scale[1]];
  }

  draw() {
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#33373d";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.question) return;
    const { view } = this.question;
    context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, 0, 0, view.size[1], view.size[0]);
    if (this.painter && !this.hidden) {
      const [top, left, bottom, right] = view.unit;
      context.imageSmoothingEnabled = false;
      context.drawImage(this.painter.canvas, left, top, right - left, bottom - top);
    }
    if (this.hidden) return;
    if (this.pixel) {
      this.drawRing();
    } else {
      outlineOutside(context, this.loops, view.size, this.scale / this.ratio);
    }
    if (this.polygon.length) this.drawPolygon();
    if (this.cursor && this.painter) this.drawBrush();
  }

  drawRing() {
    const { context, ratio } = this;
    const [top, left, bottom, right] = this.question.view.unit;
    context.setTransform(1, 0, 0, 1, 0, 0);
    const x = this.x + (this.scale * (left + right)) / 2;
    const y = this.y + (this.scale * (top + bottom)) / 2;
    const box = [(right - left) * this.scale, (bottom - top) * this.scale];
    const radius = Math.max(RING * ratio, Math.hypot(...box) / 2 + 3 * ratio);
    const far = radius + 16 * ratio;
    const path = new Path2D();
    path.arc(x, y, radius, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      path.moveTo(x + dx * radius, y + dy * radius);
      path.lineTo(x + dx * far, y + dy * far);
    }
    strokeTwice(context, path, ratio);
    if (Math.min(...box) >= 5 * ratio) { // the pixel itself, where there is room to see it
      const square = new Path2D();
      square.rect(x - box[0] / 2 - ratio, y - box[1] / 2 - ratio, box[0] + 2 * ratio, box[1] + 2 * ratio);
      strokeTwice(context, square, ratio * 0.6);
    } else { // the middle stays free: nothing may cover what is asked
      const gap = 5 * ratio;
      const ticks = new Path2D();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        ticks.moveTo(x + dx * gap, y + dy * gap);
        ticks.lineTo(x + dx * (gap + 3 * ratio), y + dy * (gap + 3 * ratio));
      }
      strokeTwice(context, ticks, ratio * 0.6);
    }
  }

  drawPolygon() {
    const { context } = this;
    const path = new Path2D();
    const { unit, scale } = this.question.view;
    const points = this.cursor ? [...this.polygon, this.cursor] : this.polygon;
    points.forEach(([y, x], i) => {
      const at = [this.x + this.scale * (unit[1] + x * scale[1]), this.y + this.scale * (unit[0] + y * scale[0])];
      if (i) path.lineTo(...at);
      else path.moveTo(...at);
    });
    context.setTransform(1, 0, 0, 1, 0, 0);
    strokeTwice(context, path, this.ratio * 0.8);
  }

  drawBrush() {
    if (!this.brush) return;
    const { context } = this;
    const { unit, scale } = this.question.view;
    const [y, x] = this.cursor;
    context.setTransform(1, 0, 0, 1, 0, 0);
    const path = new Path2D();
    const at = [this.x + this.scale * (unit[1] + x * scale[1]), this.y + this.scale * (unit[0] + y * scale[0])];
    path.ellipse(...at, this.brush * scale[1] * this.scale, this.brush * scale[0] * this.scale, 0, 0, 2 * Math.PI);
    strokeTwice(context, path, this.ratio * 0.6);
  }

  drawOverview() {
    const { overview, small } = this;
    overview.width = small.naturalWidth;
    overview.height = small.naturalHeight;
    const context = overview.getContext("2d");
    context.drawImage(small, 0, 0);
    const { place, unit_place: unit } = this.question.view;
    const [w, h] = [overview.width, overview.height];
    const path = new Path2D();
    path.rect(place[1] * w, place[0] * h, (place[3] - place[1]) * w, (place[2] - place[0]) * h);
    strokeTwice(context, path, 0.8);
    const dot = new Path2D();
    dot.arc(((unit[1] + unit[3]) / 2) * w, ((unit[0] + unit[2]) / 2) * h, 3, 0, 2 * Math.PI);
    strokeTwice(context, dot, 0.8);
  }

  drawMagnifier() {
    const { magnifier } = this;
    const [top, left, bottom, right] = this.question.view.unit;
    const side = 17 * Math.max(bottom - top, right - left); // loaded pixels shown
    const size = 272;
    magnifier.width = magnifier.height = size;
    const context = magnifier.getContext("2d");
    context.fillStyle = "#33373d";
    context.fillRect(0, 0, size, size);
    context.imageSmoothingEnabled = false;
    const factor = size / side;
    const [height, width] = this.question.view.size;
    const x = size / 2 - (factor * (left + right)) / 2;
    const y = size / 2 - (factor * (top + bottom)) / 2;
    context.drawImage(this.image, x, y, width * factor, height * factor);
    const path = new Path2D();
    path.rect(x + left * factor - 1, y + top * factor - 1, (right - left) * factor + 2, (bottom - top) * factor + 2);
    strokeTwice(context, path, 1.2);
  }
}

export function pathOf(loops) {
  const path = new Path2D();
  for (const loop of loops) {
    path.moveTo(loop[0], loop[1]);
    for (let i = 2; i < loop.length; i += 2) path.lineTo(loop[i], loop[i + 1]);
    path.closePath();
  }
  return path;
}

// Dashes along a unit, drawn on the pixels around it only. The scale is CSS pixels per crop pixel.
export function outlineOutside(context, loops, [height, width], scale) {
  context.save();
  const around = new Path2D();
  around.rect(-width, -height, 3 * width, 3 * height);
  around.addPath(loops);
  context.clip(around, "evenodd");
  context.lineJoin = "round";
  context.lineWidth = 8 / scale; // half of it lies outside
  context.strokeStyle = "#000c";
  context.stroke(loops);
  context.lineWidth = 5 / scale;
  context.setLineDash([7 / scale, 5 / scale]);
  context.strokeStyle = "#f0e442";
  context.stroke(loops);
  context.restore();
}

// Light on dark, to be seen on any picture.
function strokeTwice(context, path, ratio) {
  context.setLineDash([]);
  context.lineWidth = 4 * ratio;
  context.strokeStyle = "#000c";
  context.stroke(path);
  context.lineWidth = 1.8 * ratio;
  context.strokeStyle = "#f0e442";
  context.stroke(path);
}
