/** corebeat.js on Node, against the real server. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';

import WebSocket from 'ws';

import * as script from '../../src/web/corebeat.js';
import { GUARD_MS, Link, Server } from './world.js';

const { Corebeat, RefusedError } = script;
const WEB = resolve(import.meta.dirname, '../../src/web');
/** The tests take the last of what may be waited for, so that they need not wait. */
const IMPATIENT = { backoffFirstMs: 20, backoffLongestMs: 100, backoffTries: 1000 };

let server;
const open = [];

before(async () => {
  server = await Server.start();
});

after(async () => {
  for (const client of open) client.close();
  await server.stop();
});

/** A client that is online. */
async function greet(user, options = {}) {
  const client = new Corebeat({ url: server.ws, user, WebSocket, ...IMPATIENT, ...options });
  open.push(client);
  await client.connect();
  return client;
}

/** The next event of a kind that fits. */
function next(client, event, fits = () => true) {
  return new Promise((done, fail) => {
    const guard = setTimeout(() => fail(new Error(`no such ${event}`)), GUARD_MS).unref();
    const off = client.on(event, (value) => {
      if (!fits(value)) return;
      off();
      clearTimeout(guard);
      done(value);
    });
  });
}

const online = ({ name }) => name === 'online';

test('two clients talk, and hear of each other', async () => {
  const ann = await greet('ann');
  assert.equal(ann.user, 'ann');
  await ann.join('talk');
  const came = next(ann, 'presence');
  const bob = await greet('bob');
  await bob.join('talk');
  assert.deepEqual(await came, { kind: 'joined', room: 'talk', user: 'bob', total: 2 });
  assert.deepEqual(await bob.who('talk'), { total: 2, users: ['ann', 'bob'] });

  const heard = next(bob, 'message');
  const before = Date.now();
  const receipt = await ann.publish('talk', 'grüße "🙂" \\ \u2028');
  const message = await heard;
  assert.equal(message.body, 'grüße "🙂" \\ \u2028');
  assert.deepEqual([message.from, message.room, message.replay], ['ann', 'talk', false]);
  assert.deepEqual([message.epoch, message.seq], [receipt.epoch, receipt.seq]);
  assert.ok(Math.abs(message.timeMs - before) < GUARD_MS);

  const bytes = Uint8Array.of(0, 255, 128, 7);
  const [raw, echo] = [next(ann, 'message'), next(bob, 'message')];
  await bob.publish('talk', bytes, { echo: true });
  assert.deepEqual([(await raw).body, (await echo).body], [bytes, bytes]);

  const left = next(ann, 'presence');
  await bob.leave('talk');
  assert.deepEqual(await left, { kind: 'left', room: 'talk', user: 'bob', total: 1 });
});

test('a guest gets a name, and a round trip is measured', async () => {
  const guest = await greet('', { pingEveryMs: 5 });
  assert.match(guest.user, /^guest-\d+$/);
  await next(guest, 'rtt');
  const { sampleMs, smoothedMs } = await next(guest, 'rtt');
  assert.ok(sampleMs > 0 && smoothedMs > 0 && smoothedMs < GUARD_MS);
});

test('refusals have their codes, and the connection lives', async () => {
  const ann = await greet('ann');
  await assert.rejects(ann.publish('$server', 'x'), { name: 'RefusedError', code: 403 });
  await assert.rejects(ann.publish('a b', 'x'), { code: 400 });
  await assert.rejects(ann.who('nowhere'), { code: 404 });
  await assert.rejects(ann.publish('talk', 'x'.repeat(70_000)), { code: 413 });
  assert.ok((await ann.publish('talk', 'still here')).seq > 0);
});

test('a bad name is refused for good', async () => {
  const client = new Corebeat({ url: server.ws, user: 'a b', WebSocket });
  open.push(client);
  await assert.rejects(client.connect(), (error) => error instanceof RefusedError);
  assert.equal(client.state.name, 'closed');
});

test('many messages keep their order across a lost connection', async () => {
  const link = await Link.to(server.port);
  try {
    const listener = await greet('listener');
    await listener.join('order');
    const heard = [];
    const complete = new Promise((done) => {
      listener.on('message', ({ body }) => {
        heard.push(body);
        if (body === 'm299') done();
      });
    });
    const speaker = await greet('speaker', { url: link.ws, queueLimit: 1000 });
    const receipts = [];
    for (let count = 0; count < 300; count += 1) {
      if (count === 150) {
        await Promise.all(receipts);
        const lost = next(speaker, 'state', ({ name }) => name === 'waiting');
        link.cut();
        await lost;
        link.mend();
      }
      receipts.push(speaker.publish('order', `m${count}`));
    }
    const places = await Promise.all(receipts);
    await complete;
    assert.deepEqual(heard, Array.from({ length: 300 }, (_, count) => `m${count}`));
    assert.deepEqual(places.map(({ seq }) => seq), heard.map((_, index) => index + 1));
  } finally {
    link.close();
  }
});

test('what was said while one was away is replayed, or its gap is told', async () => {
  const link = await Link.to(server.port);
  try {
    const stays = await greet('stays');
    const away = await greet('away', { url: link.ws });
    await away.join('den');
    const told = [];
    away.on('message', ({ seq, body }) => told.push([seq, body]));
    away.on('gap', ({ from, to }) => told.push([from, to, 'gap']));
    const first = next(away, 'message');
    await stays.publish('den', 'one');
    await first;
    const lost = next(away, 'state', ({ name }) => name === 'waiting');
    link.cut();
    await lost;
    await stays.publish('den', 'two');
    await stays.publish('den', 'three');
    const caughtUp = Promise.race([
      next(away, 'gap'), next(away, 'message', ({ body }) => body === 'three'),
    ]);
    link.mend();
    await caughtUp;
    const last = next(away, 'message', ({ body }) => body === 'four');
    await stays.publish('den', 'four');
    await last;
    const missed = told.some(([, , kind]) => kind === 'gap') ? [[2, 3, 'gap']]
      : [[2, 'two'], [3, 'three']];
    assert.deepEqual(told, [[1, 'one'], ...missed, [4, 'four']]);
  } finally {
    link.close();
  }
});

test('a killed server is found again, with all that waited', async () => {
  let mortal = await Server.start();
  const { port } = mortal;
  try {
    // Ann waits for long, until she is woken: a live room keeps nothing for those who come later.
    const patient = { backoffFirstMs: 1e6, backoffLongestMs: 1e6, platform: { random: () => 1 } };
    const ann = await greet('ann', { url: mortal.ws, ...patient });
    const bob = await greet('bob', { url: mortal.ws });
    for (const client of [ann, bob]) await client.join('lobby');
    const heard = [];
    bob.on('message', ({ body }) => heard.push(body));
    // Her receipt says nothing of what has come to him, and both end with the server.
    const first = next(bob, 'message');
    await ann.publish('lobby', 'before');
    await first;
    const isLost = ({ name }) => name === 'waiting';
    const lost = [next(ann, 'state', isLost), next(bob, 'state', isLost)];
    const anew = next(bob, 'gap', ({ reason }) => reason === 'new-epoch');
    await mortal.stop('SIGKILL');
    await Promise.all(lost);
    const waiting = ['one', 'two'].map((body) => ann.publish('lobby', body));
    assert.equal(ann.waiting, 2);
    mortal = await Server.start([], port);
    await anew;
    const complete = next(bob, 'message', ({ body }) => body === 'after');
    ann.wake();
    const receipts = await Promise.all([...waiting, ann.publish('lobby', 'after')]);
    assert.deepEqual(receipts.map(({ seq }) => seq), [1, 2, 3]);
    await complete;
    assert.deepEqual(heard, ['before', 'one', 'two', 'after']);
  } finally {
    await mortal.stop();
  }
});

test('a server that is stopped sends its clients away, and they come back', async () => {
  let mortal = await Server.start();
  const { port } = mortal;
  try {
    const ann = await greet('ann', { url: mortal.ws });
    await ann.join('lobby');
    const goaway = next(ann, 'goaway');
    const stopped = mortal.stop('SIGTERM');
    const { reconnectAfterMs } = await goaway;
    assert.ok(reconnectAfterMs >= 500 && reconnectAfterMs <= 5000, `${reconnectAfterMs}`);
    const waits = ann.publish('lobby', 'for the next one');
    const back = next(ann, 'state', online);
    await stopped;
    mortal = await Server.start([], port);
    ann.wake();
    await back;
    assert.equal((await waits).seq, 1);
  } finally {
    await mortal.stop();
  }
});

test('direct messages wait for who is offline, and come once to who acknowledges', async () => {
  const ann = await greet('ann');
  for (const body of ['one', 'two', 'three']) await ann.direct('late', body);
  const hears = async (session) => {
    const late = new Corebeat({ url: server.ws, user: 'late', WebSocket, ...IMPATIENT });
    open.push(late);
    const heard = [];
    late.on('direct', ({ from, body, replay }) => {
      heard.push([from, body, replay || body === session]);
    });
    await late.connect();
    // What waited comes before what is asked for after the hello.
    await late.publish(`${session}`, 'x');
    // It may queue up behind those, or go to a connection of which nobody knows that it has ended:
    // whether it is told as a replay is up to the server.
    const last = next(late, 'direct', ({ body }) => body === session);
    await ann.direct('late', session);
    await last;
    // The acknowledgement goes ahead of this.
    await late.publish(`${session}`, 'x');
    late.close();
    return heard;
  };
  const queued = ['one', 'two', 'three'].map((body) => ['ann', body, true]);
  assert.deepEqual(await hears('first'), [...queued, ['ann', 'first', true]]);
  assert.deepEqual(await hears('second'), [['ann', 'second', true]]);
});

test('another address is taken where one does not answer', async () => {
  const dead = await Server.start();
  await dead.stop();
  const ann = await greet('ann', { url: [dead.ws, server.ws] });
  assert.equal(ann.state.url, server.ws);
});

test('the example of the README runs as it stands, from the package', async () => {
  const readme = readFileSync(join(WEB, 'README.md'), 'utf8');
  const example = /```js\n([^]*?)```/.exec(readme)[1];
  const folder = mkdtempSync(join(tmpdir(), 'corebeat-example-'));
  try {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(WEB, join(folder, 'node_modules/corebeat'));
    symlinkSync(join(import.meta.dirname, 'node_modules/ws'), join(folder, 'node_modules/ws'));
    const address = 'ws://127.0.0.1:8080/ws';
    assert.ok(example.includes(address), 'the example names the default address');
    const program = join(folder, 'example.mjs');
    writeFileSync(program, example.replace(address, server.ws));
    const child = spawn(process.execPath, ['--preserve-symlinks', program]);
    const printed = [];
    try {
      for await (const line of createInterface({ input: child.stdout })) {
        printed.push(line);
        if (line.startsWith('that was message')) break;
      }
    } finally {
      child.kill();
    }
    assert.deepEqual(printed, ['connecting', 'online', 'that was message 1']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the example on the front page runs as it stands', async () => {
  const readme = readFileSync(resolve(WEB, '../../README.md'), 'utf8');
  const example = /```js\n([^]*?)```/.exec(readme)[1];
  const listener = await greet('listener');
  await listener.join('lobby');
  const heard = next(listener, 'message', ({ from }) => from === 'ann');
  const folder = mkdtempSync(join(tmpdir(), 'corebeat-example-'));
  symlinkSync(join(WEB, 'corebeat.js'), join(folder, 'corebeat.js'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  // A browser has a WebSocket of its own.
  const global = `import WebSocket from ${JSON.stringify(import.meta.resolve('ws'))};
    globalThis.WebSocket = WebSocket;`;
  writeFileSync(join(folder, 'browser.mjs'), global);
  const program = join(folder, 'example.mjs');
  writeFileSync(program, example.replace('ws://127.0.0.1:8080/ws', server.ws));
  const options = ['--preserve-symlinks', '--import', join(folder, 'browser.mjs')];
  const child = spawn(process.execPath, [...options, program], { stdio: 'inherit' });
  try {
    assert.equal((await heard).body, 'hello from a script');
  } finally {
    child.kill();
    rmSync(folder, { recursive: true });
  }
});

test('the types name all that is there', () => {
  const types = readFileSync(join(WEB, 'corebeat.d.ts'), 'utf8');
  const members = Object.getOwnPropertyNames(Corebeat.prototype);
  for (const name of [...Object.keys(script), ...members]) {
    assert.match(types, new RegExp(`\\b${name}\\b`), name);
  }
});
