/** What must come once, in order and without a hole, however often the connection is lost. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { QueueFullError, RefusedError, UncertainError } from '../corebeat.js';
import { setUp, setUpInLobby } from './fakes.js';

const seqs = (messages) => messages.map(({ seq }) => seq);
const back = ({ server, platform }, more) => {
  server.drop();
  platform.advance(1000);
  server.welcome(more);
};

test('a message is what was sent, text or bytes', async () => {
  const { client, server, heard } = await setUpInLobby();
  server.message(1);
  server.message(2, { body: undefined, body_b64: '/wA=' });
  assert.deepEqual(heard.message[0], {
    room: 'lobby', from: 'bob', epoch: 7, seq: 1, timeMs: 1, body: 'm1', replay: false,
  });
  assert.deepEqual(heard.message[1].body, Uint8Array.of(255, 0));
  client.publish('lobby', Uint8Array.of(255, 0));
  assert.equal(server.sent('publish')[0].body_b64, '/wA=');
});

test('a publish resolves with its place', async () => {
  const { client, server } = await setUpInLobby();
  const receipt = client.publish('lobby', 'hi', { echo: true });
  assert.deepEqual(server.sent('publish'), [
    { op: 'publish', ref: 2, room: 'lobby', body: 'hi', echo: true },
  ]);
  server.ok('publish', { seq: 42 });
  assert.deepEqual(await receipt, { epoch: 7, seq: 42, duplicate: false, queued: false });
});

test('a refusal is an error with its code, and the connection lives', async () => {
  const { client, server, heard } = await setUpInLobby();
  const refused = client.publish('$server', 'hi');
  const { ref } = server.sent('publish')[0];
  server.say({ op: 'error', ref, code: 403, text: 'not allowed' });
  await assert.rejects(refused, (error) => error instanceof RefusedError && error.code === 403);
  assert.equal(heard.state.at(-1).name, 'online');
  assert.deepEqual(heard.error, []);
});

test('rosters answer who', async () => {
  const { client, server } = await setUpInLobby();
  const roster = client.who('lobby');
  const { ref } = server.sent('who')[0];
  server.say({ op: 'roster', ref, room: 'lobby', total: 2, users: ['ann', 'bob'] });
  assert.deepEqual(await roster, { total: 2, users: ['ann', 'bob'] });
});

test('what was missed is replayed without a gap or a duplicate', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  server.message(41);
  server.message(42);
  back(world, { resumed: true });
  assert.deepEqual(server.sent('hello')[0], {
    op: 'hello', user: 'ann', session: 'ab', resume_key: 'cd',
  });
  const [join] = server.sent('join');
  assert.deepEqual([join.room, join.since, join.epoch, join.notify], ['lobby', 42, 7, true]);
  server.ok('join', { seq: 44 });
  for (const seq of [42, 43, 44]) server.message(seq, { replay: true });
  server.message(44);
  server.message(45);
  assert.deepEqual(seqs(heard.message), [41, 42, 43, 44, 45]);
  assert.deepEqual(heard.message.map(({ replay }) => replay), [false, false, true, true, false]);
  assert.deepEqual(heard.gap, []);
});

test('a server that replays by itself, before it is asked, loses and doubles nothing', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  back(world, { resumed: true });
  server.message(41, { replay: true });
  server.message(42);
  server.ok('join', { seq: 42 });
  for (const seq of [41, 42]) server.message(seq, { replay: true });
  server.message(43);
  assert.deepEqual(seqs(heard.message), [41, 42, 43]);
});

test('own messages are no gaps, and their replay is no news', async () => {
  const world = await setUpInLobby(0);
  const { client, server, heard } = world;
  client.publish('lobby', 'mine');
  server.ok('publish', { seq: 3 });
  server.message(1);
  server.message(2);
  server.message(4);
  client.publish('lobby', 'mine too');
  server.ok('publish', { seq: 5 });
  back(world);
  assert.equal(server.sent('join')[0].since, 5);
  server.ok('join', { seq: 7 });
  client.publish('lobby', 'mine, while the replay comes');
  server.ok('publish', { seq: 8 });
  for (const seq of [6, 7, 8]) server.message(seq, { replay: true });
  server.message(9);
  assert.deepEqual(seqs(heard.message), [1, 2, 4, 6, 7, 9]);
  assert.deepEqual(heard.gap, []);
});

test('with echo, own messages come as all others do', async () => {
  const { client, server, heard } = await setUpInLobby(0);
  client.publish('lobby', 'mine', { echo: true });
  server.ok('publish', { seq: 1 });
  server.message(1, { from: 'ann' });
  assert.deepEqual(seqs(heard.message), [1]);
});

test('a room that the server has no room for is asked for again', async () => {
  for (const refusal of [{ code: 503, text: 'overloaded' }, { code: 429, text: 'too many' }]) {
    const world = await setUpInLobby(40);
    const { server, heard, platform } = world;
    back(world, { resumed: true });
    server.say({ op: 'error', ref: server.sent('join')[0].ref, ...refusal });
    assert.equal(server.sent('join').length, 1, 'not at once');
    platform.advance(500);
    const [, again] = server.sent('join');
    assert.deepEqual([again.since, again.epoch], [40, 7]);
    server.ok('join', { seq: 41 });
    server.message(41, { replay: true });
    assert.deepEqual(seqs(heard.message), [41]);
    assert.deepEqual([heard.gap, heard.dropped], [[], []]);
  }
});

test('after several refusals one is a member at least, and is told what is missing', async () => {
  const world = await setUpInLobby(40);
  const { server, heard, platform } = world;
  back(world);
  for (let refused = 1; refused <= 4; refused += 1) {
    const join = server.sent('join').at(-1);
    assert.equal(join.since, 40);
    server.say({ op: 'error', ref: join.ref, code: 503, text: 'overloaded' });
    platform.advance(500);
  }
  assert.equal(server.sent('join').length, 5);
  assert.equal(server.sent('join').at(-1).since, undefined);
  server.ok('join', { seq: 44 });
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 7, from: 41, to: 44, reason: 'history' }]);
  server.message(45);
  assert.deepEqual(seqs(heard.message), [45]);
});

test('a room that stays refused is told as dropped, and left', async () => {
  const world = await setUpInLobby(40);
  const { client, server, heard, platform } = world;
  back(world, { resumed: true });
  for (let refused = 1; refused <= 5; refused += 1) {
    assert.deepEqual(heard.dropped, []);
    const { ref } = server.sent('join').at(-1);
    server.say({ op: 'error', ref, code: 503, text: 'overloaded' });
    platform.advance(500);
  }
  assert.deepEqual(heard.dropped.map(({ room, error }) => [room, error.code]), [['lobby', 503]]);
  assert.deepEqual(client.rooms, []);
  assert.equal(server.sent('leave').length, 1, 'the session that goes on may still be in it');
});

test('who is too fast comes back to all rooms, one after the other', async () => {
  const world = await setUpInLobby(40);
  const { client, server, heard, platform } = world;
  for (const room of ['a', 'b', 'c']) await Promise.all([client.join(room), server.ok('join')]);
  back(world, { resumed: true });
  const text = 'too fast: 20 messages a second; try again in 50 ms';
  for (const { ref } of server.sent('join')) server.say({ op: 'error', ref, code: 429, text });
  for (let asked = 5; asked <= 8; asked += 1) {
    platform.advance(49);
    assert.equal(server.sent('join').length, asked - 1);
    platform.advance(1);
    assert.equal(server.sent('join').length, asked);
    server.ok('join', { seq: 40 });
  }
  assert.equal(heard.dropped.length, 0);
});

test('what was put off is not asked of a server that says goodbye', async () => {
  const world = await setUpInLobby(40);
  const { server, platform } = world;
  back(world, { resumed: true });
  server.say({ op: 'error', ref: server.sent('join')[0].ref, code: 503, text: 'overloaded' });
  server.say({ op: 'goaway', reconnect_after_ms: 2000, reason: 'upgrade', address: '' });
  platform.advance(1999);
  assert.equal(server.sent('join').length, 1);
  platform.advance(1);
  server.welcome();
  assert.equal(server.sent('join').length, 1, 'on the next connection, at once');
});

test('a history that begins too late is a gap', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  back(world);
  server.ok('join', { seq: 99, gap: true });
  server.message(99, { replay: true });
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 7, from: 41, to: 99, reason: 'history' }]);
  assert.deepEqual(seqs(heard.message), [99]);
});

test('a new epoch is told, and its messages are not mistaken for old ones', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  back(world);
  server.ok('join', { epoch: 8, seq: 2, gap: true });
  server.message(1, { epoch: 8, replay: true });
  server.message(2, { epoch: 8, replay: true });
  server.message(3, { epoch: 8 });
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 8, from: 1, to: 2, reason: 'new-epoch' }]);
  assert.deepEqual(seqs(heard.message), [1, 2, 3]);
});

test('a room that began anew, and whose old epoch is kept, misses nothing', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  back(world, { resumed: true });
  // A server that goes on by itself may be quicker than the answer; this comes again behind it.
  server.message(2, { epoch: 8, replay: true });
  server.ok('join', { epoch: 8, seq: 2 });
  for (const seq of [40, 41, 42]) server.message(seq, { replay: true });
  server.message(1, { epoch: 8, replay: true });
  back(world, { resumed: true });
  assert.deepEqual([server.sent('join')[0].since, server.sent('join')[0].epoch], [1, 8]);
  server.ok('join', { epoch: 8, seq: 2 });
  server.message(42, { replay: true });
  server.message(2, { epoch: 8, replay: true });
  server.message(3, { epoch: 8 });
  assert.deepEqual(seqs(heard.message), [41, 42, 1, 2, 3]);
  assert.deepEqual(heard.gap, []);
});

test('what was missed of earlier epochs is told though a history is asked for', async () => {
  const world = await setUpInLobby(40);
  const { client, server, heard, platform } = world;
  server.drop();
  const history = client.history('lobby', { since: 0 });
  platform.advance(1000);
  server.welcome({ resumed: true });
  server.ok('join', { epoch: 9, seq: 2 });
  const missed = [[7, 41], [7, 42], [8, 1], [9, 1], [9, 2]];
  for (const [epoch, seq] of missed) server.message(seq, { epoch, replay: true });
  const asked = [[6, 5], [7, 41], [8, 1], [9, 1]];
  for (const [epoch, seq] of asked) server.message(seq, { epoch, replay: true });
  server.ok('history', { epoch: 9, seq: 2 });
  const { messages } = await history;
  const places = (list) => list.map(({ epoch, seq }) => [epoch, seq]);
  assert.deepEqual(places(heard.message), missed);
  assert.deepEqual(places(messages), asked);
});

test('a hole is asked for once, and told if it cannot be filled', async () => {
  const { server, heard } = await setUpInLobby(40);
  server.message(43);
  const [, again] = server.sent('join');
  assert.deepEqual([again.room, again.since, again.epoch], ['lobby', 40, 7]);
  server.message(44);
  server.ok('join', { seq: 44 });
  for (const seq of [41, 42, 43, 44]) server.message(seq, { replay: true });
  assert.deepEqual(seqs(heard.message), [41, 42, 43, 44]);
  server.message(47);
  server.ok('join', { seq: 47 });
  server.message(47, { replay: true });
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 7, from: 45, to: 46, reason: 'history' }]);
  assert.deepEqual(seqs(heard.message), [41, 42, 43, 44, 47]);
  assert.equal(server.sent('join').length, 3, 'joined, and asked for each hole once');
});

test('what was said in a room that had been empty is asked for too', async () => {
  const world = await setUpInLobby(0);
  const { server, heard } = world;
  back(world);
  const [join] = server.sent('join');
  assert.ok(join.since === 1 && join.epoch !== 7, 'an epoch that the room does not have');
  server.ok('join', { seq: 2, gap: true });
  for (const seq of [1, 2]) server.message(seq, { replay: true });
  assert.deepEqual(seqs(heard.message), [1, 2]);
  assert.deepEqual(heard.gap, []);
});

test('an own message whose answer was lost is not told to its author', async () => {
  const world = await setUpInLobby(40);
  const { client, server, heard } = world;
  const first = client.publish('lobby', 'mine');
  const second = client.publish('lobby', 'never arrived');
  back(world, { resumed: true });
  server.ok('join', { seq: 42 });
  server.message(41, { replay: true, from: 'ann', body: 'mine' });
  server.message(42, { replay: true, from: 'ann', body: 'never arrived' });
  const [one, two] = server.sent('publish');
  server.say({ op: 'ok', ref: one.ref, epoch: 7, seq: 41, duplicate: true });
  // Another session of ours said the same words.
  server.say({ op: 'ok', ref: two.ref, epoch: 7, seq: 43 });
  assert.deepEqual([(await first).duplicate, (await second).seq], [true, 43]);
  assert.deepEqual(seqs(heard.message), [42]);
});

test('of our own words that come back twice, those are told whose answer was lost', async () => {
  const world = await setUpInLobby(40, { resend: 'resumed' });
  const { client, server, heard } = world;
  const lost = client.publish('lobby', 'same');
  back(world);
  await assert.rejects(lost, UncertainError);
  server.ok('join', { seq: 41 });
  const said = client.publish('lobby', 'same');
  back(world, { resumed: true });
  server.ok('join', { seq: 42 });
  server.message(41, { replay: true, from: 'ann', body: 'same' });
  server.message(42, { replay: true, from: 'ann', body: 'same' });
  assert.deepEqual(heard.message, [], 'either may be the one that waits for its answer');
  server.ok('publish', { seq: 42, duplicate: true });
  assert.equal((await said).seq, 42);
  assert.deepEqual(seqs(heard.message), [41]);
});

test('direct messages that were dropped are told', async () => {
  const { server, heard } = await setUpInLobby(40);
  server.say({ op: 'gap', room: '', epoch: 0, from: 3, to: 9 });
  assert.deepEqual(heard.gap, [{ room: '', epoch: 0, from: 3, to: 9, reason: 'directs' }]);
});

test('a room that began anew under its old number is noticed', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  back(world);
  server.ok('join', { seq: 1, gap: true });
  server.message(1, { replay: true });
  server.message(2);
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 7, from: 1, to: 1, reason: 'new-epoch' }]);
  assert.deepEqual(seqs(heard.message), [1, 2]);
});

test('a GAP of the server is told, and is no reason to ask again', async () => {
  const world = await setUpInLobby(40);
  const { server, heard } = world;
  server.say({ op: 'gap', room: 'lobby', epoch: 7, from: 41, to: 44 });
  assert.deepEqual(heard.gap, [{ room: 'lobby', epoch: 7, from: 41, to: 44, reason: 'overflow' }]);
  back(world);
  assert.equal(server.sent('join')[0].since, 44);
});

test('history is the messages before its OK, and no news to a member', async () => {
  const { client, server, heard } = await setUpInLobby(40);
  const history = client.history('lobby', { since: 37, limit: 3 });
  assert.deepEqual(server.sent('history'), [
    { op: 'history', room: 'lobby', since: 37, limit: 3, ref: 2 },
  ]);
  server.message(38, { replay: true });
  server.message(41);
  server.message(39, { replay: true });
  server.message(40, { replay: true });
  server.ok('history', { seq: 41 });
  const { messages, gap } = await history;
  assert.deepEqual([seqs(messages), gap], [[38, 39, 40], false]);
  assert.deepEqual(seqs(heard.message), [41]);
});

test('a history that was half told is asked for again, whole', async () => {
  const world = await setUpInLobby(40);
  const { client, server } = world;
  const history = client.history('lobby', { since: 38 });
  server.message(39, { replay: true });
  back(world);
  server.ok('join', { seq: 40 });
  for (const seq of [39, 40]) server.message(seq, { replay: true });
  server.ok('history', { seq: 40 });
  assert.deepEqual(seqs((await history).messages), [39, 40]);
});

test('what is said while offline waits within a bound, and goes out in order', async () => {
  const world = await setUpInLobby(0, { queueLimit: 3 });
  const { client, server, platform, heard } = world;
  server.drop();
  const bodies = ['one', 'two', 'three'];
  const receipts = bodies.map((body) => client.publish('lobby', body));
  assert.equal(client.waiting, 3);
  await assert.rejects(client.publish('lobby', 'four'), QueueFullError);
  assert.deepEqual(heard.waiting.slice(-3), [1, 2, 3]);
  platform.advance(1000);
  server.welcome();
  const ops = server.socket.sent.map(({ op }) => op);
  assert.deepEqual(ops, ['hello', 'join', 'ping'], 'not before we are members again');
  server.ok('join');
  assert.deepEqual(server.sent('publish').map(({ body }) => body), bodies);
  server.sent('publish').forEach(({ ref }, index) => {
    server.say({ op: 'ok', ref, epoch: 7, seq: index + 1 });
  });
  assert.deepEqual(seqs(await Promise.all(receipts)), [1, 2, 3]);
  assert.equal(client.waiting, 0);
});

test('an unanswered publish is repeated under its ref, and its duplicate resolves it', async () => {
  const world = await setUpInLobby(0, { resend: 'resumed' });
  const { client, server } = world;
  const receipt = client.publish('lobby', 'once');
  const [first] = server.sent('publish');
  back(world, { resumed: true });
  server.ok('join');
  assert.deepEqual(server.sent('publish'), [first]);
  server.ok('publish', { seq: 1, duplicate: true });
  assert.deepEqual(await receipt, { epoch: 7, seq: 1, duplicate: true, queued: false });
});

test('where the session is gone, a publish is repeated or uncertain, as was chosen', async () => {
  const always = await setUpInLobby();
  always.client.publish('lobby', 'again');
  back(always);
  always.server.ok('join');
  assert.equal(always.server.sent('publish').length, 1);

  const careful = await setUpInLobby(0, { resend: 'resumed' });
  const uncertain = careful.client.publish('lobby', 'perhaps');
  careful.server.drop();
  const unsent = careful.client.publish('lobby', 'not yet sent');
  careful.platform.advance(1000);
  careful.server.welcome();
  careful.server.ok('join');
  await assert.rejects(uncertain, UncertainError);
  assert.deepEqual(careful.server.sent('publish').map(({ body }) => body), ['not yet sent']);
  careful.server.ok('publish', { seq: 1 });
  assert.equal((await unsent).seq, 1);
});

test('a request from within a listener of the welcome goes out once', async () => {
  const world = await setUpInLobby();
  world.client.on('state', ({ name }) => {
    if (name === 'online') world.client.who('lobby');
  });
  back(world);
  world.server.ok('join');
  assert.equal(world.server.sent('who').length, 1);
});

test('one room that cannot be joined again holds nothing up', async () => {
  const world = await setUpInLobby();
  const { client, server } = world;
  await Promise.all([client.join('den'), server.ok('join')]);
  client.publish('lobby', 'hi');
  back(world);
  const [lobby, den] = server.sent('join');
  server.say({ op: 'error', ref: den.ref, code: 403, text: 'no' });
  assert.equal(server.sent('publish').length, 0);
  server.say({ op: 'ok', ref: lobby.ref, epoch: 7, seq: 0 });
  assert.equal(server.sent('publish').length, 1);
});

test('who leaves and comes again while offline is a member', async () => {
  const { client, server, platform } = await setUpInLobby();
  server.drop();
  client.leave('lobby');
  client.join('lobby');
  platform.advance(1000);
  server.welcome();
  const asked = server.socket.sent.map(({ op }) => op).filter((op) => /join|leave/.test(op));
  assert.deepEqual(asked, ['leave', 'join']);
});

test('what is too long is refused here, before it costs the connection', async () => {
  const { client, server } = await setUpInLobby();
  await assert.rejects(client.publish('lobby', 'ö'.repeat(33_000)), { code: 413 });
  assert.equal(server.sent('publish').length, 0);
});

test('a limit that the server did not tell of ends no loop of reconnects', async () => {
  const world = await setUpInLobby();
  const { client, server, platform } = world;
  const refused = client.publish('lobby', 'x');
  server.drop(1009, 'too large');
  await assert.rejects(refused, { code: 413 });
  platform.advance(1000);
  server.welcome();
  assert.equal(server.sent('publish').length, 0);
});

test('rooms are joined, left and lost', async () => {
  const world = await setUpInLobby();
  const { client, server, platform, heard } = world;
  const refused = client.join('secret');
  server.say({ op: 'error', ref: server.sent('join').at(-1).ref, code: 403, text: 'no' });
  await assert.rejects(refused, { code: 403 });
  assert.deepEqual(client.rooms, ['lobby']);
  await Promise.all([client.join('den', { notify: false }), server.ok('join')]);
  assert.deepEqual(client.rooms, ['lobby', 'den']);
  server.drop();
  const left = client.leave('lobby');
  platform.advance(1000);
  server.welcome();
  assert.deepEqual(server.sent('join').map(({ room, notify }) => [room, notify]), [['den', false]]);
  server.say({ op: 'error', ref: server.sent('leave')[0].ref, code: 404, text: 'not in it' });
  await left;
  server.say({ op: 'error', ref: server.sent('join')[0].ref, code: 403, text: 'no' });
  assert.deepEqual(heard.dropped.map(({ room, error }) => [room, error.code]), [['den', 403]]);
  assert.deepEqual(client.rooms, []);
});

test('a second join that is refused ends no membership', async () => {
  for (const code of [403, 429, 503]) {
    const { client, server, heard } = await setUpInLobby();
    const refused = client.join('lobby');
    server.say({ op: 'error', ref: server.sent('join').at(-1).ref, code, text: 'no' });
    await assert.rejects(refused, { code });
    assert.deepEqual(client.rooms, ['lobby']);
    server.message(1);
    assert.deepEqual(seqs(heard.message), [1], 'the server has us in the room');
  }
});

test('of two joins of a new room one may be refused', async () => {
  const { client, server } = await setUpInLobby();
  const joins = [client.join('den'), client.join('den')];
  const [, first, second] = server.sent('join');
  server.say({ op: 'error', ref: first.ref, code: 503, text: 'overloaded' });
  server.say({ op: 'ok', ref: second.ref, epoch: 7, seq: 0 });
  await assert.rejects(joins[0], { code: 503 });
  await joins[1];
  assert.deepEqual(client.rooms, ['lobby', 'den']);
});

test('a join that is refused on the way back does not end the way back', async () => {
  const { client, server, platform } = await setUpInLobby(40);
  server.drop();
  const refused = client.join('lobby');
  client.publish('lobby', 'hi');
  platform.advance(1000);
  server.welcome();
  server.say({ op: 'error', ref: server.sent('join')[0].ref, code: 503, text: 'overloaded' });
  await assert.rejects(refused, { code: 503 });
  assert.deepEqual([server.sent('join').length, server.sent('publish').length], [2, 0]);
  server.ok('join', { seq: 40 });
  assert.deepEqual([client.rooms, server.sent('publish').length], [['lobby'], 1]);
});

test('a join that was not answered is asked once more, not twice', async () => {
  const world = await setUpInLobby();
  const joined = world.client.join('den');
  back(world);
  const rooms = world.server.sent('join').map(({ room }) => room);
  assert.deepEqual(rooms.sort(), ['den', 'lobby']);
  const { ref } = world.server.sent('join').find(({ room }) => room === 'den');
  world.server.say({ op: 'ok', ref, epoch: 7, seq: 9 });
  assert.equal((await joined).seq, 9);
  assert.deepEqual(world.heard.gap, []);
});

test('direct messages are acknowledged, and told once', async () => {
  const { client, server, heard } = await setUpInLobby();
  const direct = { op: 'direct', id: 17, from: 'bob', time_ms: 5, body: 'psst' };
  server.say(direct);
  server.say({ ...direct, replay: true });
  server.say({ ...direct, id: 1, time_ms: 6 });
  const told = heard.direct.map(({ id, from, body, replay }) => [id, from, body, replay]);
  assert.deepEqual(told, [[17, 'bob', 'psst', false], [1, 'bob', 'psst', false]]);
  assert.deepEqual(server.sent('ack').map(({ id }) => id), [17, 17, 1]);
  const receipt = client.direct('bob', 'hm?');
  server.ok('direct', { seq: 3, queued: true });
  assert.equal((await receipt).queued, true);
});

test('a direct message that nobody listens for is not acknowledged', async () => {
  const { platform, server } = setUp();
  const { Corebeat } = await import('../corebeat.js');
  const deaf = new Corebeat({ url: 'ws://one/ws', WebSocket: server.WebSocket, platform });
  deaf.connect();
  server.welcome();
  server.say({ op: 'direct', id: 17, from: 'bob', time_ms: 5, body: 'psst' });
  assert.equal(server.sent('ack').length, 0);
});

test('that nothing was resumed is told once, by the welcome', async () => {
  const world = await setUpInLobby();
  back(world);
  world.server.say({ op: 'error', ref: 0, code: 503, text: 'not available' });
  assert.deepEqual(world.heard.error, []);
  world.server.say({ op: 'error', ref: 0, code: 503, text: 'overloaded' });
  assert.equal(world.heard.error.length, 1);
});
