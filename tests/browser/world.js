/**
 * What the tests stand on: the real server as a child process, a link to it that can be cut, and
 * headless Chromium.
 *
 * Ends what it started, and nothing else.
 */

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

/** No step takes so long unless something hangs, also on a slow machine that does other things. */
export const GUARD_MS = 60_000;

const PROGRAM = process.env.COREBEAT;
if (PROGRAM === undefined) throw new Error('COREBEAT is not set: run scripts/browser.sh');

/** The first program of these names on the PATH. */
function find(...names) {
  for (const name of names) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here.
      }
    }
  }
  throw new Error(`${names.join(' or ')} is missing; install it: apt-get install chromium`);
}

/** A serving corebeat. */
export class Server {
  #child;
  #ended;
  port = 0;

  /** Starts it on a free port, or on the one that an earlier one had. */
  static async start(options = [], port = 0) {
    const server = new Server();
    const listen = ['serve', '--listen', `127.0.0.1:${port}`, '--workers', '2', '--no-pin'];
    // Where others take the processors away, it would refuse whoever comes.
    const env = { ...process.env, RUST_LOG: 'info', COREBEAT_OVERLOAD_LAG: 'off' };
    const stdio = ['ignore', 'ignore', 'pipe'];
    server.#child = spawn(PROGRAM, [...listen, ...options], { env, stdio });
    server.#ended = new Promise((resolve) => server.#child.once('exit', resolve));
    const lines = createInterface({ input: server.#child.stderr });
    server.port = await new Promise((resolve, reject) => {
      const log = [];
      lines.on('line', (line) => {
        log.push(line);
        const found = / listening on .*:(\d+)$/.exec(line);
        if (found) resolve(Number(found[1]));
      });
      lines.once('close', () => reject(new Error(`it did not start:\n${log.join('\n')}`)));
    });
    return server;
  }

  get http() {
    return `http://127.0.0.1:${this.port}`;
  }

  get ws() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** Ends it, at once or with a signal that it may answer to. */
  async stop(signal = 'SIGKILL') {
    this.#child.kill(signal);
    await this.#ended;
  }

  async stats() {
    return (await fetch(`${this.http}/stats`)).json();
  }
}

/** A way to a server that can be cut while the server lives on. */
export class Link {
  #listener;
  #sockets = new Set();
  open = true;

  static async to(port) {
    const link = new Link();
    link.#listener = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      for (const [one, other] of [[near, far], [far, near]]) {
        link.#sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          link.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
      if (!link.open) near.destroy();
    });
    await new Promise((resolve) => link.#listener.listen(0, '127.0.0.1', resolve));
    return link;
  }

  get http() {
    return `http://127.0.0.1:${this.#listener.address().port}`;
  }

  get ws() {
    return `ws://127.0.0.1:${this.#listener.address().port}/ws`;
  }

  cut() {
    this.open = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.open = true;
  }

  close() {
    this.cut();
    this.#listener.close();
  }
}

/** Chromium, and the pages that were opened in it with what went wrong in them. */
export class Browser {
  #browser;
  #contexts = [];
  problems = [];

  static async launch() {
    const browser = new Browser();
    browser.#browser = await chromium.launch({
      executablePath: find('chromium', 'chromium-browser', 'google-chrome'),
      args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync',
      ],
    });
    return browser;
  }

  /** A person with a browser of their own; without a name they are asked for one. */
  async visit(address, name, options = {}) {
    const context = await this.#browser.newContext(options);
    this.#contexts.push(context);
    context.setDefaultTimeout(GUARD_MS);
    const page = await context.newPage();
    page.on('pageerror', (error) => this.problems.push(error.stack));
    page.on('console', (message) => {
      // A server that is away cannot be reached, and the browser says so.
      const unreachable = /net::ERR_|WebSocket connection to/.test(message.text());
      if (['error', 'warning'].includes(message.type()) && !unreachable) {
        this.problems.push(message.text());
      }
    });
    if (name !== undefined) {
      await page.addInitScript((stored) => {
        if (localStorage.getItem('corebeat.name') === null) {
          localStorage.setItem('corebeat.name', stored);
        }
      }, name);
    }
    await page.goto(address);
    if (name !== undefined && !address.endsWith('/dashboard')) await online(page);
    return page;
  }

  /** Everybody goes home. */
  async clear() {
    await Promise.all(this.#contexts.splice(0).map((context) => context.close()));
  }

  async close() {
    await this.#browser.close();
  }
}

export const PHONE = {
  viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true,
};

export async function online(page) {
  await page.waitForSelector('#link[data-state="online"]', { state: 'attached' });
}

export async function say(page, text) {
  await page.fill('#composer-text', text);
  await page.press('#composer-text', 'Enter');
}

/** Goes to a room, or to `@user`. */
export async function enter(page, target) {
  await page.keyboard.press('Control+k');
  await page.fill('#join-name', target);
  await page.press('#join-name', 'Enter');
  await page.waitForFunction((title) => document.getElementById('title').textContent === title,
    target.replace(/^@/, ''));
}

/** What was said in the conversation that is shown, in its order. */
export async function bodies(page) {
  return page.$$eval('#messages .message .body', (nodes) => nodes.map((one) => one.textContent));
}

/** Waits until the conversation holds exactly these. */
export async function shows(page, wanted) {
  const check = (list) => {
    const nodes = [...document.querySelectorAll('#messages .message .body')];
    return JSON.stringify(nodes.map((one) => one.textContent)) === JSON.stringify(list);
  };
  try {
    await page.waitForFunction(check, wanted);
  } catch (error) {
    throw new Error(`shown: ${JSON.stringify(await bodies(page))}, wanted ${wanted}`, {
      cause: error,
    });
  }
}

/** Waits until an element says this. */
export async function says(page, selector, pattern) {
  const check = ([where, source]) => {
    const node = document.querySelector(where);
    return node !== null && new RegExp(source).test(node.textContent);
  };
  try {
    await page.waitForFunction(check, [selector, pattern.source]);
  } catch (error) {
    const text = await page.textContent(selector).catch(() => 'nothing');
    throw new Error(`${selector} says ${text}, and not ${pattern}`, { cause: error });
  }
}
