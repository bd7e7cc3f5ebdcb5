/** The chat without its page: what it makes of what the client hears and of what people type. */

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { Chat } from '../page/chat.js';
import { FakePlatform, FakeServer } from './fakes.js';

const failures = [];
globalThis.reportError = (error) => failures.push(error);

afterEach(() => assert.deepEqual(failures.splice(0), [], 'no listener failed'));

/** Lets promises that are settled run. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Ann in the lobby, whose head is at `seq`. */
async function setUp(seq = 0) {
  const server = new FakeServer();
  const platform = new FakePlatform();
  const announced = [];
  const hooks = {
    changed: () => {}, started: () => {}, said: () => {}, help: () => {}, isRead: () => false,
    announce: (text) => announced.push(text),
  };
  const chat = new Chat('ws://one/ws', hooks, { WebSocket: server.WebSocket, platform });
  chat.start('ann');
  server.welcome();
  server.ok('join', { seq });
  await settle();
  const { ref } = server.sent('who').at(-1);
  server.say({ op: 'roster', ref, room: 'lobby', total: 2, users: ['bob', 'ann'] });
  await settle();
  return { server, platform, chat, announced, lobby: chat.conversations.get('room', 'lobby') };
}

const bodies = ({ rows }) => rows.map(({ body, text }) => body ?? text);

test('the first room is the lobby, with those who are in it', async () => {
  const { chat, lobby, server } = await setUp();
  assert.equal(chat.conversations.active, lobby);
  assert.deepEqual([lobby.members, lobby.total], [['ann', 'bob'], 2]);
  server.say({ op: 'presence', kind: 'joined', room: 'lobby', user: 'c10', total: 3 });
  server.say({ op: 'presence', kind: 'joined', room: 'lobby', user: 'c9', total: 4 });
  server.say({ op: 'presence', kind: 'left', room: 'lobby', user: 'bob', total: 3 });
  assert.deepEqual([lobby.members, lobby.total], [['ann', 'c9', 'c10'], 3]);
});

test('history is read in pages, from the end to the beginning', async () => {
  const { chat, lobby, server } = await setUp(70);
  const answer = async (from, to) => {
    for (let seq = from; seq <= to; seq += 1) server.message(seq, { replay: true });
    server.ok('history', { seq: 70 });
    await settle();
  };
  const first = server.sent('history')[0];
  assert.deepEqual([first.since, first.limit], [20, 50]);
  assert.ok(lobby.loading);
  await answer(21, 70);
  assert.deepEqual([lobby.history, lobby.rows.length, lobby.loading], ['more', 50, false]);
  server.message(71);
  chat.older(lobby);
  chat.older(lobby);
  const [, second, third] = server.sent('history');
  assert.deepEqual([second.since, second.limit, third], [0, 0, undefined]);
  await answer(1, 20);
  assert.deepEqual(lobby.rows.map(({ seq }) => seq), Array.from({ length: 71 }, (_, at) => at + 1));
  assert.equal(lobby.history, 'all');
  chat.older(lobby);
  assert.equal(server.sent('history').length, 2);
});

test('a history that is refused is said to be, and can be asked for again', async () => {
  const { chat, lobby, server, platform } = await setUp(70);
  const { ref } = server.sent('history')[0];
  server.say({ op: 'error', ref, code: 503, text: 'overloaded' });
  await settle();
  assert.deepEqual([lobby.history, lobby.loading], ['more', false]);
  assert.deepEqual(bodies(lobby), ['What was said before cannot be shown now: overloaded.']);
  chat.older(lobby);
  assert.equal(server.sent('history').length, 1, 'not at once');
  platform.advance(2000);
  chat.older(lobby);
  const again = server.sent('history');
  assert.deepEqual(again.map(({ since }) => since), [20, 20]);
  server.say({ op: 'error', ref: again[1].ref, code: 503, text: 'overloaded' });
  await settle();
  assert.equal(lobby.rows.length, 1, 'that is said once');
});

test('a page of history is asked for up to its end', async () => {
  const { lobby, server } = await setUp(70);
  const answer = async (from, to) => {
    for (let seq = from; seq <= to; seq += 1) server.message(seq, { replay: true });
    server.ok('history', { seq: 70 });
    await settle();
  };
  await answer(21, 40);
  assert.ok(lobby.loading);
  await answer(41, 69);
  const asked = server.sent('history').map(({ since, limit }) => [since, limit]);
  assert.deepEqual(asked, [[20, 50], [40, 30], [69, 1]]);
  await answer(70, 70);
  const page = Array.from({ length: 50 }, (_, at) => at + 21);
  assert.deepEqual(lobby.rows.map(({ seq }) => seq), page);
  assert.deepEqual([lobby.history, lobby.loading], ['more', false]);
});

test('a young epoch is shown with what stands before it', async () => {
  const { lobby, server } = await setUp(2);
  const [{ since, limit }] = server.sent('history');
  assert.deepEqual([since, limit], [0, 0], 'how much that is, nobody knows');
  for (const seq of [8, 9]) server.message(seq, { epoch: 6, replay: true });
  server.message(1, { replay: true });
  server.ok('history', { seq: 2 });
  await settle();
  server.message(2, { replay: true });
  server.ok('history', { seq: 2 });
  await settle();
  const shown = lobby.rows.map(({ epoch, seq }) => [epoch, seq]);
  assert.deepEqual(shown, [[6, 8], [6, 9], [7, 1], [7, 2]]);
  assert.equal(lobby.history, 'all');
});

test('what we say is there at once, and gets its place', async () => {
  const { chat, lobby, server } = await setUp();
  assert.equal(chat.say(lobby, 'hello'), null);
  assert.equal(lobby.rows[0].status, 'sending');
  server.message(1);
  assert.deepEqual(bodies(lobby), ['m1', 'hello']);
  server.ok('publish', { seq: 2 });
  await settle();
  server.message(3);
  assert.deepEqual(bodies(lobby), ['m1', 'hello', 'm3']);
  assert.equal(lobby.rows[1].status, 'sent');
  assert.equal(lobby.unread, 2);
});

test('what could not be said can be tried again or discarded', async () => {
  const { chat, lobby, server, announced } = await setUp();
  for (const text of ['one', '//two']) chat.say(lobby, text);
  for (const { ref } of server.sent('publish')) {
    server.say({ op: 'error', ref, code: 429, text: 'too fast' });
  }
  await settle();
  assert.deepEqual(lobby.rows.map(({ status, problem }) => [status, problem]), [
    ['failed', 'too fast'], ['failed', 'too fast'],
  ]);
  assert.equal(announced.at(-1), 'Not sent: too fast.');
  chat.discard(lobby, lobby.rows[0]);
  chat.retry(lobby, lobby.rows[0]);
  assert.deepEqual(server.sent('publish').map(({ body }) => body), ['one', '/two', '/two']);
  assert.deepEqual(bodies(lobby), ['/two']);
});

test('offline, messages wait below the notice of what is missing', async () => {
  const { chat, lobby, server, platform, announced } = await setUp(1);
  server.drop();
  assert.match(announced.at(-1), /^The connection was lost\.$/);
  chat.say(lobby, 'later');
  assert.deepEqual([lobby.rows[0].status, chat.waiting], ['waiting', 1]);
  platform.advance(1000);
  server.welcome();
  server.ok('join', { seq: 3, gap: true });
  server.ok('publish', { seq: 4 });
  await settle();
  assert.deepEqual(bodies(lobby), [
    'Part of what was said while you were away is no longer kept.', 'later',
  ]);
  assert.deepEqual([lobby.rows[1].status, chat.waiting], ['sent', 0]);
});

test('direct messages have conversations of their own', async () => {
  const { chat, server, lobby } = await setUp();
  server.say({ op: 'direct', id: 1, from: 'bob', time_ms: 5, body: 'psst' });
  const bob = chat.conversations.get('direct', 'bob');
  assert.deepEqual([bodies(bob), bob.unread, bob.mentioned], [['psst'], 1, true]);
  assert.equal(chat.say(lobby, '/msg @bob what?'), null);
  assert.equal(chat.conversations.active, bob);
  const { ref, user, body } = server.sent('direct')[0];
  assert.deepEqual([user, body], ['bob', 'what?']);
  server.say({ op: 'error', ref, code: 503, text: 'overloaded' });
  await settle();
  assert.equal(bob.rows[1].problem, 'overloaded');
  server.say({ op: 'presence', kind: 'online', user: 'bob' });
  assert.equal(bob.online, true);
  chat.leave(bob);
  assert.equal(chat.conversations.get('direct', 'bob'), undefined);
});

test('rooms are joined, refused and left', async () => {
  const { chat, server, lobby } = await setUp();
  assert.match(chat.open('two words'), /no spaces/);
  assert.match(chat.open('*'), /everybody/);
  assert.match(chat.open('@ann'), /That is you/);
  assert.equal(chat.open('den'), null);
  const { ref } = server.sent('join').at(-1);
  server.say({ op: 'error', ref, code: 429, text: 'too many rooms' });
  await settle();
  const den = chat.conversations.get('room', 'den');
  assert.deepEqual([den.joined, bodies(den)], [false, ['You cannot join den: too many rooms.']]);
  chat.leave(den);
  assert.equal(chat.conversations.active, lobby);
  chat.leave(lobby);
  assert.equal(chat.conversations.active, lobby, 'the last one stays');
});

test('a new name is a new client in the same rooms', async () => {
  const { chat, server } = await setUp();
  chat.open('den');
  assert.equal(chat.say(chat.conversations.active, '/nick anna'), null);
  assert.equal(server.sockets[0].readyState, 3);
  server.welcome();
  assert.equal(chat.me, 'anna');
  assert.deepEqual(server.sent('join').map(({ room }) => room).sort(), ['den', 'lobby']);
});

test('a word to everybody is shown where one is', async () => {
  const { lobby, server } = await setUp();
  server.message(9, { room: '*', from: '$server', body: 'maintenance at ten' });
  assert.deepEqual(bodies(lobby), ['maintenance at ten']);
  assert.equal(lobby.epoch, 7);
});
