/** The parts of the page that need no document: words, conversations, numbers. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Conversation, Conversations } from '../page/conversation.js';
import { Numbers, ceiling, duration, pointBetween, quantile, short } from '../page/numbers.js';
import {
  countdown, dayName, initialOf, mentionsUser, nameProblem, pieces, plural, roundTrip,
} from '../page/text.js';

const MINUTE = 60_000;
const said = (from, timeMs, more = {}) => ({ from, timeMs, body: 'x', ...more });
const bodies = ({ rows }) => rows.map(({ body }) => body);

test('links are found, and only safe ones', () => {
  const linked = (body) => pieces(body).filter(({ href }) => href).map(({ text }) => text);
  assert.deepEqual(linked('see https://a.example/x?y=1#z, or http://b.example.'), [
    'https://a.example/x?y=1#z', 'http://b.example',
  ]);
  assert.deepEqual(linked('(https://a.example/wiki/Rust_(language))'), [
    'https://a.example/wiki/Rust_(language)',
  ]);
  assert.deepEqual(linked('javascript:alert(1) data:text/html,x ftp://a https://'), []);
  const body = 'a https://a.example/<b> c';
  assert.equal(pieces(body).map(({ text }) => text).join(''), body, 'nothing is lost');
});

test('mentions are of the whole name', () => {
  assert.ok(mentionsUser('@ann: look', 'ann'));
  assert.ok(mentionsUser('well, (@ann)', 'ann'));
  assert.ok(!mentionsUser('write to me@ann', 'ann'));
  assert.ok(mentionsUser('hm @ann', 'ann'));
  assert.ok(!mentionsUser('@anna hello', 'ann'));
  assert.ok(!mentionsUser('ann', 'ann'));
  assert.ok(!mentionsUser('@', ''));
});

test('names are judged as the server does', () => {
  for (const good of ['ann', 'Эва', 'a'.repeat(64), '日本', 'guest-1']) {
    assert.equal(nameProblem(good), null, good);
  }
  for (const bad of ['', 'a b', 'a\u0000', '$server', 'é'.repeat(33), 'tab\t']) {
    assert.notEqual(nameProblem(bad), null, JSON.stringify(bad));
  }
  assert.equal(initialOf('-élan'), 'É');
  assert.equal(initialOf('…'), '#');
});

test('times are said as people say them', () => {
  const now = new Date(2026, 10, 21, 12).getTime();
  assert.equal(dayName(now - 60 * MINUTE, now), 'Today');
  assert.equal(dayName(now - 24 * 60 * MINUTE, now), 'Yesterday');
  assert.notEqual(dayName(now - 48 * 60 * MINUTE, now), 'Yesterday');
  assert.deepEqual([900, 59_000, 60_000, 125_000, -5].map(countdown), [
    '1 s', '59 s', '1:00', '2:05', '0 s',
  ]);
  assert.deepEqual([0.42, 9.94, 9.96, 999, 1200].map(roundTrip), [
    '0.4 ms', '9.9 ms', '10 ms', '999 ms', '1.2 s',
  ]);
  assert.equal(plural(1, 'message', 'messages'), '1 message');
  assert.equal(plural(0, 'message', 'messages'), '0 messages');
});

test('what was said stands in its order, whenever it comes', () => {
  const lobby = new Conversation('room', 'lobby');
  const place = (seq) => ({ epoch: 7, seq, body: String(seq) });
  lobby.add(said('bob', 1, place(1)));
  const mine = lobby.add(said('ann', 2, { body: 'mine', status: 'sending' }));
  lobby.add(said('bob', 3, place(2)));
  lobby.add(said('bob', 4, place(4)));
  assert.deepEqual(bodies(lobby), ['1', '2', '4', 'mine']);
  lobby.confirm(mine, { epoch: 7, seq: 3 }, 5);
  assert.deepEqual(bodies(lobby), ['1', '2', 'mine', '4']);
  lobby.add(said('bob', 6, { epoch: 8, seq: 1, body: 'anew' }));
  assert.deepEqual(bodies(lobby), ['1', '2', 'mine', '4', 'anew']);
});

test('older messages come in front, once', () => {
  const lobby = new Conversation('room', 'lobby');
  lobby.epoch = 7;
  lobby.head = 9;
  assert.equal(lobby.oldest, 10);
  lobby.add(said('bob', 3, { epoch: 7, seq: 9 }));
  assert.equal(lobby.oldest, 9);
  const older = [7, 8, 9].map((seq) => said('bob', 1, { epoch: 7, seq }));
  assert.equal(lobby.prepend(older), 2);
  assert.deepEqual(lobby.rows.map(({ seq }) => seq), [7, 8, 9]);
  assert.equal(lobby.oldest, 7);
  assert.equal(new Set(lobby.rows.map(({ key }) => key)).size, 3);
});

test('a conversation does not grow for ever', () => {
  const lobby = new Conversation('room', 'lobby');
  lobby.history = 'all';
  for (let seq = 1; seq <= 1000; seq += 1) lobby.add(said('bob', seq, { epoch: 7, seq }));
  assert.equal(lobby.rows.length, 600);
  assert.equal(lobby.rows.at(-1).seq, 1000);
  assert.equal(lobby.history, 'more');
});

test('days, groups and the line above what is new', () => {
  const lobby = new Conversation('room', 'lobby');
  const start = new Date(2026, 10, 21, 12).getTime();
  lobby.add(said('bob', start - 24 * 60 * MINUTE));
  lobby.add(said('bob', start));
  lobby.add(said('bob', start + MINUTE));
  lobby.countUnread(lobby.add(said('ann', start + 2 * MINUTE)), false);
  lobby.countUnread(lobby.add(said('ann', start + 3 * MINUTE)), true);
  lobby.add(said('ann', start + 60 * MINUTE));
  const layout = lobby.layout().map(({ type, continued }) => (continued ? 'continued' : type));
  assert.deepEqual(layout, [
    'day', 'message', 'day', 'message', 'continued', 'new', 'message', 'continued', 'message',
  ]);
  assert.deepEqual([lobby.unread, lobby.mentioned], [2, true]);
  lobby.markRead();
  assert.equal(lobby.unread, 0);
  assert.ok(lobby.layout().some(({ type }) => type === 'new'), 'it stays while one reads');
  lobby.forgetNew();
  assert.ok(!lobby.layout().some(({ type }) => type === 'new'));
});

test('conversations are stepped through, all or unread ones', () => {
  const all = new Conversations();
  const [lobby, den] = ['lobby', 'den'].map((name) => all.open('room', name));
  const bob = all.open('direct', 'bob');
  assert.equal(all.open('room', 'lobby'), lobby);
  all.active = lobby;
  assert.deepEqual(all.list, [den, lobby, bob]);
  assert.equal(all.neighbour(1), bob);
  assert.equal(all.neighbour(-1), den);
  assert.equal(all.neighbour(1, true), null);
  den.unread = 2;
  assert.equal(all.neighbour(1, true), den);
  assert.equal(all.unread, 2);
  all.close(den);
  all.close(bob);
  assert.equal(all.neighbour(1), null);
});

const stats = (uptime, total, more = {}) => ({
  version: '0.1.0', uptime_s: uptime, time_ms: uptime * 1000, round_trip_bounds_ms: [1, 2, 4],
  workers: [0, 1].map((id) => ({
    id, connections: 6, native: 3, text: 1, websocket: 2, published: total, delivered: 10 * total,
    messages_in: total, bytes_in: total, bytes_out: total, opened: 0, busy_us: total * 100_000,
    lag_us_max: 1500 * (id + 1), round_trip_ms: [total, 0, 0, 1], closed: { bye: total, idle: 0 },
    ...more,
  })),
});

test('totals become what happened in a second', () => {
  const point = pointBetween(stats(10, 5), stats(12, 9));
  assert.deepEqual([point.published, point.delivered, point.connections], [4, 40, 12]);
  assert.deepEqual([point.native, point.text, point.websocket], [6, 2, 4]);
  assert.deepEqual(point.busy, [0.2, 0.2]);
  assert.equal(point.lag_ms, 3);
});

test('a restart and a silence are holes, not falls', () => {
  const numbers = new Numbers();
  numbers.miss(500);
  numbers.add(stats(10, 5));
  assert.equal(numbers.points.length, 0);
  numbers.add(stats(11, 6));
  numbers.miss(12_000);
  numbers.add(stats(13, 6));
  numbers.add(stats(14, 8));
  numbers.add(stats(1, 0));
  assert.deepEqual(numbers.points.map(({ missing, published }) => (missing ? null : published)), [
    2, null, 4,
  ]);
  assert.equal(numbers.spanS, 60);
  for (let second = 15; second < 400; second += 1) numbers.add(stats(second, second));
  assert.ok(numbers.points.length <= 181);
  assert.equal(numbers.spanS, 180);
});

test('sums over all workers', () => {
  const numbers = new Numbers();
  assert.deepEqual([numbers.closes, numbers.roundTrips.total], [[], 0]);
  numbers.add(stats(10, 5));
  assert.deepEqual(numbers.closes, [['bye', 10]]);
  assert.deepEqual(numbers.roundTrips.counts, [10, 0, 0, 2]);
  assert.equal(quantile(numbers.roundTrips, 0.5), 1);
  assert.equal(quantile(numbers.roundTrips, 0.99), Infinity);
  assert.equal(quantile(new Numbers().roundTrips, 0.5), null);
});

test('numbers are short', () => {
  const told = [0, 0.05, 4.25, 17, 999, 1000, 31_540, 99_960, 999_700, 2_900_000].map(short);
  assert.deepEqual(told, [
    '0', '0.05', '4.3', '17', '999', '1 k', '31.5 k', '100 k', '1.0 M', '2.9 M',
  ]);
  assert.deepEqual([0, 0.3, 1, 7, 30_000, 31_000, 99].map((one) => ceiling(one)), [
    1, 1, 1, 8, 30_000, 40_000, 100,
  ]);
  assert.deepEqual([0, 59.9, 61, 3600, 90_061].map(duration), [
    '0 s', '59 s', '1 min 1 s', '1 h 0 min', '1 d 1 h',
  ]);
});
