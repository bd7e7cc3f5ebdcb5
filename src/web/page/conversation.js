/** One room, or one user we write to: what was said, what of it was read, who is there. Pure. */

import { continues, dayOf } from './text.js';

/** Older rows are let go of; where history is kept they can be asked for again. */
const ROWS_MAX = 600;
const BY_NAME = new Intl.Collator(undefined, { numeric: true });

export class Conversation {
  rows = [];
  unread = 0;
  mentioned = false;
  draft = '';
  total = 0;
  #members = new Set();
  #sorted = null;
  /** Whether the user is there, of a direct conversation; null while nobody has said. */
  online = null;
  /** Kept by the server: `unknown`, `more` or `all`, which is all of it on the page. */
  history = 'unknown';
  loading = false;
  /** When older messages may be asked for again; 0 where the last time was no failure. */
  historyFromMs = 0;
  joined = false;
  epoch = 0;
  head = 0;
  #nextKey = 1;
  /** The row behind which everything is new; null where nothing is. */
  #readTo = null;

  constructor(kind, name) {
    this.kind = kind;
    this.name = name;
    this.id = kind === 'direct' ? `@${name}` : name;
  }

  /** Names of those who are there, in the order of people's alphabets and numbers. */
  get members() {
    this.#sorted ??= [...this.#members].sort(BY_NAME.compare);
    return this.#sorted;
  }

  set members(names) {
    this.#members = new Set(names);
    this.#sorted = null;
  }

  enter(user) {
    this.#members.add(user);
    this.#sorted = null;
  }

  exit(user) {
    this.#members.delete(user);
    this.#sorted = null;
  }

  /** How many of our messages wait for a connection. */
  get waiting() {
    return this.rows.filter(({ status }) => status === 'waiting').length;
  }

  /** The lowest place of a message on the page, of the present epoch. */
  get oldest() {
    const first = this.rows.find(({ epoch }) => epoch === this.epoch && epoch !== 0);
    return first === undefined ? this.head + 1 : first.seq;
  }

  /** Takes a message that was said, or what we say ourselves with a `status`, to its place. */
  add(message) {
    const row = { type: 'message', status: 'sent', epoch: 0, seq: 0, ...message };
    row.key = this.#nextKey;
    this.#nextKey += 1;
    this.#place(row);
    this.#trim();
    return row;
  }

  notice(text, timeMs) {
    const key = this.#nextKey;
    this.#nextKey += 1;
    this.#place({ type: 'notice', key, text, timeMs, status: 'sent', epoch: 0, seq: 0 });
    this.#trim();
  }

  /** What we said has its place now. */
  confirm(row, { epoch, seq }, timeMs) {
    this.rows.splice(this.rows.indexOf(row), 1);
    Object.assign(row, { epoch, seq, timeMs, status: 'sent' });
    this.#place(row);
  }

  remove(row) {
    const at = this.rows.indexOf(row);
    if (at >= 0) this.rows.splice(at, 1);
  }

  /** Puts older messages, oldest first, in front of those that are there. */
  prepend(messages) {
    const known = new Set(this.rows.map(({ epoch, seq }) => `${epoch} ${seq}`));
    const rows = messages
      .filter(({ epoch, seq }) => !known.has(`${epoch} ${seq}`))
      .map((message) => {
        const key = this.#nextKey;
        this.#nextKey += 1;
        return { type: 'message', status: 'sent', ...message, key };
      });
    this.rows.unshift(...rows);
    return rows.length;
  }

  /** Behind all that was said before it, and before what waits to be sent. */
  #place(row) {
    let at = this.rows.length;
    if (row.status === 'sent') {
      const after = (other) => other.status !== 'sent'
        || (other.epoch === row.epoch && row.epoch !== 0 && other.seq > row.seq);
      while (at > 0 && after(this.rows[at - 1])) at -= 1;
    }
    this.rows.splice(at, 0, row);
  }

  #trim() {
    if (this.rows.length <= ROWS_MAX) return;
    this.rows.splice(0, this.rows.length - ROWS_MAX);
    if (this.history === 'all') this.history = 'more';
  }

  /** Counts a message that nobody has looked at yet. */
  countUnread(row, mentioned) {
    if (this.unread === 0) this.#readTo = this.rows[this.rows.indexOf(row) - 1] ?? null;
    this.unread += 1;
    this.mentioned ||= mentioned;
  }

  markRead() {
    this.unread = 0;
    this.mentioned = false;
  }

  /** The line above what is new stays until we look away, so that it can be read up to. */
  forgetNew() {
    this.#readTo = null;
  }

  /** What is to be seen, in order: days, the line above what is new, messages, notices. */
  layout() {
    const seen = [];
    let before = null;
    let day = null;
    for (const row of this.rows) {
      if (dayOf(row.timeMs) !== day) {
        day = dayOf(row.timeMs);
        seen.push({ type: 'day', key: `day ${day} ${row.key}`, timeMs: row.timeMs });
        before = null;
      }
      const continued = row.type === 'message' && before !== null && continues(before, row)
        && row.everybody === before.everybody;
      seen.push({ type: row.type, key: String(row.key), row, continued });
      before = row.type === 'message' ? row : null;
      if (row === this.#readTo) {
        seen.push({ type: 'new', key: `new ${row.key}` });
        before = null;
      }
    }
    if (seen.at(-1)?.type === 'new') seen.pop();
    return seen;
  }
}

/** All conversations, in the order in which they are shown: rooms, then direct ones. */
export class Conversations {
  #all = new Map();
  active = null;

  get list() {
    const kinds = { room: 0, direct: 1 };
    const order = (a, b) => kinds[a.kind] - kinds[b.kind] || BY_NAME.compare(a.name, b.name);
    return [...this.#all.values()].sort(order);
  }

  get rooms() {
    return this.list.filter(({ kind }) => kind === 'room');
  }

  get directs() {
    return this.list.filter(({ kind }) => kind === 'direct');
  }

  get unread() {
    return this.list.reduce((sum, { unread }) => sum + unread, 0);
  }

  get(kind, name) {
    return this.#all.get(kind === 'direct' ? `@${name}` : name);
  }

  open(kind, name) {
    const conversation = this.get(kind, name) ?? new Conversation(kind, name);
    this.#all.set(conversation.id, conversation);
    return conversation;
  }

  close(conversation) {
    this.#all.delete(conversation.id);
  }

  /** The one so many places below or above the active one; of those with unread messages only, if
   *  wished. Null where there is none. */
  neighbour(step, unreadOnly = false) {
    const list = this.list.filter((one) => one === this.active || !unreadOnly || one.unread > 0);
    if (list.length < 2) return null;
    const at = list.indexOf(this.active);
    return list[(at + step + list.length) % list.length];
  }
}
