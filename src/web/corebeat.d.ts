/** Types of corebeat.js, the client of corebeat for browsers and Node 20 or newer. */

/** What can be said: text, or bytes, which travel in base64. */
export type Body = string | Uint8Array;

/** What the client needs of a WebSocket: the browser's has it, and so has that of `ws` on npm. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(data: string): void;
  close(code?: number): void;
}

/** Time and chance. Hand your own in to test without waiting. */
export interface Platform {
  /** Milliseconds since 1970, by a clock that never jumps. */
  now(): number;
  /** From 0 to below 1, as `Math.random`. */
  random(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  /** Must accept `undefined`, as the platform's does. */
  clearTimeout(timer: any): void;
}

export interface Options {
  /** One address (`wss://host/ws`), or several, of which the next is tried where one fails. */
  url: string | URL | readonly (string | URL)[];
  /** The name to go by. Without one the server names a guest. */
  user?: string;
  token?: string;
  /** The server's heartbeat as you wish it, in seconds; 0, the default, leaves it to the server. */
  heartbeatS?: number;
  /** Requests that may wait for an answer at a time, offline ones included: 1 to 1000, or 256. */
  queueLimit?: number;
  /**
   * What becomes of a publish or direct message whose answer was lost with the connection. Within a
   * session that the server resumes it is repeated and never delivered twice. Where the session is
   * gone, `always` (the default) repeats it still, so it may come twice; `resumed` rejects it with
   * `UncertainError`.
   */
  resend?: 'always' | 'resumed';
  /** A connection that has no welcome after so long is given up: 10,000. */
  connectTimeoutMs?: number;
  /** Between two pings: 10,000. */
  pingEveryMs?: number;
  /** A connection on which nothing answers a ping for so long is given up: 10,000. */
  pongTimeoutMs?: number;
  /** The bound of the first wait before a new try, which doubles with each: 1,000. */
  backoffFirstMs?: number;
  /** The bound of the longest wait: 32,000. */
  backoffLongestMs?: number;
  /** Tries, after which there is a quiet period: 10. */
  backoffTries?: number;
  /** The quiet period, after which the tries begin anew: 300,000. */
  quietMs?: number;
  /** For platforms without a `WebSocket` of their own, such as Node 20. */
  WebSocket?: new (url: string, protocol: string) => WebSocketLike;
  platform?: Partial<Platform>;
}

/** What the client is doing. `untilMs` is by the client's own clock, `now()`. */
export type State =
  | { readonly name: 'idle' }
  | { readonly name: 'connecting'; readonly url: string; readonly attempt: number }
  | {
      readonly name: 'online';
      readonly url: string;
      readonly user: string;
      /** Whether the server went on with the session of the connection before. */
      readonly resumed: boolean;
    }
  | {
      readonly name: 'waiting';
      /** After `backoffTries` tries: the long wait. */
      readonly quiet: boolean;
      /** Tries that failed in a row. */
      readonly attempt: number;
      readonly delayMs: number;
      readonly untilMs: number;
      readonly reason: string;
    }
  | {
      readonly name: 'closed';
      /** Why it gave up; null after `close()`. */
      readonly error: CorebeatError | null;
    };

/** The place of a message in its room: `seq` grows by 1, from 1 in each `epoch`. */
export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

/** What comes of a publish or a direct message. */
export interface Receipt extends Place {
  /** The server had it already, from before a reconnect. */
  readonly duplicate: boolean;
  /** A direct message that waits until its user comes back. */
  readonly queued: boolean;
}

export interface Message extends Place {
  readonly room: string;
  readonly from: string;
  /** The server's clock, in milliseconds since 1970. */
  readonly timeMs: number;
  readonly body: Body;
  /** It comes from history, and was not said just now. */
  readonly replay: boolean;
}

export interface DirectMessage {
  readonly id: number;
  readonly from: string;
  readonly timeMs: number;
  readonly body: Body;
  /** It waited in the queue while this user was away. */
  readonly replay: boolean;
}

export interface Presence {
  /** `online` and `offline` are about a user and have no room; `many` has no user. */
  readonly kind: 'joined' | 'left' | 'online' | 'offline' | 'many';
  readonly room: string;
  readonly user: string;
  /** Members of the room now; 0 for `online` and `offline`. */
  readonly total: number;
}

/**
 * Messages of a room that were not received; a hole is asked for before it is told. All from `from`
 * to `to` are missing, with two exceptions: of a `history` gap some were replayed, and after a
 * `new-epoch` messages of the old epoch may be missing as well, and there may be none (`to` is 0).
 * Of what is missing, some may be our own.
 */
export interface Gap {
  readonly room: string;
  readonly epoch: number;
  readonly from: number;
  readonly to: number;
  /**
   * - `overflow`: the server left them out, because this client or a worker could not keep up
   * - `history`: part of what was missed while offline is no longer kept, or could not be had
   * - `new-epoch`: the room began anew, since the server was restarted or had forgotten it
   * - `directs`: no messages of a room, which is empty, but direct messages of these ids, dropped
   *   from the full queue of this user
   */
  readonly reason: 'overflow' | 'history' | 'new-epoch' | 'directs';
}

export interface Roster {
  /** Members of the room. */
  readonly total: number;
  /** Their names, at most 1,000. */
  readonly users: readonly string[];
}

export interface History extends Place {
  readonly messages: readonly Message[];
  /** Part of what was asked for is no longer kept. */
  readonly gap: boolean;
}

export interface Events {
  state: State;
  message: Message;
  /** Acknowledged once all listeners have returned; without a listener it stays in the queue. */
  direct: DirectMessage;
  presence: Presence;
  gap: Gap;
  /** A room that was joined and could not be joined again, also when it was asked for again. */
  dropped: { readonly room: string; readonly error: RefusedError };
  rtt: { readonly sampleMs: number; readonly smoothedMs: number };
  /** The server's heartbeat for this connection. */
  tempo: { readonly heartbeatS: number; readonly timeoutS: number };
  /** The server asks us to leave; the client comes back by itself when the time is over. */
  goaway: {
    readonly reconnectAfterMs: number;
    readonly reason: string;
    readonly address: string;
  };
  /** What the server complains about and no request asked for. */
  error: RefusedError;
  /** How many requests wait for an answer. */
  waiting: number;
}

export declare class Corebeat {
  constructor(options: Options);

  readonly state: State;
  /** The name we go by, as the server said last. */
  readonly user: string;
  /** Rooms that are joined, or will be with the next connection. */
  readonly rooms: string[];
  /** Requests that wait for an answer; while offline, those that wait to be sent. */
  readonly waiting: number;
  /** The smoothed round trip of this connection; null before its first. */
  readonly roundTripMs: number | null;

  /** The clock of `untilMs`. */
  now(): number;
  /** Listens; the function that is returned ends that. */
  on<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): () => void;

  /**
   * Connects, and from then on comes back by itself. Resolves at the first welcome. Rejects if
   * the server wants nothing of this client (a wrong token, a bad name), or when it is closed.
   */
  connect(): Promise<{ readonly user: string; readonly resumed: boolean }>;
  /** Ends it all; what still waits is rejected with `ClosedError`. */
  close(): void;
  /** Tries again at once where it waits to; where it is online, checks that it still is. */
  wake(): void;

  /**
   * Joins a room and stays a member through reconnects. With `since` (and its `epoch`), what was
   * said after it comes first, marked as `replay`; in a room that is joined already they mean
   * nothing.
   */
  join(
    room: string,
    options?: { notify?: boolean; since?: number; epoch?: number },
  ): Promise<Place>;
  leave(room: string): Promise<Place | undefined>;
  /** Resolves once the server has given the message its place. Our own do not come back to us
   *  unless `echo` is set. */
  publish(room: string, body: Body, options?: { echo?: boolean }): Promise<Receipt>;
  direct(user: string, body: Body): Promise<Receipt>;
  who(room: string): Promise<Roster>;
  /**
   * What follows `since`, oldest first: at most `limit` messages, where that is not 0, and at most
   * 1,000 and 64 KiB in one answer. Whoever has not reached its `seq` asks again, from the last
   * message on.
   */
  history(room: string, options?: { since?: number; limit?: number }): Promise<History>;
}

/** How long to wait before the given try, from 1: anything up to a bound that doubles. */
export declare function backoffDelay(
  attempt: number,
  firstMs: number,
  longestMs: number,
  random: () => number,
): number;

/** What all errors of this client have in common. */
export declare class CorebeatError extends Error {}

/** The server said no, with a code of the protocol. */
export declare class RefusedError extends CorebeatError {
  constructor(code: number, text: string);
  readonly code: number;
  readonly text: string;
}

/** `queueLimit` requests wait already. */
export declare class QueueFullError extends CorebeatError {
  constructor(limit: number);
  readonly limit: number;
}

/** The connection was lost before the answer came, and nobody knows whether it was done. */
export declare class UncertainError extends CorebeatError {
  constructor();
}

/** The client is closed. */
export declare class ClosedError extends CorebeatError {
  constructor(reason?: string);
}
