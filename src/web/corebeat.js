/**
 * A client of corebeat, for browsers and Node 20 or newer: JSON over a WebSocket.
 *
 * Owns one connection at a time, and everything that has to outlive it: which rooms are joined and
 * how far each was read, what was sent and not answered yet, when to try again. Never touches the
 * page, a store or a log. Types and descriptions of all that is public are in corebeat.d.ts.
 */

const SUBPROTOCOL = 'corebeat.v1.json';
/** The server remembers the last 1,024 refs of a session: fewer may wait, so repeating is safe. */
const QUEUE_LIMIT_MAX = 1000;
/** Own messages and direct messages that are remembered, so that none is told twice. */
const REMEMBERED_MAX = 1024;
/** Epochs of a room before its present one in which we remember our place. */
const EPOCHS_MAX = 8;
/** A timer that fires so much later than asked was held back, and proves nothing about the peer. */
const LATE_MS = 1000;
/** So often a join that the server has no room for is asked again with what was missed. */
const REFUSALS_BORNE = 3;
/** And within this time. */
const ASK_AGAIN_MS = 1000;
/** The wait that the text of a refusal with 429 names, in milliseconds. */
const WAIT_NAMED = / in (\d+) ms/u;
/** Weight of a new sample in the smoothed round trip, as in TCP (RFC 6298 section 2). */
const SMOOTHING = 1 / 8;
/** Codes after which the same hello would only fail again. */
const FATAL_CODES = new Set([400, 401, 403]);
const CODE_OF_CLOSE = new Map([
  [1002, 400], [1007, 400], [1009, 413], [1013, 503], [4401, 401], [4408, 408], [4409, 409],
  [4429, 429], [4431, 431],
]);

const DEFAULTS = {
  user: '',
  token: '',
  heartbeatS: 0,
  queueLimit: 256,
  resend: 'always',
  connectTimeoutMs: 10_000,
  pingEveryMs: 10_000,
  pongTimeoutMs: 10_000,
  backoffFirstMs: 1000,
  backoffLongestMs: 32_000,
  backoffTries: 10,
  quietMs: 300_000,
};

/** Time and chance as the platform has them. The clock never jumps, and is about UTC. */
const PLATFORM = {
  now: () => performance.timeOrigin + performance.now(),
  random: () => Math.random(),
  setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
};

/** What all errors of this client have in common. */
export class CorebeatError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** The server said no. */
export class RefusedError extends CorebeatError {
  constructor(code, text) {
    super(`${code} ${text}`);
    this.code = code;
    this.text = text;
  }
}

/** Too much waits for an answer already. */
export class QueueFullError extends CorebeatError {
  constructor(limit) {
    super(`${limit} requests wait for an answer already`);
    this.limit = limit;
  }
}

/** The connection was lost before the answer came, and nobody knows whether it was done. */
export class UncertainError extends CorebeatError {
  constructor() {
    super('the connection was lost before the answer came');
  }
}

/** The client is closed. */
export class ClosedError extends CorebeatError {
  constructor(reason = 'the client was closed') {
    super(reason);
  }
}

/** How long to wait before the given try, from 1: anything up to a bound that doubles. */
export function backoffDelay(attempt, firstMs, longestMs, random) {
  return random() * Math.min(longestMs, firstMs * 2 ** (attempt - 1));
}

/** A connection to corebeat that comes back by itself. */
export class Corebeat {
  #options;
  #platform;
  #urls;
  #urlIndex = 0;
  #redirect = null;
  #listeners = new Map();

  #state = { name: 'idle' };
  #socket = null;
  #connection = 0;
  #welcomed = false;
  #connected = null;
  #attempt = 0;
  #timers = { retry: undefined, attempt: undefined, beat: undefined, ask: undefined };
  #lastError = null;
  #goaway = null;

  #user;
  #session = null;
  #askedToResume = false;
  #maxFrame = Infinity;

  #rooms = new Map();
  #requests = new Map();
  #nextRef = 1;
  /** Joins and leaves of before that this connection has not answered; the rest waits for them. */
  #unsettled = new Set();
  #directs = new Set();
  /** Messages of ours that come back and look like some that wait for their answer. */
  #held = [];

  #ping = null;
  #pingSeq = 0;
  #roundTripMs = null;

  constructor(options) {
    const { url, WebSocket = globalThis.WebSocket, platform = {}, ...rest } = options;
    if (typeof WebSocket !== 'function') {
      throw new TypeError('there is no WebSocket here: hand a constructor in, such as that of ws');
    }
    this.#urls = (Array.isArray(url) ? url : [url]).map(String);
    if (this.#urls.length === 0) throw new TypeError('url is empty');
    const given = Object.entries(rest).filter(([, value]) => value !== undefined);
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given), WebSocket };
    const { queueLimit, user } = this.#options;
    if (!Number.isInteger(queueLimit) || queueLimit < 1 || queueLimit > QUEUE_LIMIT_MAX) {
      throw new RangeError(`queueLimit must be from 1 to ${QUEUE_LIMIT_MAX}`);
    }
    this.#platform = { ...PLATFORM, ...platform };
    this.#user = user;
  }

  get state() {
    return this.#state;
  }

  get user() {
    return this.#user;
  }

  get rooms() {
    return [...this.#rooms.keys()];
  }

  get waiting() {
    let count = 0;
    for (const request of this.#requests.values()) count += request.inner ? 0 : 1;
    return count;
  }

  get roundTripMs() {
    return this.#roundTripMs;
  }

  now() {
    return this.#platform.now();
  }

  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event).delete(listener);
  }

  connect() {
    if (this.#connected === null || this.#state.name === 'closed') {
      this.#connected = deferred();
      this.#connected.promise.catch(() => {});
      this.#attempt = 0;
      this.#open();
    }
    return this.#connected.promise;
  }

  close() {
    if (this.#state.name !== 'closed') this.#end(null);
  }

  wake() {
    const { name } = this.#state;
    if (name === 'waiting') {
      this.#attempt = 0;
      this.#open();
    } else if (name === 'online' && this.#ping === null) {
      this.#sendPing();
    }
  }

  join(room, { notify = true, since = 0, epoch = 0 } = {}) {
    const before = this.#rooms.get(room);
    const own = new Set();
    const entry = before ?? {
      name: room, epoch, seq: since, known: since > 0, own, replayTo: 0, forgiven: 0,
      past: new Map(), joinedOn: 0, crosses: false,
    };
    entry.notify = notify;
    const answer = this.#request({ op: 'join', room }, { join: entry });
    this.#rooms.set(room, entry);
    return answer.catch((error) => {
      // What the server refuses is judged where it is heard.
      const unasked = before === undefined && !(error instanceof RefusedError);
      if (unasked && this.#rooms.get(room) === entry) this.#rooms.delete(room);
      throw error;
    });
  }

  leave(room) {
    this.#rooms.delete(room);
    return this.#request({ op: 'leave', room }, { leave: true });
  }

  publish(room, body, { echo = false } = {}) {
    const fields = { op: 'publish', room, ...bodyFields(body) };
    if (echo) fields.echo = true;
    return this.#request(fields, { once: true, publishedTo: echo ? null : room });
  }

  direct(user, body) {
    return this.#request({ op: 'direct', user, ...bodyFields(body) }, { once: true });
  }

  who(room) {
    return this.#request({ op: 'who', room });
  }

  history(room, { since = 0, limit = 50 } = {}) {
    return this.#request({ op: 'history', room, since, limit }, { history: [] });
  }

  // From here on: the connection.

  #open() {
    this.#clear('retry');
    const url = this.#redirect ?? this.#urls[this.#urlIndex];
    this.#goaway = null;
    this.#lastError = null;
    this.#connection += 1;
    this.#setState({ name: 'connecting', url, attempt: this.#attempt + 1 });
    if (this.#state.name !== 'connecting') return;
    let socket;
    try {
      socket = new this.#options.WebSocket(url, SUBPROTOCOL);
    } catch (error) {
      this.#lost(0, error.message);
      return;
    }
    this.#socket = socket;
    const whileMine = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = whileMine(() => this.#hello());
    socket.onmessage = whileMine((event) => this.#receive(event.data));
    socket.onclose = whileMine((event) => this.#lost(event.code, event.reason));
    // A close follows every error and tells more.
    socket.onerror = () => {};
    const { connectTimeoutMs } = this.#options;
    const late = () => this.#lost(0, `no welcome within ${connectTimeoutMs} ms`);
    this.#arm('attempt', connectTimeoutMs, late);
  }

  #hello() {
    const { token, heartbeatS } = this.#options;
    const hello = { op: 'hello', user: this.#user };
    if (token !== '') hello.token = token;
    if (heartbeatS > 0) hello.heartbeat_s = heartbeatS;
    this.#askedToResume = this.#session !== null;
    if (this.#askedToResume) Object.assign(hello, this.#session);
    this.#send(JSON.stringify(hello));
  }

  #lost(closeCode, reason) {
    const welcomedAt = this.#welcomed ? this.#state.url : null;
    this.#drop();
    if (this.#state.name === 'closed') return;
    const code = this.#lastError?.code ?? CODE_OF_CLOSE.get(closeCode) ?? 0;
    const text = this.#lastError?.text || reason || 'the connection was lost';
    const first = this.#session === null;
    if (FATAL_CODES.has(code) || (code === 409 && first)) {
      this.#end(this.#lastError ?? new RefusedError(code, text));
      return;
    }
    // The size is checked before sending, so this is a limit that the server has not told of.
    if (code === 413) this.#failSent(new RefusedError(413, text));
    this.#waitToRetry(text, welcomedAt);
  }

  /** Lets go of the socket, whatever it does afterwards. */
  #drop() {
    this.#clear('attempt');
    this.#clear('beat');
    this.#clear('ask');
    const socket = this.#socket;
    this.#socket = null;
    this.#welcomed = false;
    this.#ping = null;
    this.#roundTripMs = null;
    if (socket !== null && socket.readyState < 2) socket.close();
    for (const request of this.#requests.values()) {
      request.arrived ||= request.sentOn === this.#connection;
      // What a half-told history lacks cannot be known; it is asked for anew from its start.
      if (request.history) request.history = [];
    }
  }

  /** `welcomedAt` is where the connection had come from, if it was welcomed. */
  #waitToRetry(reason, welcomedAt) {
    const { backoffFirstMs, backoffLongestMs, backoffTries, quietMs } = this.#options;
    let quiet = false;
    let delayMs;
    if (this.#goaway !== null) {
      delayMs = Math.max(0, this.#goaway.atMs - this.now());
    } else {
      // The session, if it lives on, is where it was.
      this.#redirect = welcomedAt;
      if (welcomedAt === null) this.#urlIndex = (this.#urlIndex + 1) % this.#urls.length;
      this.#attempt += 1;
      quiet = this.#attempt > backoffTries;
      if (quiet) this.#attempt = 0;
      delayMs = quiet ? quietMs
        : backoffDelay(this.#attempt, backoffFirstMs, backoffLongestMs, this.#platform.random);
    }
    this.#arm('retry', delayMs, () => this.#open());
    const attempt = this.#attempt;
    this.#setState({
      name: 'waiting', quiet, attempt, delayMs, untilMs: this.now() + delayMs, reason,
    });
  }

  /** Closes for good. */
  #end(error) {
    this.#clear('retry');
    if (this.#welcomed) this.#send('{"op":"bye","code":1000,"reason":""}');
    this.#socket?.close(1000);
    this.#drop();
    const told = error ?? new ClosedError();
    for (const request of [...this.#requests.values()]) this.#settle(request, told);
    this.#rooms.clear();
    this.#session = null;
    this.#setState({ name: 'closed', error });
    this.#connected?.reject(told);
  }

  // What arrives.

  #receive(data) {
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      // Judged below, together with JSON that is no object.
    }
    if (message === null || typeof message !== 'object' || typeof message.op !== 'string') {
      this.#lost(0, 'the server does not speak the JSON dialect');
      return;
    }
    if (this.#ping !== null) this.#ping.answered = true;
    // Only an error that nothing follows is why the connection ended.
    if (message.op !== 'error') this.#lastError = null;
    switch (message.op) {
      case 'welcome': return this.#onWelcome(message);
      case 'ok': return this.#onOk(message);
      case 'error': return this.#onError(message);
      case 'roster': return this.#onRoster(message);
      case 'message': return this.#onMessage(message);
      case 'direct': return this.#onDirect(message);
      case 'presence': return this.#onPresence(message);
      case 'gap': return this.#onGap(message);
      case 'pong': return this.#onPong(message);
      case 'ping': return this.#onPing(message);
      case 'goaway': return this.#onGoaway(message);
      case 'tempo': return this.#onTempo(message);
      // The protocol grows by adding: what is not known is skipped.
      default: return undefined;
    }
  }

  #onWelcome(message) {
    this.#clear('attempt');
    this.#attempt = 0;
    this.#welcomed = true;
    this.#user = message.user;
    this.#session = { session: message.session, resume_key: message.resume_key };
    this.#maxFrame = message.max_frame ?? Infinity;
    const resumed = message.resumed === true;
    if (!resumed && this.#options.resend === 'resumed') {
      this.#failSent(new UncertainError(), (request) => request.once);
    }
    const { url } = this.#state;
    this.#repeatRequests();
    this.#sendPing();
    this.#setState({ name: 'online', url, user: this.#user, resumed });
    this.#connected.resolve({ user: this.#user, resumed });
    this.#onTempo(message);
  }

  /**
   * Joins again what was joined; once that is answered, asks again what was not, in the old order.
   *
   * What we say before we are members would be counted among what we missed. Rooms are joined in a
   * session that goes on, too: the server replays from what it wrote, and only we know what has
   * arrived, since a proxy may have taken bytes and lost them.
   */
  #repeatRequests() {
    this.#unsettled.clear();
    for (const request of this.#requests.values()) Object.assign(request, { refused: 0, dueMs: 0 });
    for (const entry of this.#rooms.values()) {
      if (!this.#isJoining(entry)) this.#joinAgain(entry);
    }
    for (const request of this.#requests.values()) {
      if (request.join || request.leave) this.#unsettled.add(request);
    }
    this.#transmitWaiting();
  }

  #isJoining(entry) {
    return [...this.#requests.values()].some((request) => request.join === entry);
  }

  #joinAgain(entry) {
    this.#requestUnasked({ op: 'join', room: entry.name }, { join: entry });
  }

  /** Asks for something by itself. What comes of it is judged where the answer is heard. */
  #requestUnasked(fields, more) {
    this.#request(fields, { ...more, inner: true }).catch(() => {});
  }

  /** A join of our own was refused. Whether it is asked again, since the next may not be. */
  #asksLater(request, { code, text }) {
    if (code !== 503 && code !== 429) return false;
    const now = this.now();
    const named = WAIT_NAMED.exec(text);
    if (named !== null) {
      // One after the other: the server takes the next one so much later than the last.
      let latestMs = now;
      for (const { dueMs } of this.#requests.values()) latestMs = Math.max(latestMs, dueMs);
      request.dueMs = latestMs + Math.max(1, Number(named[1]));
    } else if (request.refused <= REFUSALS_BORNE) {
      request.refused += 1;
      const hopeless = request.refused > REFUSALS_BORNE;
      request.dueMs = now + (hopeless ? 1 : this.#platform.random() * ASK_AGAIN_MS);
    } else {
      return false;
    }
    request.sentOn = 0;
    this.#armAsk();
    return true;
  }

  /** Sends what was put off, when the first of it is due. */
  #armAsk() {
    let dueMs = Infinity;
    for (const request of this.#requests.values()) {
      if (request.dueMs > 0) dueMs = Math.min(dueMs, request.dueMs);
    }
    if (dueMs === Infinity || this.#goaway !== null) return;
    this.#arm('ask', Math.max(1, dueMs - this.now()), () => {
      this.#transmitWaiting();
      this.#armAsk();
    });
  }

  /** A join was refused, and is not asked again. */
  #joinRefused(request, error) {
    const { join: entry, inner } = request;
    const others = [...this.#requests.values()].filter((other) => other !== request);
    // The server has us in the room from an earlier join, or a later one may still do.
    const stays = entry.joinedOn === this.#connection
      || others.some((other) => other.join === entry);
    if (stays || this.#rooms.get(entry.name) !== entry) return;
    if (!inner && entry.joinedOn > 0) {
      // This join stood for the one by which we come back.
      const gates = this.#unsettled.has(request);
      this.#joinAgain(entry);
      const again = [...this.#requests.values()].at(-1);
      if (gates) this.#unsettled.add(again);
      return;
    }
    this.#rooms.delete(entry.name);
    if (!inner) return;
    // A session that goes on may still be in the room.
    this.#requestUnasked({ op: 'leave', room: entry.name }, { leave: true });
    this.#emit('dropped', { room: entry.name, error });
  }

  #transmitWaiting() {
    const now = this.now();
    for (const request of [...this.#requests.values()]) {
      if (request.sentOn !== this.#connection && request.dueMs <= now) this.#transmit(request);
    }
  }

  #onOk(message) {
    const request = this.#requests.get(message.ref);
    if (request === undefined) return;
    const { epoch, seq } = message;
    if (request.join) this.#joined(request, message);
    const room = this.#rooms.get(request.publishedTo);
    if (room !== undefined && room.epoch === epoch) noteOwn(room, seq);
    const result = { epoch, seq };
    if (request.history) {
      result.messages = request.history;
      result.gap = message.gap === true;
    }
    if (request.once) {
      result.duplicate = message.duplicate === true;
      result.queued = message.queued === true;
    }
    this.#settle(request, null, result);
  }

  /** Compares where the room is with how far it was read, and tells what is missing. */
  #joined({ join: entry, fields, everything }, { epoch, seq, gap }) {
    const { name: room, epoch: oldEpoch, known } = entry;
    const replayed = fields.since > 0;
    const from = entry.seq + 1;
    // A place before the one that was read is a new beginning under the same number.
    const anew = known && oldEpoch !== 0 && (oldEpoch !== epoch || seq < entry.seq);
    if (anew) beginEpoch(entry, epoch);
    entry.known = true;
    entry.joinedOn = this.#connection;
    entry.epoch = epoch;
    entry.replayTo = replayed ? seq : 0;
    entry.forgiven = 0;
    // What was missed of earlier epochs comes before anything of this one.
    entry.crosses = anew && replayed && seq > 0;
    if (anew) {
      if (!replayed) entry.seq = seq;
      // Without a gap the server has kept the old epoch's end as well, and replays it first.
      if (!replayed || gap === true) {
        entry.forgiven = seq;
        this.#emit('gap', { room, epoch, from: 1, to: seq, reason: 'new-epoch' });
      }
    } else if (known && gap === true && !everything) {
      entry.forgiven = seq;
      this.#emit('gap', { room, epoch, from, to: seq, reason: 'history' });
    } else if (known && !replayed && seq > entry.seq) {
      this.#emit('gap', { room, epoch, from, to: seq, reason: 'history' });
    }
    if (!replayed) entry.seq = Math.max(entry.seq, seq);
    advanceOverOwn(entry);
  }

  #onError({ ref = 0, code, text = '' }) {
    const error = new RefusedError(code, text);
    const request = this.#requests.get(ref);
    if (request === undefined) {
      const noResume = this.#welcomed && this.#askedToResume && code === 503;
      this.#askedToResume = false;
      // That nothing was resumed has been told by the welcome.
      if (noResume) return;
      this.#lastError = error;
      this.#emit('error', error);
    } else if (code === 404 && request.leave) {
      this.#settle(request, null, undefined);
    } else if (!(request.join && request.inner && this.#asksLater(request, error))) {
      if (request.join) this.#joinRefused(request, error);
      this.#settle(request, error);
    }
  }

  #onRoster({ ref, total, users }) {
    const request = this.#requests.get(ref);
    if (request !== undefined) this.#settle(request, null, { total, users });
  }

  #onMessage(message) {
    const { room, epoch, seq } = message;
    const entry = this.#rooms.get(room);
    const told = {
      room, from: message.from, epoch, seq, timeMs: message.time_ms, body: bodyOf(message),
      replay: message.replay === true,
    };
    if (entry !== undefined && epoch === entry.epoch) entry.crosses = false;
    if (told.replay) {
      const asked = [...this.#requests.values()]
        .find(({ history, fields }) => history && fields.room === room);
      const missed = entry !== undefined && epoch === entry.epoch && seq > entry.seq
        && seq <= entry.replayTo;
      const missedOfPast = entry?.crosses === true && seq > (entry.past.get(epoch) ?? 0);
      if (asked !== undefined && !missed && !missedOfPast) {
        // Histories are answered one after the other: what comes belongs to the oldest.
        if (seq > asked.fields.since || asked.history.length > 0) asked.history.push(told);
        return;
      }
      if (entry === undefined) return;
    }
    if (entry !== undefined && !this.#isNews(entry, told)) return;
    const { body, body_b64: encoded } = message;
    // Our own of before, whose answer was lost: the answer to its repetition tells if it is that.
    if (told.from === this.#user && this.#saidBefore(room, { body, body_b64: encoded })) {
      this.#held.push({ told, body, encoded });
      // The oldest gives way.
      if (this.#held.length > REMEMBERED_MAX) this.#emit('message', this.#held.shift().told);
    } else {
      this.#emit('message', told);
    }
  }

  /** Whether something may have arrived before this connection, is not answered, and says that. */
  #saidBefore(room, { body, body_b64: encoded }) {
    return [...this.#requests.values()].some(({ publishedTo, fields, arrived }) =>
      publishedTo === room && arrived && fields.body === body && fields.body_b64 === encoded);
  }

  /** What we said is answered, with its place if it has one: tells what was held in vain. */
  #release({ publishedTo: room, fields }, place) {
    const isIt = ({ told }) => told.room === room && told.epoch === place?.epoch
      && told.seq === place.seq;
    this.#held = this.#held.filter((held) => !isIt(held));
    if (this.#held.length === 0 || this.#saidBefore(room, fields)) return;
    const same = ({ told, body, encoded }) => told.room === room && body === fields.body
      && encoded === fields.body_b64;
    const released = this.#held.filter(same);
    this.#held = this.#held.filter((held) => !same(held));
    for (const { told } of released) this.#emit('message', told);
  }

  /** Whether a message was not told yet, and may be told now. */
  #isNews(entry, { room, epoch, seq, replay }) {
    if (entry.known && epoch !== entry.epoch) {
      // An epoch begins with the answer to join, behind which the message comes again.
      if (!entry.past.has(epoch) && this.#isJoining(entry)) return false;
      if (replay) return isNewsOfPast(entry, epoch, seq);
    }
    if (epoch !== entry.epoch) beginEpoch(entry, epoch);
    if (seq <= entry.seq) return false;
    const own = entry.own.has(seq);
    const from = Math.max(entry.seq, entry.forgiven) + 1;
    let missing = Math.max(0, seq - from);
    for (const place of entry.own) missing -= place >= from && place < seq ? 1 : 0;
    if (entry.known && missing > this.#unplacedIn(room)) {
      if (this.#asksForMissing(entry)) return false;
      this.#emit('gap', { room, epoch, from, to: seq - 1, reason: 'history' });
    }
    entry.seq = seq;
    advanceOverOwn(entry);
    return !own;
  }

  /**
   * There is a hole before a message. Whether what is missing is asked for, so that the message
   * comes again behind it: not twice from the same place, since then the server does not have it.
   */
  #asksForMissing(entry) {
    if (this.#isJoining(entry)) return true;
    const place = `${this.#connection} ${entry.epoch} ${entry.seq}`;
    if (entry.askedFrom === place) return false;
    entry.askedFrom = place;
    this.#joinAgain(entry);
    return true;
  }

  /** How many messages of ours to a room have been sent here and have no place yet. */
  #unplacedIn(room) {
    let count = 0;
    for (const { publishedTo, sentOn } of this.#requests.values()) {
      count += publishedTo === room && sentOn === this.#connection ? 1 : 0;
    }
    return count;
  }

  #onDirect(message) {
    const { id, from, time_ms: timeMs } = message;
    const key = `${id} ${timeMs} ${from}`;
    const again = this.#directs.has(key);
    if (!again && (this.#listeners.get('direct')?.size ?? 0) === 0) return;
    if (!again) {
      remember(this.#directs, key);
      const replay = message.replay === true;
      this.#emit('direct', { id, from, timeMs, body: bodyOf(message), replay });
    }
    if (this.#welcomed) this.#send(JSON.stringify({ op: 'ack', id }));
  }

  #onPresence({ kind, room = '', user = '', total = 0 }) {
    this.#emit('presence', { kind, room, user, total });
  }

  #onGap({ room = '', epoch, from, to }) {
    if (room === '') {
      this.#emit('gap', { room, epoch, from, to, reason: 'directs' });
      return;
    }
    const entry = this.#rooms.get(room);
    const known = entry?.epoch === epoch ? entry.seq : 0;
    // Told again on another connection.
    if (to <= known) return;
    if (entry !== undefined && entry.epoch === epoch) {
      entry.seq = to;
      advanceOverOwn(entry);
    }
    // It may begin before what has arrived, where the server does not know how far that came.
    const first = Math.max(from, known + 1);
    this.#emit('gap', { room, epoch, from: first, to, reason: 'overflow' });
  }

  #onGoaway({ reconnect_after_ms: afterMs = 0, reason = '', address = '' }) {
    const target = redirectTarget(address, this.#state.url);
    if (target !== null) this.#redirect = target;
    this.#goaway = { atMs: this.now() + afterMs };
    this.#emit('goaway', { reconnectAfterMs: afterMs, reason, address });
    // A server that keeps the connection open beyond its own word is left.
    this.#arm('attempt', afterMs, () => this.#lost(0, reason));
  }

  #onPing({ seq, time_ms }) {
    this.#send(JSON.stringify({ op: 'pong', seq, time_ms, node: 0, status: 0 }));
  }

  #onTempo({ heartbeat_s: heartbeatS, timeout_s: timeoutS }) {
    this.#emit('tempo', { heartbeatS, timeoutS });
  }

  // The heartbeat watch: browsers cannot send ping frames, so it pings in JSON.

  #sendPing() {
    this.#pingSeq += 1;
    const now = this.now();
    this.#ping = { seq: this.#pingSeq, atMs: now, answered: false };
    this.#send(JSON.stringify({ op: 'ping', seq: this.#pingSeq, time_ms: Math.floor(now) }));
    this.#armBeat(this.#options.pongTimeoutMs, false);
  }

  #armBeat(ms, forgiven) {
    const dueMs = this.now() + ms;
    this.#arm('beat', ms, () => {
      if (this.#ping === null || this.#ping.answered) {
        this.#sendPing();
      } else if (!forgiven && this.now() > dueMs + LATE_MS) {
        // The page slept, and the answer may wait behind this very timer.
        this.#armBeat(LATE_MS, true);
      } else {
        this.#lost(0, 'the server does not answer');
      }
    });
  }

  #onPong({ seq }) {
    if (this.#ping === null || this.#ping.seq !== seq) return;
    const sampleMs = this.now() - this.#ping.atMs;
    const before = this.#roundTripMs ?? sampleMs;
    this.#roundTripMs = before + (sampleMs - before) * SMOOTHING;
    this.#ping = null;
    this.#armBeat(this.#options.pingEveryMs, false);
    this.#emit('rtt', { sampleMs, smoothedMs: this.#roundTripMs });
  }

  // Requests: each waits under its ref until it is answered, on this connection or a later one.

  #request(fields, more = {}) {
    if (this.#state.name === 'closed') return Promise.reject(new ClosedError());
    if (!more.inner && this.waiting >= this.#options.queueLimit) {
      return Promise.reject(new QueueFullError(this.#options.queueLimit));
    }
    const ref = this.#nextRef;
    this.#nextRef = ref === 0xffff_ffff ? 1 : ref + 1;
    const request = {
      ref, fields: { ...fields, ref }, sentOn: 0, refused: 0, dueMs: 0, ...more, ...deferred(),
    };
    this.#requests.set(ref, request);
    if (!more.inner) this.#emit('waiting', this.waiting);
    this.#transmit(request);
    return request.promise;
  }

  #transmit(request) {
    if (!this.#welcomed || this.#goaway !== null) return;
    if (this.#unsettled.size > 0 && !request.join && !request.leave) return;
    request.dueMs = 0;
    if (request.join) {
      delete request.fields.since;
      delete request.fields.epoch;
      request.fields.notify = request.join.notify;
      // After several refusals it shall at least be a member again.
      const since = request.refused > REFUSALS_BORNE ? null : sinceOf(request.join);
      request.everything = since?.everything ?? false;
      if (since !== null) Object.assign(request.fields, { since: since.seq, epoch: since.epoch });
    }
    const text = JSON.stringify(request.fields);
    if (byteLength(text) > this.#maxFrame) {
      this.#settle(request, new RefusedError(413, `longer than ${this.#maxFrame} bytes`));
      return;
    }
    request.sentOn = this.#connection;
    this.#send(text);
  }

  #settle(request, error, result) {
    this.#requests.delete(request.ref);
    if (request.publishedTo) this.#release(request, result);
    if (error === null) request.resolve(result);
    else request.reject(error);
    if (!request.inner) this.#emit('waiting', this.waiting);
    if (this.#unsettled.delete(request) && this.#unsettled.size === 0) this.#transmitWaiting();
  }

  #failSent(error, only = () => true) {
    for (const request of [...this.#requests.values()]) {
      if (request.sentOn > 0 && only(request)) this.#settle(request, error);
    }
  }

  // Small things.

  #send(text) {
    // While it closes, the socket would only complain; the close itself is being told.
    if (this.#socket !== null && this.#socket.readyState === 1) this.#socket.send(text);
  }

  /** There is one timer of each kind; a new one replaces it. */
  #arm(which, ms, callback) {
    this.#clear(which);
    this.#timers[which] = this.#platform.setTimeout(() => {
      this.#timers[which] = undefined;
      callback();
    }, ms);
  }

  #clear(which) {
    const { clearTimeout } = this.#platform;
    clearTimeout(this.#timers[which]);
    this.#timers[which] = undefined;
  }

  #setState(state) {
    this.#state = state;
    this.#emit('state', state);
  }

  /** A listener that fails is reported, and harms neither the connection nor other listeners. */
  #emit(event, value) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        const report = globalThis.reportError ?? console.error;
        report(error);
      }
    }
  }
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}

/** The place after which a join asks for messages; null for live ones only. */
function sinceOf({ epoch, seq, known, past }) {
  if (seq > 0) return { epoch, seq };
  if (!known) return null;
  const [last] = [...past].filter(([, place]) => place > 0).slice(-1);
  if (last !== undefined) return { epoch: last[0], seq: last[1] };
  // Nothing was said so far, which `since` 0 cannot say: by an epoch that the room does not have,
  // all that is kept is asked for.
  return { epoch: epoch === 1 ? 2 : 1, seq: 1, everything: true };
}

/** The room counts anew; what of the old epoch is still to come is judged by our place there. */
function beginEpoch(entry, epoch) {
  if (entry.epoch !== 0) remember(entry.past, entry.epoch, entry.seq, EPOCHS_MAX);
  const seq = entry.past.get(epoch) ?? 0;
  entry.past.delete(epoch);
  Object.assign(entry, { epoch, seq: entry.epoch === epoch ? 0 : seq, replayTo: 0, forgiven: 0 });
  entry.own.clear();
}

/** Whether a replayed message of another epoch than the present one was not told yet. */
function isNewsOfPast(entry, epoch, seq) {
  if (seq <= (entry.past.get(epoch) ?? 0)) return false;
  entry.past.delete(epoch);
  remember(entry.past, epoch, seq, EPOCHS_MAX);
  return true;
}

/** Own messages do not come back, so their places are no gaps, and their replay is no news. */
function noteOwn(entry, seq) {
  if (seq > entry.seq) remember(entry.own, seq);
  advanceOverOwn(entry);
}

function advanceOverOwn(entry) {
  while (entry.own.delete(entry.seq + 1)) entry.seq += 1;
  for (const seq of entry.own) {
    if (seq <= entry.seq) entry.own.delete(seq);
  }
}

/** Puts something into a set, or under a key into a map, of which the oldest gives way. */
function remember(table, key, value = undefined, most = REMEMBERED_MAX) {
  if (table instanceof Map) table.set(key, value);
  else table.add(key);
  if (table.size > most) table.delete(table.keys().next().value);
}

function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** Text as it is, bytes in base64. */
function bodyFields(body) {
  if (typeof body === 'string') return { body };
  let binary = '';
  for (const byte of body) binary += String.fromCharCode(byte);
  return { body_b64: btoa(binary) };
}

function bodyOf({ body, body_b64: encoded }) {
  if (encoded === undefined) return body ?? '';
  return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
}

/** Where GOAWAY sends us: a whole address, or another host; never from encrypted to plain. */
function redirectTarget(address, current) {
  if (address === '') return null;
  try {
    const here = new URL(current);
    const whole = address.includes('://');
    const target = new URL(whole ? address : `${here.protocol}//${address}${here.pathname}`);
    const plain = target.protocol === 'ws:' && here.protocol === 'ws:';
    return plain || target.protocol === 'wss:' ? target.href : null;
  } catch {
    return null;
  }
}
