/**
 * What stands around the messages: conversations, members, the state of the connection, dialogs.
 *
 * Paints what the chat knows, at most once a frame, and takes what people press and type to it.
 */

import { byId, element, memory, reconcile, setAttribute, setText } from './dom.js';
import { MessageView, paintAvatar } from './messages.js';
import { countdown, nameProblem, plural, roundTrip, sentence } from './text.js';

/** More are counted, not listed. */
const MEMBERS_LISTED = 500;
const ANNOUNCED_CHARACTERS = 200;
const NARROW = matchMedia('(max-width: 760px)');

export class Frame {
  #chat = null;
  #messages;
  #painting = false;
  #shownProblem = '';
  #drawer = null;

  constructor() {
    this.#messages = new MessageView({
      me: () => this.#chat.me,
      retry: (row) => this.#chat.retry(this.#active, row),
      discard: (row) => this.#chat.discard(this.#active, row),
      older: (conversation) => this.#chat.older(conversation),
      read: () => this.#read(),
      openDirect: (user) => this.#open(`@${user}`),
    });
    this.#listenToForms();
    this.#listenToButtons();
    document.addEventListener('visibilitychange', () => this.#lookedAt());
    addEventListener('focus', () => this.#lookedAt());
    addEventListener('blur', () => this.paint());
    addEventListener('online', () => this.#chat?.client?.wake());
    setInterval(() => this.#paintConnection(), 500);
  }

  /** What the chat tells this frame. */
  get hooks() {
    return {
      changed: () => this.paint(),
      said: (conversation, row) => this.#announceMessage(conversation, row),
      announce: (text) => this.announce(text),
      isRead: (conversation) => this.#isRead(conversation),
      help: () => this.openHelp(),
    };
  }

  attach(chat) {
    this.#chat = chat;
  }

  get #active() {
    return this.#chat?.conversations.active ?? null;
  }

  get messages() {
    return this.#messages;
  }

  // What was read.

  #isRead(conversation) {
    return conversation === this.#active && !byId('chat').hidden && document.hasFocus()
      && !document.hidden && this.#messages.atEnd;
  }

  #read() {
    const active = this.#active;
    if (active === null || active.unread === 0 || byId('chat').hidden) return;
    if (document.hidden || !document.hasFocus()) return;
    active.markRead();
    this.paint();
  }

  #lookedAt() {
    if (document.hidden) return;
    this.#chat?.client?.wake();
    if (this.#messages.atEnd) this.#read();
    this.paint();
  }

  // Painting.

  paint() {
    if (this.#painting) return;
    this.#painting = true;
    // A hidden page gets no frames, and its title still has to count.
    const soon = document.hidden ? (callback) => setTimeout(callback, 100) : requestAnimationFrame;
    soon(() => {
      this.#painting = false;
      if (this.#chat?.client) this.#paintAll();
    });
  }

  #paintAll() {
    const { conversations, me } = this.#chat;
    const active = this.#active;
    this.#paintList('rooms', conversations.rooms);
    this.#paintList('directs', conversations.directs);
    byId('directs-part').hidden = conversations.directs.length === 0;
    const name = me === '' ? 'guest' : me;
    setText(byId('me-name'), name);
    byId('me-name').title = name;
    paintAvatar(byId('me-avatar'), name);
    if (active !== null) {
      this.#paintHead(active);
      this.#paintMembers(active);
      if (!byId('chat').hidden) this.#messages.show(active);
    }
    this.#paintBadges();
    this.#paintConnection();
  }

  #paintList(id, conversations) {
    const make = (conversation) => element('li', {}, element('button', {
      type: 'button', onclick: () => this.#activate(conversation),
    }, ...['mark', 'label', 'badge', 'unseen'].map((part) => element('span', { class: part }))));
    reconcile(byId(id), conversations, ({ id: key }) => key, make, (node, conversation) => {
      const [mark, label, badge, spoken] = node.firstElementChild.children;
      const { kind, unread, mentioned, draft, joined, online } = conversation;
      const active = conversation === this.#active;
      setText(mark, kind === 'room' ? '#' : '@');
      setAttribute(mark, 'aria-hidden', 'true');
      setText(label, conversation.name);
      label.title = conversation.name;
      setText(badge, unread > 99 ? '99+' : String(unread));
      badge.hidden = unread === 0;
      badge.setAttribute('aria-hidden', 'true');
      const words = [];
      if (unread > 0) words.push(plural(unread, 'unread message', 'unread messages'));
      if (draft.trim() !== '' && !active) words.push('draft');
      if (online !== null) words.push(online ? 'online' : 'offline');
      if (kind === 'room' && !joined) words.push('not joined');
      setText(spoken, words.length === 0 ? '' : `, ${words.join(', ')}`);
      const classes = [active && 'active', unread > 0 && 'unread', mentioned && 'mentioned',
        draft.trim() !== '' && !active && 'draft', kind === 'room' && !joined && 'away',
        online === true && 'online'];
      setAttribute(node.firstElementChild, 'class', classes.filter(Boolean).join(' '));
      if (active) setAttribute(node.firstElementChild, 'aria-current', 'true');
      else node.firstElementChild.removeAttribute('aria-current');
    });
  }

  #paintHead(active) {
    const direct = active.kind === 'direct';
    setText(byId('title'), active.name);
    byId('title').title = active.name;
    byId('title').classList.toggle('direct', direct);
    const presence = { true: 'online', false: 'offline', null: 'direct messages' };
    const members = active.total > 0 ? plural(active.total, 'member', 'members') : ' ';
    setText(byId('subtitle'), direct ? presence[String(active.online)] : members);
    setText(byId('composer-label'), `Message to ${active.id}`);
    setAttribute(byId('composer-text'), 'placeholder', `Message ${direct ? '' : '#'}${active.id}`);
    byId('open-members').hidden = direct;
    setText(byId('leave'), direct ? 'Close' : 'Leave');
    byId('leave').disabled = this.#chat.conversations.list.length < 2;
  }

  #paintMembers(active) {
    const direct = active.kind === 'direct';
    byId('chat').classList.toggle('without-members', direct);
    const listed = direct ? [] : active.members.slice(0, MEMBERS_LISTED);
    setText(byId('members-title'), `Members (${active.total.toLocaleString()})`);
    const make = (user) => {
      const avatar = element('span', { 'aria-hidden': 'true' });
      paintAvatar(avatar, user);
      const label = element('span', { class: 'label', title: user }, user);
      return element('li', {}, element('button', {
        type: 'button', onclick: () => this.#open(`@${user}`),
      }, avatar, label, element('span', { class: 'you' })));
    };
    reconcile(byId('member-list'), listed, (user) => user, make, (node, user) => {
      const mine = user === this.#chat.me;
      node.firstElementChild.disabled = mine;
      setText(node.querySelector('.you'), mine ? 'you' : '');
    });
    const more = active.total - listed.length;
    byId('member-more').hidden = direct || more <= 0 || listed.length === 0;
    setText(byId('member-more'), `and ${more.toLocaleString()} more`);
  }

  #paintBadges() {
    const { conversations } = this.#chat;
    const { unread } = conversations;
    const elsewhere = unread - (byId('chat').hidden ? 0 : (this.#active?.unread ?? 0));
    byId('rooms-badge').hidden = elsewhere === 0;
    setText(byId('rooms-badge'), elsewhere > 99 ? '99+' : String(elsewhere));
    const where = byId('chat').hidden ? 'Dashboard' : this.#active?.id ?? '';
    const count = unread > 0 ? `(${unread > 99 ? '99+' : unread}) ` : '';
    const title = `${count}${where} · corebeat`;
    if (document.title !== title) document.title = title;
  }

  #paintConnection() {
    const client = this.#chat?.client;
    // Nobody has asked for a connection yet, so that none is missing.
    byId('link').hidden = !client;
    if (!client) return;
    const { state, roundTripMs } = client;
    const { waiting } = this.#chat;
    const left = state.name === 'waiting' ? countdown(state.untilMs - client.now()) : '';
    const measured = roundTripMs === null ? '' : roundTrip(roundTripMs);
    const whole = roundTripMs === null ? 'online' : `online · ${measured}`;
    const online = NARROW.matches ? measured || 'online' : whole;
    const short = {
      connecting: NARROW.matches ? '…' : 'connecting…',
      online,
      waiting: NARROW.matches ? left : `offline · ${left}`,
    }[state.name] ?? (NARROW.matches ? 'off' : 'not connected');
    setAttribute(byId('link'), 'data-state', state.name);
    setText(byId('link-text'), short);
    const source = `${state.url}, smoothed round trip of pings`;
    setAttribute(byId('link'), 'title', state.name === 'online' ? source : whole);
    const queued = plural(waiting, 'message waits', 'messages wait');
    const queue = waiting > 0 && state.name !== 'closed' ? ` ${queued} to be sent.` : '';
    const trying = state.name === 'connecting' && state.attempt > 1;
    byId('banner').hidden = state.name !== 'waiting' && state.name !== 'closed' && !trying;
    const resting = state.quiet ? 'After many tries, the' : 'The';
    setText(byId('banner-text'), {
      waiting: `${sentence(state.reason ?? '')} ${resting} next try is in ${left}.${queue}`,
      closed: `Not connected: ${state.error?.text ?? state.error?.message ?? 'closed'}.`,
      connecting: `Trying to connect, for the ${ordinal(state.attempt)} time…${queue}`,
    }[state.name] ?? '');
    byId('retry').hidden = state.name === 'connecting';
  }

  // Saying it aloud.

  announce(text) {
    const node = byId('announcer');
    // The same words once more are news, too.
    setText(node, node.textContent === text ? `${text}\u00a0` : text);
  }

  #announceMessage(conversation, { from, body, own }) {
    if (own) return;
    const text = typeof body === 'string' ? body.slice(0, ANNOUNCED_CHARACTERS) : 'bytes';
    const where = conversation === this.#active ? '' : `in ${conversation.id}, `;
    this.announce(`${where}${from}: ${text}`);
  }

  problem(text) {
    this.#shownProblem = text ?? '';
    byId('problem').hidden = this.#shownProblem === '';
    setText(byId('problem'), this.#shownProblem);
  }

  // Going somewhere.

  #activate(conversation) {
    if (conversation === null) return;
    const field = byId('composer-text');
    if (this.#active !== null) this.#active.draft = field.value;
    this.#chat.activate(conversation);
    field.value = conversation.draft;
    this.#fitField();
    this.problem(null);
    this.closeDrawer();
    this.hooks.announce(`${conversation.id}`);
    this.focusField();
    requestAnimationFrame(() => this.#read());
  }

  #open(target) {
    const field = byId('composer-text');
    if (this.#active !== null) this.#active.draft = field.value;
    const problem = this.#chat.open(target);
    if (problem === null) this.#activateNow();
    this.problem(problem);
    return problem;
  }

  /** Ready to type, where that opens no keyboard over half of the screen. */
  focusField() {
    if (!NARROW.matches && !byId('chat').hidden) byId('composer-text').focus();
  }

  /** The chat has switched by itself: the field follows. */
  #activateNow() {
    const field = byId('composer-text');
    field.value = this.#active.draft;
    this.#fitField();
    this.closeDrawer();
    this.focusField();
  }

  step(direction, unreadOnly) {
    this.#activate(this.#chat.conversations.neighbour(direction, unreadOnly));
  }

  leave() {
    this.#chat.leave(this.#active);
    this.#activateNow();
  }

  // Forms and buttons.

  #listenToForms() {
    const field = byId('composer-text');
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    field.addEventListener('input', () => {
      this.#fitField();
      this.problem(null);
    });
    field.addEventListener('keydown', (event) => this.#typed(event));
    byId('join-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const input = byId('join-name');
      const target = input.value.trim().replace(/^#/, '');
      if (target === '') return;
      if (this.#open(target) === null) input.value = '';
    });
  }

  #submit() {
    const field = byId('composer-text');
    const text = field.value.trim();
    const active = this.#active;
    if (text === '' || active === null) return;
    const problem = this.#chat.say(active, text);
    this.problem(problem);
    if (problem !== null) return;
    active.draft = '';
    field.value = this.#active.draft;
    this.#fitField();
    if (active === this.#active) requestAnimationFrame(() => this.#messages.toEnd());
  }

  #typed(event) {
    const field = byId('composer-text');
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Tab' && !event.shiftKey && this.#completeName(field)) {
      event.preventDefault();
    }
  }

  /** `@an` and Tab become `@ann `, where somebody is here whose name begins so. */
  #completeName(field) {
    const before = field.value.slice(0, field.selectionStart);
    const begun = /(?:^|\s)@(\S+)$/u.exec(before)?.[1];
    if (begun === undefined || field.selectionStart !== field.selectionEnd) return false;
    const fits = (name) => name.toLowerCase().startsWith(begun.toLowerCase());
    const name = this.#active.members.find((one) => fits(one) && one !== this.#chat.me);
    if (name === undefined) return false;
    const start = before.length - begun.length;
    field.setRangeText(`${name} `, start, before.length, 'end');
    return true;
  }

  /** The field grows with its text, within what the style sheet allows. */
  #fitField() {
    const field = byId('composer-text');
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight + 2}px`;
  }

  #listenToButtons() {
    byId('retry').addEventListener('click', () => this.#retry());
    byId('leave').addEventListener('click', () => this.leave());
    byId('rename').addEventListener('click', () => this.askName());
    byId('help').addEventListener('click', () => this.openHelp());
    byId('open-rooms').addEventListener('click', () => this.#toggleDrawer('sidebar', 'open-rooms'));
    byId('open-members').addEventListener('click', () => {
      this.#toggleDrawer('members', 'open-members');
    });
    byId('shade').addEventListener('click', () => this.closeDrawer());
    byId('name-form').addEventListener('submit', (event) => {
      const name = byId('name').value.trim();
      const problem = nameProblem(name);
      setText(byId('name-problem'), problem ?? '');
      if (problem !== null) event.preventDefault();
      else this.#chat.rename(name);
    });
    byId('name-guest').addEventListener('click', () => byId('name-dialog').close());
    byId('name-dialog').addEventListener('close', () => this.#named());
  }

  #retry() {
    if (this.#chat.client.state.name === 'closed') this.askName();
    else this.#chat.client.wake();
  }

  // Dialogs and drawers.

  askName() {
    byId('name').value = this.#chat.me.startsWith('guest-') ? '' : this.#chat.me;
    setText(byId('name-problem'), this.#chat.client?.state.error?.text ?? '');
    this.closeDrawer();
    byId('name-dialog').showModal();
  }

  #named() {
    if (this.#chat.client === null) this.#chat.start('');
    if (memory.get('name') === null) memory.set('name', '');
    this.focusField();
  }

  openHelp() {
    if (!byId('help-dialog').open) byId('help-dialog').showModal();
  }

  #toggleDrawer(id, button) {
    if (this.#drawer !== null) {
      this.closeDrawer();
      return;
    }
    this.#drawer = { id, button };
    byId(id).classList.add('open');
    byId('shade').hidden = false;
    byId('conversation').inert = true;
    byId(button).setAttribute('aria-expanded', 'true');
    byId(id).querySelector('button, input')?.focus();
  }

  /** Where it is a drawer, opens it. */
  showSidebar() {
    if (NARROW.matches && this.#drawer === null) byId('open-rooms').click();
  }

  /** Whether there was one. */
  closeDrawer() {
    if (this.#drawer === null) return false;
    const { id, button } = this.#drawer;
    this.#drawer = null;
    byId(id).classList.remove('open');
    byId('shade').hidden = true;
    byId('conversation').inert = false;
    byId(button).setAttribute('aria-expanded', 'false');
    byId(button).focus();
    return true;
  }
}

function ordinal(number) {
  const teen = number % 100 > 10 && number % 100 < 14;
  return `${number}${teen ? 'th' : ['th', 'st', 'nd', 'rd'][number % 10] ?? 'th'}`;
}
