/**
 * The chat: what the client hears becomes conversations, what people type becomes requests.
 *
 * Owns the conversations and the client. The looks of messages are `messages.js`, of everything
 * around them `frame.js`.
 */

import { Corebeat, RefusedError } from '../corebeat.js';
import { memory } from './dom.js';
import { Conversations } from './conversation.js';
import { mentionsUser, nameProblem, plural, sentence } from './text.js';

const PAGE_OF_HISTORY = 50;
const ROSTER_PAUSE_MS = 1500;
/** A server that refuses is asked for history no more often than this. */
const HISTORY_PAUSE_MS = 2000;
const NAMES_TOLD = 100;

export class Chat {
  conversations = new Conversations();
  client = null;
  me = '';
  #name = '';
  #url;
  #hooks;
  #options;
  #rosters = new Map();

  /** `hooks`: changed(), started(), said(conversation, row), announce(text), help(),
   *  isRead(conversation). */
  constructor(url, hooks, options = {}) {
    this.#url = url;
    this.#hooks = hooks;
    this.#options = options;
  }

  /** How many of our messages wait for a connection. */
  get waiting() {
    return this.conversations.list.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  /** Connects under a name; an empty one lets the server name a guest. */
  start(name) {
    this.client?.close();
    this.#name = name;
    this.me = name;
    const client = new Corebeat({ ...this.#options, url: this.#url, user: name });
    this.client = client;
    const handlers = {
      state: (state) => this.#onState(state),
      message: (message) => this.#onMessage(message),
      direct: (message) => this.#onDirect(message),
      presence: (presence) => this.#onPresence(presence),
      gap: (gap) => this.#onGap(gap),
      dropped: ({ room, error }) => this.#onDropped(room, error),
      goaway: ({ reason }) => this.#hooks.announce(`The server goes away. ${reason}`),
      error: (error) => this.#hooks.announce(`The server complains: ${error.text}`),
      rtt: () => this.#hooks.changed(),
      waiting: () => this.#hooks.changed(),
    };
    for (const [event, handle] of Object.entries(handlers)) {
      client.on(event, (value) => {
        if (this.client === client) handle(value);
      });
    }
    client.connect().catch(() => {
      // The state `closed` has told it.
    });
    const rooms = this.conversations.rooms.map((conversation) => conversation.name);
    for (const room of rooms.length > 0 ? rooms : storedRooms()) this.join(room);
    this.#hooks.started();
  }

  /** Starts anew under another name. */
  rename(name) {
    const running = this.client !== null && this.client.state.name !== 'closed';
    if (running && name === this.#name) return;
    memory.set('name', name);
    for (const conversation of this.conversations.list) conversation.joined = false;
    this.start(name);
  }

  /** Goes to a room or to a user, and joins the room if need be. */
  open(target) {
    const direct = target.startsWith('@');
    const name = direct ? target.slice(1) : target;
    const problem = nameProblem(name);
    if (problem !== null) return problem;
    if (name === '*') return 'The room * is everybody: it cannot be joined.';
    if (direct && name === this.me) return 'That is you.';
    const conversation = direct ? this.conversations.open('direct', name) : this.join(name);
    this.activate(conversation);
    return null;
  }

  activate(conversation) {
    this.conversations.active = conversation;
    this.#hooks.changed();
  }

  join(room) {
    const conversation = this.conversations.open('room', room);
    this.conversations.active ??= conversation;
    storeRooms(this.conversations);
    if (!conversation.joined) this.#join(conversation);
    return conversation;
  }

  async #join(conversation) {
    const { client } = this;
    const { name } = conversation;
    conversation.joined = true;
    this.#hooks.changed();
    try {
      const place = await client.join(name);
      conversation.epoch = place.epoch;
      conversation.head = place.seq;
      await Promise.all([this.#loadRoster(conversation), this.#loadHistory(conversation)]);
    } catch (error) {
      if (this.client !== client || !(error instanceof RefusedError)) return;
      conversation.joined = false;
      this.#notice(conversation, `You cannot join ${name}: ${error.text}.`);
    }
    this.#hooks.changed();
  }

  leave(conversation) {
    const next = this.conversations.neighbour(-1);
    if (next === null) return;
    this.conversations.close(conversation);
    storeRooms(this.conversations);
    if (conversation.kind === 'room') {
      this.client.leave(conversation.name).catch(() => {
        // Whoever is no member has left.
      });
    }
    this.activate(next);
  }

  // What the client tells.

  #onState(state) {
    if (state.name === 'online') {
      this.me = state.user;
      for (const { rows } of this.conversations.list) {
        for (const row of rows.filter(({ status }) => status === 'waiting')) row.status = 'sending';
      }
      // Who came and went meanwhile, nobody told us.
      for (const conversation of this.conversations.rooms) this.#refreshRoster(conversation, 0);
    } else {
      for (const { rows } of this.conversations.list) {
        for (const row of rows.filter(({ status }) => status === 'sending')) row.status = 'waiting';
      }
      for (const conversation of this.conversations.directs) conversation.online = null;
    }
    if (state.name === 'online') this.#hooks.announce('Connected.');
    if (state.name === 'waiting') this.#hooks.announce(sentence(state.reason));
    if (state.name === 'closed') {
      this.#hooks.announce(`Not connected: ${state.error?.message ?? 'closed'}.`);
    }
    this.#hooks.changed();
  }

  #onMessage({ room, from, epoch, seq, timeMs, body }) {
    const everybody = room === '*';
    const { active } = this.conversations;
    const conversation = everybody ? active : this.conversations.get('room', room);
    if (conversation === undefined || conversation === null) return;
    const place = everybody ? { everybody } : { epoch, seq };
    if (!everybody) conversation.epoch = epoch;
    this.#take(conversation, { from, timeMs, body, ...place });
  }

  #onDirect({ from, timeMs, body }) {
    this.#take(this.conversations.open('direct', from), { from, timeMs, body });
  }

  #take(conversation, message) {
    const own = message.from === this.me;
    const row = conversation.add({ ...message, own });
    if (!own && !this.#hooks.isRead(conversation)) {
      const text = typeof message.body === 'string' ? message.body : '';
      const toMe = conversation.kind === 'direct' || mentionsUser(text, this.me);
      conversation.countUnread(row, toMe);
    }
    this.#hooks.said(conversation, row);
    this.#hooks.changed();
  }

  #onPresence({ kind, room, user, total }) {
    if (kind === 'online' || kind === 'offline') {
      const direct = this.conversations.get('direct', user);
      if (direct !== undefined) direct.online = kind === 'online';
    }
    const conversation = this.conversations.get('room', room);
    if (conversation !== undefined && kind !== 'online' && kind !== 'offline') {
      conversation.total = total;
      if (kind === 'joined') conversation.enter(user);
      if (kind === 'left') conversation.exit(user);
      if (kind === 'many') this.#refreshRoster(conversation, ROSTER_PAUSE_MS);
    }
    this.#hooks.changed();
  }

  #onGap({ room, from, to, epoch, reason }) {
    if (reason === 'directs') {
      // How many nobody can tell: their ids have holes.
      this.#hooks.announce('Messages to you alone were dropped: too many waited, or too long.');
    }
    const missing = plural(to - from + 1, 'message', 'messages');
    const conversation = this.conversations.get('room', room);
    if (conversation === undefined) return;
    conversation.epoch = epoch;
    this.#notice(conversation, {
      overflow: `${missing} could not be delivered to you in time.`,
      history: `Part of what was said while you were away is no longer kept.`,
      'new-epoch': to === 0 ? 'The server was restarted. What was said while it was away is lost.'
        : `The server was restarted. ${plural(to, 'message', 'messages')} may be missing here.`,
    }[reason]);
  }

  #onDropped(room, error) {
    const conversation = this.conversations.get('room', room);
    if (conversation === undefined) return;
    conversation.joined = false;
    this.#notice(conversation, `You are no longer in ${room}: ${error.text}.`);
  }

  // What people want.

  /** Sends what was typed; what is wrong with it, in a sentence, or null. */
  say(conversation, text) {
    if (text.startsWith('/') && !text.startsWith('//')) return this.#command(conversation, text);
    const body = text.startsWith('//') ? text.slice(1) : text;
    const status = this.client.state.name === 'online' ? 'sending' : 'waiting';
    const row = conversation.add({ from: this.me, own: true, timeMs: Date.now(), body, status });
    this.#transmit(conversation, row);
    return null;
  }

  retry(conversation, row) {
    conversation.remove(row);
    this.say(conversation, row.body.startsWith('/') ? `/${row.body}` : row.body);
    this.#hooks.changed();
  }

  discard(conversation, row) {
    conversation.remove(row);
    this.#hooks.changed();
  }

  async #transmit(conversation, row) {
    const { kind, name } = conversation;
    const { client } = this;
    this.#hooks.changed();
    try {
      const direct = kind === 'direct';
      const sent = direct ? client.direct(name, row.body) : client.publish(name, row.body);
      const receipt = await sent;
      if (direct) row.status = 'sent';
      else conversation.confirm(row, receipt, row.timeMs);
      if (receipt.queued) this.#notice(conversation, `${name} is away and will read it later.`);
    } catch (error) {
      row.status = 'failed';
      row.problem = problemOf(error);
      this.#hooks.announce(`Not sent: ${row.problem}.`);
    }
    this.#hooks.changed();
  }

  #command(conversation, text) {
    const [, word, rest] = /^\/(\S*)\s*(.*)$/su.exec(text);
    switch (word) {
      case 'join': return this.open(rest);
      case 'leave': this.leave(conversation); return null;
      case 'nick': {
        const problem = nameProblem(rest);
        if (problem === null) this.rename(rest);
        return problem;
      }
      case 'msg': {
        const [, user, body] = /^@?(\S*)\s*(.*)$/su.exec(rest);
        const problem = this.open(`@${user}`);
        if (problem === null && body !== '') this.say(this.conversations.active, body);
        return problem;
      }
      case 'who': this.#tellMembers(conversation); return null;
      case 'help': this.#hooks.help(); return null;
      default: return `There is no command /${word}. Begin with // to say it as it is.`;
    }
  }

  #tellMembers(conversation) {
    const names = conversation.members.slice(0, NAMES_TOLD);
    const total = plural(conversation.total, 'member', 'members');
    this.#notice(conversation, `${total}: ${names.join(', ')}`);
  }

  #notice(conversation, text) {
    conversation.notice(text, Date.now());
    if (conversation === this.conversations.active) this.#hooks.announce(text);
    this.#hooks.changed();
  }

  // What has to be asked for.

  /** Asks who is there, at most once in the pause. */
  #refreshRoster(conversation, pauseMs) {
    if (this.#rosters.has(conversation)) return;
    this.#rosters.set(conversation, setTimeout(() => {
      this.#rosters.delete(conversation);
      if (conversation.joined) this.#loadRoster(conversation).catch(() => {});
    }, pauseMs));
  }

  async #loadRoster(conversation) {
    const { total, users } = await this.client.who(conversation.name);
    conversation.total = total;
    conversation.members = users;
    this.#hooks.changed();
  }

  /** Asks for the messages before the oldest one here. */
  older(conversation) {
    if (conversation.history !== 'more' || conversation.loading) return;
    if (this.client.now() < conversation.historyFromMs) return;
    this.#loadHistory(conversation).catch(() => {});
  }

  async #loadHistory(conversation) {
    if (conversation.kind !== 'room') return;
    const before = conversation.oldest;
    if (before <= 1) {
      conversation.history = 'all';
      return;
    }
    const since = Math.max(0, before - 1 - PAGE_OF_HISTORY);
    conversation.loading = true;
    this.#hooks.changed();
    try {
      const { earlier, gap } = await this.#askHistory(conversation.name, since, before);
      conversation.prepend(earlier.map((one) => ({ ...one, own: one.from === this.me })));
      conversation.historyFromMs = 0;
      conversation.history = since === 0 || gap || earlier.length === 0 ? 'all' : 'more';
    } catch (error) {
      conversation.history = 'more';
      const isNews = conversation.historyFromMs === 0;
      conversation.historyFromMs = this.client.now() + HISTORY_PAUSE_MS;
      // Whoever looks at a page that has room for more gets it then.
      setTimeout(() => this.#hooks.changed(), HISTORY_PAUSE_MS + 1);
      if (isNews && error instanceof RefusedError) {
        this.#notice(conversation, `What was said before cannot be shown now: ${error.text}.`);
      }
    } finally {
      conversation.loading = false;
      this.#hooks.changed();
    }
  }

  /**
   * The messages behind `since` and before `before`, as often asked for as one answer does not
   * reach that far. From 0 on they may begin with the end of earlier epochs.
   */
  async #askHistory(room, since, before) {
    let earlier = [];
    let gap = false;
    for (let from = since; from < before - 1;) {
      // How much of earlier epochs stands before the first message, nobody knows.
      const limit = from === 0 ? 0 : before - 1 - from;
      const answer = await this.client.history(room, { since: from, limit });
      gap ||= answer.gap;
      const last = answer.messages.at(-1);
      if (last === undefined) break;
      // Between an earlier epoch that fills an answer and what follows, something may be missing.
      if (earlier.length > 0 && earlier.at(-1).epoch !== answer.messages[0].epoch) earlier = [];
      earlier.push(...answer.messages);
      from = last.epoch === answer.epoch ? last.seq : Math.max(1, from);
    }
    const { epoch } = earlier.at(-1) ?? {};
    return { earlier: earlier.filter((one) => one.epoch !== epoch || one.seq < before), gap };
  }
}

function problemOf(error) {
  if (error.name === 'QueueFullError') return 'too much waits to be sent already';
  return error.text ?? error.message;
}

function storedRooms() {
  const stored = (memory.get('rooms') ?? '').split(' ');
  const rooms = stored.filter((room) => nameProblem(room) === null);
  return rooms.length > 0 ? rooms : ['lobby'];
}

function storeRooms(conversations) {
  memory.set('rooms', conversations.rooms.map(({ name }) => name).join(' '));
}
