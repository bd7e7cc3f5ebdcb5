/** The messages of one conversation on the page, and where in them one reads. */

import { byId, element, reconcile, setAttribute, setText } from './dom.js';
import {
  colourOf, dayName, initialOf, momentOf, pieces, plural, timeOf,
} from './text.js';

/** So near to the end counts as being there. */
const NEAR_END_PX = 48;
/** So near to the beginning, older messages are asked for. */
const NEAR_START_PX = 80;

/** A name's circle. */
export function paintAvatar(node, name) {
  setAttribute(node, 'class', `avatar c${colourOf(name)}`);
  setText(node, initialOf(name));
}

export class MessageView {
  #log = byId('log');
  #list = byId('messages');
  #toBottom = byId('to-bottom');
  #hooks;
  #shown = null;
  #atEnd = true;
  #places = new WeakMap();

  /** `hooks`: me(), retry(row), discard(row), older(conversation), read(), openDirect(user). */
  constructor(hooks) {
    this.#hooks = hooks;
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#toBottom.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => this.#keepEnd()).observe(this.#log);
  }

  /** Whether the latest message is in sight. */
  get atEnd() {
    return this.#atEnd;
  }

  show(conversation) {
    const switched = this.#shown !== conversation;
    if (switched && this.#shown !== null) {
      this.#places.set(this.#shown, this.#atEnd ? null : this.#log.scrollTop);
      this.#shown.forgetNew();
      this.#list.replaceChildren();
    }
    this.#shown = conversation;
    const fromEnd = this.#log.scrollHeight - this.#log.scrollTop;
    const firstBefore = this.#list.querySelector('[data-message]')?.dataset.key;
    this.#paint(conversation);
    const firstNow = this.#list.querySelector('[data-message]')?.dataset.key;
    const before = this.#places.get(conversation) ?? null;
    if (switched && before !== null) {
      this.#log.scrollTop = before;
      this.#atEnd = this.#isAtEnd();
    } else if (switched || this.#atEnd) {
      this.toEnd();
    } else if (firstBefore !== firstNow) {
      // Older messages came in above: what is being read stays where it is.
      this.#log.scrollTop = this.#log.scrollHeight - fromEnd;
    }
    this.#paintToBottom();
    // Where nothing can be scrolled, nobody could ask for more.
    const { scrollHeight, clientHeight } = this.#log;
    if (clientHeight > 0 && scrollHeight <= clientHeight) this.#hooks.older(conversation);
  }

  toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#atEnd = true;
    this.#hooks.read();
    this.#paintToBottom();
  }

  page(direction) {
    this.#log.scrollBy({ top: direction * this.#log.clientHeight * 0.85 });
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  #scrolled() {
    const before = this.#atEnd;
    this.#atEnd = this.#isAtEnd();
    if (this.#atEnd && !before) this.#hooks.read();
    if (this.#log.scrollTop < NEAR_START_PX && this.#shown !== null) {
      this.#hooks.older(this.#shown);
    }
    this.#paintToBottom();
  }

  #keepEnd() {
    if (this.#atEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #paintToBottom() {
    this.#toBottom.hidden = this.#atEnd;
    const unread = this.#shown?.unread ?? 0;
    const text = unread > 0 ? plural(unread, 'new message', 'new messages') : 'To the latest';
    setText(this.#toBottom, `${text} ↓`);
  }

  #paint(conversation) {
    const rows = [{ type: 'top', key: 'top', text: topText(conversation) }];
    rows.push(...conversation.layout());
    const make = (item) => this.#make(item);
    const update = (node, item) => this.#update(node, item);
    reconcile(this.#list, rows, ({ key }) => key, make, update);
  }

  #make(item) {
    if (item.type !== 'message') return element('li', { class: item.type });
    const { row } = item;
    const avatar = element('span', { 'aria-hidden': 'true' });
    paintAvatar(avatar, row.from);
    const own = row.own === true;
    const open = own ? {} : { title: `Write to ${row.from}` };
    const looks = { class: 'name', dir: 'auto', ...open };
    const name = element(own ? 'span' : 'button', looks, row.from);
    if (!own) {
      name.type = 'button';
      name.addEventListener('click', () => this.#hooks.openDirect(row.from));
    }
    name.classList.add(`c${colourOf(row.from)}`);
    const head = element('div', { class: 'head' }, name, element('time'));
    if (row.everybody) head.append(element('span', { class: 'to' }, 'to everybody'));
    const body = element('div', { class: 'body', dir: 'auto' });
    this.#paintBody(body, row);
    const state = element('div', { class: 'status' });
    const text = element('div', { class: 'words' }, head, body, state);
    return element('li', { class: 'message', 'data-message': true }, avatar, text);
  }

  #paintBody(node, { body }) {
    if (typeof body !== 'string') {
      node.append(element('em', {}, plural(body.length, 'byte', 'bytes'), ' that are no text'));
      return;
    }
    for (const { text, href, mention } of pieces(body, this.#hooks.me())) {
      if (href !== undefined) {
        node.append(element('a', { href, target: '_blank', rel: 'noopener noreferrer' }, text));
      } else if (mention) {
        node.append(element('mark', {}, text));
        node.classList.add('mentions');
      } else {
        node.append(text);
      }
    }
  }

  #update(node, { type, row, text, continued, timeMs }) {
    if (type === 'top') setText(node, text);
    if (type === 'day') setText(node, dayName(timeMs, Date.now()));
    if (type === 'new') setText(node, 'New');
    if (type === 'notice') setText(node, row.text);
    if (type !== 'message') return;
    const classes = ['message', row.status];
    if (continued) classes.push('continued');
    if (row.own) classes.push('own');
    setAttribute(node, 'class', classes.join(' '));
    const time = node.querySelector('time');
    if (time.dateTime !== String(row.timeMs)) {
      time.dateTime = new Date(row.timeMs).toISOString();
      time.title = momentOf(row.timeMs);
      setText(time, timeOf(row.timeMs));
    }
    this.#updateStatus(node.querySelector('.status'), row);
  }

  #updateStatus(node, row) {
    if (node.dataset.status === row.status) return;
    node.dataset.status = row.status;
    node.replaceChildren();
    if (row.status === 'waiting') node.append('waits for the connection');
    if (row.status === 'sending') node.append('sending…');
    if (row.status === 'failed') {
      node.append(
        element('span', {}, `Not sent: ${row.problem}.`), ' ',
        element('button', { type: 'button', onclick: () => this.#hooks.retry(row) }, 'Try again'),
        element('button', { type: 'button', onclick: () => this.#hooks.discard(row) }, 'Discard'),
      );
    }
  }
}

/** What stands above the first message. */
function topText({ kind, name, history, loading, rows }) {
  if (loading) return 'Loading what was said before…';
  if (kind === 'direct') return `Only you and ${name} read this.`;
  if (history === 'more') return 'Scroll up for older messages.';
  if (history === 'all') return `This is where ${name} begins.`;
  return rows.length === 0 ? 'Nothing has been said yet.' : '';
}

