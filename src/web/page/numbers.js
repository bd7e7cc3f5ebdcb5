/**
 * The server's numbers over time: from totals that it counts to what happened in each second.
 *
 * Pure. The dashboard asks once a second and puts each answer in here.
 */

/** Seconds that the charts show. */
export const SPAN_S = 180;
/** They begin with so many, so that the first curves are not a sliver. */
const SPAN_FIRST_S = 60;
const DIALECTS = ['native', 'text', 'websocket'];
const RATES = ['published', 'delivered', 'messages_in', 'bytes_in', 'bytes_out'];

export class Numbers {
  /** The points of the charts, oldest first: `{ time, … }`, or `{ time, missing: true }`. */
  points = [];
  latest = null;

  /** Takes an answer of `/stats`. */
  add(stats) {
    const before = this.latest;
    // Totals that fell belong to another process: nothing can be said about the time between.
    const comparable = before !== null && stats.uptime_s > before.uptime_s
      && stats.workers.length === before.workers.length;
    if (comparable) this.#push(pointBetween(before, stats));
    this.latest = stats;
  }

  /** Nothing was answered: the curves have a hole here. */
  miss(timeMs) {
    if (this.points.length > 0) this.#push({ time: timeMs, missing: true });
    this.latest = null;
  }

  /** How often each reason closed a connection, since the server's start, most often first. */
  get closes() {
    const sums = new Map();
    for (const { closed = {} } of this.latest?.workers ?? []) {
      for (const [reason, count] of Object.entries(closed)) {
        sums.set(reason, (sums.get(reason) ?? 0) + count);
      }
    }
    return [...sums].filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  }

  /** Round trips since the server's start: counts in buckets, with their upper bounds in ms. */
  get roundTrips() {
    const bounds = this.latest?.round_trip_bounds_ms ?? [];
    const counts = new Array(bounds.length + 1).fill(0);
    for (const { round_trip_ms: worker = [] } of this.latest?.workers ?? []) {
      worker.forEach((count, index) => {
        counts[index] += count;
      });
    }
    return { bounds, counts, total: counts.reduce((sum, count) => sum + count, 0) };
  }

  /** Seconds from the left edge of a chart to its right one. */
  get spanS() {
    const known = this.points.length === 0 ? 0
      : (this.points.at(-1).time - this.points[0].time) / 1000;
    return Math.min(SPAN_S, Math.max(SPAN_FIRST_S, known));
  }

  #push(point) {
    this.points.push(point);
    const first = point.time - SPAN_S * 1000;
    while (this.points.length > 0 && this.points[0].time < first) this.points.shift();
  }
}

/** What happened between two answers, for each second, and where things stand at the later one. */
export function pointBetween(before, after) {
  const seconds = after.uptime_s - before.uptime_s;
  const sum = (stats, name) => stats.workers.reduce((total, one) => total + (one[name] ?? 0), 0);
  const point = { time: after.time_ms, missing: false };
  for (const name of RATES) point[name] = (sum(after, name) - sum(before, name)) / seconds;
  for (const name of DIALECTS) point[name] = sum(after, name);
  point.connections = sum(after, 'connections');
  // Whoever has said no hello, and whoever only asks by HTTP.
  const greeted = DIALECTS.reduce((total, name) => total + point[name], 0);
  point.other = Math.max(0, point.connections - greeted);
  point.lag_ms = Math.max(...after.workers.map(({ lag_us_max: lag = 0 }) => lag)) / 1000;
  point.busy = after.workers.map((worker, index) => {
    const busy = (worker.busy_us - before.workers[index].busy_us) / 1e6 / seconds;
    return Math.min(1, Math.max(0, busy));
  });
  return point;
}

/** The round trip that a share of all stayed below, as the bound of its bucket; null for none. */
export function quantile({ bounds, counts, total }, share) {
  if (total === 0) return null;
  let seen = 0;
  for (let index = 0; index < counts.length; index += 1) {
    seen += counts[index];
    if (seen >= share * total) return bounds[index] ?? Infinity;
  }
  return Infinity;
}

const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** Short, with three digits: `0`, `4.2`, `17`, `31.5 k`, `2.9 M`. */
export function short(value) {
  const unit = UNITS.find(([size]) => value >= size * 0.9995);
  const scaled = unit === undefined ? value : value / unit[0];
  const digits = scaled >= 99.95 || Number.isInteger(scaled) ? 0 : 1;
  const small = scaled > 0 && scaled < 0.1;
  const text = small ? scaled.toFixed(2) : scaled.toFixed(digits);
  return unit === undefined ? text : `${text} ${unit[1]}`;
}

/** The least round number that is not below: where an axis ends. */
export function ceiling(value, least = 1) {
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((one) => one * power >= wanted * 0.999_999);
  return step * power;
}

export function duration(seconds) {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'], [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'], [Math.floor(seconds) % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).map(([count, unit]) => `${count} ${unit}`).join(' ');
}
