/** A world in which nothing happens by itself: a clock that is turned, sockets that are played. */

import { Corebeat } from '../corebeat.js';

/** A platform whose time passes when `advance` is called, and not otherwise. */
export class FakePlatform {
  #now = 1_000_000;
  #timers = new Map();
  #next = 1;
  chance = 0.5;

  now = () => this.#now;

  random = () => this.chance;

  setTimeout = (callback, ms) => {
    this.#timers.set(this.#next, { at: this.#now + ms, callback });
    this.#next += 1;
    return this.#next - 1;
  };

  clearTimeout = (timer) => {
    this.#timers.delete(timer);
  };

  get timers() {
    return this.#timers.size;
  }

  /** Lets time pass, and fires what falls due, in order. */
  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end);
      if (due.length === 0) break;
      const [id, timer] = due.reduce((first, other) => (other[1].at < first[1].at ? other : first));
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, timer.at);
      timer.callback();
    }
    this.#now = end;
  }

  /** Lets time pass while nothing can run, as on a machine that sleeps. */
  suspend(ms) {
    this.#now += ms;
  }
}

/** The server's end of the sockets that a client opens. */
export class FakeServer {
  sockets = [];

  constructor() {
    const server = this;
    this.WebSocket = class {
      readyState = 0;
      sent = [];
      onopen = null;
      onmessage = null;
      onclose = null;
      onerror = null;

      constructor(url, protocol) {
        this.url = url;
        this.protocol = protocol;
        server.sockets.push(this);
      }

      send(text) {
        if (this.readyState !== 1) throw new Error('the socket is not open');
        this.sent.push(JSON.parse(text));
      }

      close(code) {
        this.readyState = 3;
        this.closedWith = code;
      }
    };
  }

  /** The connection that was opened last. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** Everything of one kind that this connection was sent. */
  sent(op) {
    return this.socket.sent.filter((message) => message.op === op);
  }

  open() {
    this.socket.readyState = 1;
    this.socket.onopen({});
  }

  say(message) {
    this.socket.onmessage({ data: JSON.stringify(message) });
  }

  welcome(more = {}) {
    this.open();
    const { user } = this.sent('hello')[0];
    this.say({
      op: 'welcome', user: user || 'guest-1', session: 'ab', resume_key: 'cd', heartbeat_s: 30,
      timeout_s: 90, node: 1, max_frame: 65536, resumed: false, ...more,
    });
  }

  /** Answers the latest request of a kind. */
  ok(op, more = {}) {
    this.say({ op: 'ok', ref: this.sent(op).at(-1).ref, epoch: 7, seq: 0, ...more });
  }

  message(seq, more = {}) {
    const place = { room: 'lobby', epoch: 7, seq };
    this.say({ op: 'message', ...place, from: 'bob', time_ms: 1, body: `m${seq}`, ...more });
  }

  drop(code = 1006, reason = '') {
    this.socket.readyState = 3;
    this.socket.onclose({ code, reason });
  }
}

/** A client in such a world, and everything that its listeners heard. */
export function setUp(options = {}) {
  const platform = new FakePlatform();
  const server = new FakeServer();
  const client = new Corebeat({
    url: 'ws://one/ws', user: 'ann', WebSocket: server.WebSocket, platform, ...options,
  });
  const heard = {};
  for (const name of ['state', 'message', 'direct', 'presence', 'gap', 'dropped', 'rtt', 'tempo',
    'goaway', 'error', 'waiting']) {
    heard[name] = [];
    client.on(name, (value) => heard[name].push(value));
  }
  return { platform, server, client, heard };
}

/** The same, online and a member of the lobby, whose head is at `seq`. */
export async function setUpInLobby(seq = 0, options = {}) {
  const world = setUp(options);
  const connected = world.client.connect();
  world.server.welcome();
  await connected;
  const joined = world.client.join('lobby');
  world.server.ok('join', { seq });
  await joined;
  return world;
}
