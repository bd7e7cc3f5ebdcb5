/** Connecting, waiting, coming back, and noticing that nobody is there. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ClosedError, Corebeat, backoffDelay } from '../corebeat.js';
import { setUp, setUpInLobby } from './fakes.js';

const names = (states) => states.map(({ name }) => name);

test('a hello carries what was asked for, and connect resolves at the welcome', async () => {
  const { client, server, heard } = setUp({ token: 's3cret', heartbeatS: 60 });
  const connected = client.connect();
  server.welcome({ user: 'ann' });
  assert.deepEqual(await connected, { user: 'ann', resumed: false });
  assert.equal(server.socket.protocol, 'corebeat.v1.json');
  assert.deepEqual(server.sent('hello'), [
    { op: 'hello', user: 'ann', token: 's3cret', heartbeat_s: 60 },
  ]);
  assert.deepEqual(names(heard.state), ['connecting', 'online']);
  assert.deepEqual(heard.tempo, [{ heartbeatS: 30, timeoutS: 90 }]);
});

test('a guest keeps the name that the server gave', async () => {
  const { client, server, platform } = setUp({ user: '' });
  client.connect();
  server.welcome({ user: 'guest-7' });
  assert.equal(client.user, 'guest-7');
  server.drop();
  platform.advance(1000);
  server.open();
  assert.equal(server.sent('hello')[0].user, 'guest-7');
});

test('the bound of the back-off doubles, and every delay lies below it', () => {
  const bounds = [1000, 2000, 4000, 8000, 16_000, 32_000, 32_000, 32_000, 32_000, 32_000];
  bounds.forEach((bound, index) => {
    assert.equal(backoffDelay(index + 1, 1000, 32_000, () => 0), 0);
    assert.equal(backoffDelay(index + 1, 1000, 32_000, () => 0.25), bound / 4);
    for (let draw = 0; draw < 200; draw += 1) {
      const delay = backoffDelay(index + 1, 1000, 32_000, Math.random);
      assert.ok(delay >= 0 && delay < bound, `${delay} of ${bound}`);
    }
  });
});

test('ten tries with jitter, a quiet period, and ten tries again', () => {
  const { client, server, platform, heard } = setUp();
  client.connect();
  const delays = [];
  for (let failure = 0; failure < 12; failure += 1) {
    server.drop();
    const state = heard.state.at(-1);
    assert.equal(state.name, 'waiting');
    assert.equal(state.untilMs, platform.now() + state.delayMs);
    delays.push([state.delayMs, state.quiet]);
    const sockets = server.sockets.length;
    platform.advance(state.delayMs - 1);
    assert.equal(server.sockets.length, sockets, 'not before its time');
    platform.advance(1);
    assert.equal(server.sockets.length, sockets + 1);
  }
  const wanted = [500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000, 16_000, 16_000];
  assert.deepEqual(delays.slice(0, 10), wanted.map((delay) => [delay, false]));
  assert.deepEqual(delays.slice(10), [[300_000, true], [500, false]]);
});

test('a success resets the back-off', () => {
  const { client, server, platform, heard } = setUp();
  client.connect();
  for (let failure = 0; failure < 4; failure += 1) {
    server.drop();
    platform.advance(heard.state.at(-1).delayMs);
  }
  server.welcome();
  server.drop();
  assert.equal(heard.state.at(-1).delayMs, 500);
  assert.equal(heard.state.at(-1).attempt, 1);
});

test('each failure goes on to the next address, and a success stays where it is', () => {
  const wanted = ['ws://one/ws', 'ws://two/ws', 'ws://three/ws'];
  const { client, server, platform } = setUp({ url: wanted });
  client.connect();
  server.drop();
  platform.advance(500);
  server.drop();
  platform.advance(1000);
  server.welcome();
  assert.deepEqual(server.sockets.map(({ url }) => url), wanted);
  assert.equal(client.state.url, 'ws://three/ws');
  server.drop();
  platform.advance(1000);
  assert.equal(server.socket.url, 'ws://three/ws', 'where the session is');
  server.drop();
  platform.advance(2000);
  assert.equal(server.socket.url, 'ws://one/ws');
});

test('a connection without a welcome is given up in time', () => {
  const { client, server, platform, heard } = setUp();
  client.connect();
  server.open();
  platform.advance(9999);
  assert.equal(heard.state.at(-1).name, 'connecting');
  platform.advance(1);
  assert.equal(heard.state.at(-1).name, 'waiting');
  assert.equal(server.socket.readyState, 3, 'it is closed, too');
});

test('what a former socket still says is not heard', () => {
  const { client, server, platform, heard } = setUp();
  client.connect();
  server.open();
  const former = server.socket;
  platform.advance(10_500);
  assert.equal(server.sockets.length, 2);
  former.onmessage({ data: '{"op":"welcome","user":"ann","session":"1","resume_key":"2"}' });
  former.onclose({ code: 1006, reason: '' });
  assert.equal(heard.state.at(-1).name, 'connecting');
});

test('an address that cannot even be tried is a failure like any other', () => {
  const { client, heard, platform, server } = setUp({ url: ['ws://one/ws', 'ws://two/ws'] });
  const Working = server.WebSocket;
  let calls = 0;
  const broken = new Corebeat({
    url: ['nonsense', 'ws://two/ws'],
    platform,
    WebSocket: class extends Working {
      constructor(url, protocol) {
        calls += 1;
        if (url === 'nonsense') throw new SyntaxError('invalid URL');
        super(url, protocol);
      }
    },
  });
  client.close();
  broken.connect();
  assert.equal(broken.state.name, 'waiting');
  assert.equal(broken.state.reason, 'invalid URL');
  platform.advance(1000);
  assert.equal(calls, 2);
  assert.equal(server.socket.url, 'ws://two/ws');
  assert.equal(heard.state.at(-1).name, 'closed');
});

test('a GOAWAY is honoured: silence, then its time, then its address', async () => {
  const { client, server, platform, heard } = await setUpInLobby();
  server.say({ op: 'goaway', reconnect_after_ms: 700, reason: 'moving', address: 'two:81' });
  assert.deepEqual(heard.goaway, [{ reconnectAfterMs: 700, reason: 'moving', address: 'two:81' }]);
  client.publish('lobby', 'later');
  assert.equal(server.sent('publish').length, 0);
  platform.advance(200);
  server.drop(1001);
  assert.equal(heard.state.at(-1).delayMs, 500, 'the rest of what the server named');
  platform.advance(499);
  assert.equal(server.sockets.length, 1);
  platform.advance(1);
  assert.equal(server.socket.url, 'ws://two:81/ws');
  server.welcome();
  server.ok('join');
  assert.deepEqual(server.sent('publish').map(({ body }) => body), ['later']);
});

test('a server that does not close after its GOAWAY is left', async () => {
  const { server, platform } = await setUpInLobby();
  server.say({ op: 'goaway', reconnect_after_ms: 700, reason: '', address: '' });
  platform.advance(700);
  assert.equal(server.sockets[0].readyState, 3);
  assert.equal(server.sockets.length, 2);
  assert.equal(server.socket.url, 'ws://one/ws');
});

test('no GOAWAY leads from an encrypted connection to a plain one', async () => {
  for (const address of ['ws://evil/ws', 'http://evil/', '::::']) {
    const { server, platform } = await setUpInLobby(0, { url: 'wss://one/ws' });
    server.say({ op: 'goaway', reconnect_after_ms: 1, reason: '', address });
    platform.advance(1);
    assert.equal(server.socket.url, 'wss://one/ws');
  }
});

test('an address that a GOAWAY named and that fails is forgotten', async () => {
  const { server, platform } = await setUpInLobby();
  server.say({ op: 'goaway', reconnect_after_ms: 1, reason: '', address: 'ws://two/ws' });
  platform.advance(1);
  assert.equal(server.socket.url, 'ws://two/ws');
  server.drop();
  platform.advance(1000);
  assert.equal(server.socket.url, 'ws://one/ws');
});

test('an address that a GOAWAY named is where the session is', async () => {
  const { server, platform } = await setUpInLobby();
  server.say({ op: 'goaway', reconnect_after_ms: 1, reason: '', address: 'ws://two/ws' });
  platform.advance(1);
  server.welcome();
  server.drop();
  platform.advance(1000);
  assert.equal(server.socket.url, 'ws://two/ws');
  assert.equal(server.sent('hello').length, 0);
});

test('a token or a name that will never do ends the client', async () => {
  const cases = [[4401, '', 401], [1002, 'bad name', 400]];
  for (const [closeCode, reason, code] of cases) {
    const { client, server, platform, heard } = setUp();
    const connected = client.connect();
    server.open();
    server.drop(closeCode, reason);
    await assert.rejects(connected, { name: 'RefusedError', code });
    assert.equal(heard.state.at(-1).error.code, code);
    platform.advance(1_000_000);
    assert.equal(server.sockets.length, 1);
    await assert.rejects(client.publish('lobby', 'x'), ClosedError);
  }
});

test('the ERROR before a close says more than its code', async () => {
  const { client, server, heard } = setUp();
  const connected = client.connect();
  server.open();
  server.say({ op: 'error', ref: 0, code: 409, text: 'ann is here already' });
  server.drop(4409);
  await assert.rejects(connected, /409 ann is here already/);
  assert.deepEqual(heard.error.map(({ code }) => code), [409]);
});

test('a name that is in use by our own lost connection is waited for', async () => {
  const { server, platform, heard } = await setUpInLobby();
  server.drop();
  platform.advance(1000);
  server.open();
  server.say({ op: 'error', ref: 0, code: 409, text: 'in use' });
  server.drop(4409);
  assert.equal(heard.state.at(-1).name, 'waiting');
  assert.equal(heard.state.at(-1).reason, 'in use');
});

test('pings measure a smoothed round trip', async () => {
  const { client, server, platform, heard } = await setUpInLobby();
  const answer = (ms) => {
    platform.advance(ms);
    const { seq, time_ms } = server.sent('ping').at(-1);
    server.say({ op: 'pong', seq, time_ms, node: 1, status: 0 });
  };
  answer(80);
  assert.equal(client.roundTripMs, 80);
  platform.advance(10_000);
  assert.equal(server.sent('ping').length, 2);
  answer(160);
  assert.deepEqual(heard.rtt.at(-1), { sampleMs: 160, smoothedMs: 90 });
  server.drop();
  assert.equal(client.roundTripMs, null);
});

test('a server that does not answer is left', async () => {
  const { server, platform, heard } = await setUpInLobby();
  platform.advance(19_999);
  assert.equal(heard.state.at(-1).name, 'online');
  platform.advance(1);
  assert.equal(heard.state.at(-1).name, 'waiting');
  assert.equal(heard.state.at(-1).reason, 'the server does not answer');
  assert.equal(server.sockets[0].readyState, 3);
});

test('anything that the server says is life, not only pongs', async () => {
  const { server, platform, heard } = await setUpInLobby();
  for (let tens = 1; tens < 10; tens += 1) {
    server.message(tens);
    platform.advance(10_000);
    assert.equal(heard.state.at(-1).name, 'online');
    assert.equal(server.sent('ping').length, 1 + tens);
  }
});

test('a page that slept hears what waits before it judges', async () => {
  const { server, platform, heard } = await setUpInLobby();
  platform.advance(10_000);
  platform.suspend(3_600_000);
  platform.advance(0);
  assert.equal(heard.state.at(-1).name, 'online');
  const { seq, time_ms } = server.sent('ping')[1];
  server.say({ op: 'pong', seq, time_ms, node: 1, status: 0 });
  platform.advance(10_000);
  assert.equal(heard.state.at(-1).name, 'online');
  platform.suspend(3_600_000);
  platform.advance(0);
  platform.suspend(60_000);
  platform.advance(0);
  assert.equal(heard.state.at(-1).name, 'waiting', 'but nobody sleeps for ever');
});

test('wake tries at once, and checks a connection that is there', async () => {
  const { client, server, platform } = await setUpInLobby();
  const { seq, time_ms } = server.sent('ping')[0];
  server.say({ op: 'pong', seq, time_ms, node: 1, status: 0 });
  client.wake();
  client.wake();
  assert.equal(server.sent('ping').length, 2);
  server.drop();
  client.wake();
  assert.equal(server.sockets.length, 2);
  platform.advance(5000);
  assert.equal(server.sockets.length, 2, 'the former timer is gone');
});

test('a ping of the server is answered', async () => {
  const { server } = await setUpInLobby();
  server.say({ op: 'ping', seq: 5, time_ms: 9, node: 1, status: 0 });
  assert.deepEqual(server.sent('pong'), [{ op: 'pong', seq: 5, time_ms: 9, node: 0, status: 0 }]);
});

test('TEMPO is told, and what is not known is skipped', async () => {
  const { server, heard } = await setUpInLobby();
  server.say({ op: 'tempo', heartbeat_s: 60, timeout_s: 180 });
  server.say({ op: 'novelty', of: 'version 2' });
  assert.deepEqual(heard.tempo.at(-1), { heartbeatS: 60, timeoutS: 180 });
  assert.equal(heard.state.at(-1).name, 'online');
});

test('a server of another dialect is left', async () => {
  for (const data of ['no json', '7', 'null', '{"no":"op"}']) {
    const { server, heard } = await setUpInLobby();
    server.socket.onmessage({ data });
    assert.equal(heard.state.at(-1).name, 'waiting');
  }
});

test('close says bye and leaves nothing behind', async () => {
  const { client, server, platform, heard } = await setUpInLobby();
  const unanswered = client.publish('lobby', 'x');
  client.close();
  client.close();
  assert.equal(server.sent('bye').length, 1);
  assert.equal(server.socket.closedWith, 1000);
  await assert.rejects(unanswered, ClosedError);
  assert.equal(platform.timers, 0);
  assert.deepEqual(names(heard.state), ['connecting', 'online', 'closed']);
  assert.equal(heard.state.at(-1).error, null);
  client.connect();
  assert.equal(server.sockets.length, 2, 'it can be opened anew');
});

test('a listener that fails harms nobody', async () => {
  const { client, server, heard } = await setUpInLobby();
  const reported = [];
  const before = globalThis.reportError;
  globalThis.reportError = (error) => reported.push(error.message);
  const off = client.on('presence', () => {
    throw new Error('a bug of the application');
  });
  client.on('presence', (event) => heard.presence.push(`again ${event.user}`));
  server.say({ op: 'presence', kind: 'joined', room: 'lobby', user: 'bob', total: 2 });
  off();
  server.say({ op: 'presence', kind: 'left', room: 'lobby', user: 'bob', total: 1 });
  globalThis.reportError = before;
  assert.deepEqual(reported, ['a bug of the application']);
  assert.deepEqual(heard.presence, [
    { kind: 'joined', room: 'lobby', user: 'bob', total: 2 }, 'again bob',
    { kind: 'left', room: 'lobby', user: 'bob', total: 1 }, 'again bob',
  ]);
});

test('wrong options are told at once', () => {
  const { WebSocket } = setUp().server;
  assert.throws(() => new Corebeat({ url: [], WebSocket }), TypeError);
  assert.throws(() => new Corebeat({ url: 'ws://one/ws', WebSocket: null }), TypeError);
  for (const queueLimit of [0, 1001, 1.5]) {
    assert.throws(() => new Corebeat({ url: 'ws://one/ws', WebSocket, queueLimit }), RangeError);
  }
});
