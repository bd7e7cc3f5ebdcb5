/** A program that uses all of the client's types; only its compiling is tested. */

import {
  ClosedError, Corebeat, CorebeatError, QueueFullError, RefusedError, UncertainError, backoffDelay,
} from '../../src/web/corebeat.js';
import type {
  Body, DirectMessage, Gap, History, Message, Options, Place, Presence, Receipt, Roster, State,
} from '../../src/web/corebeat.js';

const options: Options = {
  url: ['wss://one.example/ws', new URL('wss://two.example/ws')],
  user: 'ann',
  resend: 'resumed',
  platform: { random: () => 0.5 },
  WebSocket,
};
const client = new Corebeat(options);

// @ts-expect-error an address is not optional
new Corebeat({ user: 'ann' });
// @ts-expect-error there are two ways to resend
new Corebeat({ url: 'ws://one/ws', resend: 'never' });
// @ts-expect-error there is no such event
client.on('mesage', () => {});
// @ts-expect-error the name cannot be written
client.user = 'bob';

function describe(state: State): string {
  switch (state.name) {
    case 'idle': return 'idle';
    case 'connecting': return `${state.url}, try ${state.attempt}`;
    case 'online': return state.resumed ? state.user : 'anew';
    case 'waiting': return `${state.untilMs - client.now()} of ${state.delayMs}: ${state.reason}`;
    case 'closed': return state.error?.message ?? 'closed';
  }
}

function codeOf(error: unknown): number {
  if (error instanceof RefusedError) return error.code;
  if (error instanceof QueueFullError) return error.limit;
  const known = error instanceof UncertainError || error instanceof ClosedError;
  return known && error instanceof CorebeatError ? error.message.length : 0;
}

export async function use(): Promise<number> {
  const off: () => void = client.on('message', (message: Message) => {
    const body: Body = message.body;
    return typeof body === 'string' ? body.length : body.byteLength;
  });
  client.on('direct', ({ id, replay }: DirectMessage) => (replay ? id : 0));
  client.on('presence', ({ kind, total }: Presence) => (kind === 'many' ? total : 0));
  client.on('gap', (gap: Gap) => (gap.reason === 'history' ? gap.to - gap.from : 0));
  client.on('dropped', ({ room, error }) => `${room}: ${error.code}`);
  client.on('rtt', ({ sampleMs, smoothedMs }) => sampleMs - smoothedMs);
  client.on('goaway', ({ reconnectAfterMs }) => reconnectAfterMs);
  client.on('state', describe);
  const { user } = await client.connect();
  const place: Place = await client.join('lobby', { since: 1, epoch: 7 });
  const receipt: Receipt = await client.publish('lobby', new Uint8Array(2), { echo: true });
  await client.direct('bob', 'psst');
  const roster: Roster = await client.who('lobby');
  const history: History = await client.history('lobby', { limit: 5 });
  const left: Place | undefined = await client.leave('lobby').catch(codeOf).then(() => undefined);
  off();
  client.wake();
  client.close();
  const first = roster.users[0] ?? user;
  const seen = history.messages.length + (left?.seq ?? 0) + client.rooms.length + client.waiting;
  const time = (client.roundTripMs ?? 0) + backoffDelay(1, 1000, 32_000, Math.random);
  return place.seq + receipt.seq + first.length + seen + time;
}
