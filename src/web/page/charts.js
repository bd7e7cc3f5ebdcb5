/** Drawings: curves over time, columns and bars, as SVG that is as wide as its place. */

import { drawing, element, setAttribute, setText } from './dom.js';
import { ceiling, short } from './numbers.js';

const HEIGHT = 132;
const LEFT = 54;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
const FLOOR = HEIGHT - BOTTOM;
const MARK_STEPS_S = [15, 30, 60];
const MARK_APART_PX = 52;
/** About what a character of a label takes. */
const CHARACTER_PX = 6.5;

/** A frame with a title, a sentence for what the colours mean, and room for a drawing. */
class Chart {
  width = 400;

  constructor(parent, title, classes = '') {
    this.title = element('h2', {}, title);
    this.legend = element('p', { class: 'legend' });
    this.svg = drawing('svg', { role: 'img', height: HEIGHT });
    this.empty = element('p', { class: 'empty' });
    const head = element('div', { class: 'chart-head' }, this.title, this.legend);
    this.card = element('section', { class: `card ${classes}` }, head, this.svg, this.empty);
    parent.append(this.card);
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.width || width === 0) return;
      this.width = width;
      this.redraw?.();
    }).observe(this.svg);
  }

  /** Begins a new drawing. */
  clear(label, emptyText) {
    setAttribute(this.svg, 'viewBox', `0 0 ${this.width} ${HEIGHT}`);
    setAttribute(this.svg, 'aria-label', label);
    this.svg.replaceChildren();
    this.empty.hidden = emptyText === null;
    setText(this.empty, emptyText ?? '');
  }

  line(x1, y1, x2, y2) {
    this.svg.append(drawing('line', { class: 'grid', x1, y1, x2, y2 }));
  }

  text(x, y, anchor, words) {
    this.svg.append(drawing('text', { x, y, 'text-anchor': anchor }, words));
  }

  /** Lines with their values, from 0 to `top`. */
  scale(top, format) {
    for (const share of [0, 0.5, 1]) {
      const y = FLOOR - share * (FLOOR - TOP);
      this.line(LEFT, y, this.width - RIGHT, y);
      this.text(LEFT - 6, y + 4, 'end', format(top * share));
    }
  }
}

/** Curves over the last minutes. `series`: `{ name, label, of(point) }`; stacked or not. */
export class TimeChart extends Chart {
  #series;
  #format;
  #stacked;
  #least;
  #points = [];
  #spanS = 1;

  constructor(parent, title, series, { format = short, stacked = false, least = 1 } = {}) {
    super(parent, title);
    this.#series = series;
    this.#format = format;
    this.#stacked = stacked;
    this.#least = least;
    for (const [index, { label }] of series.entries()) {
      const value = element('b');
      this.legend.append(element('span', { class: `key s${index}` }, `${label} `, value));
    }
  }

  /** Points and the seconds from one edge to the other. */
  draw(points, spanS) {
    this.#points = points;
    this.#spanS = spanS;
    this.redraw();
  }

  redraw() {
    const known = this.#points.filter(({ missing }) => !missing);
    const latest = this.#points.at(-1);
    const values = this.#series.map(({ of }) => (latest && !latest.missing ? of(latest) : null));
    const told = values.map((value) => (value === null ? 'unknown' : this.#format(value)));
    this.legend.querySelectorAll('b').forEach((node, index) => {
      setText(node, values[index] === null ? '–' : told[index]);
    });
    const now = this.#series.map(({ label }, index) => `${label} ${told[index]}`).join(', ');
    this.clear(`${this.title.textContent}, now: ${now}`, known.length < 2 ? 'Collecting…' : null);
    if (known.length < 2) return;
    const sum = (point) => this.#series.reduce((total, { of }) => total + of(point), 0);
    const most = (point) => Math.max(...this.#series.map(({ of }) => of(point)));
    const highest = Math.max(...known.map(this.#stacked ? sum : most));
    const top = ceiling(highest, this.#least);
    this.scale(top, this.#format);
    const end = latest.time;
    const span = this.width - LEFT - RIGHT;
    const x = ({ time }) => this.width - RIGHT - ((end - time) / 1000 / this.#spanS) * span;
    const y = (value) => FLOOR - (value / top) * (FLOOR - TOP);
    this.#mark(span);
    for (const run of runs(this.#points)) this.#drawRun(run, x, y);
  }

  /** Says when it was, in steps that leave room for the words; the oldest at the very edge. */
  #mark(span) {
    const pxOf = (seconds) => (seconds / this.#spanS) * span;
    const step = MARK_STEPS_S.find((one) => pxOf(one) >= MARK_APART_PX) ?? MARK_STEPS_S.at(-1);
    for (let seconds = 0; seconds <= this.#spanS; seconds += step) {
      const at = this.width - RIGHT - pxOf(seconds);
      const [anchor, words] = seconds === 0 ? ['end', 'now'] : ['middle', `−${seconds} s`];
      this.text(at, HEIGHT - 5, anchor, words);
    }
  }

  #drawRun(run, x, y) {
    let floor = run.map(() => 0);
    const drawn = [];
    this.#series.forEach(({ of }, index) => {
      const from = floor;
      const to = run.map((point, at) => of(point) + (this.#stacked ? from[at] : 0));
      const there = run.map((point, at) => `${x(point).toFixed(1)},${y(to[at]).toFixed(1)}`);
      const back = run.map((point, at) => `${x(point).toFixed(1)},${y(from[at]).toFixed(1)}`);
      const area = `M${there.join('L')}L${back.reverse().join('L')}Z`;
      if (this.#stacked || index === 0) {
        drawn.push(drawing('path', { class: `area s${index}`, d: area }));
      }
      drawn.push(drawing('path', { class: `curve s${index}`, d: `M${there.join('L')}` }));
      if (this.#stacked) floor = to;
    });
    // Where a layer has no height its curve is that of the one below, which is in front.
    this.svg.append(...(this.#stacked ? drawn.reverse() : drawn));
  }
}

/** The points without those between which nothing is known. */
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point.missing) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter(({ length }) => length > 1);
}

/** Columns side by side. `columns`: `{ label, value, told }`; labels are left out where narrow. */
export class ColumnChart extends Chart {
  #format;
  #last = [[], '', null];

  constructor(parent, title, { format = short, classes = '' } = {}) {
    super(parent, title, classes);
    this.#format = format;
  }

  draw(columns, label, emptyText) {
    this.#last = [columns, label, emptyText];
    this.redraw();
  }

  redraw() {
    const [columns, label, emptyText] = this.#last;
    this.clear(`${this.title.textContent}: ${label}`, emptyText);
    setText(this.legend, label);
    if (emptyText !== null) return;
    const top = ceiling(Math.max(...columns.map(({ value }) => value)));
    this.scale(top, this.#format);
    const span = this.width - LEFT - RIGHT;
    const each = span / columns.length;
    const gap = each > 6 ? 2 : 0.5;
    let free = 0;
    columns.forEach(({ value, label: words, told }, index) => {
      const height = value === 0 ? 0 : Math.max(1, (value / top) * (FLOOR - TOP));
      const x = LEFT + index * each + gap / 2;
      const box = { x, y: FLOOR - height, width: Math.max(0.5, each - gap), height };
      this.svg.append(drawing('rect', { class: 'column', ...box }, drawing('title', {}, told)));
      const middle = x + (each - gap) / 2;
      const half = words.length * CHARACTER_PX / 2;
      if (words !== '' && middle - half >= free) {
        this.text(middle, HEIGHT - 5, 'middle', words);
        free = middle + half + CHARACTER_PX;
      }
    });
  }
}

/** Bars of elements, one below the other, each with its name and value. */
export class BarList {
  constructor(parent, title, classes = '') {
    this.title = element('h2', {}, title);
    this.legend = element('p', { class: 'legend' });
    this.list = element('ul', { class: 'bars' });
    this.empty = element('p', { class: 'empty' });
    const head = element('div', { class: 'chart-head' }, this.title, this.legend);
    parent.append(element('section', { class: `card ${classes}` }, head, this.list, this.empty));
  }

  /** `bars`: `{ name, detail, share, told, level }`: `share` from 0 to 1, a level of the colour. */
  draw(bars, legend, emptyText) {
    setText(this.legend, legend);
    setText(this.empty, emptyText ?? '');
    this.empty.hidden = emptyText === null;
    while (this.list.children.length > bars.length) this.list.lastElementChild.remove();
    while (this.list.children.length < bars.length) {
      const track = element('span', { class: 'track' }, element('span', { class: 'fill' }));
      const name = element('span', { class: 'name' }, element('span'), element('small'));
      this.list.append(element('li', {}, name, track, element('b')));
    }
    bars.forEach(({ name, detail = '', share, told, level = '' }, index) => {
      const [label, track, value] = this.list.children[index].children;
      setText(label.firstElementChild, name);
      setText(label.lastElementChild, detail);
      label.title = name;
      setText(value, told);
      track.firstElementChild.style.width = `${(share * 100).toFixed(1)}%`;
      setAttribute(track.firstElementChild, 'class', `fill ${level}`);
    });
  }
}
