/** The page: starts the chat and the dashboard, and knows which of the two is shown. */

import { Chat } from './page/chat.js';
import { Dashboard } from './page/dashboard.js';
import { byId, element, memory, setAttribute } from './page/dom.js';
import { Frame } from './page/frame.js';

const MODIFIER = /Mac|iPhone|iPad/.test(navigator.platform) ? '⌘' : 'Ctrl';
const SHORTCUTS = [
  ['Enter', 'send'],
  ['Shift Enter', 'begin a new line'],
  ['Alt ↑, Alt ↓', 'conversation above, below'],
  ['Alt Shift ↑, Alt Shift ↓', 'the same, unread ones only'],
  [`${MODIFIER} K`, 'join a room, or write to @user'],
  ['@an Tab', 'complete a name'],
  ['Page Up, Page Down', 'scroll the messages'],
  ['Esc', 'close; otherwise go to the latest message'],
  ['Alt Shift D', 'dashboard and back'],
  [`${MODIFIER} /`, 'this help'],
];
const COMMANDS = [
  ['/join room', 'join a room'],
  ['/leave', 'leave this one'],
  ['/msg user text', 'say something to one user'],
  ['/nick name', 'change your name'],
  ['/who', 'who is here'],
  ['//text', 'say something that begins with /'],
];
const THEMES = {
  system: { next: 'light', label: 'Colours: as the system has them' },
  light: { next: 'dark', label: 'Colours: light' },
  dark: { next: 'system', label: 'Colours: dark' },
};

const frame = new Frame();
const dashboard = new Dashboard(byId('dashboard'));
const address = new URL('/ws', location.href);
address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
const chat = new Chat(address.href, { ...frame.hooks, started: openLinkedRoom });
frame.attach(chat);

function showView() {
  const onDashboard = location.pathname === '/dashboard';
  byId('chat').hidden = onDashboard;
  byId('dashboard').hidden = !onDashboard;
  for (const [tab, current] of [['tab-chat', !onDashboard], ['tab-dashboard', onDashboard]]) {
    if (current) setAttribute(byId(tab), 'aria-current', 'page');
    else byId(tab).removeAttribute('aria-current');
  }
  if (onDashboard) dashboard.start();
  else dashboard.stop();
  // Who only looks at the numbers is nobody's guest.
  if (!onDashboard && chat.client === null) frame.askName();
  else frame.focusField();
  frame.paint();
}

function go(path) {
  if (location.pathname !== path) history.pushState(null, '', path);
  frame.closeDrawer();
  showView();
}

/** The fragment of the address is a room, so that one can be linked to: `/#den`. */
function openLinkedRoom() {
  let room = '';
  try {
    room = decodeURIComponent(location.hash.slice(1));
  } catch {
    // No room is called so.
  }
  if (room !== '') frame.problem(chat.open(room));
}

function setTheme(theme) {
  memory.set('theme', theme);
  setAttribute(document.documentElement, 'data-theme', theme);
  setAttribute(byId('theme'), 'aria-label', THEMES[theme].label);
  setAttribute(byId('theme'), 'title', THEMES[theme].label);
}

/** What a pressed key does, wherever the focus is; null where it is nobody's. */
function actionOf(event) {
  const { key, altKey, shiftKey } = event;
  const modified = event.ctrlKey || event.metaKey;
  if (altKey && key === 'ArrowUp') return () => frame.step(-1, shiftKey);
  if (altKey && key === 'ArrowDown') return () => frame.step(1, shiftKey);
  if (altKey && shiftKey && event.code === 'KeyD') {
    return () => go(byId('chat').hidden ? '/' : '/dashboard');
  }
  if ((key === 'PageUp' || key === 'PageDown') && !byId('chat').hidden) {
    return () => frame.messages.page(key === 'PageUp' ? -1 : 1);
  }
  if (modified && key.toLowerCase() === 'k') {
    return () => {
      go('/');
      frame.showSidebar();
      byId('join-name').focus();
    };
  }
  if (modified && key === '/') return () => frame.openHelp();
  if (key === 'Escape') {
    return () => {
      if (frame.closeDrawer()) return;
      frame.problem(null);
      frame.messages.toEnd();
      if (!byId('chat').hidden) byId('composer-text').focus();
    };
  }
  return null;
}

function listenToKeys() {
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]') !== null) return;
    const action = actionOf(event);
    if (action !== null) {
      event.preventDefault();
      action();
      return;
    }
    // Who begins to type means the message field.
    const elsewhere = document.activeElement === document.body || event.target.id === 'log';
    const plain = event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (elsewhere && plain && !byId('chat').hidden && event.key !== ' ') {
      byId('composer-text').focus();
    }
  });
}

function fillHelp() {
  for (const [id, rows] of [['shortcuts', SHORTCUTS], ['commands', COMMANDS]]) {
    for (const [keys, what] of rows) {
      const combinations = keys.split(', ').map((keysOfOne) => element('kbd', {}, keysOfOne));
      byId(id).append(element('dt', {}, ...combinations), element('dd', {}, what));
    }
  }
}

for (const [id, path] of [['tab-chat', '/'], ['tab-dashboard', '/dashboard'], ['brand', '/']]) {
  byId(id).addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(path);
  });
}
// Conversations are opened where they are, so that this takes its turn before the frame's listener.
byId('open-rooms').addEventListener('click', (event) => {
  if (!byId('chat').hidden) return;
  go('/');
  if (chat.client === null) event.stopImmediatePropagation();
}, { capture: true });
byId('theme').addEventListener('click', () => {
  setTheme(THEMES[memory.get('theme')]?.next ?? 'light');
});
addEventListener('popstate', showView);
addEventListener('hashchange', openLinkedRoom);
setTheme(Object.hasOwn(THEMES, memory.get('theme')) ? memory.get('theme') : 'system');
fillHelp();
listenToKeys();
if (memory.get('name') !== null) chat.start(memory.get('name'));
showView();
