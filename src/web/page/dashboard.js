/** The dashboard: asks the server for its numbers each second while somebody looks, and draws. */

import { BarList, ColumnChart, TimeChart } from './charts.js';
import { element, setAttribute, setText } from './dom.js';
import { Numbers, duration, quantile, short } from './numbers.js';
import { plural, roundTrip } from './text.js';

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
/** From these shares of a core on, a worker's bar changes its colour. */
const WARM = 0.6;
const HOT = 0.85;
const CLOSES_SHOWN = 5;
const bytes = (value) => `${short(value)}${value < 999.5 ? ' ' : ''}B`;

export class Dashboard {
  #numbers = new Numbers();
  #timer = null;
  #asking = null;
  #failedSince = null;
  #status = element('p', { class: 'dashboard-status', role: 'status' });
  #tiles = new Map();
  #charts = null;
  #wheels = [];
  #parent;

  constructor(parent) {
    this.#parent = parent;
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.#timer !== null) this.#ask();
    });
  }

  start() {
    if (this.#timer !== null) return;
    if (this.#charts === null) this.#build();
    this.#timer = setInterval(() => this.#ask(), EVERY_MS);
    this.#ask();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#asking?.abort();
  }

  #build() {
    const head = element('div', { class: 'dashboard-head' }, element('h1', {}, 'Dashboard'),
      this.#status);
    const tiles = element('dl', { class: 'tiles' });
    const titles = ['Connections', 'Messages/s', 'Deliveries/s', 'Sent/s', 'Up for'];
    for (const title of titles) {
      const value = element('dd', {}, '–');
      this.#tiles.set(title, value);
      tiles.append(element('div', { class: 'tile' }, element('dt', {}, title), value));
    }
    const grid = element('div', { class: 'grid-of-cards' });
    this.#parent.append(head, tiles, grid);
    const series = (...names) => names.map(([name, label]) => ({ label, of: (one) => one[name] }));
    this.#charts = {
      connections: new TimeChart(grid, 'Connections', series(
        ['websocket', 'WebSocket'], ['native', 'native'], ['text', 'text'], ['other', 'HTTP, new'],
      ), { stacked: true, least: 4 }),
      workers: new BarList(grid, 'Worker load'),
      messages: new TimeChart(grid, 'Messages a second', series(
        ['published', 'published'], ['messages_in', 'received'],
      ), { least: 4 }),
      deliveries: new TimeChart(grid, 'Deliveries a second', series(['delivered', 'delivered']),
        { least: 4 }),
      traffic: new TimeChart(grid, 'Bytes a second', series(
        ['bytes_out', 'sent'], ['bytes_in', 'received'],
      ), { format: bytes, least: 1000 }),
      lag: new TimeChart(grid, 'Loop lag', series(['lag_ms', 'worst turn']), {
        format: (value) => `${short(value)} ms`,
      }),
      roundTrips: new ColumnChart(grid, 'Heartbeat round trips'),
      closes: new BarList(grid, 'Closed connections'),
    };
    this.#charts.grid = grid;
  }

  async #ask() {
    if (this.#asking !== null || document.hidden) return;
    const asking = new AbortController();
    this.#asking = asking;
    const patience = setTimeout(() => asking.abort(), PATIENCE_MS);
    try {
      const answer = await fetch('/stats', { signal: asking.signal, cache: 'no-store' });
      if (!answer.ok) throw new StatusError(answer.status);
      this.#numbers.add(await answer.json());
      this.#failedSince = null;
    } catch (error) {
      if (this.#timer === null) return;
      this.#failedSince ??= Date.now();
      this.#numbers.miss(Date.now());
      this.#tellFailure(error);
    } finally {
      clearTimeout(patience);
      this.#asking = null;
    }
    if (this.#timer !== null) this.#draw();
  }

  #tellFailure(error) {
    const off = error instanceof StatusError && (error.status === 404 || error.status === 403);
    const since = duration(Math.max(1, (Date.now() - this.#failedSince) / 1000));
    const why = error instanceof StatusError ? `The server answers ${error.status}` : 'No answer';
    setText(this.#status, off ? 'This server gives no numbers: its dashboard is switched off.'
      : `${why}, for ${since}. What stands here is older.`);
    setAttribute(this.#status, 'data-failed', 'true');
  }

  #draw() {
    const { points, latest } = this.#numbers;
    const point = points.at(-1);
    this.#parent.classList.toggle('stale', latest === null);
    for (const name of ['connections', 'messages', 'deliveries', 'traffic', 'lag']) {
      this.#charts[name].draw(points, this.#numbers.spanS);
    }
    if (latest === null) return;
    this.#status.removeAttribute('data-failed');
    const workers = plural(latest.workers.length, 'worker', 'workers');
    setText(this.#status, `corebeat ${latest.version}, ${workers}, each second`);
    const connections = latest.workers.reduce((sum, one) => sum + one.connections, 0);
    this.#tile('Connections', connections.toLocaleString());
    this.#tile('Messages/s', point && !point.missing ? short(point.published) : '–');
    this.#tile('Deliveries/s', point && !point.missing ? short(point.delivered) : '–');
    this.#tile('Sent/s', point && !point.missing ? bytes(point.bytes_out) : '–');
    this.#tile('Up for', duration(latest.uptime_s));
    this.#drawWorkers(point);
    this.#drawRoundTrips();
    this.#drawWheels(latest.workers);
    this.#drawCloses();
  }

  #tile(name, value) {
    setText(this.#tiles.get(name), value);
  }

  #drawWorkers(point) {
    const { workers } = this.#numbers.latest;
    const known = point !== undefined && !point.missing;
    const bars = workers.map(({ id, connections, pressure = {}, worker_panics = 0 }, index) => {
      const share = known ? point.busy[index] : 0;
      const level = share >= HOT ? 'hot' : share >= WARM ? 'warm' : '';
      const busy = known ? `${Math.round(share * 100)} %` : '–';
      const pressed = ['strained', 'overloaded'].includes(pressure.level);
      const open = `${connections.toLocaleString()} open`;
      const held = pressed ? `${open}, ${pressure.level}` : open;
      const panics = worker_panics > 0 ? `, ${plural(worker_panics, 'panic', 'panics')}` : '';
      return { name: `Worker ${id}`, detail: held + panics, share, told: busy, level };
    });
    this.#charts.workers.draw(bars, 'share of a core in use', null);
  }

  #drawRoundTrips() {
    const trips = this.#numbers.roundTrips;
    const { bounds, counts, total } = trips;
    const used = counts.map((count, index) => (count > 0 ? index : -1)).filter((at) => at >= 0);
    const first = Math.max(0, (used[0] ?? 0) - 1);
    const end = Math.min(counts.length - 1, Math.max((used.at(-1) ?? 0) + 1, first + 7));
    const columns = counts.slice(first, end + 1).map((value, offset) => {
      const bound = bounds[first + offset];
      const label = bound === undefined ? 'more' : bound < 1000 ? `${bound}` : `${bound / 1024} k`;
      const range = bound === undefined ? `above ${bounds.at(-1)} ms` : `up to ${bound} ms`;
      return { value, label, told: `${range}: ${value.toLocaleString()}` };
    });
    const told = (share) => {
      const bound = quantile(trips, share);
      return bound === Infinity ? 'above all bounds' : `≤ ${roundTrip(bound)}`;
    };
    const none = total === 0 ? 'No heartbeat has been answered yet.' : null;
    const label = none === null
      ? `ms, since the start; half ${told(0.5)}, 99 % ${told(0.99)}` : 'ms, since the start';
    this.#charts.roundTrips.draw(columns, label, none);
  }

  #drawWheels(workers) {
    while (this.#wheels.length < workers.length) {
      const { id } = workers[this.#wheels.length];
      this.#wheels.push(new ColumnChart(this.#charts.grid, `Timing wheel of worker ${id}`));
    }
    workers.forEach(({ wheel }, index) => {
      if (wheel === undefined) return;
      const { armed, slots, occupancy } = wheel;
      const columns = occupancy.map((value, at) => ({
        value,
        label: at === 0 ? 'now' : at === occupancy.length / 2 ? 'half a turn' : '',
        told: `${value.toLocaleString()} in part ${at + 1} of ${occupancy.length}`,
      }));
      const timers = plural(armed, 'timer', 'timers');
      const label = `${timers} in ${slots.toLocaleString()} slots, by when they fall due`;
      this.#wheels[index].draw(columns, label, armed === 0 ? 'No timer is armed.' : null);
    });
  }

  #drawCloses() {
    const { closes } = this.#numbers;
    const most = closes[0]?.[1] ?? 1;
    const shown = closes.length > CLOSES_SHOWN + 1 ? CLOSES_SHOWN : closes.length;
    const bars = closes.slice(0, shown).map(([reason, count]) => ({
      name: reason.replaceAll('_', ' '), share: count / most, told: count.toLocaleString(),
    }));
    const rest = closes.slice(shown).reduce((sum, [, count]) => sum + count, 0);
    if (rest > 0) bars.push({ name: 'others', share: rest / most, told: rest.toLocaleString() });
    const none = closes.length === 0 ? 'No connection has been closed yet.' : null;
    this.#charts.closes.draw(bars, 'by reason, since the start', none);
  }
}

class StatusError extends Error {
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}
