/** The page in Chromium, against the real server. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';

import WebSocket from 'ws';

import { Corebeat } from '../../src/web/corebeat.js';
import { audit, tabStops } from './audit.js';
import {
  Browser, Link, PHONE, Server, bodies, enter, online, say, says, shows,
} from './world.js';

let server;
let browser;
const present = [];

before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.launch()]);
});

afterEach(async () => {
  for (const client of present.splice(0)) client.close();
  await browser.clear();
  assert.deepEqual(browser.problems.splice(0), [], 'nothing went wrong in any page');
});

after(async () => {
  await browser.close();
  await server.stop();
});

/** A room of its own for each test. */
const visit = (room, name, options) => browser.visit(`${server.http}/#${room}`, name, options);

/** Somebody who is there without a browser. */
async function attend(room, user) {
  const client = new Corebeat({ url: server.ws, user, WebSocket });
  present.push(client);
  await client.connect();
  await client.join(room);
  return client;
}

/** How a conversation is marked in the list. */
async function badge(page, name) {
  const label = page.locator('.conversations .label', { hasText: new RegExp(`^${name}$`) });
  const shown = label.locator('xpath=following-sibling::span[@class="badge"]');
  return await shown.isVisible() ? shown.textContent() : null;
}

test('two people chat', async () => {
  const ann = await visit('two', 'ann');
  const bob = await visit('two', 'bob');
  await says(ann, '#subtitle', /^2 members$/);
  await says(bob, '#member-list', /ann.*bobyou/);
  await say(ann, 'hello bob');
  await shows(bob, ['hello bob']);
  await say(bob, 'hello ann');
  await shows(ann, ['hello bob', 'hello ann']);
  assert.equal(await ann.locator('.message.own.sent').count(), 1);
  assert.equal(await ann.locator('.message .name').allTextContents().then(String), 'ann,bob');
  await says(ann, '#announcer', /^bob: hello ann$/);
  await bob.keyboard.press('Control+k');
  await bob.close();
  await says(ann, '#subtitle', /^1 member$/);
});

test('what is written is text, links apart', async () => {
  const ann = await visit('text', 'ann');
  const bob = await visit('text', 'bob');
  const evil = '<img src=x onerror="document.title=1"><b>bold</b> &amp; javascript:alert(1)';
  await say(ann, evil);
  await say(ann, 'see https://example.org/a?b=<c>, @bob.');
  await shows(bob, [evil, 'see https://example.org/a?b=<c>, @bob.']);
  assert.equal(await bob.locator('.body img, .body b').count(), 0);
  const link = bob.locator('.body a');
  assert.equal(await link.getAttribute('href'), 'https://example.org/a?b=');
  assert.equal(await link.getAttribute('rel'), 'noopener noreferrer');
  assert.equal(await bob.locator('.body mark').textContent(), '@bob.');
});

test('unread messages are counted, in the list and in the title', async () => {
  const ann = await visit('count', 'ann');
  await enter(ann, 'other');
  const bob = await visit('count', 'bob');
  for (const text of ['one', 'two', '@ann three']) await say(bob, text);
  await says(ann, '.conversations .unread', /^#count3/);
  assert.equal(await badge(ann, 'count'), '3');
  assert.match(await ann.title(), /^\(3\) other/);
  assert.equal(await ann.locator('.conversations .mentioned').count(), 1);
  await says(ann, '#announcer', /^in count, bob: @ann three$/);
  await ann.keyboard.press('Alt+Shift+ArrowDown');
  await shows(ann, ['one', 'two', '@ann three']);
  await ann.waitForFunction(() => document.title.startsWith('count'));
  assert.equal(await badge(ann, 'count'), null);
});

test('who reads further up is left there', async () => {
  const ann = await visit('scroll', 'ann', { viewport: { width: 900, height: 500 } });
  const bob = await attend('scroll', 'bob');
  const lines = Array.from({ length: 40 }, (_, index) => `line ${index}`);
  await Promise.all(lines.map((line) => bob.publish('scroll', line)));
  await shows(ann, lines);
  const fromEnd = () => ann.$eval('#log', (log) => (
    log.scrollHeight - log.scrollTop - log.clientHeight));
  assert.ok(await fromEnd() < 2, 'the latest is in sight');
  await ann.keyboard.press('PageUp');
  await ann.waitForFunction(() => !document.getElementById('to-bottom').hidden);
  const top = await ann.$eval('#log', (log) => log.scrollTop);
  await bob.publish('scroll', 'news');
  await says(ann, '#to-bottom', /^1 new message ↓$/);
  assert.equal(await ann.$eval('#log', (log) => log.scrollTop), top);
  await ann.keyboard.press('Escape');
  await ann.waitForFunction(() => document.getElementById('to-bottom').hidden);
  assert.ok(await fromEnd() < 2);
  assert.match(await ann.title(), /^scroll/);
});

test('where nothing can be scrolled, older messages come by themselves', async () => {
  const bob = await attend('tall', 'bob');
  const lines = Array.from({ length: 70 }, (_, index) => `line ${index}`);
  await Promise.all(lines.map((line) => bob.publish('tall', line)));
  const ann = await visit('tall', 'ann', { viewport: { width: 900, height: 4000 } });
  await shows(ann, lines);
  await says(ann, '#messages .top', /^This is where tall begins\.$/);
});

test('a history that is refused comes when the server is no longer overloaded', async () => {
  const bob = await attend('busy', 'bob');
  await bob.publish('busy', 'said before');
  const ann = await visit('lobby', 'ann');
  await ann.evaluate(() => {
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function refuse(text) {
      const { op, ref } = JSON.parse(text);
      if (op !== 'history') return send.call(this, text);
      WebSocket.prototype.send = send;
      const error = { op: 'error', ref, code: 503, text: 'overloaded' };
      return this.onmessage({ data: JSON.stringify(error) });
    };
  });
  await enter(ann, 'busy');
  await says(ann, '#messages .notice', /^What was said before cannot be shown now: overloaded\.$/);
  await shows(ann, ['said before']);
});

test('each room has its draft, and commands work', async () => {
  const ann = await visit('draft', 'ann');
  await ann.fill('#composer-text', 'half a th');
  await enter(ann, 'elsewhere');
  assert.equal(await ann.inputValue('#composer-text'), '');
  await says(ann, '#rooms', /draft/);
  await ann.keyboard.press('Alt+ArrowUp');
  await says(ann, '#title', /^draft$/);
  assert.equal(await ann.inputValue('#composer-text'), 'half a th');
  await say(ann, '/nonsense');
  await says(ann, '#problem', /There is no command/);
  await say(ann, '//me is here');
  await shows(ann, ['/me is here']);
  await say(ann, '/leave');
  await says(ann, '#title', /^(elsewhere|lobby)$/);
  await say(ann, '/nick anna');
  await says(ann, '#me-name', /^anna$/);
  await online(ann);
  await ann.reload();
  await online(ann);
  await says(ann, '#me-name', /^anna$/);
  await says(ann, '#rooms', /elsewhere/);
});

test('a name is asked for, and judged', async () => {
  const page = await browser.visit(`${server.http}/`);
  await page.waitForSelector('#name-dialog[open]');
  await page.fill('#name', 'two words');
  await page.press('#name', 'Enter');
  await says(page, '#name-problem', /no spaces/);
  await page.fill('#name', 'dora');
  await page.press('#name', 'Enter');
  await online(page);
  await says(page, '#me-name', /^dora$/);
  const guest = await browser.visit(`${server.http}/`);
  await guest.click('#name-guest');
  await online(guest);
  await says(guest, '#me-name', /^guest-/);
});

test('a name is completed', async () => {
  const ann = await visit('complete', 'ann');
  await attend('complete', 'Benedikta');
  await says(ann, '#member-list', /Benedikta/);
  await ann.focus('#composer-text');
  await ann.keyboard.type('hello @ben');
  await ann.keyboard.press('Tab');
  assert.equal(await ann.inputValue('#composer-text'), 'hello @Benedikta ');
});

test('a killed server: nothing that it acknowledged is lost, and what waited is sent', async () => {
  let mortal = await Server.start();
  const { port } = mortal;
  try {
    const ann = await browser.visit(`${mortal.http}/#room`, 'ann');
    const bob = await browser.visit(`${mortal.http}/#room`, 'bob');
    await says(ann, '#subtitle', /^2 members$/);
    await say(ann, 'before');
    await shows(bob, ['before']);
    await say(bob, 'answer');
    await shows(ann, ['before', 'answer']);
    await ann.waitForSelector('.message.own.sent');

    await mortal.stop('SIGKILL');
    await says(ann, '#banner-text', /^The connection was lost\. The next try is in \d+ s\./);
    await says(bob, '#link-text', /^(offline|connecting)/);
    await say(ann, 'while away');
    await say(ann, 'and more');
    await ann.waitForFunction(() => document.querySelectorAll('.message.waiting').length === 2);
    await says(ann, '#banner-text', /2 messages wait to be sent/);

    mortal = await Server.start([], port);
    await bob.evaluate(() => document.getElementById('retry').click());
    await online(bob);
    await says(bob, '#log', /server was restarted/);
    await ann.evaluate(() => document.getElementById('retry').click());
    await online(ann);
    const all = ['before', 'answer', 'while away', 'and more'];
    await shows(ann, all);
    await ann.waitForFunction(() => document.querySelectorAll('.own.sent').length === 3);
    assert.equal(await ann.locator('#banner').isVisible(), false);
    // Ann may have been back before Bob, who is told then that something is missing.
    const missing = await bob.locator('.notice', { hasText: 'may be missing' }).count();
    if (missing === 0) await shows(bob, all);
    await say(ann, 'after');
    await bob.waitForFunction(() => document.getElementById('log').textContent.includes('after'));
    const seen = await bodies(bob);
    assert.equal(new Set(seen).size, seen.length, 'nothing comes twice');
  } finally {
    await mortal.stop();
  }
});

test('a cut link: the one who was away is told what is missing', async () => {
  const link = await Link.to(server.port);
  try {
    const ann = await browser.visit(`${link.http}/#cut`, 'ann');
    const bob = await visit('cut', 'bob');
    await says(bob, '#subtitle', /^2 members$/);
    await say(bob, 'one');
    await shows(ann, ['one']);
    link.cut();
    await says(ann, '#banner-text', /The connection was lost/);
    await says(bob, '#subtitle', /^1 member$/);
    await say(bob, 'two');
    await bob.waitForFunction(() => document.querySelectorAll('.own.sent').length === 2);
    link.mend();
    await ann.evaluate(() => document.getElementById('retry').click());
    await online(ann);
    await says(bob, '#subtitle', /^2 members$/);
    await say(bob, 'three');
    await ann.waitForFunction(() => document.getElementById('log').textContent.includes('three'));
    const kept = (await bodies(ann)).includes('two');
    const told = await ann.locator('.notice', { hasText: '1 message from while' }).count();
    assert.ok(kept !== (told === 1), 'replayed, or told to be missing');
  } finally {
    link.close();
  }
});

test('the dashboard draws numbers that are true', async () => {
  const ann = await visit('numbers', 'ann');
  const page = await browser.visit(`${server.http}/dashboard`);
  assert.equal(await page.locator('#name-dialog').isVisible(), false, 'who looks is no guest');
  await says(page, '.dashboard-status', /^corebeat \d.*2 workers/);
  await page.waitForFunction(() => document.querySelectorAll('.curve').length >= 5);
  const { workers } = await server.stats();
  const connections = workers.reduce((sum, one) => sum + one.connections, 0);
  const shown = Number(await page.locator('.tile dd').first().textContent());
  assert.ok(shown >= 2 && Math.abs(shown - connections) <= 8, `${shown}, and ${connections}`);
  await says(page, '.bars', /Worker 0.*%/);
  for (const title of ['Loop lag', 'Heartbeat round trips', 'Timing wheel of worker 1',
    'Closed connections', 'Bytes a second', 'Deliveries a second']) {
    assert.equal(await page.locator('.card h2', { hasText: title }).count(), 1, title);
  }
  const wheels = page.locator('.card', { hasText: 'Timing wheel' });
  assert.equal(await wheels.locator('.column').count(), 128);
  const moment = await page.locator('.tile dd').last().textContent();
  await page.waitForFunction((before) => (
    [...document.querySelectorAll('.tile dd')].at(-1).textContent !== before), moment);

  await ann.keyboard.press('Alt+Shift+KeyD');
  await ann.waitForSelector('#dashboard:not([hidden])');
  assert.equal(new URL(ann.url()).pathname, '/dashboard');
  await ann.goBack();
  await ann.waitForSelector('#chat:not([hidden])');
  await online(ann);
});

test('a dashboard that is off, or a server that is away, is said so', async () => {
  const silent = await Server.start(['--dashboard', 'off']);
  try {
    const page = await browser.visit(`${silent.http}/dashboard`);
    await says(page, '.dashboard-status', /switched off/);
    await page.close();
    browser.problems.splice(0);
  } finally {
    await silent.stop();
  }
  const mortal = await Server.start();
  const page = await browser.visit(`${mortal.http}/dashboard`);
  await says(page, '.dashboard-status', /^corebeat/);
  await mortal.stop();
  await says(page, '.dashboard-status', /^No answer, for .* older\.$/);
  assert.equal(await page.locator('#dashboard.stale').count(), 1);
});

test('on a phone, lists are drawers', async () => {
  const page = await visit('phone', 'mia', PHONE);
  assert.equal(await page.locator('#sidebar').isVisible(), false);
  await page.tap('#open-rooms');
  await page.waitForSelector('#sidebar.open');
  assert.equal(await page.getAttribute('#open-rooms', 'aria-expanded'), 'true');
  assert.deepEqual(await audit(page), []);
  await page.fill('#join-name', 'den');
  await page.tap('#join-form button');
  await says(page, '#title', /^den$/);
  assert.equal(await page.locator('#sidebar').isVisible(), false);
  await page.tap('#open-members');
  await says(page, '#members.open', /miayou/);
  await page.tap('#shade', { position: { x: 20, y: 400 } });
  assert.equal(await page.locator('#members').isVisible(), false);
  await page.fill('#composer-text', 'from a phone');
  await page.tap('.send');
  await shows(page, ['from a phone']);
});

test('each line runs in the direction of its own letters', async () => {
  const page = await visit('bidi', 'ann');
  await say(page, 'hello, שלום');
  await say(page, 'שלום hello');
  await page.waitForSelector('.own.sent >> nth=1');
  const sides = await page.$$eval('#messages .body', (nodes) => nodes.map((node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const [text, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
    return text.left - box.left < box.right - text.right ? 'left' : 'right';
  }));
  assert.deepEqual(sides, ['left', 'right']);
});

test('on a phone: the help from its top, conversations from the dashboard', async () => {
  const page = await visit('phone-help', 'ann', PHONE);
  await say(page, '/help');
  await page.waitForSelector('#help-dialog[open]');
  const [top, height] = await page.$eval('#help-dialog', (node) => [
    node.scrollTop, node.scrollHeight - node.clientHeight,
  ]);
  assert.equal(top, 0, `of ${height}`);
  await page.keyboard.press('Escape');
  await page.tap('#tab-dashboard');
  await page.waitForSelector('#dashboard h1');
  await page.tap('#open-rooms');
  await page.waitForSelector('#sidebar.open');
  assert.equal(new URL(page.url()).pathname, '/');
});

test('who only looks at the numbers is not told that a connection is missing', async () => {
  const page = await browser.visit(`${server.http}/dashboard`);
  await page.waitForSelector('#dashboard h1');
  assert.equal(await page.locator('#link').isVisible(), false);
  await page.waitForFunction(() => document.querySelectorAll('.curve').length >= 5);
  const marks = await page.$eval('.card svg', (node) => {
    const texts = [...node.querySelectorAll('text')].map((one) => one.textContent);
    return texts.filter((text) => /now|\u2212/.test(text));
  });
  assert.equal(marks[0], 'now');
  assert.equal(marks.at(-1), '\u221260 s', 'the oldest is named at the edge');
});

for (const colorScheme of ['light', 'dark']) {
  for (const [where, options] of [['desk', {}], ['phone', PHONE]]) {
    test(`accessible in ${colorScheme} colours, at the ${where}`, async () => {
      const page = await visit(`${where}-${colorScheme}`, 'ann', { ...options, colorScheme });
      const bob = await visit(`${where}-${colorScheme}`, 'bob');
      for (const text of ['hello', '@ann see https://example.org', '/msg ann psst']) {
        await say(bob, text);
      }
      const crowd = ['carl', 'd', 'eve', 'frida', 'gus', 'hilde', 'ivo', 'q'.repeat(64)];
      for (const name of crowd) await attend(`${where}-${colorScheme}`, name);
      await says(page, '#subtitle', /^10 members$/);
      await say(page, 'mine');
      await page.waitForSelector('.own.sent');
      assert.deepEqual(await audit(page), [], 'the chat');
      const ground = await page.evaluate(() => getComputedStyle(document.body.parentElement)
        .backgroundColor);
      assert.equal(ground, colorScheme === 'dark' ? 'rgb(13, 15, 21)' : 'rgb(238, 240, 246)');
      if (where === 'desk') {
        const stops = await tabStops(page);
        assert.deepEqual(stops.filter(({ sign, seen }) => !sign || !seen), [], 'focus is seen');
        for (const wanted of ['tab-dashboard', 'theme', 'help', 'join-name', 'composer-text']) {
          assert.ok(stops.some(({ label }) => label === wanted), `Tab comes to ${wanted}`);
        }
        await page.keyboard.press('Control+/');
        await page.waitForSelector('#help-dialog[open]');
        assert.deepEqual(await audit(page), [], 'the help');
        await page.keyboard.press('Escape');
      }
      await page.evaluate(() => document.getElementById('rename').click());
      await page.waitForSelector('#name-dialog[open]');
      assert.deepEqual(await audit(page), [], 'the question for a name');
      await page.keyboard.press('Escape');
      await page.click('#tab-dashboard');
      await page.waitForFunction(() => document.querySelectorAll('.curve').length >= 5);
      assert.deepEqual(await audit(page), [], 'the dashboard');
    });
  }
}

test('the colours can be chosen against the system', async () => {
  const page = await visit('theme', 'ann', { colorScheme: 'light' });
  const scheme = () => page.evaluate(() => getComputedStyle(document.documentElement).colorScheme);
  assert.equal(await scheme(), 'light dark');
  await page.click('#theme');
  assert.equal(await scheme(), 'light');
  await page.click('#theme');
  assert.equal(await scheme(), 'dark');
  await page.reload();
  assert.equal(await scheme(), 'dark');
  await page.click('#theme');
  assert.equal(await scheme(), 'light dark');
});
